"""Processes beside a command: Ctrl-C saves what is under way and begins nothing; none is left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NoReturn

import pytest

from depthkd.processes import finished, pool

ROOT = Path(__file__).parent.parent


def work(folder: Path, name: str) -> None:
    """A long job that saves when it is asked to leave."""

    def save(number: int, frame: FrameType | None) -> NoReturn:
        (folder / f"{name}.saved").touch()
        raise SystemExit(143)

    signal.signal(signal.SIGTERM, save)
    (folder / f"{name}.started").write_text(str(os.getpid()))
    time.sleep(100)


def command(folder: Path) -> None:
    """What a command with such jobs does."""
    with pool(2, os.setpgrp) as processes:
        for _ in finished(processes, 2, work, {name: (folder, name) for name in "abcd"}):
            pass


def until(holds: Callable[[], bool]) -> bool:
    end = time.monotonic() + 20
    while not holds() and time.monotonic() < end:
        time.sleep(0.02)
    return holds()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_what_is_under_way_is_saved_and_nothing_else_begun(number: signal.Signals, tmp_path: Path) -> None:
    # a suite that runs in the background ignores Ctrl-C, and so would all that it starts
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    line = f"{heard}; from tests.test_processes import Path, command; command(Path({str(tmp_path)!r}))"
    process = subprocess.Popen(
        [sys.executable, "-c", line], cwd=ROOT, start_new_session=True, stderr=subprocess.DEVNULL
    )
    assert until(lambda: len(list(tmp_path.glob("*.started"))) == 2)
    assert until(lambda: all(path.read_text() for path in tmp_path.glob("*.started")))
    os.killpg(process.pid, number)
    assert process.wait(20) != 0
    assert until(lambda: len(list(tmp_path.glob("*.saved"))) == 2)
    assert sorted(path.name for path in tmp_path.glob("*.started")) == ["a.started", "b.started"]
    workers = [int(path.read_text()) for path in tmp_path.glob("*.started")]
    if number == signal.SIGINT:
        assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
    for worker in workers:
        if Path(f"/proc/{worker}").exists():
            os.kill(worker, signal.SIGKILL)
