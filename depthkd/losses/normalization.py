"""Depth normalisations of Distill Any Depth, section 3.1 (Eqs. 1 to 6), and the loss on each.

Every loss here is the mean over the valid pixels of one image, `[batch]`; the caller takes the
mean over images, so that the number of ranks does not matter. An image without valid pixels has
loss 0 and gradient 0. Maps are float32; both live in one quantity.
"""

from enum import StrEnum
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from depthkd.alignment import masked_mean, median_and_deviation
from depthkd.losses.contexts import EPSILON, normalized_difference, order_within_segments

Map = Float[Tensor, "batch height width"]
Mask = Bool[Tensor, "batch height width"]
PerImage = Float[Tensor, " batch"]


class Normalization(StrEnum):
    """Which pixels a depth value is normalised with."""

    GLOBAL = "global"  # Eq. 1: the whole map
    HYBRID = "hybrid"  # Eq. 3: 1, 2 and 4 segments of the depth range
    LOCAL = "local"  # Eq. 5: the 4 segments alone
    NONE = "none"  # Eq. 6: raw values


NormalizationName = Literal["global", "hybrid", "local", "none"]  # as configs write it

SEGMENTS = {Normalization.GLOBAL: (1,), Normalization.HYBRID: (1, 2, 4), Normalization.LOCAL: (4,)}


def global_normalization(depth: Map, mask: Mask) -> Map:
    """Distill Any Depth, Eq. 1: subtract the median, divide by the mean absolute deviation from it."""
    median, deviation = median_and_deviation(depth, mask)
    return (depth - median[:, None, None]) / deviation.clamp(min=EPSILON)[:, None, None]


def global_loss(student: Map, teacher: Map, mask: Mask) -> PerImage:
    """Distill Any Depth, Eq. 2: mean absolute difference of the globally normalised maps.

    Also the scale-and-shift-invariant loss of MiDaS and Depth Anything.
    """
    return context_loss(student, teacher, mask, SEGMENTS[Normalization.GLOBAL])


def depth_range_partition(teacher: Map, mask: Mask, count: int) -> Int[Tensor, "batch pixels"]:
    """Which of `count` equal segments of the teacher's range each pixel is in; `count` where invalid.

    A segment is half open, [low, high), but for the last, which is closed, so that the nearest (or
    farthest) pixel belongs to one too.
    """
    depth, valid = teacher.flatten(1), mask.flatten(1)
    low = torch.where(valid, depth, torch.inf).amin(1, keepdim=True)
    high = torch.where(valid, depth, -torch.inf).amax(1, keepdim=True)
    spread = high - low
    fraction = (depth - low) / torch.where(spread > 0, spread, 1)
    segment = (fraction * count).long().clamp(min=0, max=count - 1)
    return torch.where(valid, segment, count)


def context_loss(student: Map, teacher: Map, mask: Mask, segments: tuple[int, ...]) -> PerImage:
    """Distill Any Depth, Eqs. 3 and 4 (2 and 5, with one level): mean over contexts, then over pixels.

    Contexts come from the teacher; the student is normalised over the same sets of pixels. Every
    valid pixel is in one context of each level, so |U_i| is the number of levels.
    """
    ours, theirs, valid = student.flatten(1), teacher.flatten(1), mask.flatten(1)
    order = order_within_segments(theirs, (~valid).long())
    total = student.new_zeros(len(student))
    for count in segments:
        partition = depth_range_partition(teacher, mask, count)
        total = total + normalized_difference(ours, theirs, order, partition, count)
    return total / (len(segments) * valid.sum(1).clamp(min=1))


def raw_loss(student: Map, teacher: Map, mask: Mask) -> PerImage:
    """Distill Any Depth, Eq. 6: mean absolute difference of the raw maps."""
    return masked_mean((student - teacher).abs(), mask)


def distillation_loss(student: Map, teacher: Map, mask: Mask, normalization: Normalization) -> PerImage:
    """L_Dis of Distill Any Depth under the named normalisation, one value an image.

    What stands at invalid pixels, NaN included, touches neither the loss nor its gradient.
    """
    teacher = torch.where(mask, teacher, 0)
    if normalization is Normalization.NONE:
        return raw_loss(student, teacher, mask)
    return context_loss(student, teacher, mask, SEGMENTS[normalization])
