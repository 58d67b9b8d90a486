"""How far two depth maps are apart after a fit, and what they agree on.

For the averaged teachers of Distill Any Depth (Table 4), SharpDepth's difference map and the
filtering of pseudo-labels. Everything is batched; maps are `[batch, height, width]`, in one quantity.
"""

from collections.abc import Sequence

import torch

from depthkd.alignment import SMALLEST, Fit, fit_maps
from depthkd.shapes import Map, Mask


def fitted(prediction: Map, reference: Map, mask: Mask, fit: Fit) -> Map:
    """The prediction after the named fit, in the reference's unit; 0 at invalid pixels."""
    prediction, reference = (torch.where(mask, depth, 0) for depth in (prediction, reference))
    logarithms = fit is Fit.LOG_SCALE_AND_SHIFT
    if logarithms:
        prediction, reference = (depth.clamp(min=SMALLEST).log() for depth in (prediction, reference))
    scale, shift = (x.to(prediction.dtype) for x in fit_maps(prediction, reference, mask, fit))
    line = scale[:, None, None] * prediction + shift[:, None, None]
    return torch.where(mask, line.exp() if logarithms else line, 0)


def aligned_difference(prediction: Map, reference: Map, mask: Mask, fit: Fit) -> Map:
    """|fitted prediction - reference| at each valid pixel, in the reference's unit; 0 at the others.

    The fit is made over the valid pixels of each image; what stands at the others, NaN included,
    does not matter. With `Fit.NONE` it is the plain difference.
    """
    difference = (fitted(prediction, reference, mask, fit) - reference).abs()
    return torch.where(mask, difference, 0)


def relative_disagreement(prediction: Map, reference: Map, mask: Mask, fit: Fit, floor: float = 0.0) -> Map:
    """`aligned_difference` over its largest value in the image, 0 to 1; 0 where two maps are equal.

    SharpDepth's difference map (section 4.1): with `Fit.SCALE_AND_SHIFT` as in its text, with
    `Fit.NONE` on two maps in [-1, 1] as in its code.

    Args:
        prediction, reference: the maps.
        mask: where both are valid; 0 elsewhere.
        fit: of the prediction to the reference.
        floor: what is divided by at least, in the reference's unit: without one, two maps that agree up
            to rounding would disagree fully somewhere.
    """
    return over_largest(aligned_difference(prediction, reference, mask, fit), floor)


def over_largest(difference: Map, floor: float = 0.0) -> Map:
    """Each image's values, 0 or more, over its largest one, or over `floor` where that is more; all 0 where
    both are 0."""
    largest = difference.flatten(1).amax(1)[:, None, None].clamp(min=floor)
    return difference / torch.where(largest > 0, largest, 1)


def agreement_weighted_mean(
    teachers: Sequence[Map], mask: Mask, weights: Sequence[float] | None = None
) -> Map:
    """Mean of the teachers' maps, in which an assistant counts for more where it agrees with the primary.

    Distill Any Depth's averaging strategy (section 4.2 and Table 4, "Avg."), which the paper does
    not write down; the formula is ours. Each assistant is fitted to the primary teacher by least
    squares, for which it does not matter whether Eq. 1 has normalized the two. Assistant k then has
    weight w_k (1 - r_k) at a pixel, r_k being its `relative_disagreement` with the primary, which
    has what is left of 1: so they are equals where they agree fully, and the primary stands alone
    where they differ most. It needs no floor: where two maps agree up to rounding, so do all their means.

    Args:
        teachers: one map each, of one quantity; the first is the primary's, and its unit and space
            are the result's.
        mask: the pixels that are valid in all maps; the result is 0 at the others.
        weights: largest weight of each assistant, 0 or more and no more than 1 in sum; without
            them, 1 / (number of teachers) each.

    Raises:
        ValueError: there are fewer than two maps, or the weights are not one for each assistant or
            leave that range.
    """
    if len(teachers) < 2:
        raise ValueError(f"a mean over teachers needs two maps or more, not {len(teachers)}")
    primary, *assistants = teachers
    shares = [1 / len(teachers)] * len(assistants) if weights is None else list(weights)
    if len(shares) != len(assistants) or min(shares) < 0 or sum(shares) > 1 + 1e-6:
        raise ValueError(
            f"the weights {shares} do not suit {len(assistants)} assistant(s): "
            "give one for each, 0 or more, and no more than 1 in sum"
        )
    primary = torch.where(mask, primary, 0)
    mean = primary
    for assistant, share in zip(assistants, shares, strict=True):
        change = fitted(assistant, primary, mask, Fit.SCALE_AND_SHIFT) - primary
        mean = mean + share * (1 - over_largest(change.abs())) * change
    return mean
