"""How sure a mean over images is: bootstrap intervals, of one model and of the difference between two."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

Values = Float64[np.ndarray, " images"]

RESAMPLES, BLOCK = 2000, 1_000_000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean over images, and where it lies with 95 % confidence if other images had been drawn."""

    mean: float
    low: float
    high: float

    @property
    def decided(self) -> bool:
        """Whether 0 lies outside: for a difference, that there is one."""
        return not self.low <= 0.0 <= self.high


def interval(values: Values, seed: int = 0) -> Interval:
    """The percentile bootstrap (Efron 1979) over images: they are drawn anew, with replacement.

    One image gives no interval: it is from minus to plus infinity.

    Raises:
        ValueError: there is no value.
    """
    if not values.size:
        raise ValueError("an interval needs at least one image")
    if values.size == 1:
        return Interval(float(values[0]), float("-inf"), float("inf"))
    rng = np.random.default_rng(seed)
    rows = max(1, BLOCK // values.size)
    means: list[Float64[np.ndarray, " resamples"]] = []
    for start in range(0, RESAMPLES, rows):
        drawn = rng.integers(values.size, size=(min(rows, RESAMPLES - start), values.size))
        means.append(values[drawn].mean(1))
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(np.concatenate(means), (tail, 100 - tail))
    return Interval(float(values.mean()), float(low), float(high))


def paired(one: dict[str, float], other: dict[str, float], seed: int = 0) -> Interval:
    """The difference `one - other` over the images that both have, resampled as pairs.

    Args:
        one, other: sample -> value.
        seed: of the draws.

    Raises:
        ValueError: they have no sample in common.
    """
    shared = [key for key in one if key in other]
    return interval(np.array([one[key] - other[key] for key in shared], dtype=np.float64), seed)
