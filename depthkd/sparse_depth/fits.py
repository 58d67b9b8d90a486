"""Relative depth brought to meters by sparse points: alignment, stage two of depth completion.

A prediction is fitted in the quantity that its network predicts: disparity to the inverse of measured depth.
Sparse depth is in meters, 0 where nothing was measured.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from depthkd.alignment import fit_least_absolute, fit_scale_and_shift
from depthkd.batch import DepthSpace, Quantity
from depthkd.shapes import Map, Mask, PerImage
from depthkd.sparse_depth.neighbors import NEIGHBORS, local_fit

PointFit = Literal["least_squares", "robust", "local", "residuals"]
SHRINKAGE = 0.03
BEYOND = 1.2  # how far an aligned depth may be outside of the range of the points, as a factor

Points = Float[Tensor, "batch 1 points"]


def measured(sparse: Map) -> Mask:
    """Where sparse depth was measured."""
    return (sparse > 0) & sparse.isfinite()


def align_to_points(
    prediction: Map,
    space: DepthSpace,
    sparse: Map,
    fit: PointFit = "local",
    shrinkage: float = SHRINKAGE,
    neighbors: int = NEIGHBORS,
    beyond: float = BEYOND,
) -> Map:
    """A prediction as depth in meters, fitted to the points that were measured.

    Args:
        prediction: in `space`.
        space: depth or disparity, with whatever ambiguity.
        sparse: the points.
        fit: "least_squares": one scale and shift an image; "robust": those that minimize absolute errors,
            which outliers move little; "local": a scale and shift a pixel, see `local_fit`; "residuals": that
            of least squares, plus what it leaves at the points, interpolated ("local" with an infinite
            shrinkage).
        shrinkage, neighbors: of "local" and "residuals", see `local_fit`.
        beyond: depth is at least the nearest point's over this, and at most the farthest one's times this.

    Returns:
        Depth, above 0 everywhere. With one point there is no shift: see `global_fit`. Without points nothing
        is known, and it is 1 everywhere, for the caller to leave out.
    """
    where = measured(sparse)
    target = torch.where(where, sparse, 0.0)
    if space.quantity is Quantity.DISPARITY:
        target = torch.where(where, 1 / torch.where(where, sparse, 1.0), 0.0)
    scale, shift = global_fit(*at_points(prediction, target, where), robust=fit == "robust")
    if fit in ("least_squares", "robust"):
        aligned = scale[:, None, None] * prediction + shift[:, None, None]
    else:
        strength = torch.inf if fit == "residuals" else shrinkage
        known = where.flatten(1).any(1).tolist()
        aligned = torch.cat(
            [
                local_fit(p[None], t[None], w[None], float(s), strength, neighbors) if k else p[None]
                for p, t, w, s, k in zip(prediction, target, where, scale, known, strict=True)
            ]
        )
    return _as_depth(aligned, space.quantity, torch.where(where, sparse, 0.0), beyond)


def at_points(
    prediction: Map, target: Map, where: Mask
) -> tuple[Points, Points, Bool[Tensor, "batch 1 points"]]:
    """Both maps at the points alone, which are a small part of the pixels, and which of them an image has."""
    where = where.flatten(1)
    image, place = where.nonzero(as_tuple=True)
    count = where.sum(1)
    rank = torch.arange(len(image), device=image.device) - (count.cumsum(0) - count)[image]
    empty = prediction.new_zeros(len(where), max(int(count.max()), 1))
    p, t = (empty.index_put((image, rank), x.flatten(1)[image, place]) for x in (prediction, target))
    known = torch.arange(empty.shape[1], device=count.device) < count[:, None]
    return p[:, None], t[:, None], known[:, None]


def global_fit(
    prediction: Points, target: Points, mask: Bool[Tensor, "batch 1 points"], robust: bool = False
) -> tuple[PerImage, PerImage]:
    """One scale above 0 and one shift an image.

    Where the fit finds no scale above 0 (at a single point; where the prediction is the same at all points;
    or because few points are noisy, which would turn the map inside out), it is that of a scale alone: the
    median ratio of target to prediction. Where that is not above 0 either, the scale is 0 and the shift the
    median of the target.

    Args:
        prediction, target: at the points.
        mask: which points an image has; without any, both are 0.
        robust: least absolute errors instead of least squares.
    """
    scale, shift = (fit_least_absolute if robust else fit_scale_and_shift)(prediction, target, mask)
    ratio = _median(target / torch.where(prediction > 0, prediction, torch.nan), mask)
    alone = torch.where(ratio > 0, ratio, torch.zeros_like(ratio))
    level = torch.where(ratio > 0, torch.zeros_like(ratio), _median(target, mask))
    turned = ~(scale > 0)
    return torch.where(turned, alone, scale), torch.where(turned, level, shift)


def _median(values: Points, mask: Bool[Tensor, "batch 1 points"]) -> PerImage:
    """Of each image's values; those that are NaN do not count, and without any it is 0."""
    found: Tensor = torch.where(mask, values, torch.nan).flatten(1).nanmedian(1).values
    return found.nan_to_num(0.0)


def _as_depth(aligned: Map, quantity: Quantity, sparse: Map, beyond: float) -> Map:
    """Aligned depth or disparity as depth, within reach of the range of the points."""
    flat = sparse.flatten(1)
    farthest = flat.amax(1)
    nearest = torch.where(flat > 0, flat, torch.inf).amin(1)
    known = farthest > 0
    low, high = (torch.where(known, x, 1.0)[:, None, None] for x in (nearest / beyond, farthest * beyond))
    if quantity is Quantity.DISPARITY:
        return 1 / aligned.maximum(1 / high).minimum(1 / low)
    return aligned.maximum(low).minimum(high)
