"""Any labelled shards as a benchmark."""

from bisect import bisect_right
from dataclasses import replace
from functools import cached_property
from itertools import accumulate
from pathlib import Path

from depthkd.benchmarks.benchmark import Benchmark
from depthkd.benchmarks.protocol import Protocol
from depthkd.errors import UserError
from depthkd.formats.opened import opened
from depthkd.formats.sample import BadSample, Sample
from depthkd.formats.shard_samples import decode_sample
from depthkd.formats.shard_urls import find_shards
from depthkd.formats.tar_index import TarIndex
from depthkd.metrics.catalogue import MetricSet


class ShardBenchmark(Benchmark):
    """The labelled samples of tar shards, in their order.

    Args:
        urls: shards, as for training: paths, "{000..019}" ranges.
        name: what tables call it; the first shard's name where None.
        protocol: a preset's name, or a Protocol.
        min_depth, max_depth: the valid range, in the truth's unit; None: no bound. They replace the
            protocol's.
        resolution: the size at which models run, see `Protocol`; None: the protocol's.
        limit: at most so many samples, spread evenly over all.
        edges: whether the truth is dense and sharp, as renderings are, so that edges can be scored.
        data_set: the public data set that the shards hold, by its common name.
        split: which tars of a folder or repository are read that tells its splits, as for training.

    Raises:
        UserError, MissingFileError: (on first use) the urls name no shards that can be read.
    """

    def __init__(
        self,
        urls: str | list[str],
        name: str | None = None,
        protocol: str | Protocol = "marigold",
        min_depth: float | None = 1e-3,
        max_depth: float | None = 80.0,
        resolution: int | str | None = None,
        limit: int | None = None,
        edges: bool = False,
        data_set: str | None = None,
        split: str | None = None,
    ) -> None:
        self.urls = urls
        self.split = split
        self.data_set = data_set
        if edges:
            self.metrics = (MetricSet.DEPTH, MetricSet.EDGES)
        self.name = name or Path(urls if isinstance(urls, str) else urls[0]).stem
        self.protocol = Protocol.named(protocol, min_depth=min_depth, max_depth=max_depth)
        if resolution is not None:
            self.protocol = replace(self.protocol, resolution=resolution)
        if limit is not None and limit < 1:
            raise UserError(f"benchmark '{self.name}': limit must be at least 1, not {limit}")
        self.limit = limit

    @cached_property
    def _indices(self) -> list[TarIndex]:
        """Built on first use: a config with many benchmarks must not read them all to start."""
        shards = find_shards(self.urls, self.split)
        return [shards.index(path, opened=opened) for path in shards.paths]

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(len(index) for index in self._indices))

    @cached_property
    def guarded_as(self) -> str | None:
        """See `Benchmark.guarded_as`; without a `data_set`, what the first sample was packed from."""
        if self.data_set is not None:
            return self.data_set
        try:
            return self.sample(0).data_set
        except BadSample:
            return None

    def __len__(self) -> int:
        total = self._ends[-1]
        return total if self.limit is None else min(self.limit, total)

    def sample(self, index: int) -> Sample:
        """Sample `index` of those that `limit` leaves.

        Raises:
            BadSample: it cannot be decoded, or has no valid label.
            IndexError: there are not so many.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"benchmark '{self.name}' has {len(self)} samples, so no index {index}")
        place = index * self._ends[-1] // len(self)
        shard = bisect_right(self._ends, place)
        tar = self._indices[shard]
        i = place - (self._ends[shard] - len(tar))
        return decode_sample(tar.keys[i], tar.read(i), where=tar.file.name, labelled=True)
