"""Means over images as torchmetrics, exact over uneven batches and over ranks."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from depthkd.shapes import PerImage


class Mean(Metric):
    """Sums of named per-image values, and how many images they are of.

    A `torchmetrics.MetricCollection` takes metrics for one where, after the first update, states of the
    same names have the same values, and updates only one of them from then on. With ties, or a first image
    without truth, different metrics would look alike. So the name of one state says whose it is.

    Args:
        names: of the values.
        setting: what tells this metric from others of its class and names, such as a threshold.
        settings: torchmetrics' own.
    """

    full_state_update = False
    weights: Tensor
    images: Tensor
    skipped: Tensor

    def __init__(self, names: Iterable[str], setting: object = None, **settings: Any) -> None:
        super().__init__(**settings)
        self.names = tuple(names)
        kind = type(self)
        self._totals = f"totals of {kind.__module__}.{kind.__qualname__} {self.names} {setting}"
        self.add_state(self._totals, torch.zeros(len(self.names), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("weights", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        for name in ("images", "skipped"):
            self.add_state(name, torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def add(self, scores: Mapping[str, PerImage], weights: PerImage | None = None) -> None:
        """Add per-image values; an image whose values are all NaN is counted, but not averaged.

        Args:
            scores: name -> values.
            weights: of the images in the means, such as of how many parts a value is the mean; None: all
                alike.
        """
        values = torch.stack([scores[name] for name in self.names]).to(self.device, torch.float64)
        skipped = torch.isnan(values).all(0)
        shares = torch.where(skipped, 0.0, 1.0 if weights is None else weights.to(values))
        totals: Tensor = getattr(self, self._totals)
        setattr(self, self._totals, totals + (torch.where(skipped, 0.0, values) * shares).sum(1))
        self.weights += shares.sum()
        self.images += (~skipped).sum()
        self.skipped += skipped.sum()

    def means(self) -> Tensor:
        """In the order of `names`; NaN before any image."""
        totals: Tensor = getattr(self, self._totals)
        return totals / self.weights  # 0 / 0 is NaN: no image, no metric


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
