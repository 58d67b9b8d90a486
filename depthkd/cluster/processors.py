"""How many processors this process may use, and how many threads it takes."""

import os
from functools import cache
from math import ceil
from pathlib import Path

import torch
from torch import nn

CGROUP = Path("/sys/fs/cgroup")
TINY = 5_000_000  # parameters: threads of such networks wait for each other longer than they compute


def processors() -> int:
    """At least 1; fewer than the machine has where the scheduler or a container says so."""
    count = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):  # Linux only
        count = len(os.sched_getaffinity(0))
    return max(1, min(count, _quota(CGROUP) or count))


def use_processors(network: nn.Module, device: torch.device) -> None:
    """Let torch take as many threads as there are processors for it, and one for a tiny network on a CPU.

    While they wait for each other, threads spin: on a machine that does something else too, two threads
    train a tiny network at a thirteenth of the speed of one. OMP_NUM_THREADS, if it is set, decides
    alone; and more threads than torch has already are never taken.
    """
    if os.environ.get("OMP_NUM_THREADS"):
        return
    tiny = device.type == "cpu" and sum(p.numel() for p in network.parameters()) < TINY
    torch.set_num_threads(min(_threads_at_first(), 1 if tiny else processors()))


@cache
def _threads_at_first() -> int:
    return torch.get_num_threads()


def _quota(root: Path) -> int | None:
    """Processors that a container's quota is worth, rounded up; None without one."""
    words = _words(root / "cpu.max")  # version 2: "<microseconds> <of so many>", or "max <of so many>"
    words = words or _words(root / "cpu/cpu.cfs_quota_us") + _words(root / "cpu/cpu.cfs_period_us")
    if len(words) != 2 or not all(word.isdigit() for word in words):
        return None
    return ceil(int(words[0]) / int(words[1]))


def _words(file: Path) -> list[str]:
    return file.read_text().split() if file.is_file() else []
