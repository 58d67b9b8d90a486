"""Files that patterns stand for: on the disk, and in tars and LMDBs, which need not be unpacked."""

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from depthkd.datasets.lmdb_values import LOCK, SUFFIXES, LmdbValue, lmdb_values
from depthkd.errors import UserError
from depthkd.formats.sample import BadSample, read_file
from depthkd.formats.tar_headers import tar_members
from depthkd.paths import expand_paths, is_tar, wanted
from depthkd.storage.files import GoneError, LocalFile

LEVELS = 4  # of tars in tars; ImageNet-21K has one tar a class in a tar


class FileInTar(NamedTuple):
    """A file in a tar, or in a tar in it. Printed it is a path: the tar's, and its own in it.

    Attributes:
        tar: the outermost one.
        member: its path in the tar; an inner tar is a folder of it.
        offset, size: where it lies in `tar`, in bytes.
    """

    tar: LocalFile
    member: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.tar.name}/{self.member}"

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.member.rpartition("/")[2]

    def read(self) -> bytes:
        """Its bytes.

        Raises:
            BadSample: the tar is gone, or shorter than it was.
        """
        try:
            [data] = self.tar.read([(self.offset, self.size)])
        except GoneError as error:
            raise BadSample(f"{self} {error}") from error
        return data


File = Path | FileInTar | LmdbValue


def file_bytes(file: File) -> bytes:
    """The bytes of a file, wherever it lies.

    Raises:
        BadSample: it cannot be read.
    """
    return read_file(file) if isinstance(file, Path) else file.read()


def found_files(patterns: str | Collection[str], suffixes: tuple[str, ...]) -> list[File]:
    """The files that patterns stand for, in order; see `depthkd.paths.expand_paths`.

    A tar stands for the files in it that have one of `suffixes`, those of tars in it among them, and an LMDB
    for all its values: its folder, or its file. A folder with files of `suffixes` stands for these alone.

    Raises:
        MissingFileError: a pattern stands for nothing.
        UserError: a tar or LMDB is broken, or holds nothing of the kind.
    """
    several = [patterns] if isinstance(patterns, str) else [*patterns]
    paths = expand_paths(several, suffixes, otherwise=("tar", "mdb"))
    return [file for path in paths if Path(path).name != LOCK for file in _held(Path(path), suffixes)]


def _held(path: Path, suffixes: tuple[str, ...]) -> list[File]:
    if is_tar(path.name):
        return [*_in_tar(path, suffixes)]
    if path.suffix[1:].lower() in SUFFIXES:
        values = lmdb_values(path)
        if not values:
            raise UserError(f"{path} is an LMDB without a value")
        return [*values]
    return [path]


def _in_tar(path: Path, suffixes: tuple[str, ...]) -> list[FileInTar]:
    """Members of a tar; of two with one path the last counts, as in tar itself."""
    tar = LocalFile(path)
    visible = (found for found in tar_members(tar, LEVELS) if not found[0].rpartition("/")[2].startswith("."))
    members = {name: FileInTar(tar, name, offset, size) for name, offset, size in visible}
    kept = wanted(list(members), suffixes)
    unread = [name for name in members if is_tar(name)]
    if unread and (not kept or any(".tar/" in name for name in members)):
        raise UserError(
            f"{path}/{unread[0]} is compressed or a tar in more than {LEVELS} others, and tars are read by "
            "offset: unpack it"
        )
    if not kept:
        raise UserError(f"{path} holds no .{' or .'.join(suffixes)} file among its {len(members)} files")
    return [members[name] for name in kept]
