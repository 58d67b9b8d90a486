"""Samples of a tar by number: an index of its members, made once, and reads by offset."""

import hashlib
import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from depthkd.errors import MissingFileError, UserError
from depthkd.formats.images import IMAGE_SUFFIXES
from depthkd.formats.sample import BadSample
from depthkd.formats.tar_headers import tar_members
from depthkd.formats.whole_files import whole_file
from depthkd.paths import user_path

OPEN_TARS = 64  # kept open in a process
VERSION = 2  # of the cache's layout
COLUMNS = ("starts", "kinds", "offsets", "sizes")


@dataclass
class TarIndex:
    """Where each sample of a tar lies; it holds no open file, and may cross to other processes.

    A sample is the members whose names agree up to the first dot of their base name. That is its
    key, without folders, unless two folders of this tar have the same base name: then all keys keep
    their folder. Members that begin with a dot are left out, and so are samples without an image.
    """

    path: Path
    keys: list[str]
    suffixes: list[str]
    """Every suffix that occurs, such as "jpg" or "depth.png"."""
    starts: Int64[np.ndarray, " samples_and_one"] = field(repr=False)
    """Sample i has the members starts[i] to starts[i + 1]."""
    kinds: Int64[np.ndarray, " members"] = field(repr=False)
    """Of each member: the place of its suffix in `suffixes`."""
    offsets: Int64[np.ndarray, " members"] = field(repr=False)
    """Of each member: where its bytes begin."""
    sizes: Int64[np.ndarray, " members"] = field(repr=False)
    """Of each member: how many bytes it has."""
    stamp: tuple[int, int]
    """The tar's size and modification time (ns), for which this index holds."""
    digest: str
    """64 bits, in hexadecimal, of the samples' keys and their members' suffixes and sizes, in order: what
    tells the tar's content from others without reading it. A member that changes and keeps its number of
    bytes is not noticed; another name or time of the tar is the same content."""

    def __len__(self) -> int:
        return len(self.keys)

    def members(self, i: int) -> dict[str, int]:
        """Suffix -> bytes of sample i."""
        its = slice(self.starts[i], self.starts[i + 1])
        kinds, sizes = self.kinds[its].tolist(), self.sizes[its].tolist()
        return {self.suffixes[kind]: size for kind, size in zip(kinds, sizes, strict=True)}

    def read(self, i: int, only: Collection[str] | None = None) -> dict[str, bytes]:
        """Suffix -> bytes of sample i, of all its members or of those with a suffix in `only`.

        Raises:
            BadSample: the tar has become shorter than it was when it was indexed.
        """
        tar = _open(str(self.path), self.stamp)
        members = {}
        for m in range(self.starts[i], self.starts[i + 1]):
            suffix = self.suffixes[self.kinds[m]]
            if only is None or suffix in only:
                members[suffix] = tar.read(int(self.offsets[m]), int(self.sizes[m]))
                if len(members[suffix]) != self.sizes[m]:
                    raise BadSample(f"{self.path}: sample '{self.keys[i]}' is cut short; the tar has changed")
        return members


def index_tar(path: str | Path, cache: Path | None = None, images: bool = True) -> TarIndex:
    """The index of a tar, from its cache if the tar's size and time are those that it was made for.

    The cache is `<tar>.index.json`, or a file in `cache`, $DEPTHKD_CACHE or ~/.cache/depthkd where
    the tar's folder cannot be written. With `images=False`, samples without an image (labels only)
    are in it too.

    Raises:
        MissingFileError: there is no such file.
        UserError: it is no plain tar, is cut short, or has no sample.
    """
    path = Path(path)
    if not path.is_file():
        what = (
            "is a folder, and "
            if path.is_dir()
            else "is a link to nothing, and "
            if path.is_symlink()
            else ""
        )
        raise MissingFileError(f"{path} {what}is not a file; a shard is a tar")
    status = path.stat()
    stamp = (status.st_size, status.st_mtime_ns)
    places = _cache_places(path, cache)
    index = next((found for place in places if (found := _load(place, path, stamp))), None)
    if index is None:
        index = _build(path, stamp)
        for place in places:
            if _save(index, place):
                break
    if not index.keys:
        raise UserError(
            f"{path} holds no sample{' with an image' * images}; expected members like 000001.jpg"
        )
    if not images:
        return index
    pictured = _with_images(index)
    if not pictured.keys:
        raise UserError(f"{path} holds no sample with an image: {unread(index)}")
    return pictured


