"""Samples of a tar by number: an index of its members, made once, and reads by offset."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from depthkd.errors import UserError
from depthkd.formats.images import IMAGE_SUFFIXES
from depthkd.formats.index_files import keep_index, kept_index
from depthkd.formats.tar_headers import sound_files, tar_members
from depthkd.formats.tar_index import Keys, TarIndex
from depthkd.storage.files import StoredFile, stored


class NoSampleError(UserError):
    """A tar without any member of a sample."""


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
        DamagedTarError: it is cut short, damaged, or no tar; see `index_sound_part`.
        NoSampleError: it has no sample.
        UserError: it is compressed, has no image or not the sample that is excluded, or cannot be reached.
    """
    file = path if isinstance(path, StoredFile) else stored(path)
    index = kept_index(file, cache)
    if index is None:
        index = _index(file, list(tar_members(file)))
        keep_index(index, cache)
    if not index.keys:
        raise NoSampleError(
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


def index_sound_part(file: StoredFile) -> tuple[TarIndex, str | None]:
    """The index of a tar as far as it can be read, which is not kept, and the key of the sample that its
    damage cuts; None: no sample's, or nobody can tell whose."""
    members, damage = sound_files(file)
    torn = "" if damage is None else damage.torn or ""
    *_, part = keys_and_suffixes([*(member.name for member in members), torn])
    return _index(file, [member[:3] for member in members]), part and part[0]


def keys_and_suffixes(names: Sequence[str]) -> list[tuple[str, str] | None]:
    """What sample each member of a tar belongs to and as what, by the names of all; None: to none."""
    split = []
    for name in names:
        folder, _, base = name.rpartition("/")
        stem, dot, suffix = base.partition(".")
        split.append((folder, stem, suffix.lower()) if stem and dot else None)
    found = [member for member in split if member is not None]
    with_folders = len({member[:2] for member in found}) > len({member[1] for member in found})
    parts: list[tuple[str, str] | None] = []
    for member in split:
        if member is None:
            parts.append(None)
            continue
        folder, stem, suffix = member
        parts.append((f"{folder}/{stem}" if with_folders and folder else stem, suffix))
    return parts


def _index(file: StoredFile, found: Sequence[tuple[str, int, int]]) -> TarIndex:
    samples: dict[str, dict[str, tuple[int, int]]] = {}
    parts = keys_and_suffixes([name for name, _, _ in found])
    for part, (_, offset, size) in zip(parts, found, strict=True):
        if part is not None:
            key, suffix = part
            samples.setdefault(key, {})[suffix] = (
                offset,
                size,
            )  # the last of a name counts, as in tar
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
