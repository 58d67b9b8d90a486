"""How well two depth maps agree, whatever their scale and shift."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from depthkd.shapes import Map


@torch.no_grad()
def agreement(
    student: Map, target: Map, mask: Bool[Tensor, "batch height width"] | None = None
) -> Float[Tensor, ""]:
    """Pearson's correlation of a student's map with what it learns from, the mean over the images.

    It is 1 where the student is the target up to scale and shift, 0 where they have nothing to do with each
    other, and below 0 where near and far are the wrong way round. An image without two pixels that count, or
    one map of which is constant there, is left out; without any other image the mean is NaN.

    Args:
        student: predictions.
        target: of the same quantity; pixels that are not finite do not count.
        mask: where else the target counts; None: everywhere.
    """
    counts = target.isfinite() & student.isfinite()
    if mask is not None:
        counts = counts & mask
    number = counts.flatten(1).sum(1).clamp(min=1)

    def centered(values: Map) -> Float[Tensor, "batch pixels"]:
        kept = torch.where(counts, values, 0).double().flatten(1)
        mean = kept.sum(1) / number
        return torch.where(counts.flatten(1), kept - mean[:, None], 0)

    ours, theirs = centered(student), centered(target)
    squares = (ours.square().sum(1) * theirs.square().sum(1)).sqrt()
    return ((ours * theirs).sum(1) / squares).nanmean().float()
