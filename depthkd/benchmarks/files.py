"""Benchmarks as their owners or Marigold's tars ship them: a list, and files in a folder, tar or zip."""

from abc import abstractmethod
from dataclasses import replace
from functools import cached_property
from importlib.resources import files
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8

from depthkd.batch import METRIC_DEPTH
from depthkd.benchmarks.archive import Archive
from depthkd.benchmarks.benchmark import Benchmark, Protocol
from depthkd.errors import MissingFileError, UserError
from depthkd.formats.sample import BadSample, Sample, content_digest
from depthkd.paths import user_path

Decoded = tuple[
    UInt8[np.ndarray, "_ _ 3"], Float32[np.ndarray, "truth_height truth_width"],
    Bool[np.ndarray, "truth_height truth_width"],
]  # fmt: skip


def shipped_split(name: str) -> list[str]:
    """The lines of a list that comes with depthkd, blank ones left out."""
    text = (files("depthkd.benchmarks") / "splits" / name).read_text()
    return [line for line in text.splitlines() if line.strip()]


class ListedBenchmark(Benchmark):
    """A public benchmark: one line of its list a sample.

    A subclass names itself, its list, the layout that it expects and its protocol's range, and makes
    a sample of one line.

    Args:
        root: the folder, tar or zip that holds the files.
        split: another list of the same form: a file; None: the one that comes with depthkd.
        protocol: a preset's name, or a Protocol; the range of depths is the benchmark's own.
        resolution: the size at which models run, see `Protocol`; None: the protocol's, or the benchmark's,
            and where its owners have none, each model's own.
        limit: at most so many samples, spread evenly over all.

    Raises:
        MissingFileError: (on first use) there is no root, or no list; the sentence says what is
            expected where.
    """

    split_name: str
    layout: str  # what stands where, for the sentence about a missing root
    folders: tuple[str, ...] = ("",)  # under a root that is a folder, where the list's paths may begin
    min_depth: float | None = 1e-3
    max_depth: float | None = 10.0
    clip_only: bool = False
    own_resolution: int | str | None = None  # of its owners' or Marigold's scripts
    fit_side: int | None = None

    def __init__(
        self,
        root: str | Path,
        split: str | Path | None = None,
        protocol: str | Protocol = "marigold",
        resolution: int | str | None = None,
        limit: int | None = None,
    ) -> None:
        self.root = user_path(root)
        self.split = None if split is None else user_path(split)
        if resolution is None and isinstance(protocol, Protocol):
            resolution = protocol.resolution
        self.protocol = Protocol.named(
            protocol,
            min_depth=self.min_depth,
            max_depth=self.max_depth,
            clip_only=self.clip_only,
            fit_side=self.fit_side,
            resolution=self.own_resolution if resolution is None else resolution,
        )
        if limit is not None and limit < 1:
            raise UserError(f"benchmark '{self.name}': limit must be at least 1, not {limit}")
        self.limit = limit

    @cached_property
    def archive(self) -> Archive:
        """The files, looked for on first use."""
        if not self.root.exists():
            raise MissingFileError(
                f"benchmark '{self.name}': there is no {self.root}; it would be a folder, a tar or a zip "
                f"with {self.layout}"
            )
        return Archive(self.root, self.folders)

    @cached_property
    def lines(self) -> list[list[str]]:
        """The list, line by line, word by word; without the lines that name no truth."""
        words = [line.split() for line in self.listed()]
        return [line for line in words if self.has_truth(line)]

    def listed(self) -> list[str]:
        """The lines of the list as they stand in it, blank ones left out.

        Raises:
            MissingFileError: `split` names no file.
        """
        if self.split is None:
            return shipped_split(self.split_name)
        if not self.split.is_file():
            raise MissingFileError(f"benchmark '{self.name}': there is no list {self.split}")
        return [line for line in self.split.read_text().splitlines() if line.strip()]

    def has_truth(self, line: list[str]) -> bool:
        """Whether a line counts; KITTI's list names images without truth."""
        return "None" not in line

    def paths(self, line: list[str]) -> list[str]:
        """The files that one line needs, image first."""
        return line[:2]

    def missing(self) -> list[str]:
        """The first missing file of each sample that lacks one, by names alone: nothing is read.

        Raises:
            MissingFileError: there is no root, or no list.
        """
        absent = ([p for p in self.paths(line) if p not in self.archive] for line in self.lines)
        return [paths[0] for paths in absent if paths]

    def __len__(self) -> int:
        return len(self.lines) if self.limit is None else min(self.limit, len(self.lines))

    def line(self, index: int) -> list[str]:
        """Line `index` of those that `limit` leaves.

        Raises:
            IndexError: there are not so many.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"benchmark '{self.name}' has {len(self)} samples, so no index {index}")
        return self.lines[index * len(self.lines) // len(self)]

    def sample(self, index: int) -> Sample:
        """The sample of line `index` of those that `limit` leaves.

        Raises:
            BadSample: a file is missing or broken, or image and truth differ in size.
            IndexError: there are not so many.
        """
        line = self.line(index)
        return replace(self.sample_of(line), digest=content_digest(self.archive.read(self.paths(line)[0])))

    @abstractmethod
    def sample_of(self, line: list[str]) -> Sample:
        """The sample that one line of the list names.

        Raises:
            BadSample: a file is missing or broken, or image and truth differ in size.
        """


class FileBenchmark(ListedBenchmark):
    """A `ListedBenchmark` of images with metric depth: a subclass decodes the files of one line.

    Args:
        root, settings: see `ListedBenchmark`.
    """

    def sample_of(self, line: list[str]) -> Sample:
        """See `ListedBenchmark.sample_of`."""
        image, depth, mask = self.decode(line)
        if image.shape[:2] != mask.shape:
            raise BadSample(
                f"benchmark '{self.name}': {line[0]} has {image.shape[:2]} pixels, but its truth {mask.shape}"
            )
        return Sample(line[0], image, depth, mask, self.intrinsics(line), METRIC_DEPTH)

    def intrinsics(self, line: list[str]) -> Float64[np.ndarray, "3 3"] | None:
        """The camera of what `decode` gives, as in `Sample`; None where the data set's list does not say."""
        return None

    @abstractmethod
    def decode(self, line: list[str]) -> Decoded:
        """One line of the list: image, depth in metres, and where it counts (the crop included)."""
