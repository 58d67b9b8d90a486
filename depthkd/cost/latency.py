"""How long one forward pass takes."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

WARM_UP = 3  # runs before the first that counts
FEWEST = 3  # runs that count, however long they take


@dataclass(frozen=True)
class Latency:
    """Seconds of one forward pass.

    Args:
        median, low, high: over the runs: the median and both quartiles.
        repeats: how many runs were timed.
    """

    median: float
    low: float
    high: float
    repeats: int


def latency(
    run: Callable[[], object], device: torch.device, repeats: int, most_seconds: float = float("inf")
) -> Latency:
    """Time a forward pass: some runs to warm up, then so many, each until the device is done.

    Args:
        run: the forward pass.
        device: where it runs.
        repeats: runs that are timed.
        most_seconds: no further run begins after that, but for the first few.
    """
    for _ in range(WARM_UP):
        run()
    seconds = list[float]()
    while len(seconds) < repeats and (sum(seconds) < most_seconds or len(seconds) < FEWEST):
        _wait(device)
        start = time.perf_counter()
        run()
        _wait(device)
        seconds.append(time.perf_counter() - start)
    low, median, high = (float(q) for q in np.quantile(seconds, [0.25, 0.5, 0.75]))
    return Latency(median, low, high, len(seconds))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
