"""Folders that one process at a time may write."""

import fcntl
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TextIO

from depthkd.errors import UserError
from depthkd.formats.whole_files import writing
from depthkd.storage.files import has_name

GLANCE = 0.5  # seconds; longer than another process's `check` ever takes


class InUse:
    """A lock file with the name of the process that writes a folder; the lock ends when the process does.

    Args:
        file: it is there as long as the folder is in use, or left by a process that was killed.
        sentence: what to say where another process has it, with `{who}` for that process.
        place: what cannot be written where the file cannot; its folder where None.
    """

    def __init__(self, file: Path, sentence: str, place: Path | None = None) -> None:
        self.path = file
        self.sentence = sentence
        self.place = file.parent if place is None else place
        self._held: TextIO | None = None

    @property
    def held(self) -> bool:
        """Whether this process holds the lock."""
        return self._held is not None

    def check(self) -> None:
        """Check that no other process holds the lock; the ranks of one run may check at the same time.

        Raises:
            UserError: one does; the sentence says which.
        """
        if self._held is None and self.path.is_file():
            with suppress(FileNotFoundError), self.path.open() as file:
                self._claim(file, fcntl.LOCK_SH)

    def take(self) -> None:
        """Hold the lock until this process ends, or calls `release`.

        Raises:
            UserError: another process has it, or it cannot be written.
        """
        with writing(self.place):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        while self._held is None:
            with writing(self.place):
                file = self.path.open("a+")
            try:
                self._claim(file, fcntl.LOCK_EX, GLANCE)
                if has_name(file, self.path):
                    self._held = file
            finally:
                if self._held is None:  # another has it, or had it until just now and took it away
                    file.close()
        self._held.truncate(0)
        self._held.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        self._held.flush()

    def release(self) -> None:
        """Give the lock up."""
        if self._held is not None:
            self.path.unlink(missing_ok=True)
            self._held.close()
            self._held = None

    def __enter__(self) -> None:
        self.take()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _claim(self, file: TextIO, kind: int, patience: float = 0.0) -> None:
        """A record lock: it ends with the process, and forked data workers do not inherit it."""
        end = time.monotonic() + patience
        while True:
            try:
                fcntl.lockf(file, kind | fcntl.LOCK_NB)
                return
            except (BlockingIOError, PermissionError) as error:
                if time.monotonic() > end:
                    file.seek(0)
                    who = file.read().strip() or "another process"
                    raise UserError(self.sentence.format(who=who)) from error
                time.sleep(0.01)
            except OSError:  # this file system knows no locks
                return
