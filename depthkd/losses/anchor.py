"""A weak hold on the magnitude of maps whose losses do not see it."""

import torch

from depthkd.alignment import median_and_deviation
from depthkd.shapes import Map, Mask, PerImage

FLOOR = 1e-6  # of the deviation


def magnitude_anchor(student: Map, mask: Mask, target: float = 1.0) -> PerImage:
    """log(deviation / target)^2, one value an image.

    A loss that does not see scale and shift (Distill Any Depth, Eqs. 1 to 5) has a gradient at
    right angles to the output, so that each step makes the output larger and nothing makes it
    smaller. This holds the mean absolute deviation from the median (Eq. 1's denominator); the
    median stays free, and what minimizes those losses stays a minimum. The term is ours.

    A deviation under 1e-6 counts as 1e-6, with gradient 0; an image without valid pixels has
    loss 0.

    Args:
        student: the map that is held, in its own unit.
        mask: its valid pixels; what stands elsewhere, NaN included, does not matter.
        target: the deviation that costs nothing, in the map's unit; above 0.

    Raises:
        ValueError: the target is not above 0.
    """
    if not target > 0:
        raise ValueError(f"a mean absolute deviation of {target} cannot be held; it would be above 0")
    _, deviation = median_and_deviation(torch.where(mask, student, 0), mask)
    loss = (deviation.clamp(min=FLOOR) / target).log().square()
    return torch.where(mask.flatten(1).any(1), loss, 0)
