"""How far a depth map is from the truth: the metrics that every paper on depth prints.

Each function takes positive `[batch, height, width]` maps in one unit and a mask of the pixels that
count, and returns one value per image: NaN where an image has no valid pixel, and infinity (0 for
the accuracies) where a prediction is NaN at a valid one, so that a broken prediction never passes
for a missing truth: one NaN costs the whole image, under every protocol. A prediction that is 0 or
negative is a miss of that pixel alone to the accuracies, and infinite to metrics of logarithms. Each
class is the mean of its function over images, exact over uneven batches and over ranks.
`depth_metrics` and `DepthMetrics` are all of them in one pass.
"""

from collections.abc import Mapping
from itertools import islice
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from depthkd.alignment import Select, Step, as_given, unchanged
from depthkd.errors import UserError
from depthkd.metrics.catalogue import COMPLETION_FORMULAS, FORMULAS
from depthkd.metrics.formulas import Errors, Formula, within
from depthkd.metrics.mean import Mean, MeanByName
from depthkd.pixels import chunks, every_bit, is_array, keep_or_1, narrowed, row_counts, row_missing, total
from depthkd.shapes import Map, Mask, PerImage


def _metrics(
    formulas: Mapping[str, Formula],
    prediction: Map,
    target: Map,
    mask: Mask,
    step: Step = unchanged,
    of_target: Step = unchanged,
    select: Select = as_given,
    inverse: bool = False,
) -> dict[str, PerImage]:
    """Sums over chunks in float32, but for the logarithms', and from there in float64."""
    parts: list[list[Any]] = []
    counts: list[int] = []
    with (
        torch.inference_mode(),
        np.errstate(all="ignore"),
    ):  # broken predictions get the worst ones below
        for p, t, m in chunks(prediction, target, mask):
            chosen = select(t, m)
            bits, count = every_bit(chosen), row_counts(chosen)
            p, t = step(p), of_target(t)
            exact = None if is_array(p) else (torch.where(chosen, p, 1.0), torch.where(chosen, t, 1.0))
            p, t = (keep_or_1(narrowed(x), bits) for x in (p, t))
            errors = Errors(p, t, m.shape[1] - count, inverse, exact)
            sums = [formula.sums(errors) for formula in formulas.values()]
            counts = [len(several) for several in sums]
            parts.append([count, row_missing(p), *(one for several in sums for one in several)])
        count, missing, *totals = total(parts, prediction.device).unbind()
    means = iter(torch.stack(totals) / count.clamp(min=1))
    values = torch.stack(
        [
            formula.of_means(*islice(means, number))
            for formula, number in zip(formulas.values(), counts, strict=True)
        ]
    ).float()
    broken = values.new_tensor([formula.broken for formula in formulas.values()])[:, None]
    values = torch.where(torch.isnan(values) | (missing > 0), broken, values)
    return dict(zip(formulas, torch.where(count > 0, values, torch.nan), strict=True))


def depth_metrics(
    prediction: Map,
    target: Map,
    mask: Mask,
    step: Step = unchanged,
    of_target: Step = unchanged,
    select: Select = as_given,
    inverse: bool = False,
) -> dict[str, PerImage]:
    """All `FORMULAS` in one pass, by their names: "abs_rel" to "delta_1_20".

    `step` is done to the prediction's pixels first, such as what `find_alignment` found, and `of_target`
    to the target's; `select` leaves out more of the mask's pixels, by the target's values before that. With
    `inverse` the metrics are those of 1 / what comes of it: of disparity, from maps of depth.
    """
    return _metrics(FORMULAS, prediction, target, mask, step, of_target, select, inverse)


def completion_metrics(
    prediction: Map, target: Map, mask: Mask, of_target: Step = unchanged, select: Select = as_given
) -> dict[str, PerImage]:
    """What papers on depth completion print besides: "mae", "imae" and "delta_1_02"; arguments as in
    `depth_metrics`."""
    return _metrics(COMPLETION_FORMULAS, prediction, target, mask, unchanged, of_target, select)


def _metric(name: str, prediction: Map, target: Map, mask: Mask) -> PerImage:
    return _metrics({name: (FORMULAS | COMPLETION_FORMULAS)[name]}, prediction, target, mask)[name]


def absolute_relative_error(prediction: Map, target: Map, mask: Mask) -> PerImage:
    """AbsRel: mean of |p - t| / t."""
    return _metric("abs_rel", prediction, target, mask)


def squared_relative_error(prediction: Map, target: Map, mask: Mask) -> PerImage:
    """SqRel: mean of (p - t)^2 / t, in the maps' unit (Eigen et al. 2014).

    The evaluations of Marigold, Lotus and SharpDepth divide by t too.
    """
    return _metric("sq_rel", prediction, target, mask)


