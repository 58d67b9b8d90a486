"""One sample, one raw prediction, one protocol: the fitted map and its metrics."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from scipy.ndimage import distance_transform_edt  # type: ignore[attr-defined]  # its stubs forget it
from torch import Tensor

from depthkd.alignment import convert
from depthkd.batch import DepthSpace, Quantity
from depthkd.benchmarks.benchmark import Benchmark
from depthkd.benchmarks.protocol import Protocol
from depthkd.errors import UserError
from depthkd.evaluation.metrics import SLOW, UNFITTED, SlowJob
from depthkd.formats.sample import AnnotatedSample, BadSample, Sample
from depthkd.metrics.boundary import SMALLEST_DEPTH
from depthkd.metrics.catalogue import MetricSet
from depthkd.metrics.windows import window_errors
from depthkd.models.identity import DIGITS, Description, plain_text

AHEAD = 4  # samples decoded while the model runs

Map = Float[Tensor, "1 height width"]


@dataclass
class Fitted:
    """A sample's truth, and a prediction fitted to it; tensors have a batch of one."""

    truth: Map
    space: DepthSpace
    mask: Bool[Tensor, "1 height width"]
    aligned: Map  # depth

    def metrics(self, protocol: Protocol) -> dict[str, float]:
        """The protocol's metrics per pixel."""
        return _floats(protocol.compare(self.aligned, self.truth, self.space, self.mask))

    def measured_depth(self) -> Float[Tensor, " pixels"]:
        """Depth where it is measured, be it inside of a protocol's range or not."""
        truth = self.truth[self.mask & torch.isfinite(self.truth) & (self.truth > 0)]
        return truth if self.space.quantity is Quantity.DEPTH else 1.0 / truth

    def true_depth(self, protocol: Protocol) -> Map:
        """Depth where it counts, NaN elsewhere."""
        valid = protocol.valid(self.truth, self.space, self.mask)
        depth = self.truth if self.space.quantity is Quantity.DEPTH else 1.0 / self.truth
        return torch.where(valid, depth, torch.nan)


def fitted(raw: Map, space: DepthSpace, sample: Sample, protocol: Protocol) -> Fitted:
    """Fit a model's answer to a sample's truth.

    Raises:
        UserError: the sample has no truth, or the spaces do not suit the protocol.
    """
    if sample.depth is None or sample.mask is None or sample.space is None:
        raise ValueError(f"sample '{sample.key}' has no truth")
    truth = torch.tensor(sample.depth).to(raw.device)[None]
    mask = torch.tensor(sample.mask).to(raw.device)[None]
    return Fitted(truth, sample.space, mask, protocol.aligned(raw, space, truth, sample.space, mask))


def study_windows(
    raw: Map, space: DepthSpace, one: Fitted, protocol: Protocol, divisions: Sequence[int]
) -> dict[str, float]:
    """`window_errors` of a raw prediction, in its own quantity."""
    valid = protocol.valid(one.truth, one.space, one.mask)
    truth = convert(torch.where(valid, one.truth, 1.0), one.space, space.quantity)
    return _floats(window_errors(raw, truth, valid, divisions))


def _floats(found: dict[str, Float[Tensor, " 1"]]) -> dict[str, float]:
    return dict(zip(found, torch.cat(list(found.values())).tolist(), strict=True))  # one wait for the device


def slow_sets(benchmark: Benchmark, sample: Sample) -> tuple[MetricSet, ...]:
    """The benchmark's metrics for worker processes, less those that lack the sample's truth."""
    possible = SLOW if sample.depth is not None else UNFITTED
    return tuple(metrics for metrics in SLOW if metrics in benchmark.metrics and metrics in possible)


