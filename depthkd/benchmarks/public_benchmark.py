"""A public benchmark: a data set, a split, a protocol, a range of valid depths and a crop."""

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from depthkd.benchmarks.benchmark import Benchmark
from depthkd.benchmarks.protocol import Protocol
from depthkd.datasets.dataset import ListedDataset
from depthkd.errors import UserError
from depthkd.formats.sample import Sample


class PublicBenchmark(Benchmark):
    """The samples of a public data set under the range, the size and the crop that papers score it with.

    A subclass names its data set; all else has a default.

    Args:
        root: the folder, tar or zip that holds the files.
        split: a split of the data set by its name, or another list of the same form: a file; None: the one
            that papers test on.
        protocol: a preset's name, or a Protocol; the range of depths is the benchmark's own.
        resolution: the size at which models run, see `Protocol`; None: the protocol's, or the benchmark's,
            and where its owners have none, each model's own.
        limit: at most so many samples, spread evenly over all.
        depth_range: the valid range instead of the benchmark's own: what is not strictly inside is not
            scored, and predictions are clipped to it; in meters, null for no bound.

    Attributes:
        kind: the class of its data set.
        min_depth, max_depth, clip_only, fit_side: see `Protocol`.
        own_resolution: the size at which its owners' or Marigold's scripts run models.
        samples_scored: how many samples papers score, spread evenly over the data set; None: all.

    Raises:
        MissingFileError: (on first use) there is no root, or no list; the sentence says what is
            expected where.
    """

    kind: ClassVar[type[ListedDataset]]
    min_depth: float | None = 1e-3
    max_depth: float | None = 10.0
    clip_only: bool = False
    own_resolution: int | str | None = None
    fit_side: int | None = None
    samples_scored: int | None = None

    def __init__(
        self,
        root: str | Path,
        split: str | Path | None = None,
        protocol: str | Protocol = "marigold",
        resolution: int | str | None = None,
        limit: int | None = None,
        depth_range: tuple[float | None, float | None] | None = None,
    ) -> None:
        self.dataset = self.open(root, split)
        self.data_set = self.dataset.title
        if resolution is None and isinstance(protocol, Protocol):
            resolution = protocol.resolution
        nearest, farthest = (self.min_depth, self.max_depth) if depth_range is None else depth_range
        self.protocol = Protocol.named(
            protocol,
            min_depth=nearest,
            max_depth=farthest,
            clip_only=self.clip_only,
            fit_side=self.fit_side,
            resolution=self.own_resolution if resolution is None else resolution,
        )
        if limit is not None and limit < 1:
            raise UserError(f"benchmark '{self.name}': limit must be at least 1, not {limit}")
        self.limit = limit

    def open(self, root: str | Path, split: str | Path | None) -> ListedDataset:
        """The data set below a root."""
        return self.kind(root, split)

    @property
    def papers_samples(self) -> bool:
        """Whether all samples are scored that papers score, and no others."""
        return self._papers_list and self.limit is None

    @property
    def _papers_list(self) -> bool:
        return self.dataset.split in (None, self.dataset.default_split)

    @property
    def candidates(self) -> int:
        """How many samples `limit` chooses from: those that papers score, or all of a list."""
        most = self.samples_scored if self._papers_list else None
        return len(self.dataset) if most is None else min(most, len(self.dataset))

    def __len__(self) -> int:
        return self.candidates if self.limit is None else min(self.limit, self.candidates)

    def place(self, index: int) -> int:
        """Which sample of the data set has this index, of those that `limit` leaves.

        Raises:
            IndexError: there are not so many.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"benchmark '{self.name}' has {len(self)} samples, so no index {index}")
        return index * self.candidates // len(self) * len(self.dataset) // self.candidates

    def sample(self, index: int) -> Sample:
        """Sample `index` of those that `limit` leaves, as it is scored.

        Raises:
            BadSample: a file is missing or broken, or image and truth differ in size.
            IndexError: there are not so many.
        """
        return self.scored(self.dataset.sample(self.place(index)))

    def scored(self, sample: Sample) -> Sample:
        """What of a data set's sample is scored: cropped, for example."""
        return sample

    def group(self, index: int) -> str | None:
        """See `Benchmark.group`."""
        return self.dataset.group(self.place(index))


def clamped_at(sample: Sample, farthest: float) -> Sample:
    """Depth beyond `farthest`, infinity among it, as `farthest`: so that the whole map has edges."""
    assert sample.depth is not None and sample.mask is not None
    beyond = sample.depth > farthest
    depth = sample.depth.copy()
    depth[beyond] = farthest
    return replace(sample, depth=depth, mask=sample.mask | beyond)
