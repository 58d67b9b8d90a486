"""Channel-wise distillation (Shu et al., arXiv 2011.13256) of depth maps, and distillation of the same maps
with a mean squared error.

The poster "Robust Lightweight Depth Estimation Model via Data-free Distillation" (ICASSP 2024), (a): "first
normalize the depth and then compute KL divergence loss". A depth map is one channel, so that its positions
share one distribution. Every loss is one value an image; an image without valid pixels has loss 0 and
gradient 0, and what stands at invalid pixels, NaN included, touches neither.
"""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from depthkd.alignment import masked_mean
from depthkd.losses.normalization import global_normalization
from depthkd.shapes import Map, Mask, PerImage

Channels = Float[Tensor, "batch channels height width"]
LogProbabilities = Float[Tensor, "batch channels pixels"]
MapNormalizationName = Literal["mean_deviation", "median_deviation", "min_max"]
EPSILON = 1e-6  # smallest spread that a map is divided by


def mean_normalization(depth: Map, mask: Mask) -> Map:
    """Subtract the mean over the valid pixels, divide by the standard deviation (of the population)."""
    centered = depth - masked_mean(depth, mask)[:, None, None]
    variance = masked_mean(centered.square(), mask)
    return centered / variance.clamp(min=EPSILON**2).sqrt()[:, None, None]


def min_max_normalization(depth: Map, mask: Mask) -> Map:
    """Bring the range of the valid pixels to [0, 1]."""
    low = torch.where(mask, depth, torch.inf).flatten(1).amin(1)
    high = torch.where(mask, depth, -torch.inf).flatten(1).amax(1)
    any_valid = mask.flatten(1).any(1)
    low, high = (torch.where(any_valid, x, 0)[:, None, None] for x in (low, high))
    return (depth - low) / (high - low).clamp(min=EPSILON)


MAP_NORMALIZATIONS: dict[MapNormalizationName, Callable[[Map, Mask], Map]] = {
    "mean_deviation": mean_normalization,
    "median_deviation": global_normalization,  # the median, and the mean absolute deviation from it
    "min_max": min_max_normalization,
}


def log_softmax_over_positions(
    values: Channels, mask: Bool[Tensor, "batch height width"], temperature: float
) -> LogProbabilities:
    """Log-probabilities of softmax(x / T) over the valid positions of each channel; 0 where invalid."""
    valid = mask.flatten(1)[:, None]
    scaled = torch.where(valid, values.flatten(2) / temperature, -torch.inf)
    scaled = torch.where(valid.any(2, keepdim=True), scaled, 0)  # no softmax over nothing
    return torch.where(valid, scaled.log_softmax(2), 0)


def channel_wise_divergence(
    student: Channels, teacher: Channels, mask: Bool[Tensor, "batch height width"], temperature: float = 4.0
) -> PerImage:
    """T^2 / C times the sum over C channels of KL(teacher || student), of softmaxes of x / T over positions.

    With the mean over N images it is what the code of Shu et al. computes (irfanICMLL/TorchDistiller), which
    divides by N C.

    Args:
        student, teacher: maps that are comparable already.
        mask: where both are valid.
        temperature: T; the larger, the more do small values count. As it grows the divergence comes near half
            the variance of student - teacher over the positions.
    """
    ours, theirs = (log_softmax_over_positions(x, mask, temperature) for x in (student, teacher))
    pixels = torch.where(mask.flatten(1)[:, None], theirs.exp() * (theirs - ours), 0)
    return pixels.sum(2).mean(1) * temperature**2


def channel_wise_loss(
    student: Map,
    teacher: Map,
    mask: Mask,
    normalization: MapNormalizationName = "mean_deviation",
    temperature: float = 4.0,
) -> PerImage:
    """(a) of the poster: both maps normalized, then `channel_wise_divergence` over their one channel.

    The poster does not say how the maps are normalized, nor T. By default each has mean 0 and variance 1, so
    that T means the same for all images; 4 is what Shu et al. distill logits with. Neither map's scale (if
    positive) or shift changes the loss.

    Args:
        student, teacher: maps of one quantity.
        mask: where both are valid.
        normalization: "mean_deviation", "median_deviation" or "min_max".
        temperature: T.
    """
    ours, theirs = _normalized(student, teacher, mask, normalization)
    return channel_wise_divergence(ours[:, None], theirs[:, None], mask, temperature)


def channel_norm_mse(
    student: Map, teacher: Map, mask: Mask, normalization: MapNormalizationName = "mean_deviation"
) -> PerImage:
    """ "CN + MSE" of the poster's ablation: the squared differences of both softmaxes over positions, summed.

    "CN" is channel normalization, the softmax without a temperature of `CriterionCWD` in Shu et al.'s code.
    Probabilities of 1 / (H W) have differences so small that hardly anything is learned from them; the poster
    finds that of all distillation methods this one alone does not help.

    Args:
        student, teacher, mask, normalization: see `channel_wise_loss`.
    """
    maps = _normalized(student, teacher, mask, normalization)
    ours, theirs = (log_softmax_over_positions(x[:, None], mask, 1.0).exp() for x in maps)
    return torch.where(mask.flatten(1), (ours - theirs)[:, 0].square(), 0).sum(1)


def normalized_mse(
    student: Map, teacher: Map, mask: Mask, normalization: MapNormalizationName = "mean_deviation"
) -> PerImage:
    """Mean squared difference of both normalized maps: plain distillation of what the networks say.

    Args:
        student, teacher, mask, normalization: see `channel_wise_loss`.
    """
    ours, theirs = _normalized(student, teacher, mask, normalization)
    return masked_mean((ours - theirs).square(), mask)


def _normalized(
    student: Map, teacher: Map, mask: Mask, normalization: MapNormalizationName
) -> tuple[Map, Map]:
    normalize = MAP_NORMALIZATIONS[normalization]
    ours, theirs = (normalize(torch.where(mask, depth, 0), mask) for depth in (student, teacher))
    return ours, theirs
