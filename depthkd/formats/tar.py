"""Samples of a tar by number: an index of its members, made once, and reads by offset."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from stat import S_ISREG

import numpy as np

from depthkd.errors import MissingFileError, UserError
from depthkd.formats.images import IMAGE_SUFFIXES
from depthkd.formats.index_files import index_places, read_index, write_index
from depthkd.formats.tar_headers import tar_members
from depthkd.formats.tar_index import Keys, Stamp, TarIndex


def index_tar(path: str | Path, cache: Path | None = None, images: bool = True) -> TarIndex:
    """The index of a tar, from its cache if the tar's size and time are those that it was made for.

    The cache is `<tar>.index`, or a file in `cache`, $DEPTHKD_CACHE or ~/.cache/depthkd where
    the tar's folder cannot be written. With `images=False`, samples without an image (labels only)
    are in it too.

    Raises:
        MissingFileError: there is no such file.
        UserError: it is no plain tar, is cut short, or has no sample.
    """
    path = Path(path)
    stamp = tar_stamp(path)
    places = index_places(path, cache)
    index = next((found for place in places if (found := read_index(place, path, stamp))), None)
    if index is None:
        index = _build(path, stamp)
        for place in places:
            if write_index(index, place):
                break
    if not index.keys:
        raise UserError(
            f"{path} holds no sample{' with an image' * images}; expected members like 000001.jpg"
        )
    if not images:
        return index
    if not index.pictured:
        raise UserError(f"{path} holds no sample with an image: {unread(index)}")
    return index.with_images()


def tar_stamp(path: Path) -> Stamp:
    """Size and modification time of a tar.

    Raises:
        MissingFileError: there is no such file.
    """
    try:
        status = path.stat()
    except OSError:
        status = None
    if status is None or not S_ISREG(status.st_mode):
        what = (
            "is a folder, and "
            if path.is_dir()
            else "is a link to nothing, and "
            if path.is_symlink()
            else ""
        )
        raise MissingFileError(f"{path} {what}is not a file; a shard is a tar")
    return status.st_size, status.st_mtime_ns


def unread(index: TarIndex) -> str:
    """Of a tar without any image: the suffixes of its members, and those that images have."""
    counts = np.bincount(index.kinds, minlength=len(index.suffixes))
    found = ", ".join(f".{suffix} ({count})" for suffix, count in zip(index.suffixes, counts, strict=True))
    return (
        f"its members end in {found}, counted from the first dot of their names; as images, those in "
        f".{', .'.join(IMAGE_SUFFIXES)} are read"
    )


def _build(path: Path, stamp: Stamp) -> TarIndex:
    found = []
    for name, offset, size in tar_members(path):
        folder, _, base = name.rpartition("/")
        stem, dot, suffix = base.partition(".")
        if stem and dot:
            found.append((folder, stem, suffix.lower(), offset, size))
    with_folders = len({member[:2] for member in found}) > len({member[1] for member in found})
    samples: dict[str, dict[str, tuple[int, int]]] = {}
    for folder, stem, suffix, offset, size in found:
        key = f"{folder}/{stem}" if with_folders and folder else stem
        samples.setdefault(key, {})[suffix] = (offset, size)  # the last of a name counts, as in tar itself
    places: dict[str, int] = {}
    rows = [
        (places.setdefault(suffix, len(places)), *where)
        for members in samples.values()
        for suffix, where in members.items()
    ]
    kinds, offsets, sizes = np.array(rows, np.int64).reshape(-1, 3).T.copy()
    starts = np.cumsum([0, *map(len, samples.values())], dtype=np.int64)
    pictured = sum(not members.keys().isdisjoint(IMAGE_SUFFIXES) for members in samples.values())
    keys, digest = Keys.of(list(samples)), _digest(samples)
    return TarIndex(path, keys, list(places), starts, kinds, offsets, sizes, stamp, digest, pictured)


def _digest(samples: Mapping[str, Mapping[str, tuple[int, int]]]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for key, members in samples.items():
        sizes = sorted((suffix, size) for suffix, (_, size) in members.items())
        digest.update(f"{key} {sizes}\n".encode())
    return digest.hexdigest()
