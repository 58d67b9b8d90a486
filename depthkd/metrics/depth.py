"""How far a depth map is from the truth: the figures that every paper on depth prints.

Each function takes positive `[batch, height, width]` maps in one unit and a mask of the pixels that
count, and returns one value per image: NaN where an image has no valid pixel, and infinity (0 for
the accuracies) where a prediction is NaN at a valid one, so that a broken prediction never passes
for a missing truth. Each class is the mean of its function over images, exact over uneven batches
and over ranks. `depth_metrics` and `DepthMetrics` are all of them in one pass.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from math import log
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from depthkd.alignment import Select, Step, as_given, unchanged
from depthkd.metrics.mean import Mean, MeanByName
from depthkd.pixels import (
    Pixels,
    RowSums,
    chunks,
    every_bit,
    keep_or_1,
    narrowed,
    natural_log_,
    row_counts,
    row_dots,
    row_hits,
    row_sums,
    total,
    widened,
)

Map = Float[Tensor, "batch height width"]
Mask = Bool[Tensor, "batch height width"]
PerImage = Float[Tensor, " batch"]

LN_10 = log(10.0)


@dataclass(frozen=True)
class Errors:
    """Some pixels, both maps 1 (and so without error) where they do not count, and what formulas share."""

    prediction: Pixels
    target: Pixels
    others: RowSums  # how many do not count

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
        """ln (p / t)."""
        return natural_log_(self.prediction / self.target)

    @cached_property
    def log_moments(self) -> tuple[RowSums, RowSums]:
        """Sums of ln (p / t) and of its square, in float64: their variance must not cancel."""
        log_ratio = widened(self.log_ratio)
        return row_sums(log_ratio), row_dots(log_ratio, log_ratio)

    @cached_property
    def log_distance(self) -> Pixels:
        """|ln p - ln t|."""
        return abs(self.log_ratio)


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


def _within(ratio: float) -> Callable[[Errors], Sums]:
    # in logarithms, because a negative prediction would make both of p/t and t/p small
    return lambda e: (row_hits(e.log_distance, log(ratio)), e.others)


def _share(hits: PerImage, others: PerImage) -> PerImage:
    return hits - others


def _deviation(mean: PerImage, square: PerImage) -> PerImage:
    return (square - mean.square()).clamp(min=0).sqrt()


@dataclass(frozen=True)
class Formula:
    """A figure is what `of_means` makes of the means, over the pixels that count, of what `sums` adds up.

    Args:
        sums: over the pixels of an image.
        of_means: the figure, of as many means.
        broken: the figure where that is not a number.
    """

    sums: Callable[[Errors], Sums]
    of_means: Callable[..., PerImage] = lambda mean: mean
    broken: float = torch.inf


FORMULAS = {
    "abs_rel": Formula(_absolute_relative),
    "sq_rel": Formula(_squared_relative),
    "rmse": Formula(_squared, torch.sqrt),
    "rmse_log": Formula(_squared_log, torch.sqrt),
    "log10": Formula(_log10),
    "silog": Formula(_log_moments, lambda *means: 100.0 * _deviation(*means)),
    "irmse": Formula(_squared_inverse, torch.sqrt),
    "delta1": Formula(_within(1.25), _share, broken=0.0),
    "delta2": Formula(_within(1.25**2), _share, broken=0.0),
    "delta3": Formula(_within(1.25**3), _share, broken=0.0),
    "delta_1_05": Formula(_within(1.05), _share, broken=0.0),
    "delta_1_10": Formula(_within(1.10), _share, broken=0.0),
    "delta_1_15": Formula(_within(1.15), _share, broken=0.0),
    "delta_1_20": Formula(_within(1.20), _share, broken=0.0),
}


def _figures(
    formulas: Mapping[str, Formula],
    prediction: Map,
    target: Map,
    mask: Mask,
    step: Step = unchanged,
    of_target: Step = unchanged,
    select: Select = as_given,
) -> dict[str, PerImage]:
    """Sums over chunks in float32, but for the logarithms', and from there in float64."""
    parts: list[list[Any]] = []
    counts: list[int] = []
    with torch.inference_mode(), np.errstate(all="ignore"):  # what is broken is told by the figures
        for p, t, m in chunks(prediction, target, mask):
            chosen = select(t, m)
            p, t = narrowed(step(p)), narrowed(of_target(t))
            bits, count = every_bit(chosen), row_counts(chosen)
            errors = Errors(keep_or_1(p, bits), keep_or_1(t, bits), m.shape[1] - count)
            sums = [formula.sums(errors) for formula in formulas.values()]
            counts = [len(several) for several in sums]
            parts.append([count, *(one for several in sums for one in several)])
        count, *totals = total(parts, prediction.device).unbind()
    means = iter(torch.stack(totals) / count.clamp(min=1))
    values = torch.stack(
        [
            formula.of_means(*islice(means, number))
            for formula, number in zip(formulas.values(), counts, strict=True)
        ]
    ).float()
    broken = values.new_tensor([formula.broken for formula in formulas.values()])[:, None]
    values = torch.where(torch.isnan(values), broken, values)
    return dict(zip(formulas, torch.where(count > 0, values, torch.nan), strict=True))


