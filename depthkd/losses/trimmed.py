"""Pseudo-labels without the pixels of a sample that disagree most (Depth Anything V2, section 5.2)."""

from fractions import Fraction

import torch

from depthkd.alignment import masked_mean
from depthkd.losses.normalization import global_normalization
from depthkd.pixels import kth_largest
from depthkd.shapes import Map, Mask, PerImage

SHARE = 10**6  # largest denominator of a dropped share


@torch.no_grad()
def without_largest(losses: Map, mask: Mask, drop: float) -> Mask:
    """The mask without the largest of each image's losses: exactly floor(drop n) of its n valid pixels.

    Of equal losses at the border, those that come first, row by row, are taken away.

    Args:
        losses: 0 or more, of each pixel.
        mask: the valid ones.
        drop: which share of them is taken away, 0 to below 1; read as the decimal that it is written as, so
            that .1 of 10 pixels is 1.

    Raises:
        ValueError: the share is not in that range.
    """
    if not 0.0 <= drop < 1.0:
        raise ValueError(f"a share of {drop} cannot be left out; it would be 0 to below 1")
    if drop == 0.0:
        return mask
    share = Fraction(str(drop)).limit_denominator(SHARE)
    wide = torch.promote_types(losses.dtype, torch.float32)
    values = torch.where(mask, losses, -1).to(wide).flatten(1)
    count = mask.flatten(1).sum(1) * share.numerator // share.denominator
    border = kth_largest(values, count.clamp(min=1))[:, None]
    above, level = values > border, values == border
    places = (count - above.sum(1))[:, None]  # that are left for those at the border
    dropped = above | (level & (level.cumsum(1, dtype=torch.int32) <= places))
    return mask & ~dropped.view_as(mask)


def trimmed_loss(student: Map, teacher: Map, mask: Mask, drop: float = 0.1) -> PerImage:
    """Mean affine-invariant difference of an image's pixels but for its largest, one value an image.

    Both maps lose their median and are divided by their mean absolute deviation from it (Depth Anything V1,
    section 3.1), over all valid pixels. Of the absolute differences the largest are ignored, "top-n-largest-
    loss regions ... n is set as 10%" (V2, section 5.2); the mean is over the others. An image without valid
    pixels has loss 0 and gradient 0.

    Args:
        student, teacher: maps of one quantity; what stands at invalid pixels, NaN included, does not matter.
        mask: where both are valid.
        drop: see `without_largest`.
    """
    student, teacher = (torch.where(mask, depth, 0) for depth in (student, teacher))
    losses = (global_normalization(student, mask) - global_normalization(teacher, mask)).abs()
    return masked_mean(losses, without_largest(losses, mask, drop))
