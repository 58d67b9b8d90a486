"""Depth normalisations of Distill Any Depth, section 3.1 (Eqs. 1 to 6), and the loss on each.

Every loss here is the mean over the valid pixels of one image, `[batch]`; the caller takes the
mean over images, so that the number of ranks does not matter. An image without valid pixels has
loss 0 and gradient 0. Maps are float32; both live in one quantity.
"""

from enum import StrEnum
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from depthkd.alignment import masked_mean, masked_median, median_and_deviation

Map = Float[Tensor, "batch height width"]
Mask = Bool[Tensor, "batch height width"]
PerImage = Float[Tensor, " batch"]
Contexts = Bool[Tensor, "batch contexts pixels"]

EPSILON = 1e-6  # floor of the deviation: a constant map stays finite


class Normalization(StrEnum):
    """Which pixels a depth value is normalised with."""

    GLOBAL = "global"  # Eq. 1: the whole map
    HYBRID = "hybrid"  # Eq. 3: 1, 2 and 4 segments of the depth range
    LOCAL = "local"  # Eq. 5: the 4 segments alone
    NONE = "none"  # Eq. 6: raw values


NormalizationName = Literal["global", "hybrid", "local", "none"]  # as configs write it

SEGMENTS = {Normalization.HYBRID: (1, 2, 4), Normalization.LOCAL: (4,)}


def global_normalization(depth: Map, mask: Mask) -> Map:
    """Distill Any Depth, Eq. 1: subtract the median, divide by the mean absolute deviation from it."""
    median, deviation = median_and_deviation(depth, mask)
    return (depth - median[:, None, None]) / deviation.clamp(min=EPSILON)[:, None, None]


def global_loss(student: Map, teacher: Map, mask: Mask) -> PerImage:
    """Distill Any Depth, Eq. 2: mean absolute difference of the globally normalised maps.

    Also the scale-and-shift-invariant loss of MiDaS and Depth Anything.
    """
    return masked_mean(
        (global_normalization(student, mask) - global_normalization(teacher, mask)).abs(), mask
    )


def depth_range_contexts(teacher: Map, mask: Mask, segments: tuple[int, ...]) -> Contexts:
    """Which context holds which pixel: the teacher's range cut into equal segments, once per entry.

    For `segments=(1, 2, 4)` these are 1 + 2 + 4 = 7 contexts. A segment is half open, [low, high),
    but for the last, which is closed, so that the nearest (or farthest) pixel belongs to one too.
    """
    depth, valid = teacher.flatten(1), mask.flatten(1)
    low = torch.where(valid, depth, torch.inf).amin(1, keepdim=True)
    high = torch.where(valid, depth, -torch.inf).amax(1, keepdim=True)
    spread = high - low
    fraction = (depth - low) / torch.where(spread > 0, spread, 1)
    fraction = torch.where(valid, fraction, 0)
    levels = []
    for count in segments:
        segment = (fraction * count).long().clamp(max=count - 1)
        numbers = torch.arange(count, device=depth.device)
        levels.append((segment[:, None] == numbers[:, None]) & valid[:, None])
    return torch.cat(levels, dim=1)


def context_normalization(
    depth: Float[Tensor, "batch pixels"], contexts: Contexts
) -> Float[Tensor, "batch contexts pixels"]:
    """N_u of Distill Any Depth, Eq. 3: median and mean absolute deviation of the pixels of each context."""
    values = depth[:, None].expand(contexts.shape)
    median = masked_median(values, contexts)[..., None]
    centred = torch.where(contexts, values - median, 0)
    deviation = centred.abs().sum(-1, keepdim=True) / contexts.sum(-1, keepdim=True).clamp(min=1)
    return centred / deviation.clamp(min=EPSILON)


def context_loss(student: Map, teacher: Map, mask: Mask, segments: tuple[int, ...]) -> PerImage:
    """Distill Any Depth, Eqs. 3 and 4 (and 5, with one level): mean over contexts, then over pixels.

    Contexts come from the teacher; the student is normalised over the same sets of pixels. Every
    valid pixel is in one context of each level, so |U_i| is the number of levels.
    """
    contexts = depth_range_contexts(teacher, mask, segments)
    difference = context_normalization(student.flatten(1), contexts)
    difference = difference - context_normalization(teacher.flatten(1), contexts)
    per_pixel = difference.abs().sum(1) / len(segments)
    return per_pixel.sum(1) / mask.flatten(1).sum(1).clamp(min=1)


def raw_loss(student: Map, teacher: Map, mask: Mask) -> PerImage:
    """Distill Any Depth, Eq. 6: mean absolute difference of the raw maps."""
    return masked_mean((student - teacher).abs(), mask)


def distillation_loss(student: Map, teacher: Map, mask: Mask, normalization: Normalization) -> PerImage:
    """L_Dis of Distill Any Depth under the named normalisation, one value an image.

    What stands at invalid pixels, NaN included, touches neither the loss nor its gradient.
    """
    teacher = torch.where(mask, teacher, 0)
    if normalization is Normalization.GLOBAL:
        return global_loss(student, teacher, mask)
    if normalization is Normalization.NONE:
        return raw_loss(student, teacher, mask)
    return context_loss(student, teacher, mask, SEGMENTS[normalization])
