"""How much a run has done in how much time, and how much of that it waited for data."""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import torch


class DataWait:
    """Seconds for which training has stood still because the next batch was not there.

    On a GPU the process may wait while the device still computes the step before. What counts there is how
    long the device was idle, between two events that are recorded before and after the wait; they are read
    once the device has passed both, so that nothing waits for it.
    """

    def __init__(self) -> None:
        self._seconds = 0.0
        self._pending: deque[tuple[Any, Any, float]] = deque()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count what is inside."""
        on_gpu = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        before = _event() if on_gpu else None
        start = time.monotonic()
        try:
            yield
        finally:
            waited = time.monotonic() - start
            if before is None:
                self._seconds += waited
            else:
                self._pending.append((before, _event(), waited))

    @property
    def seconds(self) -> float:
        """In all, of the waits that a device has behind it."""
        while self._pending and self._pending[0][1].query():
            before, after, waited = self._pending.popleft()
            idle = before.elapsed_time(after) / 1000
            self._seconds += min(waited, idle)
        return self._seconds


def _event() -> Any:
    """A moment in the device's work, recorded now."""
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record()
    return event


@dataclass(frozen=True)
class Work:
    """What training has done since its first batch; or, as a difference of two, between two moments.

    Attributes:
        seconds: that it took, without validation.
        steps: of the optimizer.
        images: over all ranks.
        waited: of `seconds`, those that this rank waited for data.
        operations: floating-point operations of this rank's device; 0 where they are not counted.
    """

    seconds: float = 0.0
    steps: int = 0
    images: int = 0
    waited: float = 0.0
    operations: int = 0

    def since(self, before: "Work") -> "Work":
        """What was done between another moment and this one."""
        return Work(**{f.name: getattr(self, f.name) - getattr(before, f.name) for f in fields(Work)})

    @property
    def images_per_second(self) -> float:
        """Over all ranks; 0 before there is anything to tell."""
        return self.images / self.seconds if self.seconds > 0 else 0.0

    @property
    def steps_per_second(self) -> float:
        """Optimizer steps; 0 before there is anything to tell."""
        return self.steps / self.seconds if self.seconds > 0 else 0.0

    @property
    def waiting(self) -> float:
        """The share of the time that went by waiting for data, from 0 to 1."""
        return min(1.0, max(0.0, self.waited / self.seconds)) if self.seconds > 0 else 0.0

    def utilization(self, peak: float) -> float:
        """Model FLOPs utilization: operations a second as a share of a device's peak."""
        return self.operations / self.seconds / peak if self.seconds > 0 else 0.0
