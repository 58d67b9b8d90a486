"""A data set -> the samples of shards."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from depthkd.datasets.dataset import Dataset
from depthkd.errors import UserError
from depthkd.formats.depth import LossyError
from depthkd.formats.images import encode_png, image_format
from depthkd.formats.sample import BadSample, Sample
from depthkd.formats.shard_samples import encode_label
from depthkd.formats.writing import Member, write_tar
from depthkd.paths import is_image_of_other_format

Layout = Literal["sa1b", "img2dataset", "labelled"]


@dataclass(frozen=True)
class PackedShard:
    """What became of one shard's samples.

    Attributes:
        samples: how many are in it.
        bad: a sentence for each that was left out.
        stored: the codec that was taken; None without depth.
        extremes: the smallest and the largest valid value.
        valid: how many pixels of the depth maps were valid, and how many there were.
    """

    samples: int = 0
    bad: list[str] = field(default_factory=list)
    stored: str | None = None
    extremes: tuple[float, float] = (np.inf, -np.inf)
    valid: tuple[int, int] = (0, 0)

    def __add__(self, other: "PackedShard") -> "PackedShard":
        low, high = zip(self.extremes, other.extremes, strict=True)
        return PackedShard(
            self.samples + other.samples,
            [*self.bad, *other.bad],
            other.stored or self.stored,
            (min(low), max(high)),
            (self.valid[0] + other.valid[0], self.valid[1] + other.valid[1]),
        )

    def summary(self, space: object) -> str:
        """What the depth maps held; empty without."""
        if not self.valid[1]:
            return ""
        (low, high), share = self.extremes, self.valid[0] / self.valid[1]
        return f"{space} from {low:.4g} to {high:.4g} in {self.stored}, {share:.1%} of pixels valid"


class TooManyBadError(UserError):
    """More samples are bad than may be left out."""


@dataclass
class Packer:
    """The samples of a data set, encoded; those that cannot be decoded are left out, and counted.

    Image files are stored as they are. A key is the image's name up to the first dot; where that is not
    unique, the folders that tell the images apart come before it.

    Args:
        dataset: what to pack.
        layout: whose tars to write.
        codec: how depth is stored; None: as suits its space.
        keys: of the samples; none: made of their names.
        first: number of the first sample, where the data set is a part of another.

    Raises:
        UserError: two images would have one key.
    """

    dataset: Dataset
    layout: Layout = "sa1b"
    codec: str | None = None
    keys: list[str] = field(default_factory=list)
    first: int = 0

    def __post_init__(self) -> None:
        self.keys = self.keys or shard_keys(self._names())

    def __len__(self) -> int:
        return len(self.dataset)

    def _names(self) -> list[str]:
        return [self.dataset.key(index) for index in range(len(self))]

    def part(self, start: int, stop: int) -> "Packer | None":
        """A packer of the samples start to stop - 1 alone, for another process; see `Dataset.between`."""
        dataset = self.dataset.between(start, stop)
        keys = self.keys[start:stop]
        return None if dataset is None else Packer(dataset, self.layout, self.codec, keys, self.first + start)

    def pack(
        self, start: int, stop: int, path: Path, allowed: int, tick: Callable[[int], object] = int
    ) -> PackedShard:
        """Write the samples start to stop - 1 into one tar; the same samples give the same bytes.

        Args:
            start, stop: of the samples.
            path: of the tar, which is whole or not there.
            allowed: how many may be bad.
            tick: called with 1 after each sample.

        Raises:
            TooManyBadError: more are; nothing is written.
            UserError: the codec does not suit a depth map.
        """
        bad: list[str] = []
        shard = PackedShard()

        def good() -> Iterator[Member]:
            nonlocal shard
            for index in range(start, stop):
                tick(1)
                try:
                    member, facts = self._encoded(index)
                except BadSample as error:
                    bad.append(str(error))
                    if len(bad) > allowed:
                        raise TooManyBadError(str(error)) from error
                    continue
                shard += facts
                yield member

        write_tar(good(), path)
        return replace(shard, bad=bad)

    def refuse_formats(self, allowed: int) -> None:
        """Say at once that many images are of formats that cannot be read.

        Raises:
            UserError: they are.
        """
        strange = [name for name in self._names() if is_image_of_other_format(name)]
        if len(strange) > allowed:
            counts = Counter(PurePosixPath(name).suffix for name in strange)
            told = " and ".join(f"{count} {suffix}" for suffix, count in counts.items())
            raise UserError(
                f"{told} of {len(self)} images, {strange[0]} first, are of formats that cannot be read; "
                "convert them to JPEG, PNG or WebP, or name the others, as in 'photos/*.jpg'"
            )

    def _encoded(self, index: int) -> tuple[Member, PackedShard]:
        """One sample, and what its depth map holds."""
        sample = self.dataset.sample(index)  # a file is stored as it is, but only if it can be decoded
        name, data = self.dataset.image_file(index)
        members = {"png": encode_png(sample.image)} if data is None else {image_format(data, name): data}
        file, key, number = Path(name).name, self.keys[index], self.first + index
        height, width = sample.image.shape[:2]
        camera = sample.intrinsics
        known = {} if camera is None else {"intrinsics": [float(camera[at]) for at in FOUR]}
        if self.layout == "img2dataset":
            members["txt"] = b""
            about = {"key": f"{number:09d}", "width": width, "height": height, "status": "success"}
            record = {**about, "source": file, **known}
            return (f"{number:09d}", {**members, "json": json.dumps(record).encode()}), PackedShard(1)
        if self.layout == "sa1b":
            about = {"image_id": number, "width": width, "height": height, "file_name": file}
            record = {"image": about, "annotations": [], **known}
            return (key, {**members, "json": json.dumps(record).encode()}), PackedShard(1)
        label, facts = self._label(index, sample, key)
        return (key, {**members, **label}), facts

    def _label(self, index: int, sample: Sample, key: str) -> tuple[dict[str, bytes], PackedShard]:
        depth, mask = sample.depth, sample.mask
        if depth is None or mask is None:
            raise BadSample(f"{self.dataset.key(index)} has no depth")
        if not (mask & np.isfinite(depth)).any():
            raise BadSample(f"{self.dataset.truth_name(index)} has no valid pixel")
        named = Sample(key, sample.image, depth, mask, sample.intrinsics, sample.space)
        try:
            members = encode_label(named, self.codec, {"source": self.dataset.source(index)})
        except LossyError as error:
            advice = self.dataset.advice(index, error.extreme)
            raise UserError(f"{self.dataset.truth_name(index)}, {error}: {advice}") from error
        meta = json.loads(members["json"])["depth"]
        low, high = meta["range"]
        return members, PackedShard(1, [], meta["codec"], (low, high), (int(mask.sum()), mask.size))


FOUR = ((0, 0), (1, 1), (0, 2), (1, 2))  # where fx, fy, cx and cy stand in a camera's matrix


def shard_keys(paths: Sequence[str]) -> list[str]:
    """One key per image: dots would end it, and slashes would make folders in the tar."""
    bases = [path.rpartition("/")[2] for path in paths]
    keys = [base.partition(".")[0] for base in bases]
    if _repeats(keys):
        keys = [_without_dots(base) for base in bases]
    if _repeats(keys):
        keys = [_without_dots(path.replace(".tar/", "/").replace("/", "-")) for path in _below(paths)]
    if not _repeats(keys):
        return keys
    if "" in keys:
        raise UserError(f"{paths[keys.index('')]} has no name that a sample could have: leave it out")
    first, second = next((a, b) for a, b in pairwise(sorted(zip(keys, paths, strict=True))) if a[0] == b[0])
    if first[1] == second[1]:
        raise UserError(f"{first[1]} is there twice: leave one out")
    raise UserError(
        f"{first[1]} and {second[1]} have the same name up to their suffixes, and would both be "
        f"'{first[0]}': rename one, or leave it out"
    )


def _repeats(keys: Sequence[str]) -> bool:
    """Whether some are equal, or empty, as that of a value of an LMDB may be."""
    return len({*keys} - {""}) < len(keys)


def _without_dots(name: str) -> str:
    return PurePosixPath(name).stem.replace(".", "_")


def _below(paths: Sequence[str]) -> list[str]:
    """The paths without the folders that all of them are in."""
    here = Path.cwd().as_posix()
    absolute = [path if path.startswith("/") else f"{here}/{path}" for path in paths]
    ends = (path.rpartition("/")[0] or "/" for path in (min(absolute), max(absolute)))
    shared = os.path.commonpath(ends).rstrip("/")
    return [path[len(shared) + 1 :] for path in absolute]
