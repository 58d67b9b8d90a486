"""Depth of successive frames on one scale: what flickers, because each frame is predicted by itself, stands
still.

A relative model gives every frame a scale and a shift of its own, and a metric one an error of scale that
changes from frame to frame. Neither is visible in a picture; both are in a video. The fit carries median
and mean absolute deviation to those of the frame before (as MiDaS normalizes maps: Ranftl et al., TPAMI
2022), over the half of the pixels that agree best, so that what moves does not count. Least squares
would make the scale a little too small every time, until nothing of the range is left.
"""

import math

import torch
from torch import Tensor

from depthkd.alignment import fit_median, fit_median_scale, thin_out
from depthkd.batch import Ambiguity, DepthSpace
from depthkd.errors import UserError
from depthkd.shapes import OneMap

SIDE = 256  # px, of what is fitted
AGREEING = 0.5  # share of the pixels that the second fit is made of
CUT = 0.5  # mean error, in mean absolute deviations, from which on a frame shows another scene

Fitted = tuple[float, float]
"""Scale and shift."""


class Smoother:
    """Brings the frames of a video to one scale, in their order.

    Relative depth gets the scale and shift that fit it to an exponential mean of the frames before,
    mean = memory * mean + (1 - memory) * frame. What comes out is the frame itself, fitted, and not the mean,
    which would blur what moves. At a cut, where the fit is bad, the mean begins anew.

    Metric depth keeps its meters, for a camera that walks toward a wall sees it come nearer: of its changes
    of scale from frame to frame only what is faster than the exponential mean is taken out.

    Args:
        space: of the depth.
        memory: of the mean, from 0 to below 1.

    Raises:
        UserError: it is not.
    """

    def __init__(self, space: DepthSpace, memory: float | int) -> None:
        if not 0 <= memory < 1:
            raise UserError(f"smooth is the share of the past in a mean, from 0 to below 1, not {memory:g}")
        self.space, self.memory = space, float(memory)
        self.mean: Tensor | None = None
        self.level = self.smooth_level = 0.0

    def __call__(self, depth: OneMap) -> OneMap:
        """The next frame, on the scale of those before."""
        shown = torch.where(depth.isfinite(), depth, 0.0)
        small = thin_out(shown, SIDE)
        mask = thin_out(depth.isfinite(), SIDE)
        before, self.mean = self.mean, small
        if before is None or before.shape != small.shape or not bool(mask.any()):
            self.level = self.smooth_level = 0.0
            return depth
        metric = self.space.ambiguity is Ambiguity.METRIC
        (scale, shift), cut = fitted(small, before, mask, self.space.ambiguity is not Ambiguity.AFFINE)
        if cut or not scale > 0:
            self.level = self.smooth_level = 0.0
            return depth
        if metric:
            self.level -= math.log(scale)
            self.smooth_level = self.memory * self.smooth_level + (1 - self.memory) * self.level
            return depth * math.exp(self.smooth_level - self.level)
        self.mean = self.memory * before + (1 - self.memory) * (scale * small + shift)
        return scale * depth + shift


def fitted(depth: Tensor, before: Tensor, mask: Tensor, scale_alone: bool) -> tuple[Fitted, bool]:
    """Scale and shift that carry a map to the one before, by the half of the pixels that agree best; and
    whether it shows another scene.

    Args:
        depth, before: maps [1, height, width].
        mask: where the map counts.
        scale_alone: whether there is no shift to be found.
    """

    def fit(where: Tensor) -> tuple[float, float]:
        if scale_alone:
            return float(fit_median_scale(depth, before, where)), 0.0
        scale, shift = fit_median(depth, before, where)
        return float(scale), float(shift)

    def error(scale: float, shift: float) -> Tensor:
        return (scale * depth + shift - before).abs()

    first = error(*fit(mask))
    best = first <= first[mask].quantile(AGREEING)
    scale, shift = fit(mask & best)
    spread = (before - before[mask].median()).abs()[mask].mean()
    return (scale, shift), float(error(scale, shift)[mask].mean()) > CUT * float(spread)
