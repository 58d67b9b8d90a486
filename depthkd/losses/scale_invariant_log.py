"""The scale-invariant logarithmic loss (Eigen et al., arXiv 1406.2283), for metric depth."""

import torch
from jaxtyping import Float
from torch import Tensor

from depthkd.alignment import masked_mean
from depthkd.shapes import Map, Mask

SMALLEST = 1e-3  # m: depths are raised to it before the logarithm
VANISHING = 1e-12  # under the root, whose slope at 0 is infinite


def scale_invariant_log_loss(
    prediction: Map, target: Map, mask: Mask, variance_focus: float = 0.5
) -> Float[Tensor, " batch"]:
    """sqrt(mean(g^2) - lambda mean(g)^2), g = log(target) - log(prediction), of each image.

    As Depth Anything's metric fine-tuning has it, but image by image, so that ranks do not matter.

    Args:
        prediction, target: metric depth.
        mask: where the target is valid; an image without such pixels has loss 0.
        variance_focus: lambda, 0 to 1; with 1 a wrong scale costs nothing.
    """
    logs = [torch.where(mask, depth, 1.0).clamp(min=SMALLEST).log() for depth in (target, prediction)]
    difference = logs[0] - logs[1]
    square, mean = masked_mean(difference.square(), mask), masked_mean(difference, mask)
    return (square - variance_focus * mean.square()).clamp(min=VANISHING).sqrt()
