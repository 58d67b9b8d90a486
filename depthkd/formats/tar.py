"""Samples of a tar by number: an index of its members, made once, and reads by offset."""

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from depthkd.errors import UserError
from depthkd.formats.images import IMAGE_SUFFIXES
from depthkd.formats.index_files import keep_index, kept_index
from depthkd.formats.tar_headers import tar_members
from depthkd.formats.tar_index import Keys, TarIndex
from depthkd.storage.files import StoredFile, stored


def index_tar(
    path: str | Path | StoredFile,
    cache: Path | None = None,
    images: bool = True,
    excluded: Collection[str] = (),
) -> TarIndex:
    """The index of a tar, from its cache if the tar's size and time are those that it was made for.

    The cache is `<tar>.index`, or a file in `cache`, $DEPTHKD_CACHE or ~/.cache/depthkd where
    the tar's folder cannot be written. A remote tar's index may lie beside it, too; it counts where the size
    agrees. With `images=False`, samples without an image (labels only) are in it too.

    Args:
        path: of the tar, or its url.
        cache: a folder.
        images: whether samples without an image are left out.
        excluded: keys of samples that are left out, see `TarIndex.without`.

    Raises:
        MissingFileError: there is no such file.
        UserError: it is no plain tar, is cut short, has no sample, or not the one that is excluded, or cannot
            be reached.
    """
    file = path if isinstance(path, StoredFile) else stored(path)
    index = kept_index(file, cache)
    if index is None:
        index = _build(file)
        keep_index(index, cache)
    if not index.keys:
        raise UserError(
            f"{file.name} holds no sample{' with an image' * images}; expected members like 000001.jpg"
        )
    index = index.without(excluded)
    if excluded and not (index.pictured if images else index.keys):
        raise UserError(f"{file.name}: all of its samples are excluded; exclude the tar itself")
    if not images:
        return index
    if not index.pictured:
        raise UserError(f"{file.name} holds no sample with an image: {unread(index)}")
    return index.with_images()


def unread(index: TarIndex) -> str:
    """Of a tar without any image: the suffixes of its members, and those that images have."""
    counts = np.bincount(index.kinds, minlength=len(index.suffixes))
    found = ", ".join(f".{suffix} ({count})" for suffix, count in zip(index.suffixes, counts, strict=True))
    return (
        f"its members end in {found}, counted from the first dot of their names; as images, those in "
        f".{', .'.join(IMAGE_SUFFIXES)} are read"
    )


def _build(file: StoredFile) -> TarIndex:
    found = []
    for name, offset, size in tar_members(file):
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
    return TarIndex(file, keys, list(places), starts, kinds, offsets, sizes, digest, pictured)


def _digest(samples: Mapping[str, Mapping[str, tuple[int, int]]]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for key, members in samples.items():
        sizes = sorted((suffix, size) for suffix, (_, size) in members.items())
        digest.update(f"{key} {sizes}\n".encode())
    return digest.hexdigest()
