"""A benchmark is labelled samples and a Protocol; the Protocol says what its metrics mean."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Literal

from depthkd.benchmarks.protocol import Protocol
from depthkd.formats.sample import Sample
from depthkd.metrics.catalogue import MetricSet

Unmeasured = Literal["far", "zero", "nearest"]
Units = Literal["m", "mm"]


class Benchmark(ABC):
    """Labelled samples in a fixed order, and the protocol under which models are scored on them.

    Attributes:
        name: what tables call it.
        protocol: how models are scored.
        metrics: which sets of metrics its samples allow.
        data_set: the public data set that the samples are of, by its common name; None if unknown.
        unmeasured: what depth stands at pixels without truth for the metrics of edges, which take no mask:
            "far", the protocol's largest (the sky of rendered data), "zero", as the files of sensors and so
            the metrics' own scripts have it, or "nearest", that of the nearest measured pixel.
        pattern: what models are given besides images: the name of a pattern of sparse depth, such as
            "500 points"; None: nothing.
        units: of the errors of depth completion: "m" for meters and 1 / meters, "mm" for millimeters and
            1 / kilometers, as KITTI has it.
        edges_beyond_range: whether true depth beyond the protocol's range keeps its values for the metrics
            of edges; otherwise it is clamped to the end of the range.
    """

    name: str
    protocol: Protocol
    metrics: tuple[MetricSet, ...] = (MetricSet.DEPTH,)
    data_set: str | None = None
    unmeasured: Unmeasured = "far"
    edges_beyond_range: bool = False
    pattern: str | None = None
    units: Units = "m"

    @property
    def guarded_as(self) -> str | None:
        """The data set for which the zero-shot guard looks among what a model has learned from."""
        return self.data_set

    def group(self, index: int) -> str | None:
        """The part of the benchmark that sample `index` belongs to, such as "indoors"; None: it has none."""
        return None

    @abstractmethod
    def __len__(self) -> int:
        """How many samples it has."""

    @abstractmethod
    def sample(self, index: int) -> Sample:
        """Sample `index`, with `depth`, `mask` and `space`.

        Raises:
            BadSample: it cannot be decoded.
        """

    def samples(self) -> Iterator[Sample]:
        """All samples in order.

        Raises:
            BadSample: one cannot be decoded.
        """
        return (self.sample(i) for i in range(len(self)))
