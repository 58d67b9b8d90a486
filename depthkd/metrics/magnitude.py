"""How large a network's raw output is: under affine-invariant losses nothing holds it, and it may grow.

Every pixel counts: the output is there where the truth is not. Growth shows long before float16
overflows (Distill Any Depth's issue 36).
"""

from typing import Any

import torch

from depthkd.alignment import median_and_deviation
from depthkd.metrics.mean import MeanByName
from depthkd.shapes import Map, PerImage

NAMES = ("output_median", "output_deviation")


def output_magnitude(prediction: Map) -> dict[str, PerImage]:
    """Median, the lower of two middles, and mean absolute deviation from it, in the output's own unit.

    Infinity for an image with a NaN, so that a broken output never passes for a missing one.
    """
    values = prediction.float()
    median, deviation = median_and_deviation(values, torch.ones_like(values, dtype=torch.bool))
    broken = torch.isnan(deviation)
    metrics = (torch.where(broken, torch.inf, x) for x in (median, deviation))
    return dict(zip(NAMES, metrics, strict=True))


class OutputMagnitude(MeanByName):
    """The means of `output_magnitude` over images."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(NAMES, **settings)

    def update(self, prediction: Map) -> None:
        """Add a batch of raw predictions."""
        self.add(output_magnitude(prediction))
