"""How far a depth map is from the truth: the figures that every paper on depth prints.

Each function takes positive `[batch, height, width]` maps in one unit and a mask of the pixels that
count, and returns one value per image: NaN where an image has no valid pixel, and infinity (0 for
the accuracies) where a prediction is NaN at a valid one, so that a broken prediction never passes
for a missing truth. Each class is the mean of its function over images, exact over uneven batches
and over ranks. `depth_metrics` and `DepthMetrics` are all of them in one pass.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import log
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from depthkd.metrics.mean import Mean, MeanByName

Map = Float[Tensor, "batch height width"]
Mask = Bool[Tensor, "batch height width"]
PerImage = Float[Tensor, " batch"]

LN_10 = log(10.0)


@dataclass(frozen=True)
class Errors:
    """What the formulas share: flattened maps, 1 (and so without error) where they do not count."""

    prediction: Float[Tensor, "batch pixels"]
    target: Float[Tensor, "batch pixels"]
    log_ratio: Float[Tensor, "batch pixels"]
    count: PerImage
    mask: Bool[Tensor, "batch pixels"]

    def mean(self, errors: Float[Tensor, "batch pixels"]) -> PerImage:
        """Mean over the valid pixels; `errors` is 0 at the others."""
        return errors.sum(1) / self.count.clamp(min=1)

    def finish(self, values: PerImage, broken: float = torch.inf) -> PerImage:
        """NaN for images without a valid pixel, `broken` where the value is not a number."""
        values = torch.where(torch.isnan(values), broken, values)
        return torch.where(self.count > 0, values, torch.nan)


def _errors(prediction: Map, target: Map, mask: Mask) -> Errors:
    m = mask.flatten(1)
    p = torch.where(m, prediction.flatten(1).float(), 1.0)
    t = torch.where(m, target.flatten(1).float(), 1.0)
    return Errors(p, t, p.log() - t.log(), m.sum(1).float(), m)


def _absolute_relative(e: Errors) -> PerImage:
    return e.finish(e.mean((e.prediction - e.target).abs() / e.target))


def _squared_relative(e: Errors) -> PerImage:
    return e.finish(e.mean((e.prediction - e.target).square() / e.target))


def _rmse(e: Errors) -> PerImage:
    return e.finish(e.mean((e.prediction - e.target).square()).sqrt())


def _rmse_log(e: Errors) -> PerImage:
    return e.finish(e.mean(e.log_ratio.square()).sqrt())


def _log10(e: Errors) -> PerImage:
    return e.finish(e.mean(e.log_ratio.abs()) / LN_10)


def _silog(e: Errors) -> PerImage:
    # The deviation from the mean, in a second pass: E[x^2] - E[x]^2 cancels in float32.
    deviation = torch.where(e.mask, e.log_ratio - e.mean(e.log_ratio)[:, None], 0.0)
    return e.finish(100.0 * e.mean(deviation.square()).sqrt())


def _irmse(e: Errors) -> PerImage:
    return e.finish(e.mean((1.0 / e.prediction - 1.0 / e.target).square()).sqrt())


def _delta(e: Errors, power: int) -> PerImage:
    # In logarithms, because a negative prediction would make both of p/t and t/p small.
    within = (e.log_ratio.abs() < power * log(1.25)) & e.mask
    return e.finish(e.mean(within.float()), broken=0.0)


FORMULAS: dict[str, Callable[[Errors], PerImage]] = {
    "abs_rel": _absolute_relative,
    "sq_rel": _squared_relative,
    "rmse": _rmse,
    "rmse_log": _rmse_log,
    "log10": _log10,
    "silog": _silog,
    "irmse": _irmse,
    "delta1": lambda e: _delta(e, 1),
    "delta2": lambda e: _delta(e, 2),
    "delta3": lambda e: _delta(e, 3),
}


def depth_metrics(prediction: Map, target: Map, mask: Mask) -> dict[str, PerImage]:
    """All `FORMULAS` in one pass, by their names: "abs_rel" to "delta3"."""
    errors = _errors(prediction, target, mask)
    return {name: formula(errors) for name, formula in FORMULAS.items()}


def absolute_relative_error(prediction: Map, target: Map, mask: Mask) -> PerImage:
    """AbsRel: mean of |p - t| / t."""
    return _absolute_relative(_errors(prediction, target, mask))


def squared_relative_error(prediction: Map, target: Map, mask: Mask) -> PerImage:
    """SqRel: mean of (p - t)^2 / t, in the maps' unit (Eigen et al. 2014; Marigold's code divides by t^2)."""
    return _squared_relative(_errors(prediction, target, mask))


def root_mean_squared_error(prediction: Map, target: Map, mask: Mask) -> PerImage:
    """RMSE: root of the mean of (p - t)^2, in the maps' unit."""
    return _rmse(_errors(prediction, target, mask))


def root_mean_squared_log_error(prediction: Map, target: Map, mask: Mask) -> PerImage:
    """RMSE log: root of the mean of (ln p - ln t)^2."""
    return _rmse_log(_errors(prediction, target, mask))


def log10_error(prediction: Map, target: Map, mask: Mask) -> PerImage:
    """log10: mean of |log10 p - log10 t|."""
    return _log10(_errors(prediction, target, mask))


def scale_invariant_log_error(prediction: Map, target: Map, mask: Mask) -> PerImage:
    """SIlog: 100 times the standard deviation of ln p - ln t (Eigen et al. 2014, with lambda = 1)."""
    return _silog(_errors(prediction, target, mask))


def inverse_root_mean_squared_error(prediction: Map, target: Map, mask: Mask) -> PerImage:
    """iRMSE: root of the mean of (1/p - 1/t)^2, in 1 / the maps' unit (KITTI prints 1/km)."""
    return _irmse(_errors(prediction, target, mask))


def delta_accuracy(prediction: Map, target: Map, mask: Mask, power: int = 1) -> PerImage:
    """delta_n: the share of pixels whose max(p/t, t/p) is below 1.25^power."""
    return _delta(_errors(prediction, target, mask), power)


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

    def __init__(self, **settings: Any) -> None:
        super().__init__((self.name,), **settings)

    def update(self, prediction: Map, target: Map, mask: Mask) -> None:
        """Add a batch of positive maps in one unit."""
        self.add({self.name: FORMULAS[self.name](_errors(prediction, target, mask))})

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
    """delta1, the mean of `delta_accuracy` with power 1 over images."""

    name = "delta1"


class Delta2(_MeanOf):
    """delta2, the mean of `delta_accuracy` with power 2 over images."""

    name = "delta2"


class Delta3(_MeanOf):
    """delta3, the mean of `delta_accuracy` with power 3 over images."""

    name = "delta3"
