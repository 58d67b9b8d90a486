"""The scale-invariant logarithmic loss (Eigen et al., arXiv 1406.2283), for metric depth.

Two forms of it, each over the pixels of one image or of all images of a batch.
"""

from typing import Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from depthkd.alignment import masked_mean
from depthkd.shapes import Map, Mask

SMALLEST = 1e-3  # m: depths are raised to it before the logarithm
VANISHING = 1e-12  # under the root, whose slope at 0 is infinite
ZOEDEPTH_FACTOR = 10.0

LogLoss = Literal["depth_anything", "zoedepth"]
VARIANCE_FOCUS: dict[LogLoss, float] = {"depth_anything": 0.5, "zoedepth": 0.85}
Per = Literal["image", "batch"]


def scale_invariant_log_loss(
    prediction: Map, target: Map, mask: Mask, variance_focus: float = 0.5
) -> Float[Tensor, " batch"]:
    """sqrt(mean(g^2) - lambda mean(g)^2), g = log(target) - log(prediction), of each image.

    As Depth Anything V2's metric fine-tuning has it, but image by image, so that ranks do not matter. Its
    code takes the means over all images of a batch: `as_one_image` makes one of these.

    Args:
        prediction, target: metric depth.
        mask: where the target is valid; an image without such pixels has loss 0.
        variance_focus: lambda, 0 to 1; with 1 a wrong scale costs nothing.
    """
    difference = log_difference(prediction, target, mask)
    square, mean = masked_mean(difference.square(), mask), masked_mean(difference, mask)
    return (square - variance_focus * mean.square()).clamp(min=VANISHING).sqrt()


def zoedepth_log_loss(
    prediction: Map, target: Map, mask: Mask, variance_focus: float = 0.85
) -> Float[Tensor, " batch"]:
    """10 sqrt(var(g) + beta mean(g)^2), g as in `scale_invariant_log_loss`, of each image.

    ZoeDepth's (Bhat et al., arXiv 2302.12288; its SILogLoss, from AdaBins). The variance is the unbiased one,
    with N - 1 under the sum of N squares; beta = 1 - lambda, .15 there.

    Args:
        prediction, target: metric depth.
        mask: where the target is valid; an image without such pixels has loss 0.
        variance_focus: lambda, 0 to 1; with 1 a wrong scale costs nothing.
    """
    difference = log_difference(prediction, target, mask)
    mean = masked_mean(difference, mask)
    deviation = torch.where(mask, difference - mean[:, None, None], 0)
    variance = deviation.square().flatten(1).sum(1) / (mask.flatten(1).sum(1) - 1).clamp(min=1)
    total = variance + (1 - variance_focus) * mean.square()
    return ZOEDEPTH_FACTOR * total.clamp(min=VANISHING).sqrt()


LOG_LOSSES = {"depth_anything": scale_invariant_log_loss, "zoedepth": zoedepth_log_loss}


def log_difference(prediction: Map, target: Map, mask: Mask) -> Map:
    """g = log(target) - log(prediction), of depths of at least 1 mm; 0 where the mask is false."""
    target, prediction = (torch.where(mask, d, 1.0).clamp(min=SMALLEST) for d in (target, prediction))
    return target.log() - prediction.log()


def as_one_image(maps: list[Tensor]) -> Shaped[Tensor, "1 1 pixels"]:
    """All pixels of several batches of maps in one row, as one image whose mean is that over all of them."""
    return torch.cat([one.flatten() for one in maps])[None, None]
