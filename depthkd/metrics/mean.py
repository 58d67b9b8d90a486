"""Means over images as torchmetrics, exact over uneven batches and over ranks."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric

PerImage = Float[Tensor, " batch"]


class Mean(Metric):
    """Sums of named per-image values, and how many images they are of."""

    full_state_update = False
    totals: Tensor
    images: Tensor
    skipped: Tensor

    def __init__(self, names: Iterable[str], **settings: Any) -> None:
        super().__init__(**settings)
        self.names = tuple(names)
        zeros = torch.zeros(len(self.names), dtype=torch.float64)
        self.add_state("totals", zeros, dist_reduce_fx="sum")
        self.add_state("images", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("skipped", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def add(self, scores: Mapping[str, PerImage]) -> None:
        """Add per-image values; an image whose values are all NaN is counted, but not averaged."""
        values = torch.stack([scores[name] for name in self.names]).double()
        skipped = torch.isnan(values).all(0)
        self.totals += torch.where(skipped, 0.0, values).sum(1)
        self.images += (~skipped).sum()
        self.skipped += skipped.sum()

    def means(self) -> Tensor:
        """In the order of `names`; NaN before any image."""
        return self.totals / self.images  # 0 / 0 is NaN: no image, no figure


class MeanByName(Mean):
    """Means by their names, with the counts "images" and "skipped"."""

    def compute(self) -> dict[str, Tensor]:
        """Name -> mean, with the counts "images" and "skipped"."""
        means = dict(zip(self.names, self.means(), strict=True))
        return means | {"images": self.images, "skipped": self.skipped}


class MeanOverImages(MeanByName):
    """The mean of named per-image values over all images that have one, on all ranks.

    `update` takes what `Protocol.score` and `depth_metrics` return; an image whose values are all
    NaN is skipped. `compute` returns the means (NaN before any image), and "images" and "skipped":
    how many images were averaged, and how many had no valid pixel. The sums are float64.
    """

    def __init__(self, names: Iterable[str], **settings: Any) -> None:
        super().__init__(names, **settings)

    def update(self, scores: Mapping[str, PerImage]) -> None:
        """Add a batch's per-image values."""
        self.add(scores)