def unread(index: TarIndex) -> str:
    """Of a tar without any image: the suffixes of its members, and those that images have."""
    counts = np.bincount(index.kinds, minlength=len(index.suffixes))
    found = ", ".join(f".{suffix} ({count})" for suffix, count in zip(index.suffixes, counts, strict=True))
    return (
        f"its members end in {found}, counted from the first dot of their names; as images, those in "
        f".{', .'.join(IMAGE_SUFFIXES)} are read"
    )


class _Tar:
    """An open file that closes with its last user, which may be a thread that still reads from it."""

    def __init__(self, path: str) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def read(self, offset: int, size: int) -> bytes:
        return os.pread(self.descriptor, size, offset)  # no shared position: forks and threads may share it

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


@lru_cache(maxsize=OPEN_TARS)
def _open(path: str, stamp: tuple[int, int]) -> _Tar:
    """The stamp is part of the key, so that a tar that was replaced is opened anew."""
    try:
        return _Tar(path)
    except FileNotFoundError as error:
        raise BadSample(f"{path} has gone since it was indexed") from error
    except PermissionError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error


def _build(path: Path, stamp: tuple[int, int]) -> TarIndex:
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
    return TarIndex(path, list(samples), list(places), starts, kinds, offsets, sizes, stamp, _digest(samples))


def _digest(samples: Mapping[str, Mapping[str, tuple[int, int]]]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for key, members in samples.items():
        sizes = sorted((suffix, size) for suffix, (_, size) in members.items())
        digest.update(f"{key} {sizes}\n".encode())
    return digest.hexdigest()


def _with_images(index: TarIndex) -> TarIndex:
    pictures = [place for place, suffix in enumerate(index.suffixes) if suffix in IMAGE_SUFFIXES]
    samples = np.repeat(np.arange(len(index)), np.diff(index.starts))  # of each member
    kept = np.unique(samples[np.isin(index.kinds, pictures)])
    if len(kept) == len(index):
        return index
    members = np.isin(samples, kept)
    return replace(
        index,
        keys=[index.keys[i] for i in kept],
        starts=np.cumsum([0, *np.diff(index.starts)[kept]], dtype=np.int64),
        kinds=index.kinds[members],
        offsets=index.offsets[members],
        sizes=index.sizes[members],
    )


def _cache_places(path: Path, cache: Path | None) -> list[Path]:
    absolute = path.resolve()
    name = f"{path.name}-{hashlib.sha256(os.fsencode(absolute)).hexdigest()[:16]}.index.json"
    if cache is not None:
        return [Path(cache) / name]
    folder = user_path(os.environ.get("DEPTHKD_CACHE") or "~/.cache/depthkd")
    return [absolute.with_name(f"{path.name}.index.json"), folder / name]


def _load(place: Path, path: Path, stamp: tuple[int, int]) -> TarIndex | None:
    """The cached index, or None if it is missing, outdated or damaged."""
    try:
        record = json.loads(place.read_bytes())
        if record["version"] != VERSION or tuple(record["stamp"]) != stamp:
            return None
        starts, kinds, offsets, sizes = (np.array(record[name], np.int64) for name in COLUMNS)
        index = TarIndex(
            path, record["keys"], record["suffixes"], starts, kinds, offsets, sizes, stamp, record["digest"]
        )
        sound = (
            len(index.starts) == len(index.keys) + 1
            and len(index.kinds) == len(index.offsets) == len(index.sizes) == index.starts[-1]
            and index.kinds.max(initial=-1) < len(index.suffixes)
        )
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None
    return index if sound else None


def _save(index: TarIndex, place: Path) -> bool:
    """Write the cache so that other processes see all of it or nothing; false where that is not allowed."""
    record = {
        "version": VERSION,
        "stamp": index.stamp,
        "digest": index.digest,
        "suffixes": index.suffixes,
        "keys": index.keys,
        **{name: getattr(index, name).tolist() for name in COLUMNS},
    }
    try:
        with whole_file(place, several_writers=True, sync=False) as file:
            file.write(json.dumps(record).encode())
    except UserError:
        return False
    return True
