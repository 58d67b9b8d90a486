"""How sure a mean over images is: bootstrap intervals, of one model and of the difference between two."""

from collections.abc import Mapping
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


def interval(values: Values, seed: int = 0, weights: Values | None = None) -> Interval:
    """The percentile bootstrap (Efron 1979) over images: they are drawn anew, with replacement.

    One image gives no interval: it is from minus to plus infinity.

    Args:
        values: of the images.
        seed: of the draws.
        weights: of the images in the mean, positive; None: all alike.

    Raises:
        ValueError: there is no value.
    """
    if not values.size:
        raise ValueError("an interval needs at least one image")
    weights = np.ones(values.shape, np.float64) if weights is None else weights
    mean = float(np.average(values, weights=weights))
    if values.size == 1:
        return Interval(mean, float("-inf"), float("inf"))
    rng = np.random.default_rng(seed)
    rows = max(1, BLOCK // values.size)
    means: list[Float64[np.ndarray, " resamples"]] = []
    for start in range(0, RESAMPLES, rows):
        drawn = rng.integers(values.size, size=(min(rows, RESAMPLES - start), values.size))
        means.append((values * weights)[drawn].sum(1) / weights[drawn].sum(1))
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(np.concatenate(means), (tail, 100 - tail))
    return Interval(mean, float(low), float(high))


def paired(
    one: Mapping[str, float],
    other: Mapping[str, float],
    seed: int = 0,
    weights: Mapping[str, float] | None = None,
) -> Interval:
    """The difference `one - other` over the images that both have, resampled as pairs.

    Args:
        one, other: sample -> value.
        seed: of the draws.
        weights: sample -> its weight in the mean; None: all alike.

    Raises:
        ValueError: they have no sample in common.
    """
    shared = [key for key in one if key in other]
    differences = np.array([one[key] - other[key] for key in shared], dtype=np.float64)
    if weights is None:
        return interval(differences, seed)
    return interval(differences, seed, np.array([weights[key] for key in shared], dtype=np.float64))
