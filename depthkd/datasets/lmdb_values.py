"""Values of an LMDB by their keys, read where they lie; LSUN's images are such values.

The database is opened read-only and without its lock file, which is neither needed nor written: it may lie
in a folder that cannot be written. Nobody may write it meanwhile.
"""

import os
from pathlib import Path
from typing import Any, NamedTuple

from depthkd.errors import UserError
from depthkd.formats.sample import BadSample

SUFFIXES = ("mdb", "lmdb")
LOCK = "lock.mdb"  # beside data.mdb in the folder of an LMDB

_open: dict[tuple[int, int], tuple[tuple[int, int, int], Any]] = {}
"""Device and inode of a file -> who opened it, its size and the time of its last change; and the database."""


class LmdbValue(NamedTuple):
    """A value of an LMDB. Printed it is a path: the database's, and its key as the name in it.

    Attributes:
        database: the file with the data.
        key: of the value.
    """

    database: Path
    key: bytes

    def __str__(self) -> str:
        place = self.database.parent if self.database.name == "data.mdb" else self.database
        return f"{place}/{self._text}"

    @property
    def _text(self) -> str:
        """The key, in hexadecimal where it is no text that can be printed."""
        text = self.key.decode(errors="replace")
        return text if text.isprintable() and "\ufffd" not in text else self.key.hex()

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self._text.rpartition("/")[2]

    def read(self) -> bytes:
        """The value.

        Raises:
            BadSample: there is no such value any more, or it cannot be read.
        """
        import lmdb

        try:
            with _environment(self.database).begin() as transaction:
                value: bytes | None = transaction.get(self.key)
        except lmdb.Error as error:
            raise BadSample(f"{self} cannot be read: {error}") from error
        if value is None:
            raise BadSample(f"{self} is not there any more")
        return value


def lmdb_values(database: Path) -> list[LmdbValue]:
    """Every value of an LMDB, in the order of their keys; reads nothing but these.

    Args:
        database: the file with the data: `data.mdb` in an LMDB's folder, or one that is an LMDB by itself.

    Raises:
        UserError: it is none, or is cut short; or the library that reads it is not installed.
    """
    try:
        import lmdb
    except ImportError as error:
        raise UserError(
            f"{database} is an LMDB, which is read by lmdb, which is not installed: "
            "pip install 'depthkd[lmdb]'"
        ) from error
    try:
        with _environment(database).begin() as transaction:
            keys = transaction.cursor().iternext(keys=True, values=False)
            return [LmdbValue(database, key) for key in keys]
    except lmdb.Error as error:
        why = str(error).removeprefix(f"{database}: ")
        raise UserError(f"{database} is no LMDB that can be read: {why}") from error


def _environment(database: Path) -> Any:
    """The open database: one a process, which a forked child does not take over.

    Raises:
        UserError: it is cut short, or not there; what lies behind its end would end the process.
        lmdb.Error: it is no LMDB.
    """
    import lmdb

    try:
        status = database.stat()
    except OSError as error:
        raise UserError(f"{database} cannot be read: {error.strerror}") from error
    if not status.st_size:
        raise UserError(f"{database} is empty; copy it again")
    file = status.st_dev, status.st_ino
    opening = os.getpid(), status.st_size, status.st_mtime_ns
    if file in _open:
        known, found = _open[file]
        if known == opening:
            return found
        found.close()
    found = lmdb.open(str(database), subdir=False, readonly=True, lock=False, create=False, readahead=False)
    size = (found.info()["last_pgno"] + 1) * found.stat()["psize"]
    if size > status.st_size:
        found.close()
        raise UserError(f"{database} is cut short: it has {status.st_size} bytes of {size}; copy it again")
    _open[file] = opening, found
    return found