def slow_job(
    one: Fitted | None,
    raw: Map,
    space: DepthSpace,
    sample: Sample,
    benchmark: Benchmark,
    protocol: Protocol,
) -> SlowJob | None:
    """What a worker process needs for the metrics of `slow_sets`, if there are any.

    Args:
        one: the prediction fitted to the sample's truth; None: there is no truth.
        raw, space: the model's answer.
        sample, benchmark, protocol: what it is compared with, and how.
    """
    sets = slow_sets(benchmark, sample)
    if not sets:
        return None
    if one is None:
        job = SlowJob(sets, as_depth(raw, space))
    else:
        aligned = _array(one.aligned)
        stand_in = as_depth(raw, space) if protocol.stand_in == "raw" else aligned
        measured = torch.isfinite(one.true_depth(protocol))[0].cpu().numpy()
        job = SlowJob(sets, stand_in, (aligned, dense(one, protocol, benchmark), measured))
    job.intrinsics = sample.intrinsics
    if isinstance(sample, AnnotatedSample):
        job.edges, job.planes, job.normals = sample.edges, sample.planes, sample.normals
        job.matte = sample.matte
    return job


def as_depth(raw: Map, space: DepthSpace) -> Float32[np.ndarray, "height width"]:
    """A raw prediction in the place of depth: a disparity's inverse, clipped as Depth Pro's script does."""
    return _array(raw if space.quantity is Quantity.DEPTH else 1.0 / raw.clamp(min=SMALLEST_DEPTH))


def dense(one: Fitted, protocol: Protocol, benchmark: Benchmark) -> Float32[np.ndarray, "height width"]:
    """True depth for metrics that know no mask: at most the protocol's largest, unless the benchmark's
    `edges_beyond_range`, and at pixels that were not measured that (or the image's largest), 0, or the depth
    of the nearest one that was."""
    measured = (torch.isfinite(one.truth) & (one.truth > 0))[0].cpu().numpy()  # whatever the range and crop
    truth = np.where(measured, _array(one.truth), 1.0)
    depth = np.where(measured, truth if one.space.quantity is Quantity.DEPTH else 1.0 / truth, 0.0)
    end = None if benchmark.edges_beyond_range else protocol.max_depth
    largest = depth.max() if end is None else end
    depth = np.minimum(depth, largest).astype(np.float32)
    if benchmark.unmeasured == "nearest" and measured.any():
        rows, columns = distance_transform_edt(~measured, return_distances=False, return_indices=True)
        return np.asarray(depth[rows, columns])
    return np.where(measured, depth, np.float32(largest if benchmark.unmeasured == "far" else 0.0))


def _array(depth: Map) -> np.ndarray:
    return np.asarray(depth[0].float().cpu().numpy())


def benchmark_fingerprint(benchmark: Benchmark) -> str:
    """What tells one benchmark from another: settings, length, and the first, middle and last sample.

    The protocol is not part of it: kept answers are scored under others, too.
    """
    count, kind = len(benchmark), type(benchmark)
    found = {k: v for k, v in vars(benchmark).items() if k != "protocol" and plain_text(v)}
    given = {k: v for k, v in found.items() if not isinstance(getattr(kind, k, None), cached_property)}
    description = Description()
    description.text(kind.__qualname__, count)
    description.mapping(given)
    for _, sample in ahead(benchmark, sorted({0, count // 2, count - 1} & set(range(count)))):
        description.value(str(sample) if isinstance(sample, BadSample) else vars(sample))
    return description.digest()[:DIGITS]


def truth_space(benchmark: Benchmark) -> DepthSpace:
    """The space of the benchmark's truth, from its first readable sample.

    Raises:
        UserError: no sample can be read.
    """
    reasons = []
    for _, sample in ahead(benchmark, range(len(benchmark))):
        if isinstance(sample, BadSample):
            reasons.append(str(sample))
        elif sample.space is not None:
            return sample.space
    why = f", the first: {reasons[0]}" if reasons else ""
    raise UserError(f"benchmark '{benchmark.name}': none of its {len(benchmark)} samples can be read{why}")


def ahead(benchmark: Benchmark, indices: Sequence[int]) -> Iterator[tuple[int, Sample | BadSample]]:
    """Samples in order, decoded by one thread (tar readers are not for several) a few ahead."""

    def read(index: int) -> Sample | BadSample:
        try:
            return benchmark.sample(index)
        except BadSample as error:
            return error

    with ThreadPoolExecutor(1) as thread:
        waiting: deque[Future[Sample | BadSample]] = deque()
        try:
            for place, index in enumerate(indices):
                while len(waiting) <= AHEAD and place + len(waiting) < len(indices):
                    waiting.append(thread.submit(read, indices[place + len(waiting)]))
                yield index, waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
