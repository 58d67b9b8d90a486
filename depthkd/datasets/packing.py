"""A data set -> the samples of shards."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np

from depthkd.datasets.dataset import Dataset
from depthkd.errors import UserError
from depthkd.formats.depth import LossyError, Number
from depthkd.formats.images import encode_png, image_format
from depthkd.formats.sample import BadSample, Sample
from depthkd.formats.shard_samples import encode_label
from depthkd.formats.writing import Member
from depthkd.paths import is_image_of_other_format
from depthkd.shapes import MaskArray

Layout = Literal["sa1b", "img2dataset", "labelled"]


@dataclass
class Packer:
    """The samples of a data set, encoded; those that cannot be decoded are left out, and counted.

    Image files are stored as they are. A key is the image's name up to the first dot; where that is not
    unique, the folders that tell the images apart come before it.

    Args:
        dataset: what to pack.
        layout: whose tars to write.
        codec: how depth is stored; None: as suits its space.
        max_bad: the share of samples that may be bad; one always may, unless it is 0.

    Attributes:
        bad: a sentence for each sample that was left out.
        stored: the codec that was taken.
        extremes: the smallest and the largest valid value.
        valid: how many pixels of the depth maps were valid, and how many there were.

    Raises:
        UserError: two images would have one key.
    """

    dataset: Dataset
    layout: Layout = "sa1b"
    codec: str | None = None
    max_bad: Number = 0.01
    bad: list[str] = field(default_factory=list)
    stored: str | None = None
    extremes: tuple[float, float] = (np.inf, -np.inf)
    valid: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        self.names = [self.dataset.key(index) for index in range(len(self.dataset))]
        self.keys = shard_keys([Path(name) for name in self.names])

    def __len__(self) -> int:
        return len(self.keys)

    def samples(self) -> Iterator[Member]:
        """The samples' keys and members, one after the other.

        Raises:
            UserError: more are bad than `max_bad` allows, or the codec does not suit a depth map.
        """
        allowed = int(np.ceil(self.max_bad * len(self)))
        number = 0
        self._refuse_formats(allowed)
        for index in range(len(self)):
            try:
                sample = self._encoded(index, number)
            except BadSample as error:
                self.bad.append(str(error))
                if len(self.bad) > allowed:
                    counted = f"{len(self.bad)} of {len(self)} samples are bad, and max_bad allows {allowed}"
                    raise UserError(f"{counted}: {error}") from error
                continue
            number += 1
            yield sample

    def summary(self) -> str:
        """What the depth maps held, once they are packed; empty without."""
        if not self.valid[1]:
            return ""
        low, high = self.extremes
        share = self.valid[0] / self.valid[1]
        return (
            f"{self.dataset.space} from {low:.4g} to {high:.4g} in {self.stored}, {share:.1%} of pixels valid"
        )

    def _refuse_formats(self, allowed: int) -> None:
        """Say at once that many images are of formats that cannot be read."""
        strange = [Path(name) for name in self.names if is_image_of_other_format(Path(name).name)]
        if len(strange) > allowed:
            counts = Counter(path.suffix for path in strange)
            told = " and ".join(f"{count} {suffix}" for suffix, count in counts.items())
            raise UserError(
                f"{told} of {len(self)} images, {strange[0]} first, are of formats that cannot be read; "
                "convert them to JPEG, PNG or WebP, or name the others, as in 'photos/*.jpg'"
            )

    def _encoded(self, index: int, number: int) -> Member:
        """One sample; `number` counts the good ones before it."""
        sample = self.dataset.sample(index)  # a file is stored as it is, but only if it can be decoded
        name, data = self.dataset.image_file(index)
        members = {"png": encode_png(sample.image)} if data is None else {image_format(data, name): data}
        file, key = Path(name).name, self.keys[index]
        height, width = sample.image.shape[:2]
        camera = sample.intrinsics
        known = {} if camera is None else {"intrinsics": [float(camera[at]) for at in FOUR]}
        if self.layout == "img2dataset":
            members["txt"] = b""
            about = {"key": f"{number:09d}", "width": width, "height": height, "status": "success"}
            record = {**about, "source": file, **known}
            return f"{number:09d}", {**members, "json": json.dumps(record).encode()}
        if self.layout == "sa1b":
            about = {"image_id": number, "width": width, "height": height, "file_name": file}
            record = {"image": about, "annotations": [], **known}
            return key, {**members, "json": json.dumps(record).encode()}
        return key, {**members, **self._label(index, sample, key)}

    def _label(self, index: int, sample: Sample, key: str) -> dict[str, bytes]:
        depth, mask = sample.depth, sample.mask
        if depth is None or mask is None:
            raise BadSample(f"{self.names[index]} has no depth")
        if not (mask & np.isfinite(depth)).any():
            raise BadSample(f"{self.dataset.truth_name(index)} has no valid pixel")
        named = Sample(key, sample.image, depth, mask, sample.intrinsics, sample.space)
        try:
            members = encode_label(named, self.codec, {"source": self.dataset.source(index)})
        except LossyError as error:
            advice = self.dataset.advice(index, error.extreme)
            raise UserError(f"{self.dataset.truth_name(index)}, {error}: {advice}") from error
        self._note(json.loads(members["json"])["depth"], mask)
        return members

    def _note(self, meta: dict[str, Any], mask: MaskArray) -> None:
        self.stored = meta["codec"]
        low, high = meta["range"]
        self.extremes = min(low, self.extremes[0]), max(high, self.extremes[1])
        self.valid = self.valid[0] + int(mask.sum()), self.valid[1] + mask.size


FOUR = ((0, 0), (1, 1), (0, 2), (1, 2))  # where fx, fy, cx and cy stand in a camera's matrix


def _stem(path: Path) -> str:
    return path.name.partition(".")[0]


def shard_keys(paths: list[Path]) -> list[str]:
    """One key per image: dots would end it, and slashes would make folders in the tar."""
    for names in (
        [_stem(path) for path in paths],
        [path.stem.replace(".", "_") for path in paths],
        ["-".join([*path.parts[:-1], path.stem]).replace(".", "_").strip("/-") for path in _below(paths)],
    ):
        if len(set(names)) == len(names):
            return names
    first, second = next((a, b) for a, b in pairwise(sorted(zip(names, paths, strict=True))) if a[0] == b[0])
    if first[1] == second[1]:
        raise UserError(f"{first[1]} is there twice: leave one out")
    raise UserError(
        f"{first[1]} and {second[1]} have the same name up to their suffixes, and would both be "
        f"'{first[0]}': rename one, or leave it out"
    )


def _below(paths: list[Path]) -> list[Path]:
    """The paths without the folders that all of them are in."""
    absolute = [path.absolute() for path in paths]
    shared = 0
    for parts in zip(*(path.parts[:-1] for path in absolute), strict=False):
        if len(set(parts)) > 1:
            break
        shared += 1
    return [Path(*path.parts[shared:]) for path in absolute]
