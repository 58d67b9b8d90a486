"""Files of a raw dataset, or a folder of photographs -> the samples of shards."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float64

from depthkd.batch import DepthSpace
from depthkd.errors import UserError
from depthkd.formats.depth import Depth, Mask, Number, read_depth_npy, read_depth_png
from depthkd.formats.images import IMAGE_SUFFIXES, decode_image, image_format
from depthkd.formats.sample import BadSample, Sample
from depthkd.formats.samples import encode_label
from depthkd.formats.writing import Member
from depthkd.paths import expand_paths

Layout = Literal["sa1b", "img2dataset", "labelled"]


@dataclass(frozen=True)
class RawDepth:
    """What the numbers in a raw dataset's depth files mean: value = number * scale + offset.

    Numbers in `invalid` were not measured; nor were those that are not finite, or, in a metric or
    scale space, not positive. `codec` is how the values are stored.
    """

    space: DepthSpace
    scale: Number
    offset: Number = 0.0
    invalid: Sequence[Number] = (0,)
    codec: str = "png16"

    def read(self, path: Path) -> tuple[Depth, Mask]:
        """Values and where they are valid.

        Raises:
            BadSample: it is neither a one-channel PNG nor a .npy array.
        """
        data = path.read_bytes()
        read = read_depth_npy if path.suffix == ".npy" else read_depth_png
        depth, mask = read(data, self.scale, self.offset, self.invalid, name=str(path))
        if self.space.invertible:
            mask = mask & (depth > 0)
        return depth, mask


@dataclass
class Pairs:
    """Images, each with its key and, where there are labels, its depth file."""

    keys: list[str]
    images: list[Path]
    depths: list[Path | None]
    by_name: bool = True
    """Whether depth files were found by their names, and not by their order."""


@dataclass
class Packer:
    """Samples from files; those that cannot be decoded are left out, and counted.

    Args:
        pairs: what to pack.
        layout: whose tars to write.
        raw: how to read the depth files; None: there are none.
        intrinsics: fx, fy, cx, cy of all images, in pixels.
        max_bad: the share of samples that may be bad; one always may, unless it is 0.
    """

    pairs: Pairs
    layout: Layout = "sa1b"
    raw: RawDepth | None = None
    intrinsics: Sequence[Number] | None = None
    max_bad: Number = 0.01
    bad: list[str] = field(default_factory=list)
    """A sentence for each sample that was left out."""

    def __len__(self) -> int:
        return len(self.pairs.keys)

    def samples(self) -> Iterator[Member]:
        """The samples' keys and members, one after the other.

        Raises:
            UserError: more are bad than `max_bad` allows.
        """
        allowed = int(np.ceil(self.max_bad * len(self)))
        number = 0
        pairs = self.pairs
        for key, image, depth in zip(pairs.keys, pairs.images, pairs.depths, strict=True):
            try:
                sample = self._sample(key, image, depth, number)
            except BadSample as error:
                self.bad.append(str(error))
                if len(self.bad) > allowed:
                    counted = f"{len(self.bad)} of {len(self)} samples are bad, and max_bad allows {allowed}"
                    raise UserError(f"{counted}: {error}") from error
                continue
            number += 1
            yield sample

    def _sample(self, key: str, path: Path, depth_path: Path | None, number: int) -> Member:
        data = path.read_bytes()
        image = decode_image(data, str(path))  # stored as it is, but only if it can be decoded
        members = {image_format(data, str(path)): data}
        height, width = image.shape[:2]
        camera = {} if self.intrinsics is None else {"intrinsics": [float(x) for x in self.intrinsics]}
        if self.layout == "img2dataset":
            members["txt"] = b""
            about = {"key": f"{number:09d}", "width": width, "height": height, "status": "success"}
            record = {**about, "source": path.name, **camera}
            return f"{number:09d}", {**members, "json": json.dumps(record).encode()}
        if self.raw is None or depth_path is None:
            about = {"image_id": number, "width": width, "height": height, "file_name": path.name}
            record = {"image": about, "annotations": [], **camera}
            return key, {**members, "json": json.dumps(record).encode()}
        depth, mask = self.raw.read(depth_path)
        if depth.shape != (height, width):
            found = f"{depth.shape[1]} x {depth.shape[0]}"
            raise BadSample(f"{depth_path} is {found}, but its image {path} is {width} x {height}")
        if not mask.any():
            raise BadSample(f"{depth_path} has no valid pixel")
        sample = Sample(key, image, depth, mask, self._camera(), self.raw.space)
        source = {"source": {"image": path.name, "depth": depth_path.name}}
        return key, {**members, **encode_label(sample, self.raw.codec, source)}

    def _camera(self) -> Float64[np.ndarray, "3 3"] | None:
        if self.intrinsics is None:
            return None
        fx, fy, cx, cy = self.intrinsics
        return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], np.float64)


def find_pairs(images: str | Sequence[str], depths: str | Sequence[str] | None = None) -> Pairs:
    """Images with their depth files, which have the same name up to the first dot.

    Where no name agrees, files are paired in sorted order. A pattern is a path, a folder, has braces
    or wildcards, or is @list.txt, a file with a pattern on each line. A key is the name up to the
    first dot; where that is not unique, the folders that tell the images apart come before it.

    Raises:
        MissingFileError: a pattern matches nothing.
        UserError: files cannot be paired; the sentence names one.
    """
    pictures = _files(images, IMAGE_SUFFIXES)
    keys = _keys(pictures)
    if depths is None:
        return Pairs(keys, pictures, list(repeat(None, len(pictures))))
    maps = _files(depths, ("png", "npy"))
    by_stem = {_stem(path): path for path in maps}
    stems = [_stem(path) for path in pictures]
    if len(by_stem) == len(maps) and len(set(stems)) == len(stems):
        lone = next((path for path, stem in zip(pictures, stems, strict=True) if stem not in by_stem), None)
        if lone is None and len(maps) == len(pictures):
            return Pairs(keys, pictures, [by_stem[stem] for stem in stems])
        if not by_stem.keys().isdisjoint(stems):
            lone = lone or next(path for stem, path in by_stem.items() if stem not in stems)
            raise UserError(f"{lone} has no partner: an image and its depth agree up to the first dot")
    if len(maps) != len(pictures):
        raise UserError(
            f"{len(pictures)} images and {len(maps)} depth files cannot be paired: "
            "give as many of each, or names that agree up to the first dot"
        )
    in_order = sorted(zip(pictures, keys, strict=True))
    return Pairs([key for _, key in in_order], [path for path, _ in in_order], [*sorted(maps)], by_name=False)


def _files(patterns: str | Sequence[str], suffixes: tuple[str, ...]) -> list[Path]:
    listed: list[str] = []
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        if pattern.startswith("@"):
            lines = Path(pattern[1:]).read_text().splitlines()
            listed += [line.strip() for line in lines if line.strip()]
        else:
            listed.append(pattern)
    paths = [Path(path) for path in expand_paths(listed, suffixes)]
    if not paths:
        raise UserError("no images are given; name a file, a folder or a pattern")
    repeated = [path for path, times in Counter(paths).items() if times > 1]
    if repeated:
        raise UserError(f"{repeated[0]} is given {Counter(paths)[repeated[0]]} times")
    return paths


def _stem(path: Path) -> str:
    return path.name.partition(".")[0]


def _keys(paths: list[Path]) -> list[str]:
    """One key per image: dots would end it, and slashes would make folders in the tar."""
    for names in (
        [_stem(path) for path in paths],
        [path.stem.replace(".", "_") for path in paths],
        ["-".join([*path.parts[:-1], path.stem]).replace(".", "_").strip("/-") for path in _below(paths)],
    ):
        if len(set(names)) == len(names):
            return names
    raise UserError("two images have the same name up to their suffixes; rename one of them")


def _below(paths: list[Path]) -> list[Path]:
    """The paths without the folders that all of them are in."""
    absolute = [path.absolute() for path in paths]
    shared = 0
    for parts in zip(*(path.parts[:-1] for path in absolute), strict=False):
        if len(set(parts)) > 1:
            break
        shared += 1
    return [Path(*path.parts[shared:]) for path in absolute]
