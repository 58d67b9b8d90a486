"""A data set: its samples, how they are encoded, its cameras and its splits.

It knows no protocol, no range of valid depths and no crop: those are a benchmark's. `depthkd shards pack`,
benchmarks, `depthkd test --root` and the zero-shot guard all read a data set through its one class here.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from importlib.resources import files
from math import inf
from pathlib import Path, PurePosixPath
from re import Match, Pattern
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8

from depthkd.batch import METRIC_DEPTH, DepthSpace
from depthkd.datasets.archive import Archive
from depthkd.errors import MissingFileError, UserError
from depthkd.formats.images import IMAGE_SUFFIXES
from depthkd.formats.sample import BadSample, Sample, content_digest
from depthkd.paths import user_path
from depthkd.shapes import DepthArray

Decoded = tuple[
    UInt8[np.ndarray, "_ _ 3"], Float32[np.ndarray, "truth_height truth_width"],
    Bool[np.ndarray, "truth_height truth_width"],
]  # fmt: skip


class Dataset(ABC):
    """Samples in a fixed order.

    Attributes:
        name: what commands call it, such as "hypersim".
        title: what papers call it, and `DepthModel.training_sets`, such as "Hypersim"; None: it has no name.
        space: of its depth; None: it has none.
        bundled: whether it comes with depthkd or a library that it needs, and so has no root.
    """

    bundled: ClassVar[bool] = False

    name: str
    title: str | None = None
    space: DepthSpace | None = METRIC_DEPTH

    @abstractmethod
    def __len__(self) -> int:
        """How many samples it has."""

    @abstractmethod
    def sample(self, index: int) -> Sample:
        """Sample `index`, whole: neither cropped nor cut to a range. Depth that is known to be infinite, such
        as the sky's, is infinity where the mask is false.

        Raises:
            BadSample: it cannot be decoded.
            IndexError: there are not so many.
        """

    def missing(self) -> list[str]:
        """The first missing file of each sample that lacks one, by names alone: nothing is read."""
        return []

    def group(self, index: int) -> str | None:
        """The part of the data set that a sample belongs to, such as "indoors"; None: it has no parts."""
        return None

    def key(self, index: int) -> str:
        """What tells a sample from the others, such as its image's path."""
        return f"{self.name}_{index:06d}"

    def source(self, index: int) -> dict[str, str]:
        """What shards note of where a sample is from."""
        return {} if self.title is None else {"data_set": self.title}

    def truth_name(self, index: int) -> str:
        """What sentences call a sample's depth."""
        return f"data set '{self.name}'"

    def advice(self, index: int, value: float) -> str:
        """What to do about an extreme value that the codec cannot store beside the sample's others."""
        return "--codec npy stores any range exactly"

    def between(self, start: int, stop: int) -> "Dataset | None":
        """The samples start to stop - 1 as a data set of their own; None: it is not worth taking apart.

        A process that packs some of millions of files gets their names alone.
        """
        return None

    def image_file(self, index: int) -> tuple[str, bytes | None]:
        """The name of a sample's image, and the file as it is: JPEG, PNG or WebP, for shards; None where
        the image is in no file of its own, or not as the file has it.

        Raises:
            BadSample: the file cannot be read.
        """
        return f"{self.key(index)}.png", None


def shipped_split(name: str) -> list[str]:
    """The lines of a list that comes with depthkd, blank ones left out."""
    text = (files("depthkd.datasets") / "splits" / name).read_text()
    return [line for line in text.splitlines() if line.strip()]


def words_of(line: str) -> list[str]:
    """The words of a list's line: between tabs, if it has any, so that paths may have spaces in them."""
    return line.strip().split("\t") if "\t" in line.strip() else line.split()


