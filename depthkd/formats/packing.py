"""Files of a raw dataset, or a folder of photographs -> the samples of shards."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, repeat
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64

from depthkd.batch import METRIC_DEPTH, SCALE_DISPARITY, DepthSpace, Quantity
from depthkd.errors import UserError
from depthkd.formats.depth import Depth, LossyError, Mask, Number, read_npy, scaled
from depthkd.formats.images import IMAGE_SUFFIXES, decode_grey_png, decode_image, image_format
from depthkd.formats.pairing import in_order, partners, without_shared
from depthkd.formats.sample import BadSample, Sample, read_file
from depthkd.formats.samples import encode_label
from depthkd.formats.writing import Member
from depthkd.paths import expand_paths, is_image_of_other_format

Layout = Literal["sa1b", "img2dataset", "labelled"]
DEPTH_SUFFIXES = ("png", "npy")
CLOSE = 1.0  # m: 8 bits that end before have a scale that was meant for 16


@dataclass(frozen=True)
class RawDepth:
    """What the numbers in a raw dataset's depth files mean: value = number * scale + offset.

    Numbers in `invalid` were not measured; nor were those that are not finite or too large for float32,
    or, in a metric or scale space, not positive. `codec` is how the values are stored; None: as suits the
    space. What lies farther than `max_depth` is invalid, too: metres in a metric space, the values' own unit
    in scale depth.

    Raises:
        UserError: `max_depth` is not positive, or the space has no depth to compare it with.
    """

    space: DepthSpace
    scale: Number
    offset: Number = 0.0
    invalid: Sequence[Number] = (0,)
    codec: str | None = None
    max_depth: Number | None = None

    def __post_init__(self) -> None:
        if self.max_depth is None:
            return
        if not self.max_depth > 0:
            raise UserError(f"max_depth is a depth above 0, and not {self.max_depth:g}")
        if not self.space.invertible or self.space == SCALE_DISPARITY:
            raise UserError(f"max_depth needs metric values or scale depth; '{self.space}' has no such limit")

    def read(self, path: Path) -> tuple[Depth, Mask]:
        """Values and where they are valid.

        Raises:
            BadSample: it is neither a one-channel PNG nor a .npy array, has no valid pixel, or has 8 bits
                where `scale` was made for 16.
        """
        numbers = self._numbers(path)
        if numbers.dtype == np.uint8 and self.space == METRIC_DEPTH:
            white = 255 * self.scale + self.offset
            if white < CLOSE:
                raise BadSample(
                    f"{path} has 8 bits, with which scale {self.scale:g} reaches {white:g} m: it is a "
                    "picture of depth, or its scale is another"
                )
        depth, mask = scaled(numbers, self.scale, self.offset, self.invalid)
        if self.space.invertible:
            mask = mask & (depth > 0)
        if self.max_depth is not None:
            disparity = self.space.quantity is Quantity.DISPARITY
            mask = mask & (depth >= 1 / self.max_depth if disparity else depth <= self.max_depth)
        if not mask.any():
            low, high = float(numbers.min()), float(numbers.max())
            raise BadSample(
                f"{path} has no valid pixel: its numbers are {low:g} to {high:g}, scale {self.scale:g}, for "
                f"{self.space}"
            )
        return depth, mask

    def advice(self, path: Path, value: float) -> str:
        """What to do about a value in a file that does not go with the others."""
        numbers = self._numbers(path)
        depth, mask = scaled(numbers, self.scale, self.offset, self.invalid)
        number = _plain(float(numbers[mask & (depth == np.float32(value))][0]))
        known = ",".join(_plain(float(n)) for n in self.invalid)
        limit = "" if not self.space.invertible or self.space == SCALE_DISPARITY else " or limit --max_depth"
        return (
            f"if the number {number} means 'not measured', such as a sky, add it (--invalid {known},{number})"
            f"{limit}; --codec npy stores any range exactly"
        )

    def _numbers(self, path: Path) -> np.ndarray:
        data, suffix = read_file(path), path.suffix.lower()
        if suffix == ".npy":
            return read_npy(data, str(path))
        try:
            return decode_grey_png(data, str(path))
        except BadSample as error:
            if suffix == ".png":
                raise
            raise BadSample(f"{error}; depth is read from .png and .npy files") from error


@dataclass
class Pairs:
    """Images, each with its key and, where there are labels, its depth file."""

    keys: list[str]
    images: list[Path]
    depths: list[Path | None]


@dataclass
class Packer:
    """Samples from files; those that cannot be decoded are left out, and counted.

    Args:
        pairs: what to pack.
        layout: whose tars to write.
        raw: how to read the depth files; None: there are none.
        intrinsics: fx, fy, cx, cy of all images, in pixels.
        max_bad: the share of samples that may be bad; one always may, unless it is 0.

    Attributes:
        bad: a sentence for each sample that was left out.
        codec: how depth was stored.
        extremes: the smallest and the largest valid value.
        valid: how many pixels of the depth files were valid, and how many there were.
    """

    pairs: Pairs
    layout: Layout = "sa1b"
    raw: RawDepth | None = None
    intrinsics: Sequence[Number] | None = None
    max_bad: Number = 0.01
    bad: list[str] = field(default_factory=list)
    codec: str | None = None
    extremes: tuple[float, float] = (np.inf, -np.inf)
    valid: tuple[int, int] = (0, 0)

    def __len__(self) -> int:
        return len(self.pairs.keys)

    def samples(self) -> Iterator[Member]:
        """The samples' keys and members, one after the other.

        Raises:
            UserError: more are bad than `max_bad` allows, or the codec does not suit a depth map.
        """
        allowed = int(np.ceil(self.max_bad * len(self)))
        number = 0
        pairs = self.pairs
        self._refuse_formats(allowed)
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

    def summary(self) -> str:
        """What the depth files held, once they are packed; empty without."""
        if self.raw is None or not self.valid[1]:
            return ""
        low, high = self.extremes
        share = self.valid[0] / self.valid[1]
        return f"{self.raw.space} from {low:.4g} to {high:.4g} in {self.codec}, {share:.1%} of pixels valid"

    def _refuse_formats(self, allowed: int) -> None:
        """Say at once that many images are of formats that cannot be read."""
        strange = [path for path in self.pairs.images if is_image_of_other_format(path.name)]
        if len(strange) > allowed:
            counts = Counter(path.suffix for path in strange)
            told = " and ".join(f"{count} {suffix}" for suffix, count in counts.items())
            raise UserError(
                f"{told} of {len(self)} images, {strange[0]} first, are of formats that cannot be read; "
                "convert them to JPEG, PNG or WebP, or name the others, as in 'photos/*.jpg'"
            )

    def _sample(self, key: str, path: Path, depth_path: Path | None, number: int) -> Member:
        data = read_file(path)
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
        sample = Sample(key, image, depth, mask, self._camera(), self.raw.space)
        source = {"source": {"image": path.name, "depth": depth_path.name}}
        try:
            members |= encode_label(sample, self.raw.codec, source)
        except LossyError as error:
            advice = self.raw.advice(depth_path, error.extreme)
            raise UserError(f"{depth_path}, {error}: {advice}") from error
        self._note(json.loads(members["json"])["depth"], mask)
        return key, members

    def _note(self, meta: dict[str, Any], mask: Mask) -> None:
        self.codec = meta["codec"]
        low, high = meta["range"]
        self.extremes = min(low, self.extremes[0]), max(high, self.extremes[1])
        self.valid = self.valid[0] + int(mask.sum()), self.valid[1] + mask.size

    def _camera(self) -> Float64[np.ndarray, "3 3"] | None:
        if self.intrinsics is None:
            return None
        fx, fy, cx, cy = self.intrinsics
        return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], np.float64)


def find_pairs(
    images: str | Sequence[str],
    depths: str | Sequence[str] | None = None,
    pair: Literal["name", "order"] = "name",
) -> Pairs:
    """Images with their depth files, which `depthkd.formats.pairing` finds by their names.

    A pattern is what `depthkd.paths.expand_paths` reads. A key is the name up to the first dot; where that
    is not unique, the folders that tell the images apart come before it.

    Args:
        images, depths: patterns.
        pair: "name", or "order": the first image with the first depth file, and so on.

    Raises:
        MissingFileError: a pattern matches nothing.
        UserError: files cannot be paired; the sentence names one.
    """
    pictures = _files(images, IMAGE_SUFFIXES)
    if depths is None:
        return Pairs(_keys(pictures), pictures, list(repeat(None, len(pictures))))
    pictures, maps = without_shared(pictures, _files(depths, DEPTH_SUFFIXES))
    found = partners(pictures, maps) if pair == "name" else in_order(pictures, maps)
    return Pairs(_keys(pictures), pictures, [*found])


def _files(patterns: str | Sequence[str], suffixes: tuple[str, ...]) -> list[Path]:
    paths = [Path(path) for path in expand_paths(patterns, suffixes)]
    if not paths:
        raise UserError("no images are given; name a file, a folder or a pattern")
    return paths


def _plain(number: float) -> str:
    """As short as it can be typed and read again as the same number."""
    return f"{number:g}" if float(f"{number:g}") == number else repr(number)


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
    first, second = next((a, b) for a, b in pairwise(sorted(zip(names, paths, strict=True))) if a[0] == b[0])
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
