"""Depth maps as pictures that an autoencoder takes, and back, as Marigold does it (arXiv 2312.02145, 3.2).

A map's range, from one percentile of its valid values to another, becomes [-1, 1] in three equal
channels. What is outside is cut. `as_depth` undoes it, up to the cut.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from depthkd.batch import Quantity
from depthkd.shapes import Map, Mask, PerImage

Pictures = Float[Tensor, "batch 3 height width"]

PERCENTILES = (0.02, 0.98)


def depth_range(
    depth: Map, mask: Mask, percentiles: tuple[float, float] = PERCENTILES
) -> tuple[PerImage, PerImage]:
    """The lower and the upper end of each map's range; (0, 1) where no pixel is valid.

    Args:
        depth: any quantity.
        mask: where it counts.
        percentiles: as fractions; (0, 1) are the smallest and the largest value.
    """
    values = torch.where(mask, depth, torch.nan).flatten(1)
    low, high = torch.nanquantile(values, values.new_tensor(percentiles), dim=1)
    valid = mask.flatten(1).any(1)
    return torch.where(valid, low, 0.0), torch.where(valid, high, 1.0)


def as_picture(depth: Map, low: PerImage, high: PerImage, mask: Mask, elsewhere: float) -> Pictures:
    """A map as a gray picture in [-1, 1].

    Args:
        depth: any quantity.
        low, high: what become -1 and 1; where they are one value, so is the picture: -1.
        mask: where the map counts.
        elsewhere: the picture's value where it does not.
    """
    extent = (high - low).clamp(min=torch.finfo(depth.dtype).tiny)[:, None, None]
    gray = ((depth - low[:, None, None]) / extent).clamp(0, 1) * 2 - 1
    return torch.where(mask, gray, elsewhere)[:, None].expand(-1, 3, -1, -1)


def label_picture(
    depth: Map, mask: Mask, quantity: Quantity, percentiles: tuple[float, float] = PERCENTILES
) -> Pictures:
    """A label as a gray picture in [0, 1], which autoencoders are given; far away where it is not valid."""
    low, high = depth_range(depth, mask, percentiles)
    far = -1.0 if quantity is Quantity.DISPARITY else 1.0
    return as_picture(depth, low, high, mask, far) / 2 + 0.5


def as_depth(pictures: Pictures, low: PerImage, high: PerImage) -> Map:
    """The map of a picture: the mean of its channels, cut to [-1, 1], in the range from `low` to `high`."""
    unit = pictures.mean(1).clamp(-1, 1) / 2 + 0.5
    return low[:, None, None] + unit * (high - low)[:, None, None]


def latent_mask(mask: Mask, multiple: int) -> Bool[Tensor, "batch latent_height latent_width"]:
    """Where a latent is valid: no invalid pixel in its block (Marigold's code)."""
    return F.max_pool2d((~mask).float()[:, None], multiple, ceil_mode=True)[:, 0] == 0
