"""Cameras of a folder's images: one of all, or those of a CSV or JSON.

    image,fx,fy,cx,cy
    a/rgb/0.png,585.0,585.0,320.0,240.0
    b/rgb,600.0,600.0,320.0,240.0

A JSON is {"a/rgb/0.png": [fx, fy, cx, cy]}. An image goes by its name, or by the end of its path where names
repeat. A folder, by its name or the end of its path, stands for all images in it and in its subfolders that
have no entry of their own. A JSON {"fx": ..., "fy": ..., "cx": ..., "cy": ...}, such as PandaSet's
intrinsics.json, is of the folder that it lies in.
"""

import csv
import io
import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from depthkd.datasets.files import File
from depthkd.errors import MissingFileError, UserError
from depthkd.formats.depth import Number
from depthkd.paths import expand_paths

COLUMNS = ("image", "fx", "fy", "cx", "cy")
Camera = tuple[float, float, float, float]
Entry = tuple[str, str, object]  # where it stands, the image, and what would be its camera


def cameras_of(intrinsics: str | Sequence[Number] | None, images: Sequence[File]) -> list[Camera | None]:
    """Each image's camera: fx, fy, cx and cy in pixels; None where nothing is known.

    Args:
        intrinsics: four numbers for all images, or a pattern of files with them, .csv or .json.
        images: their files.

    Raises:
        MissingFileError: there is no such file.
        UserError: the numbers are no camera, a file holds something else, or an image has no camera.
    """
    if intrinsics is None:
        return [None] * len(images)
    if not isinstance(intrinsics, str):
        return [_camera(list(intrinsics), "intrinsics")] * len(images)
    known = _known(intrinsics)
    own = [_entry(known, _absolute(image).parts) for image in images]
    for entry, times in Counter(entry for entry in own if entry is not None).most_common(1):
        if times > 1:
            raise UserError(f"{intrinsics}: '{entry}' stands for {times} images: say more of their paths")

    @cache
    def of_folder(folder: Path) -> str | None:
        """The entry of the nearest folder that has one."""
        ends = (_entry(known, place.parts) for place in (folder, *folder.parents))
        return next((end for end in ends if end is not None), None)

    found = [entry or of_folder(_absolute(image).parent) for image, entry in zip(images, own, strict=True)]
    lacking = [image for image, entry in zip(images, found, strict=True) if entry is None]
    if lacking:
        raise UserError(
            f"{intrinsics} has no intrinsics of {len(lacking)} of {len(images)} images, {lacking[0]} first; "
            f"it names {next(iter(known), 'none')}"
        )
    return [known[entry] for entry in found if entry is not None]


def _absolute(file: File) -> Path:
    return Path(os.path.abspath(str(file)))  # noqa: PTH100 - without .., which would hide a folder


def _known(intrinsics: str) -> dict[str, Camera]:
    """What all files of a pattern say."""
    try:
        paths = expand_paths(intrinsics, ("csv", "json"))
    except MissingFileError as error:
        raise MissingFileError(f"there is no file {intrinsics} with intrinsics") from error
    known: dict[str, Camera] = {}
    for path in map(Path, paths):
        for name, camera in read_intrinsics(path).items():
            if known.setdefault(name, camera) != camera:
                raise UserError(f"{path}: {name} has other intrinsics in another file of {intrinsics}")
    return known


def _entry(known: Mapping[str, Camera], parts: Sequence[str]) -> str | None:
    """The longest end of a path that is known."""
    ends = (PurePosixPath(*parts[start:]).as_posix() for start in range(len(parts)))
    return next((end for end in ends if end in known), None)


def read_intrinsics(path: Path) -> dict[str, Camera]:
    """Image or folder -> fx, fy, cx, cy of a CSV with the columns image, fx, fy, cx and cy, or of a JSON.

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
    one = dict(pairs)
    if set(COLUMNS[1:]) <= set(one):
        yield str(path), str(_absolute(path).parent), [one[name] for name in COLUMNS[1:]]
        return
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
