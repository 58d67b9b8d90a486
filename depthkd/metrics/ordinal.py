"""Accuracy of "which of two points is closer?" (Depth Anything V2, section 6: DA-2K)."""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchmetrics import Metric

from depthkd.batch import Quantity

Points = Int[Tensor, "pairs 2"]


def closer_is_first(
    prediction: Float[Tensor, "height width"], first: Points, second: Points, quantity: Quantity
) -> Bool[Tensor, " pairs"]:
    """Whether the prediction puts each first point nearer than the second; a tie does not.

    Args:
        prediction: at the image's own size.
        first, second: points as (row, column).
        quantity: disparity (larger is nearer) or depth.
    """
    a, b = (prediction[points[:, 0], points[:, 1]] for points in (first, second))
    return a > b if quantity is Quantity.DISPARITY else a < b


class PairAccuracy(Metric):
    """The share of pairs that `closer_is_first` finds, over all pairs of all images (a micro average)."""

    full_state_update = False
    right: Tensor
    pairs: Tensor

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for name in ("right", "pairs"):
            self.add_state(name, torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(
        self, prediction: Float[Tensor, "height width"], first: Points, second: Points, quantity: Quantity
    ) -> None:
        """Add one image's pairs, whose first point is the closer one."""
        found = closer_is_first(prediction, first, second, quantity)
        self.right += found.sum()
        self.pairs += found.numel()

    def compute(self) -> Tensor:
        """In [0, 1]; NaN before any pair."""
        return self.right.double() / self.pairs
