"""A folder of photographs, or of any images with depth files and cameras beside them."""

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from itertools import repeat
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from depthkd.batch import DepthSpace
from depthkd.datasets.dataset import Dataset
from depthkd.datasets.pairing import in_order, partners, without_shared
from depthkd.datasets.raw_depth import RawDepth
from depthkd.errors import MissingFileError, UserError
from depthkd.formats.depth import Number
from depthkd.formats.images import IMAGE_SUFFIXES, decode_image
from depthkd.formats.sample import BadSample, Sample, content_digest, read_file
from depthkd.geometry import camera_matrix
from depthkd.paths import expand_paths, user_path

DEPTH_SUFFIXES = ("png", "npy")
COLUMNS = ("image", "fx", "fy", "cx", "cy")
Camera = tuple[float, float, float, float]
Entry = tuple[str, str, object]  # where it stands, the image, and what would be its camera


class FolderDataset(Dataset):
    """Images by patterns, with their depth files or without.

    Args:
        images: files, folders (not their subfolders), patterns such as 'photos/*.jpg' or 'photos/**', or
            @list.txt with one on each line.
        depth: the depth files, likewise, .png of 8 or 16 bits or .npy; None: there is no depth.
        space: what their values are.
        scale, offset: value = number * scale + offset.
        invalid: numbers that mean "not measured".
        max_depth: values farther than this are not valid: meters in a metric space.
        intrinsics: fx, fy, cx, cy of all images in pixels, top-left pixel's center at (0, 0); or a file that
            has them for each: a CSV with the columns image, fx, fy, cx and cy, or a JSON {image: [fx, fy, cx,
            cy]}. There an image goes by its name, or by the end of its path.
        pair: whether depth files belong to images by "name", or in their "order".
        title: what papers call the data set.

    Raises:
        MissingFileError: a pattern matches nothing, or there is no file of intrinsics.
        UserError: files cannot be paired, an image has no intrinsics, or a setting makes no sense.
    """

    name = "folder"

    def __init__(
        self,
        images: str | Sequence[str],
        depth: str | Sequence[str] | None = None,
        space: str = "metric depth",
        scale: Number = 1.0,
        offset: Number = 0.0,
        invalid: Sequence[Number] = (0,),
        max_depth: Number | None = None,
        intrinsics: str | Sequence[Number] | None = None,
        pair: Literal["name", "order"] = "name",
        title: str | None = None,
    ) -> None:
        self.title = title
        self.raw = None
        if depth is not None:
            self.raw = RawDepth(DepthSpace.parse(space), scale, offset, invalid, max_depth)
        self.space = None if self.raw is None else self.raw.space
        self.images, self.depths = find_pairs(images, depth, pair)
        self.cameras = _cameras(intrinsics, self.images)

    def __len__(self) -> int:
        return len(self.images)

    def between(self, start: int, stop: int) -> "FolderDataset":
        """See `Dataset.between`."""
        found = copy(self)
        found.images, found.depths = self.images[start:stop], self.depths[start:stop]
        found.cameras = self.cameras[start:stop]
        return found

    def key(self, index: int) -> str:
        """The image's path."""
        return str(self.images[index])

    def sample(self, index: int) -> Sample:
        """See `Dataset.sample`."""
        path, depth_path = self.images[index], self.depths[index]
        data = read_file(path)
        image = decode_image(data, str(path))
        camera, digest = self.cameras[index], content_digest(data)
        intrinsics = None if camera is None else camera_matrix(*camera)
        if self.raw is None or depth_path is None:
            return Sample(str(path), image, intrinsics=intrinsics, digest=digest)
        depth, mask = self.raw.read(depth_path)
        if depth.shape != image.shape[:2]:
            height, width = image.shape[:2]
            found = f"{depth.shape[1]} x {depth.shape[0]}"
            raise BadSample(f"{depth_path} is {found}, but its image {path} is {width} x {height}")
        return Sample(str(path), image, depth, mask, intrinsics, self.raw.space, digest=digest)

    def image_file(self, index: int) -> tuple[str, bytes | None]:
        """See `Dataset.image_file`."""
        return self.images[index].name, read_file(self.images[index])

    def source(self, index: int) -> dict[str, str]:
        """See `Dataset.source`."""
        depth = self.depths[index]
        return {
            **super().source(index),
            "image": self.images[index].name,
            **({} if depth is None else {"depth": depth.name}),
        }

    def truth_name(self, index: int) -> str:
        """See `Dataset.truth_name`."""
        return str(self.depths[index])

    def advice(self, index: int, value: float) -> str:
        """See `Dataset.advice`."""
        depth = self.depths[index]
        assert self.raw is not None and depth is not None
        return self.raw.advice(depth, value)