def depth_metrics(
    prediction: Map,
    target: Map,
    mask: Mask,
    step: Step = unchanged,
    of_target: Step = unchanged,
    select: Select = as_given,
) -> dict[str, PerImage]:
    """All `FORMULAS` in one pass, by their names: "abs_rel" to "delta_1_20".

    `step` is done to the prediction's pixels first, such as what `find_alignment` found, and `of_target`
    to the target's; `select` leaves out more of the mask's pixels, by the target's values before that.
    """
    return _figures(FORMULAS, prediction, target, mask, step, of_target, select)


def _figure(name: str, prediction: Map, target: Map, mask: Mask) -> PerImage:
    return _figures({name: FORMULAS[name]}, prediction, target, mask)[name]


def absolute_relative_error(prediction: Map, target: Map, mask: Mask) -> PerImage:
    """AbsRel: mean of |p - t| / t."""
    return _figure("abs_rel", prediction, target, mask)


def squared_relative_error(prediction: Map, target: Map, mask: Mask) -> PerImage:
    """SqRel: mean of (p - t)^2 / t, in the maps' unit (Eigen et al. 2014; Marigold's code divides by t^2)."""
    return _figure("sq_rel", prediction, target, mask)


def root_mean_squared_error(prediction: Map, target: Map, mask: Mask) -> PerImage:
    """RMSE: root of the mean of (p - t)^2, in the maps' unit."""
    return _figure("rmse", prediction, target, mask)


def root_mean_squared_log_error(prediction: Map, target: Map, mask: Mask) -> PerImage:
    """RMSE log: root of the mean of (ln p - ln t)^2."""
    return _figure("rmse_log", prediction, target, mask)


def log10_error(prediction: Map, target: Map, mask: Mask) -> PerImage:
    """log10: mean of |log10 p - log10 t|."""
    return _figure("log10", prediction, target, mask)


def scale_invariant_log_error(prediction: Map, target: Map, mask: Mask) -> PerImage:
    """SIlog: 100 times the standard deviation of ln p - ln t (Eigen et al. 2014, with lambda = 1)."""
    return _figure("silog", prediction, target, mask)


def inverse_root_mean_squared_error(prediction: Map, target: Map, mask: Mask) -> PerImage:
    """iRMSE: root of the mean of (1/p - 1/t)^2, in 1 / the maps' unit (KITTI prints 1/km)."""
    return _figure("irmse", prediction, target, mask)


def delta_accuracy(prediction: Map, target: Map, mask: Mask, threshold: float = 1.25) -> PerImage:
    """The share of pixels whose max(p/t, t/p) is below the threshold: 1.25^n for delta_n."""
    formulas = {"delta": Formula(_within(threshold), _share, broken=0.0)}
    return _figures(formulas, prediction, target, mask)["delta"]


class DepthMetrics(MeanByName):
    """All depth metrics, sharing one pass over each batch; `compute` as `MeanOverImages`."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(FORMULAS, **settings)

    def update(self, prediction: Map, target: Map, mask: Mask) -> None:
        """Add a batch of positive maps in one unit."""
        self.add(depth_metrics(prediction, target, mask))


class _MeanOf(Mean):
    """One function's mean over images, for use on its own."""

    name: ClassVar[str]

    def __init__(self, setting: object = None, **settings: Any) -> None:
        super().__init__((self.name,), setting, **settings)

    def update(self, prediction: Map, target: Map, mask: Mask) -> None:
        """Add a batch of positive maps in one unit."""
        self.add({self.name: _figure(self.name, prediction, target, mask)})

    def compute(self) -> Tensor:
        """The mean over images; NaN before any."""
        return self.means()[0]


class AbsoluteRelativeError(_MeanOf):
    """AbsRel, the mean of `absolute_relative_error` over images."""

    name = "abs_rel"


class SquaredRelativeError(_MeanOf):
    """SqRel, the mean of `squared_relative_error` over images."""

    name = "sq_rel"


class RootMeanSquaredError(_MeanOf):
    """RMSE, the mean of `root_mean_squared_error` over images."""

    name = "rmse"


class RootMeanSquaredLogError(_MeanOf):
    """RMSE log, the mean of `root_mean_squared_log_error` over images."""

    name = "rmse_log"


class Log10Error(_MeanOf):
    """log10, the mean of `log10_error` over images."""

    name = "log10"


class ScaleInvariantLogError(_MeanOf):
    """SIlog, the mean of `scale_invariant_log_error` over images."""

    name = "silog"


class InverseRootMeanSquaredError(_MeanOf):
    """iRMSE, the mean of `inverse_root_mean_squared_error` over images."""

    name = "irmse"


class Delta1(_MeanOf):
    """delta1, the mean of `delta_accuracy` at 1.25 over images."""

    name = "delta1"


class Delta2(_MeanOf):
    """delta2, the mean of `delta_accuracy` at 1.25^2 over images."""

    name = "delta2"


class Delta3(_MeanOf):
    """delta3, the mean of `delta_accuracy` at 1.25^3 over images."""

    name = "delta3"


class DeltaAccuracy(_MeanOf):
    """The mean of `delta_accuracy` at any threshold over images."""

    name = "delta"

    def __init__(self, threshold: float = 1.25, **settings: Any) -> None:
        super().__init__(threshold, **settings)
        self.threshold = threshold

    def update(self, prediction: Map, target: Map, mask: Mask) -> None:
        """Add a batch of positive maps in one unit."""
        self.add({self.name: delta_accuracy(prediction, target, mask, self.threshold)})
