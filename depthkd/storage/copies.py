"""Whole copies of remote files on this machine, within a limit; the one used longest ago makes room."""

import fcntl
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from depthkd.errors import MissingFileError, UserError
from depthkd.storage.files import GoneError, LocalFile, Part, RemoteFile, Stamp, StoredFile, has_name
from depthkd.storage.remote import WholeFileError, pieces

GIGABYTE = 10**9
CACHE_LIMIT = 500.0  # gigabytes of all copies, unless a source says otherwise
LOCK, PART = ".lock", ".part"


class Copies:
    """A folder with copies, which all processes of a machine share.

    A copy that is whole has its file's name and what tells its version; what has come of one that is not
    stands in a `.part` file, with which the next process goes on. Both make room for others, but for a part
    that a process is writing.

    Args:
        folder: where they lie.
        limit: of all of them, in bytes.
    """

    def __init__(self, folder: Path, limit: float) -> None:
        self.folder = folder
        self.limit = limit

    def find(self, file: RemoteFile) -> LocalFile | None:
        """The whole copy of a file, if there is one; it counts as used now."""
        path = self._path(file)
        try:
            os.utime(path)
        except OSError:
            return None
        return LocalFile(path)

    def fetch(self, file: RemoteFile, wait: bool = True) -> LocalFile | None:
        """A whole copy of a file, made now if there is none.

        Args:
            file: the remote file.
            wait: whether to wait while another process makes it; otherwise None is returned then.

        Returns:
            the copy; None only without `wait`.

        Raises:
            UserError: it cannot be read, is larger than the limit, or the folder cannot be written.
        """
        path = self._path(file)
        size = file.stamp[0]
        if size > self.limit:
            raise UserError(
                f"{file.name} has {size / GIGABYTE:.3g} GB, and cache_limit is {self.limit / GIGABYTE:.3g}"
            )
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with _locked(path.with_name(path.name + LOCK), wait) as ours:
                if not ours:
                    return None
                found = self.find(file)
                return found if found is not None else self._make(file, path)
        except OSError as error:
            raise UserError(f"{path} cannot be written: {error.strerror or error}") from error

    def _make(self, file: RemoteFile, path: Path) -> LocalFile:
        part = path.with_name(path.name + PART)
        begun = part.stat().st_size if part.exists() else 0
        self._make_room(file.stamp[0] - begun)
        with part.open("r+b" if begun else "wb") as draft:
            for start, piece in pieces(file.url, file.version, begun):
                draft.seek(start)
                draft.write(piece)
                draft.flush()
                os.fsync(draft.fileno())  # how far it is must be true after a failure of the machine, too
            draft.truncate(file.stamp[0])
        part.replace(path)
        with suppress(OSError):
            path.with_name(path.name + LOCK).unlink()
        return LocalFile(path)

    def _make_room(self, size: int) -> None:
        """Remove copies, and parts that nobody writes, until `size` bytes more are within the limit."""
        with _locked(self.folder / LOCK, wait=True):
            copies = []
            for path in self.folder.iterdir():
                with suppress(OSError):  # another process may just have removed it
                    if not path.name.endswith(LOCK):
                        status = path.stat()
                        copies.append((status.st_mtime_ns, status.st_size, path))
            total = sum(bytes_ for _, bytes_, _ in copies)
            for _, bytes_, path in sorted(copies):
                if total + size <= self.limit:
                    break
                if _removed(path):
                    total -= bytes_

    def _path(self, file: RemoteFile) -> Path:
        identity = f"{file.name} {file.stamp[0]} {file.stamp[1]}".encode()
        return self.folder / f"{hashlib.sha256(identity).hexdigest()[:16]}-{file.name.rpartition('/')[2]}"


class CopiedFile(StoredFile):
    """A remote file that is read from its copy, and by ranges as long as there is none."""

    url: str

    def __init__(self, file: RemoteFile, copies: Copies) -> None:
        self.file = file
        self.copies = copies
        self.name, self.url = file.name, file.url
        self._copy: LocalFile | None = None
        self._in_parts = True

    @property
    def stamp(self) -> Stamp:
        """See StoredFile."""
        return self.file.stamp

    def fetch(self) -> None:
        """Make the copy, unless there is one or another process is about it."""
        self._copy = self._copy or self.copies.fetch(self.file, wait=False)

    def read(self, parts: Sequence[Part]) -> list[bytes]:
        """See StoredFile."""
        if self._copy is None:
            self._copy = self.copies.find(self.file)
        if self._copy is not None:
            try:
                return _read(self._copy, parts)
            except MissingFileError:  # to make room for another
                self._copy = None
        if self._in_parts:
            try:
                return self.file.read(parts)
            except WholeFileError:
                self._in_parts = False
        self._copy = self.copies.fetch(self.file)
        return [] if self._copy is None else _read(self._copy, parts)


def _read(copy: LocalFile, parts: Sequence[Part]) -> list[bytes]:
    """Without keeping the copy open: what makes room must make it at once."""
    with copy.opened() as descriptor:
        found = [os.pread(descriptor, size, offset) for offset, size in parts]
    if [len(data) for data in found] != [size for _, size in parts]:
        raise GoneError(f"is cut short in its copy {copy.name}; remove that")
    return found


def _removed(path: Path) -> bool:
    """Remove a copy, or a part of one; not while a process writes the part."""
    if not path.name.endswith(PART):
        path.unlink(missing_ok=True)  # whoever reads it has it open
        return True
    lock = path.with_name(path.name.removesuffix(PART) + LOCK)
    with _locked(lock, wait=False) as ours:
        if ours:
            path.unlink(missing_ok=True)
            lock.unlink(missing_ok=True)
    return ours


@contextmanager
def _locked(path: Path, wait: bool) -> Iterator[bool]:
    """Whether the lock is ours; it ends with this process at the latest. Who has it may remove its file."""
    while True:
        with path.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            if has_name(file, path):
                yield True
                return
