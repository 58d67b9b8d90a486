"""How many processors there are for this process, and how many threads it takes."""

import os
from pathlib import Path

import pytest
import torch
from torch import nn

from depthkd.cluster import processors

CPU = torch.device("cpu")
SMALL, LARGE = nn.Linear(8, 8), nn.Linear(2_500, 2_500, device="meta")


@pytest.mark.parametrize(
    ("files", "count"),
    [
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "max 100000\n"}, 16),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 16),
        ({"cpu.max": "9900000 100000\n"}, 16),
        ({}, 16),
    ],
)
def test_a_containers_quota_counts(
    files: dict[str, str], count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(processors, "CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    assert processors.processors() == count


@pytest.mark.parametrize(
    ("network", "device", "variable", "threads"),
    [
        (SMALL, CPU, None, 1),
        (LARGE, CPU, None, 3),
        (SMALL, torch.device("cuda"), None, 3),
        (SMALL, CPU, "4", 8),
        (LARGE, CPU, "4", 8),
    ],
)
def test_tiny_networks_take_one_thread_and_others_what_there_is(
    network: nn.Module,
    device: torch.device,
    variable: str | None,
    threads: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken = [8]
    monkeypatch.setattr(torch, "set_num_threads", taken.append)
    monkeypatch.setattr(processors, "_threads_at_first", lambda: 8)
    monkeypatch.setattr(processors, "processors", lambda: 3)
    if variable is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
    processors.use_processors(network, device)
    assert taken[-1] == threads
