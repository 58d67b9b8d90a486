"""Files that are either whole or not there: written under another name, then renamed."""

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from depthkd.errors import FULL, UserError


@contextmanager
def whole_file(path: Path, several_writers: bool = False, sync: bool = True) -> Iterator[BinaryIO]:
    """A file to write, which gets its name, in place of an older one, when the block ends without error.

    After a kill a draft beside it may be left, which the next writer replaces.

    Args:
        path: of the file; its folder is made where it is missing.
        several_writers: whether other processes may write it at the same time; the last one counts.
        sync: whether to wait until it is on the disk, so that it outlives a failure of the machine; for
            thousands of small files that takes long.

    Raises:
        UserError: it cannot be written; the sentence says why.
    """
    draft = draft_of(path, several_writers)
    try:
        with draft_file(path, draft, sync) as file:
            yield file
        with writing(path):
            draft.replace(path)
    finally:
        with suppress(OSError):
            draft.unlink()


@contextmanager
def draft_file(path: Path, draft: Path, sync: bool = True) -> Iterator[BinaryIO]:
    """The file `draft` to write, which is to become `path`; it does not yet.

    Raises:
        UserError: it cannot be written; the sentence says why.
    """
    with writing(path):
        draft.parent.mkdir(parents=True, exist_ok=True)
        file = draft.open("wb")
    with file:
        try:
            yield file
        except OSError as error:
            if error.errno in FULL:
                raise UserError(f"{path} cannot be written: {error.strerror}") from error
            raise
        with writing(path):
            file.flush()
            if sync:
                os.fsync(file.fileno())


@contextmanager
def whole_folder(path: Path, overwrite: bool = False) -> Iterator[Path]:
    """A folder to fill, which gets its name when the block ends without error; after an error it is gone.

    After a kill a draft beside it may be left, which the next writer replaces.

    Args:
        path: of the folder; its parent is made where it is missing.
        overwrite: whether it takes the place of a folder of that name.

    Raises:
        UserError: it cannot be written; the sentence says why.
    """
    draft, before = draft_of(path), path.with_name(f".{path.name}.before")
    with writing(path):
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
    try:
        yield draft
        with writing(path):
            for file in [*draft.rglob("*"), draft]:
                _synchronize(file)
            if overwrite and path.exists():
                shutil.rmtree(before, ignore_errors=True)
                path.rename(before)
            draft.rename(path)
            shutil.rmtree(before, ignore_errors=True)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _synchronize(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_whole(path: Path, content: str | bytes) -> None:
    """`whole_file` with this content; text as UTF-8.

    Raises:
        UserError: it cannot be written; the sentence says why.
    """
    with whole_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def draft_of(path: Path, several_writers: bool = False) -> Path:
    """Where a file is written before it gets its name."""
    whose = f".{os.getpid()}-{threading.get_ident()}" if several_writers else ""
    return path.with_name(f".{path.name}{whose}.writing")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Errors of the file system, while a path is written, as a sentence that names it."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from error
