"""Any benchmark of metric depth as one of depth completion: models are given some of the truth."""

from dataclasses import replace
from zlib import crc32

import numpy as np
import torch

from depthkd.batch import METRIC_DEPTH, METRIC_DISPARITY
from depthkd.benchmarks.benchmark import Benchmark, Units
from depthkd.benchmarks.protocol import COMPLETION, Protocol
from depthkd.errors import UserError
from depthkd.formats.sample import Sample
from depthkd.metrics.catalogue import MetricSet
from depthkd.shapes import MaskArray
from depthkd.sparse_depth import parse_pattern

MEASURED = "measured"  # the pattern of sparse depth that a data set itself brings


class CompletionBenchmark(Benchmark):
    """The samples of another benchmark, each with sparse depth that models are given besides the image.

    Nothing is fitted: predictions are depth in meters, in the range of the other benchmark's protocol and at
    its size, without clipping. Points are drawn where the truth counts, so that none is outside of a crop or
    a range. What is drawn depends on the seed and the sample's key alone: a sample has the same points in
    every test, whatever is tested besides it.

    Args:
        benchmark: the other one, of metric depth.
        pattern: which pixels are measured, such as "500 points", "lidar 16" or "5 % outliers, 500 points"
            (see `depthkd.sparse_depth.parse_pattern`); "measured": those that the data set's own sensor has
            measured.
        seed: of patterns that draw at random.
        units: of RMSE and MAE, "m" or "mm"; iRMSE and iMAE are then in 1/m or 1/km. None: the other
            benchmark's.

    Raises:
        UserError: the pattern is none, the other benchmark's truth is not metric, or "measured" is asked for
            and its samples bring no sparse depth.
    """

    def __init__(
        self, benchmark: Benchmark, pattern: str = MEASURED, seed: int = 0, units: Units | None = None
    ) -> None:
        self.benchmark = benchmark
        if MetricSet.DEPTH not in benchmark.metrics:
            raise UserError(
                f"benchmark '{benchmark.name}' has no depth, so that there is nothing to complete"
            )
        self._pattern = None if pattern == MEASURED else parse_pattern(pattern)
        own = benchmark.pattern or MEASURED
        self.pattern = own if self._pattern is None else self._pattern.name
        self.seed = seed
        self.name = f"{benchmark.name}, {self.pattern}"
        self.units = units or benchmark.units
        self.metrics = (MetricSet.DEPTH, MetricSet.COMPLETION)
        self.data_set = benchmark.data_set
        self.protocol = completion_protocol(benchmark.protocol)

    @property
    def guarded_as(self) -> str | None:
        """See `Benchmark.guarded_as`."""
        return self.benchmark.guarded_as

    def group(self, index: int) -> str | None:
        """See `Benchmark.group`."""
        return self.benchmark.group(index)

    def __len__(self) -> int:
        return len(self.benchmark)

    def sample(self, index: int) -> Sample:
        """Sample `index` of the other benchmark, with sparse depth.

        Raises:
            BadSample: it cannot be decoded.
            UserError: there is nothing to measure it from.
        """
        sample = in_meters(self.benchmark.sample(index), self.benchmark.name)
        if self._pattern is None:
            if sample.sparse is None:
                raise UserError(
                    f"benchmark '{self.benchmark.name}' brings no sparse depth of its own; give a pattern of "
                    "the pixels that are measured, such as '500 points'"
                )
            return sample
        assert sample.depth is not None
        rng = np.random.default_rng([self.seed, crc32(sample.key.encode())])
        counts = self._counts(sample)
        depth = np.where(counts, sample.depth, np.float32(0))
        return replace(sample, sparse=self._pattern(depth, counts, sample.image, sample.intrinsics, rng))

    def _counts(self, sample: Sample) -> MaskArray:
        """Where the truth is scored."""
        depth, mask = (torch.from_numpy(np.ascontiguousarray(x))[None] for x in (sample.depth, sample.mask))
        counts: MaskArray = self.protocol.valid(depth, METRIC_DEPTH, mask)[0].numpy()
        return counts


def completion_protocol(protocol: Protocol) -> Protocol:
    """The protocol of depth completion in another one's range, at its size."""
    preset = Protocol.named(COMPLETION)
    return replace(
        protocol,
        name=preset.name,
        fit=preset.fit,
        fit_quantity=preset.fit_quantity,
        score_quantity=preset.score_quantity,
        skip_zeros=preset.skip_zeros,
        fit_side=None,
        clip_predictions=preset.clip_predictions,
    )


def in_meters(sample: Sample, benchmark: str) -> Sample:
    """The sample with depth in meters.

    Raises:
        UserError: its depth is unknown, or has another unit.
    """
    if sample.space == METRIC_DEPTH:
        return sample
    if sample.space != METRIC_DISPARITY or sample.depth is None or sample.mask is None:
        raise UserError(
            f"benchmark '{benchmark}' has {sample.space or 'no depth'}, of which no point can be given in "
            f"meters; depth completion needs {METRIC_DEPTH}"
        )
    known = sample.mask & (sample.depth > 0)
    depth = np.where(known, 1 / np.where(known, sample.depth, 1), 0).astype(np.float32)
    return replace(sample, depth=depth, mask=known, space=METRIC_DEPTH)
