"""Image-level normalized regression (Yin et al., LeReS, arXiv 2012.09365): depth of any scale and shift."""

import torch

from depthkd.alignment import masked_mean
from depthkd.shapes import Map, Mask, PerImage

TRIM = 0.1  # share of the truth's valid pixels that is left out on either side of its range
FLATTENED = 0.01  # of a value, before its hyperbolic tangent
EPSILON = 1e-8
FEWEST = 10  # valid pixels; of fewer LeReS's code takes the values as they are


@torch.no_grad()
def trimmed_mean_and_deviation(truth: Map, mask: Mask) -> tuple[PerImage, PerImage]:
    """Mean and standard deviation of the valid pixels without the lowest and highest tenth of them, as
    LeReS's code has them; 0 and 1 of images with fewer than ten valid pixels."""
    values, valid = truth.flatten(1), mask.flatten(1)
    count = valid.sum(1, keepdim=True)
    trim = (TRIM * count).long()
    place = torch.arange(values.shape[1], device=values.device)
    kept = (place >= trim) & (place < count - trim)
    ordered = torch.where(kept, torch.where(valid, values, torch.inf).sort(1).values, 0).double()
    number = kept.sum(1)
    mean = ordered.sum(1) / number.clamp(min=1)
    squares = torch.where(kept, ordered - mean[:, None], 0).square().sum(1)
    deviation = (squares / (number - 1).clamp(min=1)).sqrt()
    enough = count[:, 0] >= FEWEST
    return torch.where(enough, mean, 0).to(truth.dtype), torch.where(enough, deviation, 1).to(truth.dtype)


def image_level_regression(prediction: Map, truth: Map, mask: Mask) -> PerImage:
    """LeReS: the truth is normalized, and the prediction is to equal that as it is; one value an image.

    |d - n| + |tanh(d / 100) - tanh(n / 100)| in the mean over the valid pixels, where d is predicted and n is
    the truth minus its trimmed mean, over its trimmed standard deviation. So half of what is predicted is
    negative: a network that ends in a ReLU cannot learn it. An image without valid pixels has loss 0 and
    gradient 0.

    Args:
        prediction: of the network.
        truth: of any scale and shift; what stands at invalid pixels, NaN included, does not matter.
        mask: where the truth is valid.
    """
    prediction, truth = (torch.where(mask, depth, 0) for depth in (prediction, truth))
    mean, deviation = trimmed_mean_and_deviation(truth, mask)
    normalized = (truth - mean[:, None, None]) / (deviation + EPSILON)[:, None, None]
    difference = (prediction - normalized).abs()
    flattened = ((FLATTENED * prediction).tanh() - (FLATTENED * normalized).tanh()).abs()
    return masked_mean(difference + flattened, mask)
