"""Files by their relative paths, from a folder, a plain tar or a zip."""

import lzma
import zipfile
import zlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath

from depthkd.errors import UserError
from depthkd.formats.sample import BadSample
from depthkd.formats.tar_headers import tar_members
from depthkd.storage.files import LocalFile

ZIP_MAGIC = b"PK"
KINDS = {  # first bytes of what benchmarks are mistaken for
    b"\x1f\x8b": "it is compressed with gzip: unpack it first",
    b"BZh": "it is compressed with bzip2: unpack it first",
    b"\xfd7zXZ\0": "it is compressed with xz: unpack it first",
    b"(\xb5/\xfd": "it is compressed with zstd: unpack it first",
    b"7z": "it is a 7-Zip archive: unpack it first",
    b"Rar!": "it is a RAR archive: unpack it first",
    b"MATLAB 5": "it is a MATLAB file",
    b"MATLAB 7.3": "it is a MATLAB file of version 7.3",
    b"\x89HDF": "it is an HDF5 file",
}
Place = tuple[int, int] | zipfile.ZipInfo  # in a tar: first byte and size


class Archive:
    """Files by their relative paths, from a folder, a plain tar or a zip.

    Args:
        root: the folder, the tar or the zip. Members of a tar or zip may begin with "./" and stand
            below any folders: a member is found by the end of its path.
        folders: the folders under `root` that paths may begin in, where `root` is a folder.
    """

    def __init__(self, root: Path, folders: Sequence[str] = ("",)) -> None:
        self.root = root
        self.folders = tuple(folders)

    @cached_property
    def _zip(self) -> zipfile.ZipFile | None:
        with self.root.open("rb") as file:
            if file.read(2) != ZIP_MAGIC:
                return None
        try:
            return zipfile.ZipFile(self.root)
        except zipfile.BadZipFile as error:
            raise UserError(f"{self.root} begins like a zip, but is broken: {error}") from error

    @cached_property
    def _members(self) -> list[tuple[str, Place]]:
        """Every file of the tar or zip, in its order, and where it lies."""
        if self._zip is not None:
            return [(info.filename, info) for info in self._zip.infolist() if not info.is_dir()]
        with self.root.open("rb") as file:
            start = file.read(16)
        what = next((what for magic, what in KINDS.items() if start.startswith(magic)), None)
        if what is not None:
            raise UserError(f"{self.root} is no folder, no zip and no plain tar ({what})")
        try:
            return [(name, (offset, size)) for name, offset, size in tar_members(LocalFile(self.root))]
        except UserError as error:
            raise UserError(
                f"{self.root} is no folder, no zip and no plain tar that is whole: {error}"
            ) from error

    @cached_property
    def _places(self) -> dict[str, Place]:
        """Every member, under each end of its path, first come first."""
        places: dict[str, Place] = {}
        for name, place in self._members:
            parts = PurePosixPath(name).parts
            for i in range(len(parts)):
                places.setdefault("/".join(parts[i:]), place)
        return places

    def names(self) -> list[str]:
        """The paths of all files, sorted, as `read` takes them.

        Raises:
            UserError: the root is a file, but no zip or plain tar.
        """
        if self.root.is_dir():
            return sorted(p.relative_to(self.root).as_posix() for p in self.root.rglob("*") if p.is_file())
        return sorted(PurePosixPath(name).as_posix() for name, _ in self._members)

    def __contains__(self, path: str) -> bool:
        if self.root.is_dir():
            return self._file(path).is_file()
        return path in self._places

    def read(self, path: str) -> bytes:
        """The bytes of one file.

        Raises:
            BadSample: there is none, or it is cut off or broken; the sentence names it.
            UserError: the root is a file, but no zip or plain tar.
        """
        if self.root.is_dir():
            try:
                return self._file(path).read_bytes()
            except (OSError, ValueError) as error:
                why = getattr(error, "strerror", None) or error
                raise BadSample(f"{self.root / path} cannot be read: {why}") from error
        place = self._places.get(path)
        if place is None:
            raise BadSample(f"{self.root} has no member {path}")
        if isinstance(place, zipfile.ZipInfo):
            assert self._zip is not None
            try:
                return self._zip.read(place)
            except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError) as e:
                raise BadSample(f"{self.root}: member {path} is broken: {e}") from e
        with self.root.open("rb") as file:
            file.seek(place[0])
            data = file.read(place[1])
        if len(data) != place[1]:
            raise BadSample(f"{self.root} is cut off in the middle of {path}")
        return data

    def _file(self, path: str) -> Path:
        """Where a folder has the file; below `root` itself if nowhere."""
        candidates = [self.root / folder / path for folder in self.folders]
        return next((c for c in candidates if c.is_file()), self.root / path)