class ListedDataset(Dataset):
    """A public data set as its owners or Marigold's tars ship it: one line of a list is a sample.

    A subclass names itself, its splits, the layout that it expects, and makes a sample of one line.

    Args:
        root: the folder, tar or zip that holds the files.
        split: one of `splits`, or a list of the same form: a file. None: the first of `splits`.

    Attributes:
        layout: what stands where, for the sentence about a missing root.
        splits: name -> the list that comes with depthkd; None where `own_lines` knows the samples itself.
        folders: under a root that is a folder, where the list's paths may begin.
        places: where it may stand below a folder with several data sets.
        words: how many words a line of a list has at least.

    Raises:
        MissingFileError: (on first use) there is no root, or no list; the sentence says what is
            expected where.
    """

    layout: ClassVar[str]
    splits: ClassVar[Mapping[str, str | None]] = {}
    folders: ClassVar[tuple[str, ...]] = ("",)
    places: ClassVar[tuple[str, ...]] = ()
    words: int = 1

    def __init__(self, root: str | Path, split: str | Path | None = None) -> None:
        self.root = user_path(root)
        self.split = split if split is None or split in self.splits else user_path(split)

    @cached_property
    def archive(self) -> Archive:
        """The files, looked for on first use."""
        if not self.root.exists():
            raise MissingFileError(
                f"data set '{self.name}': there is no {self.root}; it would be a folder, a tar or a zip with "
                f"{self.layout}"
            )
        return Archive(self.root, self.folders)

    @cached_property
    def lines(self) -> list[list[str]]:
        """The list, line by line, word by word; without the lines that name no truth."""
        words = [words_of(line) for line in self.listed()]
        return [line for line in words if self.has_truth(line)]

    def listed(self) -> list[str]:
        """The lines of the list as they stand in it, blank ones left out.

        Raises:
            MissingFileError: `split` is neither a name nor a file.
        """
        if isinstance(self.split, Path):
            return self._from_file(self.split)
        return self.own_lines(self.default_split if self.split is None else self.split)

    @property
    def default_split(self) -> str | None:
        """The split that is meant where none is named; None: there are none."""
        return next(iter(self.splits), None)

    def own_lines(self, split: str | None) -> list[str]:
        """The lines of one of `splits`. A subclass overrides it if its list does not come with depthkd, or if
        it has no `default_split` (then None asks for its images)."""
        name = None if split is None else self.splits[split]
        assert name is not None
        return shipped_split(name)

    def lines_like(self, image: Pattern[str], partners: Callable[[Match[str]], Sequence[str]]) -> list[str]:
        """A line for each file of the root whose path is an image's, with the files that go with it.

        Args:
            image: what an image's whole path looks like.
            partners: paths of its other files.

        Raises:
            MissingFileError: the root holds no image.
        """
        found = [match for name in self.archive.names() if (match := image.fullmatch(name))]
        if not found:
            raise self.nothing_here("images")
        return ["\t".join([match[0], *partners(match)]) for match in found]

    def _from_file(self, path: Path) -> list[str]:
        if not path.is_file():
            known = f"its splits are {', '.join(self.splits)}" if self.splits else "it has no named splits"
            raise MissingFileError(f"data set '{self.name}': there is no list {path}; {known}")
        try:
            lines = [line for line in path.read_text("utf-8-sig").splitlines() if line.strip()]
        except UnicodeDecodeError as error:
            raise UserError(f"data set '{self.name}': {path} is no text; it would be a list") from error
        lines = self.of_samples(lines)
        short = next((line for line in lines if len(words_of(line)) < self.words), None)
        if short is not None:
            raise UserError(
                f"data set '{self.name}': the line '{short}' of {path} would have {self.words} words or more"
            )
        return lines

    def of_samples(self, lines: list[str]) -> list[str]:
        """The lines of a user's list, one for each sample. A subclass overrides it if there are lists of
        other forms, such as of scenes."""
        return lines

    def of_split(self, split: str | None, held_out: str, lines: list[str]) -> list[str]:
        """The lines of a split, which the folder tells that an image stands below.

        Args:
            split: "train" means all lines but those below `held_out`; any other split, those.
            held_out: the folder's name, which may be the root's own.
            lines: of both.
        """
        below = [f"/{held_out}/" in f"/{self.root.stem}/{words_of(line)[0]}" for line in lines]
        return [line for line, held in zip(lines, below, strict=True) if held == (split != "train")]

    def nothing_here(self, what: str) -> MissingFileError:
        """The error about a root without any sample."""
        return MissingFileError(
            f"data set '{self.name}': {self.root} has no {what}; it would hold {self.layout}"
        )

    def has_truth(self, line: list[str]) -> bool:
        """Whether a line counts; KITTI's list names images without truth."""
        return "None" not in line

    def paths(self, line: list[str]) -> list[str]:
        """The files that one line needs, image first."""
        return line[:2]

    def missing(self) -> list[str]:
        """See `Dataset.missing`.

        Raises:
            MissingFileError: there is no root, or no list.
        """
        absent = ([p for p in self.paths(line) if p not in self.archive] for line in self.lines)
        return [paths[0] for paths in absent if paths]

    def __len__(self) -> int:
        return len(self.lines)

    def line(self, index: int) -> list[str]:
        """Line `index`.

        Raises:
            IndexError: there are not so many.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"data set '{self.name}' has {len(self)} samples, so no index {index}")
        return self.lines[index]

    def key(self, index: int) -> str:
        """The image's path in the list, as one word: the same whatever else is packed with it."""
        path = PurePosixPath(self.line(index)[0])
        return "-".join([*path.parts[:-1], path.stem]).replace(".", "_")

    def source(self, index: int) -> dict[str, str]:
        """See `Dataset.source`."""
        return {**super().source(index), "image": self.line(index)[0]}

    def truth_name(self, index: int) -> str:
        """See `Dataset.truth_name`."""
        return f"{super().truth_name(index)}: {self.paths(self.line(index))[:2][-1]}"

    def sample(self, index: int) -> Sample:
        """See `Dataset.sample`.

        Raises:
            BadSample: a file is missing or broken, or image and truth differ in size.
            IndexError: there are not so many.
        """
        line = self.line(index)
        return replace(self.sample_of(line), digest=content_digest(self.archive.read(self.paths(line)[0])))

    def image_file(self, index: int) -> tuple[str, bytes | None]:
        """See `Dataset.image_file`."""
        path = self.paths(self.line(index))[0]
        whole = path.lower().endswith(tuple(f".{suffix}" for suffix in IMAGE_SUFFIXES))
        return path, self.archive.read(path) if whole else None

    @abstractmethod
    def sample_of(self, line: list[str]) -> Sample:
        """The sample that one line of the list names.

        Raises:
            BadSample: a file is missing or broken, or image and truth differ in size.
        """


