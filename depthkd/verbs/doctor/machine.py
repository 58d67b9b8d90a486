"""What the machine has: devices, processors, memory that processes share, open files, disks."""

import os
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from depthkd.cluster.precision import choose_precision
from depthkd.cluster.preflight import (
    GIB,
    LOW_DISK,
    SHARED_MEMORY,
    Found,
    Plan,
    device_mistakes,
    existing,
    few_processors,
    little_shared_memory,
    survey,
)
from depthkd.cluster.slurm import current_job
from depthkd.errors import UserError
from depthkd.paths import cache_folder, user_path
from depthkd.verbs.doctor.findings import Finding, ok, problem, warning

DRIVER = Path("/proc/driver/nvidia/version")
WORKERS = 2  # of a config that says nothing
FILES = 4096  # that a process should be able to open: shards, sockets, libraries
TRIED, SLOW = 32 * 2**20, 50e6  # bytes written to try a disk; bytes a second
LARGE = 5e9  # bytes of a checkpoint with optimizer and average, of 300 million parameters


def look(config: dict[str, Any]) -> Iterator[Finding]:
    """Findings about this machine, for a config or for any."""
    trainer, data = config.get("trainer") or {}, config.get("data") or {}
    plan = Plan(
        accelerator=str(trainer.get("accelerator", "auto")),
        devices=trainer.get("devices", "auto"),
        nodes=_whole(trainer.get("num_nodes", 1), "trainer.num_nodes"),
        precision=str(trainer.get("precision", "auto")),
        workers=_whole(data.get("workers", WORKERS), "data.workers"),
        folder=user_path("runs"),
    )
    found = survey(plan, current_job())
    yield from devices(plan, found)
    yield from processors_and_memory(plan, found)
    yield open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    hub = os.environ.get("HF_HOME", "~/.cache/huggingface")
    for what, folder in (
        ("runs", Path("runs")),
        ("index cache", cache_folder()),
        ("hub cache", user_path(hub)),
    ):
        yield disk(what, folder)


def _whole(value: Any, key: str) -> int:
    if isinstance(value, int):
        return value
    raise UserError(f"{key} would be a whole number, not {value!r}")


def devices(plan: Plan, found: Found) -> Iterator[Finding]:
    """GPUs, and whether this torch can use them."""
    built = f"torch {torch.__version__}, " + (
        f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"
    )
    mistakes = device_mistakes(plan, current_job(), found)
    for sentence in mistakes:
        yield problem("device", sentence, "see docs/cluster.md; `nvidia-smi` says which driver there is")
    if found.devices:
        if not mistakes:
            precision, reason = choose_precision(found.capabilities)
            yield ok("device", f"{', '.join(found.devices)}; {built}; precision {precision}: {reason}")
    elif DRIVER.is_file():
        driver = DRIVER.read_text(errors="replace").splitlines()[0]
        yield problem(
            "device",
            f"there is an NVIDIA driver ({driver}), but {built} sees no device",
            "update the driver (CUDA 13 wants 580 or later), install a torch for an older CUDA "
            "(constraints-v100.txt has one), or look at CUDA_VISIBLE_DEVICES "
            f"({os.environ.get('CUDA_VISIBLE_DEVICES', 'not set')})",
        )
    elif torch.backends.mps.is_available():
        yield ok("device", f"Apple's GPU (MPS); {built}; trainer.accelerator mps takes it")
    elif not mistakes:
        yield ok("device", f"no GPU: tiny and embedded configs run on a CPU; {built}")


def processors_and_memory(plan: Plan, found: Found) -> Iterator[Finding]:
    """Processors against workers, and what workers hand batches over through."""
    count = f"{found.cpus} of {os.cpu_count()} processors are for this process"
    short = few_processors(plan, found)
    if short is None:
        yield ok("processors", f"{count}, for data.workers {plan.workers} and training")
    else:
        yield warning("processors", short.partition(":")[0], f"data.workers {max(0, found.cpus - 1)}")
    if not SHARED_MEMORY.is_dir():
        return
    shared = little_shared_memory(plan, found)
    if shared is None:
        yield ok("shared memory", f"{found.shared_memory / GIB:.1f} GiB free in {SHARED_MEMORY}")
    else:
        advice = "in a container --shm-size=8g, or data.workers 0"
        yield warning("shared memory", shared.partition(";")[0], advice)


def open_files(limit: int) -> Finding:
    """How many files a process may open."""
    if limit == resource.RLIM_INFINITY or limit >= FILES:
        return ok("open files", f"a process may open {'any number' if limit < 0 else limit}")
    return warning(
        "open files",
        f"a process may open only {limit}: with many shards and workers it runs out",
        f"`ulimit -n {FILES}` before the command, or LimitNOFILE of the service",
    )


def disk(what: str, folder: Path) -> Finding:
    """Free space where a folder is or would be, and how fast it takes a checkpoint."""
    place = existing(folder)
    free = shutil.disk_usage(place).free
    try:
        speed = write_speed(place)
    except OSError as error:
        return problem(
            what,
            f"{folder} cannot be written: {error.strerror}",
            f"see who owns {place}, or name another folder",
        )
    text = f"{folder}: {free / GIB:.1f} GiB free, written at {speed / 1e6:.0f} MB/s"
    if free < LOW_DISK:
        return warning(what, text, "make room: a run needs its checkpoint twice while it is saved")
    if speed < SLOW:
        took = f"a checkpoint of 5 GB takes {LARGE / speed / 60:.1f} minutes"
        return warning(
            what, f"{text}: {took}", "save more seldom (checkpoint.every_n_train_steps), or elsewhere"
        )
    return ok(what, text)


def write_speed(folder: Path) -> float:
    """Bytes a second that reach the disk of a folder; what is written for it is gone then.

    Raises:
        OSError: nothing can be written there.
    """
    block = os.urandom(2**20)
    with tempfile.TemporaryFile(dir=folder) as file:
        start = time.monotonic()
        for _ in range(TRIED // len(block)):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
        return TRIED / max(time.monotonic() - start, 1e-9)
