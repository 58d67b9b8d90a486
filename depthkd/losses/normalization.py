"""Depth normalizations of Distill Any Depth, section 3.1 (Eqs. 1 to 6), and the loss on each.

Every loss here is the mean over the valid pixels of one image, `[batch]`; the caller takes the
mean over images, so that the number of ranks does not matter. An image without valid pixels has
loss 0 and gradient 0. Maps are float32; both live in one quantity.
"""

from enum import StrEnum
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from depthkd.alignment import masked_mean, median_and_deviation
from depthkd.losses.contexts import (
    EPSILON,
    Sorted,
    joined_cells,
    joined_ranges,
    normalized_difference,
    sort_within_segments,
)
from depthkd.shapes import Map, Mask, PerImage


class Normalization(StrEnum):
    """Which pixels a depth value is normalized with."""

    GLOBAL = "global"  # Eq. 1: the whole map
    HYBRID = "hybrid"  # Eq. 3: 1, 2 and 4 segments of the depth range; DR of HDN
    LOCAL = "local"  # Eq. 5: the 4 segments alone
    NONE = "none"  # Eq. 6: raw values
    PERCENTILE = "percentile"  # DP of HDN: 1, 2 and 4 bins that hold equally many pixels
    SPATIAL = "spatial"  # DS of HDN: grids of 1 x 1, 2 x 2 and 4 x 4 cells of the image


NormalizationName = Literal[
    "global", "hybrid", "local", "none", "percentile", "spatial"
]  # as configs write it

LEVELS = {
    Normalization.GLOBAL: (1,),
    Normalization.HYBRID: (1, 2, 4),
    Normalization.LOCAL: (4,),
    Normalization.PERCENTILE: (1, 2, 4),
    Normalization.SPATIAL: (1, 2, 4),
}


def global_normalization(depth: Map, mask: Mask) -> Map:
    """Distill Any Depth, Eq. 1: subtract the median, divide by the mean absolute deviation from it."""
    median, deviation = median_and_deviation(depth, mask)
    return (depth - median[:, None, None]) / deviation.clamp(min=EPSILON)[:, None, None]


def depth_range_partition(teacher: Map, mask: Mask, count: int) -> Int[Tensor, "batch pixels"]:
    """Which of `count` equal segments of the teacher's range each pixel is in; `count` where invalid.

    A segment is half open, [low, high), but for the last, which is closed, so that the nearest (or
    farthest) pixel belongs to one too.
    """
    depth, valid = teacher.flatten(1), mask.flatten(1)
    low = torch.where(valid, depth, torch.inf).amin(1, keepdim=True)
    high = torch.where(valid, depth, -torch.inf).amax(1, keepdim=True)
    spread = high - low
    fraction = (depth - low).div_(torch.where(spread > 0, spread, 1))
    segment = fraction.mul_(count).long().clamp_(min=0, max=count - 1)
    return segment.masked_fill_(~valid, count)


def percentile_partition(
    teacher: Map, mask: Mask, count: int, order: Sorted | None = None
) -> Int[Tensor, "batch pixels"]:
    """Which of `count` bins between quantiles of the teacher's valid values each pixel is in.

    HDN (arXiv 2210.09670), its percentile contexts; `count` where invalid. A bin is half open,
    [low, high), but for the last, which is closed. Equal values share a bin, so that bins may be
    empty. A quantile that falls between two values parts them wherever it lies, so it is not
    interpolated. `order` is that of `valid_order`, where it is known.
    """
    depth, valid = teacher.flatten(1), mask.flatten(1)
    order = valid_order(teacher, mask) if order is None else order
    last = (valid.sum(1, keepdim=True) - 1).clamp(min=0)
    position = (torch.arange(1, count, device=depth.device) * last + count - 1) // count
    quantiles = depth.gather(1, order.pixel(position))
    return torch.searchsorted(quantiles, depth, right=True).masked_fill_(~valid, count)


def spatial_partition(mask: Mask, side: int) -> Int[Tensor, "batch pixels"]:
    """Which cell of a grid of `side` x `side` each pixel is in, row by row; side^2 where invalid.

    HDN (arXiv 2210.09670), its spatial contexts. Cell i begins at row floor(i height / side), and
    likewise across.
    """
    row, column = (
        (torch.arange(1, n + 1, device=mask.device) * side - 1) // n for n in (mask.shape[1], mask.shape[2])
    )
    cell = (row[:, None] * side + column).expand(mask.shape)
    return torch.where(mask, cell, side**2).flatten(1)


def valid_order(teacher: Map, mask: Mask) -> Sorted:
    """The pixels by value, invalid ones after the others."""
    return sort_within_segments(teacher.flatten(1), (~mask).flatten(1).long())


def context_loss(student: Map, teacher: Map, mask: Mask, normalization: Normalization) -> PerImage:
    """Distill Any Depth, Eqs. 3 and 4 (2 and 5, with one level): mean over contexts, then over pixels.

    Contexts come from the teacher; the student is normalized over the same sets of pixels. Every
    valid pixel is in one context of each level, so |U_i| is the number of levels. The segments of
    a level are unions of the next one's.
    """
    levels = LEVELS[normalization]
    finest, device = levels[-1], teacher.device
    if normalization is Normalization.SPATIAL:
        order, joined = None, joined_cells(finest, levels, device)
        partition = spatial_partition(mask, finest)
    else:
        order, joined = valid_order(teacher, mask), joined_ranges(finest, levels, device)
        if normalization is Normalization.PERCENTILE:
            partition = percentile_partition(teacher, mask, finest, order)
        else:
            partition = depth_range_partition(teacher, mask, finest)
    total = normalized_difference(student.flatten(1), teacher.flatten(1), partition, joined, order)
    return total / (len(levels) * mask.flatten(1).sum(1).clamp(min=1))


def raw_loss(student: Map, teacher: Map, mask: Mask) -> PerImage:
    """Distill Any Depth, Eq. 6: mean absolute difference of the raw maps."""
    return masked_mean((student - teacher).abs(), mask)


def distillation_loss(student: Map, teacher: Map, mask: Mask, normalization: Normalization) -> PerImage:
    """L_Dis of Distill Any Depth under the named normalization, one value an image.

    What stands at invalid pixels, NaN included, touches neither the loss nor its gradient.
    """
    student, teacher = (torch.where(mask, depth, 0) for depth in (student, teacher))
    if normalization is Normalization.NONE:
        return raw_loss(student, teacher, mask)
    return context_loss(student, teacher, mask, normalization)
