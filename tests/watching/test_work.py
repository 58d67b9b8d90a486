import time
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch

from depthkd.watching import work
from depthkd.watching.work import DataWait, Work


def test_rates_are_of_the_time_between_two_moments() -> None:
    before, after = Work(10.0, 5, 40, 1.0, 100), Work(14.0, 7, 56, 3.0, 180)
    done = after.since(before)
    assert done == Work(4.0, 2, 16, 2.0, 80)
    assert (done.images_per_second, done.steps_per_second, done.waiting) == (4.0, 0.5, 0.5)
    assert done.utilization(40.0) == 0.5
    nothing = after.since(after)
    assert nothing.images_per_second == nothing.steps_per_second == nothing.waiting == 0.0
    assert Work(1.0, 1, 1, 1.5).waiting == 1.0


def test_waits_add_up() -> None:
    wait = DataWait()
    for _ in range(2):
        with wait.waiting():
            time.sleep(0.02)
    time.sleep(0.02)
    assert 0.04 <= wait.seconds < 0.06 + 0.5  # of a busy machine


def test_on_a_gpu_a_wait_behind_which_it_computes_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that is still busy for three of the five seconds in which the host waits."""
    clock, passed = [0.0], [False]

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            self.at = max(clock[0], 3.0)

        def query(self) -> bool:
            return passed[0]

        def elapsed_time(self, other: Any) -> float:
            return 1000 * (other.at - self.at)

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(work, "time", MagicMock(monotonic=lambda: clock[0]))
    wait = DataWait()
    with wait.waiting():
        clock[0] = 5.0
    assert wait.seconds == 0.0  # the device is not there yet, and nobody waits for it
    passed[0] = True
    assert wait.seconds == wait.seconds == 2.0
