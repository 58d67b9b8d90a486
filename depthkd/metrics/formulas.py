"""The formulas of depth's metrics, as sums over pixels and what is made of their means.

Pixels are those of `depthkd.pixels`: arrays on a CPU, tensors elsewhere.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import log

import numpy as np
import torch

from depthkd.pixels import (
    Pixels,
    RowSums,
    is_array,
    natural_log_,
    row_counts,
    row_dots,
    row_hits,
    row_sums,
    widened,
)
from depthkd.shapes import PerImage

LN_10 = log(10.0)
ROUNDING = 1.5e-7  # more than float32 costs |ln p - ln t|, which is small, and a quarter of that relatively


@dataclass(frozen=True)
class Errors:
    """Some pixels, both maps 1 (and so without error) where they do not count, and what formulas share.

    Args:
        estimate, true: prediction and truth at these pixels, in float32.
        others: how many do not count.
        inverse: whether metrics are those of 1 / the maps; ratios of the maps themselves serve them too.
        exact: the two maps in their own precision, where they are tensors; None: they are arrays.
    """

    estimate: Pixels
    true: Pixels
    others: RowSums
    inverse: bool = False
    exact: tuple[Pixels, Pixels] | None = None

    @cached_property
    def prediction(self) -> Pixels:
        """p."""
        return 1.0 / self.estimate if self.inverse else self.estimate

    @cached_property
    def target(self) -> Pixels:
        """t."""
        return 1.0 / self.true if self.inverse else self.true

    @cached_property
    def difference(self) -> Pixels:
        """p - t."""
        return self.prediction - self.target

    @cached_property
    def relative(self) -> Pixels:
        """(p - t) / t."""
        return self.difference / self.target

    @cached_property
    def log_ratio(self) -> Pixels:
        """ln (p / t), or ln (t / p): no formula minds which."""
        return natural_log_(self.estimate / self.true)

    @cached_property
    def log_moments(self) -> tuple[RowSums, RowSums]:
        """Sums of ln (p / t) and of its square, in float64: their variance must not cancel."""
        log_ratio = widened(self.log_ratio)
        return row_sums(log_ratio), row_dots(log_ratio, log_ratio)

    @cached_property
    def log_distance(self) -> Pixels:
        """|ln p - ln t|."""
        return abs(self.log_ratio)

    def hits(self, threshold: float) -> RowSums:
        """How many pixels have max(p/t, t/p) below the threshold, as float64 would count them.

        The float32 logarithm decides but for the few pixels that rounding could move over the threshold.
        """
        if not is_array(self.estimate):
            return row_hits(self.largest_ratio, threshold)
        distance, bound = self.log_distance, log(threshold)
        rounding = ROUNDING + ROUNDING * 4 * bound
        sure, possible = distance < bound - rounding, distance < bound + rounding
        hits = row_counts(sure)
        if hits.sum() == np.count_nonzero(possible):
            return hits
        close = np.flatnonzero(sure != possible)
        p, t = (widened(x.reshape(-1)[close]) for x in (self.estimate, self.true))
        rows = close[np.maximum(p / t, t / p) < threshold] // distance.shape[1]
        return hits + np.bincount(rows, minlength=len(distance))

    @cached_property
    def largest_ratio(self) -> Pixels:
        """max(p/t, t/p) in float64, infinite where p is not positive."""
        p, t = (widened(x) for x in self.exact or (self.estimate, self.true))
        return torch.where(p > 0, torch.maximum(p / t, t / p), torch.inf)


Sums = tuple[RowSums, ...]


def _absolute_relative(e: Errors) -> Sums:
    return (row_sums(abs(e.relative)),)


def _squared_relative(e: Errors) -> Sums:
    return (row_dots(e.difference, e.relative),)


def _squared(e: Errors) -> Sums:
    return (row_dots(e.difference, e.difference),)


def _squared_log(e: Errors) -> Sums:
    return e.log_moments[1:]


def _log10(e: Errors) -> Sums:
    return (row_sums(e.log_distance) / LN_10,)


def _log_moments(e: Errors) -> Sums:
    return e.log_moments


def _squared_inverse(e: Errors) -> Sums:
    difference = e.relative / e.prediction  # 1/t - 1/p, without its cancellation
    return (row_dots(difference, difference),)


def _absolute(e: Errors) -> Sums:
    return (row_sums(abs(e.difference)),)


def _absolute_inverse(e: Errors) -> Sums:
    return (row_sums(abs(e.relative / e.prediction)),)


def _deviation(mean: PerImage, square: PerImage) -> PerImage:
    return (square - mean.square()).clamp(min=0).sqrt()


@dataclass(frozen=True)
class Formula:
    """A metric is what `of_means` makes of the means, over the pixels that count, of what `sums` adds up.

    Args:
        sums: over the pixels of an image.
        of_means: the metric, of as many means.
        broken: the metric where that is not a number.
    """

    sums: Callable[[Errors], Sums]
    of_means: Callable[..., PerImage] = lambda mean: mean
    broken: float = torch.inf


def within(ratio: float) -> Formula:
    """The share of pixels whose max(p/t, t/p) is below `ratio`, which is above 1."""
    return Formula(lambda e: (e.hits(ratio), e.others), lambda hits, others: hits - others, broken=0.0)


ABS_REL = Formula(_absolute_relative)
SQ_REL = Formula(_squared_relative)
RMSE = Formula(_squared, torch.sqrt)
RMSE_LOG = Formula(_squared_log, torch.sqrt)
LOG10 = Formula(_log10)
SILOG = Formula(_log_moments, lambda *means: 100.0 * _deviation(*means))
IRMSE = Formula(_squared_inverse, torch.sqrt)
MAE = Formula(_absolute)
IMAE = Formula(_absolute_inverse)
