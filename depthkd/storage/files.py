"""A file to read parts of, on this machine or on another; it may cross to other processes."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from stat import S_ISREG
from typing import IO, Any

from depthkd.errors import MissingFileError, UserError
from depthkd.storage.remote import Version, is_remote, read_range, shown, version_of

OPEN_FILES = 64  # kept open in a process
GAP = 1 << 16  # bytes between two parts, up to which one request brings both

Stamp = tuple[int, int | str]
"""A file's size in bytes, and what tells its content from an earlier one of that size: the time of its last
change in nanoseconds, or what its server calls it."""
Part = tuple[int, int]
"""Offset and size in bytes."""


class GoneError(UserError):
    """A file is not there any more, or shorter than it was."""


class StoredFile(ABC):
    """A file and the version of it that is read.

    Attributes:
        name: its path or url, as sentences name it.
        url: with which it is asked for, where it lies on another machine.
    """

    name: str
    url: str | None = None

    @property
    def remote(self) -> bool:
        """Whether it lies on another machine."""
        return self.url is not None

    @property
    @abstractmethod
    def stamp(self) -> Stamp:
        """Its size and version.

        Raises:
            MissingFileError: there is no such file.
            UserError: it cannot be reached.
        """

    @abstractmethod
    def read(self, parts: Sequence[Part]) -> list[bytes]:
        """The bytes of some parts, in order of their offsets.

        Raises:
            GoneError: it is gone, or ends before a part does.
            UserError: it cannot be read.
        """


def stored(path: str | Path) -> StoredFile:
    """The file of a path or a url."""
    return RemoteFile(path) if isinstance(path, str) and is_remote(path) else LocalFile(Path(path))


def has_name(file: IO[Any], path: Path) -> bool:
    """Whether an open file still has a name, which another process may have given to another file."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


class LocalFile(StoredFile):
    """A file of this machine's file systems."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path)
        self._stamp: tuple[int, int] | None = None

    @property
    def stamp(self) -> tuple[int, int]:
        """See StoredFile."""
        if self._stamp is None:
            try:
                status = self.path.stat()
            except OSError:
                status = None
            if status is None or not S_ISREG(status.st_mode):
                raise MissingFileError(f"{self.path} {_instead(self.path)}is not a file; a shard is a tar")
            self._stamp = status.st_size, status.st_mtime_ns
        return self._stamp

    @contextmanager
    def opened(self) -> Iterator[int]:
        """A descriptor of its own, for many reads in a row.

        Raises:
            MissingFileError: it is not there.
            UserError: it cannot be read.
        """
        try:
            file = self.path.open("rb", buffering=0)
        except FileNotFoundError as error:
            raise MissingFileError(f"{self.path} is not there") from error
        except OSError as error:
            raise UserError(f"{self.path} cannot be read: {error.strerror}") from error
        with file:
            yield file.fileno()

    def read(self, parts: Sequence[Part]) -> list[bytes]:
        """See StoredFile."""
        file = _open(self.name, self.stamp)
        found = [file.read(offset, size) for offset, size in parts]
        if any(len(data) != size for data, (_, size) in zip(found, parts, strict=True)):
            raise GoneError("is cut short; the tar has changed")
        return found


class RemoteFile(StoredFile):
    """A file that is read through fsspec, by ranges."""

    url: str

    def __init__(self, url: str) -> None:
        self.url = url
        self.name = shown(url)
        self._version: Version | None = None

    @property
    def version(self) -> Version:
        """The version that is read, asked for once."""
        if self._version is None:
            self._version = version_of(self.url)
        return self._version

    @property
    def stamp(self) -> tuple[int, str]:
        """See StoredFile."""
        return self.version.size, self.version.tag

    def read(self, parts: Sequence[Part]) -> list[bytes]:
        """See StoredFile; parts that are near each other come with one request."""
        found: list[bytes] = []
        for group in _near(parts):
            first, last = group[0][0], group[-1][0] + group[-1][1]
            data = read_range(self.url, first, last - first, self.version)
            found += [data[offset - first : offset - first + size] for offset, size in group]
        return found


class _Open:
    """An open file that closes with its last user, which may be a thread that still reads from it."""

    def __init__(self, path: str) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def read(self, offset: int, size: int) -> bytes:
        return os.pread(self.descriptor, size, offset)  # no shared position: forks and threads may share it

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


@lru_cache(maxsize=OPEN_FILES)
def _open(path: str, stamp: Stamp) -> _Open:
    """The stamp is part of the key, so that a file that was replaced is opened anew."""
    try:
        return _Open(path)
    except FileNotFoundError as error:
        raise GoneError("has gone since it was indexed") from error
    except PermissionError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error


def close_files() -> None:
    """Close what this process keeps open; a file that has been replaced takes room until then."""
    _open.cache_clear()


def _near(parts: Sequence[Part]) -> list[list[Part]]:
    """Parts in groups with small gaps."""
    groups: list[list[Part]] = []
    for offset, size in parts:
        if groups and 0 <= offset - sum(groups[-1][-1]) <= GAP:
            groups[-1].append((offset, size))
        else:
            groups.append([(offset, size)])
    return groups


def _instead(path: Path) -> str:
    if path.is_dir():
        return "is a folder, and "
    return "is a link to nothing, and " if path.is_symlink() else ""
