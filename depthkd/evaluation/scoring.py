"""One sample, one raw prediction, one protocol: the fitted map and its metrics per pixel and per pair."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from depthkd.alignment import convert
from depthkd.batch import DepthSpace, Quantity
from depthkd.benchmarks.benchmark import Units
from depthkd.benchmarks.protocol import Protocol
from depthkd.formats.sample import AnnotatedSample, Sample
from depthkd.metrics.catalogue import IN_INVERSE_METERS, IN_METERS
from depthkd.metrics.ordinal import closer_is_first
from depthkd.metrics.windows import window_errors
from depthkd.shapes import OneMap

DIVISIONS = (2, 4)


@dataclass(frozen=True)
class Fitted:
    """A sample's truth, and a prediction fitted to it; tensors have a batch of one."""

    truth: OneMap
    space: DepthSpace
    mask: Bool[Tensor, "1 height width"]
    aligned: OneMap  # depth

    def metrics(self, protocol: Protocol) -> dict[str, float]:
        """The protocol's metrics per pixel."""
        return _floats(protocol.compare(self.aligned, self.truth, self.space, self.mask))

    def completion_metrics(self, protocol: Protocol, units: Units) -> dict[str, float]:
        """The metrics per pixel of depth completion, those of `metrics` among them, in these units."""
        found = self.metrics(protocol)
        found |= _floats(protocol.compare_completion(self.aligned, self.truth, self.space, self.mask))
        factor = {"m": 1.0, "mm": 1000.0}[units]  # of meters, and of 1 / meters as 1 / kilometers
        return found | {name: factor * found[name] for name in (*IN_METERS, *IN_INVERSE_METERS)}

    def measured_depth(self) -> Float[Tensor, " pixels"]:
        """Depth where it is measured, be it inside of a protocol's range or not."""
        truth = self.truth[self.mask & torch.isfinite(self.truth) & (self.truth > 0)]
        return truth if self.space.quantity is Quantity.DEPTH else 1.0 / truth

    def true_depth(self, protocol: Protocol) -> OneMap:
        """Depth where it counts, NaN elsewhere."""
        valid = protocol.valid(self.truth, self.space, self.mask)
        depth = self.truth if self.space.quantity is Quantity.DEPTH else 1.0 / self.truth
        return torch.where(valid, depth, torch.nan)


def fitted(raw: OneMap, space: DepthSpace, sample: Sample, protocol: Protocol) -> Fitted:
    """Fit a raw prediction to a sample's truth.

    Raises:
        ValueError: the sample has no truth.
        UserError: the spaces do not suit the protocol.
    """
    if sample.depth is None or sample.mask is None or sample.space is None:
        raise ValueError(f"sample '{sample.key}' has no truth")
    truth = torch.tensor(sample.depth).to(raw.device)[None]
    mask = torch.tensor(sample.mask).to(raw.device)[None]
    return Fitted(truth, sample.space, mask, protocol.aligned(raw, space, truth, sample.space, mask))


def study_windows(
    raw: OneMap, space: DepthSpace, one: Fitted, protocol: Protocol, divisions: Sequence[int]
) -> dict[str, float]:
    """`window_errors` of a raw prediction, in its own quantity."""
    valid = protocol.valid(one.truth, one.space, one.mask)
    truth = convert(torch.where(valid, one.truth, 1.0), one.space, space.quantity)
    return _floats(window_errors(raw, truth, valid, divisions))


def _floats(found: dict[str, Float[Tensor, " 1"]]) -> dict[str, float]:
    return dict(zip(found, torch.cat(list(found.values())).tolist(), strict=True))  # one wait for the device


def pair_metrics(prediction: torch.Tensor, quantity: Quantity, sample: Sample) -> dict[str, float]:
    """The share of pairs that the raw prediction [height, width] orders rightly, and their number."""
    if not isinstance(sample, AnnotatedSample) or sample.pairs is None or not len(sample.pairs):
        return {"pair_accuracy": float("nan"), "pairs": 0.0}
    points = torch.from_numpy(sample.pairs).to(prediction.device)
    right = closer_is_first(prediction, points[:, 0], points[:, 1], quantity)
    return {"pair_accuracy": float(right.double().mean()), "pairs": float(len(points))}