def root_mean_squared_error(prediction: Map, target: Map, mask: Mask) -> PerImage:
    """RMSE: root of the mean of (p - t)^2, in the maps' unit."""
    return _metric("rmse", prediction, target, mask)


def root_mean_squared_log_error(prediction: Map, target: Map, mask: Mask) -> PerImage:
    """RMSE log: root of the mean of (ln p - ln t)^2."""
    return _metric("rmse_log", prediction, target, mask)


def log10_error(prediction: Map, target: Map, mask: Mask) -> PerImage:
    """log10: mean of |log10 p - log10 t|."""
    return _metric("log10", prediction, target, mask)


def scale_invariant_log_error(prediction: Map, target: Map, mask: Mask) -> PerImage:
    """SIlog: 100 times the standard deviation of ln p - ln t (Eigen et al. 2014, with lambda = 1)."""
    return _metric("silog", prediction, target, mask)


def inverse_root_mean_squared_error(prediction: Map, target: Map, mask: Mask) -> PerImage:
    """iRMSE: root of the mean of (1/p - 1/t)^2, in 1 / the maps' unit (KITTI prints 1/km)."""
    return _metric("irmse", prediction, target, mask)


def mean_absolute_error(prediction: Map, target: Map, mask: Mask) -> PerImage:
    """MAE: mean of |p - t|, in the maps' unit (KITTI prints mm)."""
    return _metric("mae", prediction, target, mask)


def inverse_mean_absolute_error(prediction: Map, target: Map, mask: Mask) -> PerImage:
    """iMAE: mean of |1/p - 1/t|, in 1 / the maps' unit (KITTI prints 1/km)."""
    return _metric("imae", prediction, target, mask)


def delta_accuracy(prediction: Map, target: Map, mask: Mask, threshold: float = 1.25) -> PerImage:
    """The share of pixels whose max(p/t, t/p) is below the threshold: 1.25^n for delta_n.

    A ratio of exactly the threshold is a miss, as is a prediction that is not positive; what float64 would
    make of the ratio decides. An image with a NaN at a valid pixel has 0.

    Raises:
        UserError: the threshold is not above 1.
    """
    if not threshold > 1:
        raise UserError(f"the threshold of a delta accuracy must be above 1, not {threshold}")
    return _metrics({"delta": within(threshold)}, prediction, target, mask)["delta"]


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
        self.add({self.name: _metric(self.name, prediction, target, mask)})

    def compute(self) -> Tensor:
        """The mean over images; NaN before any."""
        return self.means()[0]


def _mean_of(metric: str, name: str, what: str) -> type[_MeanOf]:
    """The class `name`, which averages a metric over images."""
    about = {"name": metric, "__doc__": f"{what}: its mean over images.", "__module__": __name__}
    return type(name, (_MeanOf,), about)


AbsoluteRelativeError = _mean_of("abs_rel", "AbsoluteRelativeError", "AbsRel, `absolute_relative_error`")
SquaredRelativeError = _mean_of("sq_rel", "SquaredRelativeError", "SqRel, `squared_relative_error`")
RootMeanSquaredError = _mean_of("rmse", "RootMeanSquaredError", "RMSE, `root_mean_squared_error`")
RootMeanSquaredLogError = _mean_of(
    "rmse_log", "RootMeanSquaredLogError", "RMSE log, `root_mean_squared_log_error`"
)
Log10Error = _mean_of("log10", "Log10Error", "log10, `log10_error`")
ScaleInvariantLogError = _mean_of("silog", "ScaleInvariantLogError", "SIlog, `scale_invariant_log_error`")
InverseRootMeanSquaredError = _mean_of(
    "irmse", "InverseRootMeanSquaredError", "iRMSE, `inverse_root_mean_squared_error`"
)
MeanAbsoluteError = _mean_of("mae", "MeanAbsoluteError", "MAE, `mean_absolute_error`")
InverseMeanAbsoluteError = _mean_of("imae", "InverseMeanAbsoluteError", "iMAE, `inverse_mean_absolute_error`")
Delta1 = _mean_of("delta1", "Delta1", "delta1, `delta_accuracy` at 1.25")
Delta2 = _mean_of("delta2", "Delta2", "delta2, `delta_accuracy` at 1.25^2")
Delta3 = _mean_of("delta3", "Delta3", "delta3, `delta_accuracy` at 1.25^3")


class DeltaAccuracy(_MeanOf):
    """The mean of `delta_accuracy` at any threshold over images."""

    name = "delta"

    def __init__(self, threshold: float = 1.25, **settings: Any) -> None:
        super().__init__(threshold, **settings)
        self.threshold = threshold

    def update(self, prediction: Map, target: Map, mask: Mask) -> None:
        """Add a batch of positive maps in one unit."""
        self.add({self.name: delta_accuracy(prediction, target, mask, self.threshold)})