def find_pairs(
    images: str | Sequence[str],
    depths: str | Sequence[str] | None = None,
    pair: Literal["name", "order"] = "name",
) -> tuple[list[Path], list[Path | None]]:
    """Images with their depth files, which `depthkd.datasets.pairing` finds by their names.

    A pattern is what `depthkd.paths.expand_paths` reads.

    Args:
        images, depths: patterns.
        pair: "name", or "order": the first image with the first depth file, and so on.

    Raises:
        MissingFileError: a pattern matches nothing.
        UserError: files cannot be paired; the sentence names one.
    """
    pictures = _files(images, IMAGE_SUFFIXES)
    if depths is None:
        return pictures, list(repeat(None, len(pictures)))
    pictures, maps = without_shared(pictures, _files(depths, DEPTH_SUFFIXES))
    found = partners(pictures, maps) if pair == "name" else in_order(pictures, maps)
    return pictures, [*found]


def _files(patterns: str | Sequence[str], suffixes: tuple[str, ...]) -> list[Path]:
    paths = [Path(path) for path in expand_paths(patterns, suffixes)]
    if not paths:
        raise UserError("no images are given; name a file, a folder or a pattern")
    return paths


def _cameras(intrinsics: str | Sequence[Number] | None, images: Sequence[Path]) -> list[Camera | None]:
    """Each image's camera."""
    if intrinsics is None:
        return [None] * len(images)
    if not isinstance(intrinsics, str):
        return [_camera(list(intrinsics), "intrinsics")] * len(images)
    path = user_path(intrinsics)
    known = read_intrinsics(path)
    found = [_entry(known, image) for image in images]
    lacking = [image for image, entry in zip(images, found, strict=True) if entry is None]
    if lacking:
        raise UserError(
            f"{path} has no intrinsics of {len(lacking)} of {len(images)} images, {lacking[0]} first; it "
            f"names {next(iter(known), 'none')}"
        )
    entry, times = Counter(found).most_common(1)[0]
    if times > 1:
        raise UserError(f"{path}: '{entry}' stands for {times} images: say more of their paths")
    return [known[entry] for entry in found if entry is not None]


def _entry(known: Mapping[str, Camera], image: Path) -> str | None:
    """The longest end of an image's path that is known."""
    parts = image.absolute().parts
    ends = (PurePosixPath(*parts[start:]).as_posix() for start in range(len(parts)))
    return next((end for end in ends if end in known), None)


def read_intrinsics(path: Path) -> dict[str, Camera]:
    """Image -> fx, fy, cx, cy of a CSV with the columns image, fx, fy, cx and cy, or of a JSON.

    Raises:
        MissingFileError: there is no such file.
        UserError: it holds something else; the sentence names the line or the image.
    """
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError as error:
        raise MissingFileError(f"there is no file {path} with intrinsics") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} would be a CSV or JSON with intrinsics, and cannot be read: {error}"
        ) from error
    found: dict[str, Camera] = {}
    entries = _json_cameras if path.suffix.lower() == ".json" else _csv_cameras
    for where, name, values in entries(text, path):
        camera = _camera(values, where)
        if found.setdefault(_normal(name), camera) != camera:
            raise UserError(f"{where}: {name} has other intrinsics before that")
    return found


def _json_cameras(text: str, path: Path) -> Iterator[Entry]:
    try:
        pairs = json.loads(text, object_pairs_hook=tuple)  # a dict would hide a name that stands there twice
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    if not isinstance(pairs, tuple):
        raise UserError(f"{path} would be a JSON of the form {{image: [fx, fy, cx, cy]}}")
    yield from ((f"{path}: '{name}'", name, values) for name, values in pairs)


def _csv_cameras(text: str, path: Path) -> Iterator[Entry]:
    lines = csv.reader(io.StringIO(text), skipinitialspace=True)
    try:
        header = [word.strip() for word in next(lines, [])]
        if not set(COLUMNS) <= set(header):
            raise UserError(f"{path} would be a CSV with the columns {', '.join(COLUMNS)}, not {header}")
        for words in lines:
            where = f"{path}, line {lines.line_num}"
            if not words:
                continue
            if len(words) != len(header):
                raise UserError(f"{where} would have {len(header)} fields, like its header, not {len(words)}")
            row = dict(zip(header, words, strict=True))
            if not row["image"].strip():
                raise UserError(f"{where} names no image")
            yield where, row["image"].strip(), [row[name] for name in COLUMNS[1:]]
    except csv.Error as error:
        raise UserError(f"{path} is not CSV: {error}") from error


def _normal(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).as_posix()


def _camera(values: object, where: str) -> Camera:
    numbers: list[Any] = list(values) if isinstance(values, list | tuple) else [values]
    told = ",".join(f"{v:g}" if isinstance(v, float) else str(v) for v in numbers)
    try:
        fx, fy, cx, cy = (float(value) for value in numbers)
        sound = min(fx, fy) > 0 and all(map(math.isfinite, (fx, fy, cx, cy)))
    except (TypeError, ValueError, OverflowError):
        sound = False
    if not sound:
        raise UserError(f"{where} {told} would be fx,fy,cx,cy in pixels, fx and fy above 0")
    return fx, fy, cx, cy