class DepthDataset(ListedDataset):
    """A `ListedDataset` of images with depth, metric unless it says so: a subclass decodes the files of one
    line.

    Args:
        root, split: see `ListedDataset`.
    """

    words = 2

    def sample_of(self, line: list[str]) -> Sample:
        """See `ListedDataset.sample_of`."""
        image, depth, mask = self.decode(line)
        if image.shape[:2] != mask.shape:
            raise BadSample(
                f"data set '{self.name}': {line[0]} has {image.shape[:2]} pixels, but its truth {mask.shape}"
            )
        sparse = self.sparse(line)
        if sparse is not None and sparse.shape != mask.shape:
            raise BadSample(
                f"data set '{self.name}': {line[0]} has {mask.shape} pixels, but its sparse depth "
                f"{sparse.shape}"
            )
        return Sample(line[0], image, depth, mask, self.intrinsics(line), self.space, sparse=sparse)

    def numbers(self, line: list[str], first: int, end: int) -> list[float]:
        """Words of a line that are numbers above 0: of cameras.

        Raises:
            BadSample: they are not.
        """
        try:
            numbers = [float(word) for word in line[first:end]]
        except ValueError:
            numbers = []
        if not numbers or not all(0 < number < inf for number in numbers):
            raise BadSample(
                f"data set '{self.name}': words {first + 1} to {end} of the line '{' '.join(line)}' would be "
                "numbers above 0"
            )
        return numbers

    def intrinsics(self, line: list[str]) -> Float64[np.ndarray, "3 3"] | None:
        """The camera of what `decode` gives, as in `Sample`; None where the data set does not say."""
        return None

    def sparse(self, line: list[str]) -> DepthArray | None:
        """What a sensor has measured of the image that `decode` gives besides its truth: in meters, 0 where
        nothing; None where the data set brings no such depth."""
        return None

    @abstractmethod
    def decode(self, line: list[str]) -> Decoded:
        """One line of the list: [height, width, 3] uint8 of the image, [height, width] float32 of its depth
        in meters, and where that was measured."""
