"""Multi-scale gradient matching (MegaDepth, MiDaS; Depth Anything V2's L_gm; Distill Any Depth's L_grad)."""

import torch

from depthkd.losses.normalization import global_normalization
from depthkd.shapes import Map, Mask, PerImage


def gradient_difference(residual: Map, mask: Mask) -> PerImage:
    """Sum of |dR/dx| + |dR/dy| by forward differences of valid neighbors, over the count of valid pixels."""
    across = (residual[:, :, 1:] - residual[:, :, :-1]).abs()
    down = (residual[:, 1:] - residual[:, :-1]).abs()
    across = torch.where(mask[:, :, 1:] & mask[:, :, :-1], across, 0)
    down = torch.where(mask[:, 1:] & mask[:, :-1], down, 0)
    return (across.flatten(1).sum(1) + down.flatten(1).sum(1)) / mask.flatten(1).sum(1).clamp(min=1)


def gradient_matching(student: Map, teacher: Map, mask: Mask, scales: int = 4) -> PerImage:
    """Gradients of the residual of two maps that are already comparable, summed over `scales`.

    Scale k keeps every 2^k-th row and column. One value an image, 0 where nothing is valid.
    """
    residual = torch.where(mask, student - teacher, 0)
    losses = [
        gradient_difference(residual[:, :: 2**k, :: 2**k], mask[:, :: 2**k, :: 2**k]) for k in range(scales)
    ]
    return torch.stack(losses).sum(0)


def normalized_gradient_matching(student: Map, teacher: Map, mask: Mask, scales: int = 4) -> PerImage:
    """Gradient matching on the globally normalized pair (Distill Any Depth, Eq. 1)."""
    normalized_student = global_normalization(student, mask)
    return gradient_matching(normalized_student, global_normalization(teacher, mask), mask, scales)
