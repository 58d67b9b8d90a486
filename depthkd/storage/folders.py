"""A folder here or on another machine, and what lies below it."""

import os
from functools import cached_property
from glob import glob
from pathlib import Path

from depthkd.errors import MissingFileError, UserError
from depthkd.storage.listing import files_below
from depthkd.storage.remote import is_on_hub, is_remote, shown, small_file, version_of


class Folder:
    """A folder whose files go by their names relative to it, with "/" between the parts.

    Args:
        place: its path or url.
    """

    def __init__(self, place: str) -> None:
        self.remote = is_remote(place)
        self.place = place.rstrip("/")
        self.name = shown(self.place) if self.remote else self.place or "/"

    def path(self, name: str) -> str:
        """The path or url of a file."""
        return f"{self.place}/{name}"

    @cached_property
    def files(self) -> list[str]:
        """The names of all files below it, in order, without those that are hidden.

        Raises:
            UserError: its server cannot be reached or does not list files.
        """
        return [name for name in self._names if not f"/{name}".count("/.")]

    @cached_property
    def _names(self) -> list[str]:
        if self.remote:
            return [url.removeprefix(f"{self.place}/") for url in files_below(f"{self.place}/")]
        names = sorted(glob("**", root_dir=f"{self.place}/", recursive=True))  # noqa: PTH207 - as patterns are read
        return [name for name in names if not os.path.isdir(self.path(name))]  # noqa: PTH112 - no exception

    def read(self, name: str) -> bytes | None:
        """The whole of a small file; None if it is not there.

        Raises:
            UserError: it cannot be read.
        """
        if is_on_hub(self.place) and name not in self._names:
            return None  # which one list tells, and would else take two requests for each file
        if self.remote:
            return small_file(self.path(name))
        try:
            return Path(self.path(name)).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise UserError(f"{self.path(name)} cannot be read: {error.strerror}") from error

    def has(self, name: str) -> bool:
        """Whether a file is there.

        Raises:
            UserError: nobody may say so, or its server cannot be reached.
        """
        if not self.remote:
            return os.path.lexists(self.path(name))
        try:
            version_of(self.path(name))
        except MissingFileError:
            return False
        return True
