"""Benchmarks as their owners or Marigold's tars ship them: a list, and files in a folder or a tar."""

import tarfile
from abc import abstractmethod
from functools import cached_property
from importlib.resources import files
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from depthkd.batch import METRIC_DEPTH
from depthkd.benchmarks.benchmark import Benchmark, Protocol
from depthkd.formats.sample import BadSample, Sample

Decoded = tuple[
    UInt8[np.ndarray, "_ _ 3"], Float32[np.ndarray, "truth_height truth_width"],
    Bool[np.ndarray, "truth_height truth_width"],
]  # fmt: skip


class Archive:
    """Files by their relative paths, from a folder or from a plain tar.

    Args:
        root: the folder, or the tar. Members of a tar may begin with "./" and stand below any folders:
            a member is found by the end of its path.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @cached_property
    def _places(self) -> dict[str, tuple[int, int]]:
        """Every member of the tar, under each end of its path that is its alone, first come first."""
        places: dict[str, tuple[int, int]] = {}
        with tarfile.open(self.root, "r:") as tar:
            for member in tar:
                if member.isfile():
                    parts = PurePosixPath(member.name).parts
                    for i in range(len(parts)):
                        places.setdefault("/".join(parts[i:]), (member.offset_data, member.size))
        return places

    def read(self, path: str) -> bytes:
        """The bytes of one file.

        Raises:
            BadSample: there is none, or it is cut off; the sentence names it.
        """
        if self.root.is_dir():
            try:
                return (self.root / path).read_bytes()
            except OSError as error:
                raise BadSample(f"{self.root / path} cannot be read: {error.strerror}") from error
        place = self._places.get(path)
        if place is None:
            raise BadSample(f"{self.root} has no member {path}")
        with self.root.open("rb") as file:
            file.seek(place[0])
            data = file.read(place[1])
        if len(data) != place[1]:
            raise BadSample(f"{self.root} is cut off in the middle of {path}")
        return data


def shipped_split(name: str) -> list[str]:
    """The lines of a list that comes with depthkd, blank ones left out."""
    text = (files("depthkd.benchmarks") / "splits" / name).read_text()
    return [line for line in text.splitlines() if line.strip()]


class FileBenchmark(Benchmark):
    """A public benchmark: one line of its list a sample.

    A subclass names itself, its list, the layout that it expects and its protocol's range, and
    decodes one line.

    Args:
        root: the folder or tar that holds the files.
        split: another list of the same form: a file; None: the one that comes with depthkd.
        protocol: a preset's name, or a Protocol; the range of depths is the benchmark's own.
        resolution: the shorter side at which models run, in pixels; None: the benchmark's, or the
            image's own.
        limit: at most so many samples, spread evenly over all.

    Raises:
        FileNotFoundError: (on first use) there is no root, or no list; the sentence says what is
            expected where.
    """

    split_name: str
    layout: str  # what stands where, for the sentence about a missing root
    min_depth: float | None = 1e-3
    max_depth: float | None = 10.0
    clip_only: bool = False
    own_resolution: int | None = None
    fit_side: int | None = None

    def __init__(
        self,
        root: str | Path,
        split: str | Path | None = None,
        protocol: str | Protocol = "marigold",
        resolution: int | None = None,
        limit: int | None = None,
    ) -> None:
        self.root = Path(root)
        self.split = None if split is None else Path(split)
        self.protocol = Protocol.named(
            protocol,
            min_depth=self.min_depth,
            max_depth=self.max_depth,
            clip_only=self.clip_only,
            fit_side=self.fit_side,
            resolution=resolution or self.own_resolution,
        )
        if limit is not None and limit < 1:
            raise ValueError(f"benchmark '{self.name}': limit must be at least 1, not {limit}")
        self.limit = limit

    @cached_property
    def archive(self) -> Archive:
        """The files, looked for on first use."""
        if not self.root.exists():
            raise FileNotFoundError(
                f"benchmark '{self.name}': there is no {self.root}; it would be a folder or a tar with "
                f"{self.layout}"
            )
        return Archive(self.root)

    @cached_property
    def lines(self) -> list[list[str]]:
        """The list, line by line, word by word; without the lines that name no truth."""
        if self.split is None:
            lines = shipped_split(self.split_name)
        elif self.split.is_file():
            lines = [line for line in self.split.read_text().splitlines() if line.strip()]
        else:
            raise FileNotFoundError(f"benchmark '{self.name}': there is no list {self.split}")
        words = [line.split() for line in lines]
        return [line for line in words if self.has_truth(line)]

    def has_truth(self, line: list[str]) -> bool:
        """Whether a line counts; KITTI's list names images without truth."""
        return "None" not in line

    def __len__(self) -> int:
        return len(self.lines) if self.limit is None else min(self.limit, len(self.lines))

    def sample(self, index: int) -> Sample:
        """Decode line `index` of those that `limit` leaves.

        Raises:
            BadSample: a file is missing or broken, or image and truth differ in size.
            IndexError: there are not so many.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"benchmark '{self.name}' has {len(self)} samples, so no index {index}")
        line = self.lines[index * len(self.lines) // len(self)]
        image, depth, mask = self.decode(line)
        if image.shape[:2] != mask.shape:
            raise BadSample(
                f"benchmark '{self.name}': {line[0]} has {image.shape[:2]} pixels, but its truth {mask.shape}"
            )
        return Sample(line[0], image, depth, mask, space=METRIC_DEPTH)

    @abstractmethod
    def decode(self, line: list[str]) -> Decoded:
        """One line of the list: image, depth in metres, and where it counts (the crop included)."""
