"""Cameras of a folder's images: one of all, or one for each from a CSV or JSON."""

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from depthkd.datasets.files import File
from depthkd.errors import MissingFileError, UserError
from depthkd.formats.depth import Number
from depthkd.paths import user_path

COLUMNS = ("image", "fx", "fy", "cx", "cy")
Camera = tuple[float, float, float, float]
Entry = tuple[str, str, object]  # where it stands, the image, and what would be its camera


def cameras_of(intrinsics: str | Sequence[Number] | None, images: Sequence[File]) -> list[Camera | None]:
    """Each image's camera."""
    if intrinsics is None:
        return [None] * len(images)
    if not isinstance(intrinsics, str):
        return [_camera(list(intrinsics), "intrinsics")] * len(images)
    path = user_path(intrinsics)
    known = read_intrinsics(path)
    found = [_entry(known, Path(str(image))) for image in images]
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
