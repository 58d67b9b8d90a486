"""What a folder of predictions holds, and how they were made: `predict.json`."""

import json
import math
import re
import time
from pathlib import Path
from typing import Any

from depthkd.errors import UserError
from depthkd.formats.whole_files import whole_file
from depthkd.verbs.predict.forms import FORMS, MADE_BY

NAME = "predict.json"
VERSION = 1  # of its layout
ANOTHER = "choose another --out"
OF_SOME = ("farthest",)  # settings that only some formats depend on; None: none of those was asked for
OFTEN = 10.0  # seconds between two times that it is written
TUM = {"rgb": "# color images", "depth": "# depth maps: 16 bits, 5000 a meter, 0 where there is none"}

FILE = re.compile(r"(/.*?) \d+ \d+(?: |$)")  # a stamp of a file: its path, size and time

Entry = dict[str, Any]


class Record:
    """The record of a folder.

    A picture's results count as made when all their files are there and the record names them, for this
    picture as it is now. Results that were made otherwise are never taken for those that are asked for.

    Args:
        out: the folder.
        settings: what predictions depend on, besides their pictures.
        overwrite: whether everything is made anew.

    Raises:
        UserError: the folder holds predictions that were made with other settings, or the file is another.
    """

    def __init__(self, out: Path, settings: Entry, overwrite: bool) -> None:
        self.out, self.settings, self.overwrite = out, settings, overwrite
        self.path = out / NAME
        self.entries: dict[str, Entry] = {}
        self.made: set[str] = set()
        self._saved = time.monotonic()
        self._disowns = False  # whether the file on disk still says that the files are of other settings
        found = self._read()
        if found is None:
            return
        theirs = found["settings"]
        differing = self._differing(theirs)
        if differing and not overwrite:
            raise UserError(
                f"{out} holds predictions {_otherwise(differing, theirs, settings)}: choose another --out, "
                "or make them anew with --overwrite true"
            )
        self.entries = {} if differing else found["pictures"]
        self._disowns = bool(differing)
        if not differing:
            self._complete(theirs)

    def _differing(self, theirs: Entry) -> list[str]:
        """In which settings predictions differ from those that are asked for."""
        ours = self.settings
        unlike = [key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)]
        return [key for key in unlike if not (key in OF_SOME and None in (ours.get(key), theirs.get(key)))]

    def _complete(self, theirs: Entry) -> None:
        """Take over what only formats depend on that nobody asks for here."""
        missing = {key: theirs.get(key) for key in OF_SOME if self.settings.get(key) is None}
        self.settings = self.settings | missing

    def begin(self) -> None:
        """Before anything is overwritten with other settings, say so on disk: if this process is killed, what
        it has written is not taken for what the earlier settings made.

        Raises:
            UserError: the file cannot be written.
        """
        if self._disowns:
            self._write()

    def is_done(self, name: str, stamp: str, files: list[str]) -> bool:
        """Whether these files of a picture are there, of the picture as it is now.

        Raises:
            UserError: they are there, and of another picture of that name.
        """
        entry = self.entries.get(name)
        if self.overwrite or entry is None:
            return False
        if entry.get("stamp") != stamp:
            theirs, ours = (FILE.match(text) for text in (str(entry.get("stamp")), stamp))
            if theirs and ours and theirs[1] != ours[1]:
                raise UserError(
                    f"{self.out / name} is made of {theirs[1]}, and {ours[1]} has the same name: choose "
                    "another --out, or --overwrite true replaces it"
                )
            return False
        return set(files) <= set(entry["files"]) and all((self.out / file).is_file() for file in files)

    def add(self, name: str, stamp: str, files: list[str], **facts: Any) -> None:
        """Note a picture whose files are all written."""
        before = self.entries.get(name)
        if before is not None and before.get("stamp") == stamp:
            files = list(dict.fromkeys([*before["files"], *files]))
        self.entries[name] = {"stamp": stamp, "files": files, **facts}
        self.made.add(name)
        if time.monotonic() - self._saved > OFTEN:
            self.save()

    def save(self) -> None:
        """Write the file, with what another process has noted since.

        Raises:
            UserError: it cannot be written.
        """
        if not self.made:
            return
        found = self._read()
        if found is not None and not self._differing(found["settings"]):
            self.entries = found["pictures"] | self.entries
            self._complete(found["settings"])
        self._write()

    def _write(self) -> None:
        text = {"made_by": MADE_BY, "version": VERSION, "settings": self.settings, "pictures": self.entries}
        with whole_file(self.path, several_writers=True) as file:
            file.write((json.dumps(text, indent=1) + "\n").encode())
        self._saved = time.monotonic()

    def write_tum_lists(self) -> None:
        """Write rgb.txt and depth.txt of every sequence: a time in seconds and a file on each line.

        A frame's time is that in its video. Of photographs it is their name, if all names of a sequence are
        numbers, and else one second for each.

        Raises:
            UserError: they cannot be written.
        """
        sequences: dict[str, list[tuple[str, Entry]]] = {}
        for name, entry in sorted(self.entries.items()):
            if set(FORMS["tum"].names(name)) <= set(entry["files"]):
                folder, _, leaf = name.rpartition("/")
                sequences.setdefault(folder, []).append((leaf, entry))
        for folder, pictures in sequences.items():
            leaves = [leaf for leaf, _ in pictures]
            order = sorted(zip(_times(pictures), leaves, strict=True))
            for kind, title in TUM.items():
                lines = [f"{time:.6f} {kind}/{leaf}.png" for time, leaf in order]
                text = "\n".join([title, "# timestamp filename", *lines, ""])
                with whole_file(self.out / folder / f"{kind}.txt", sync=False) as file:
                    file.write(text.encode())

    def _read(self) -> Entry | None:
        """The file as it is; None where there is none.

        Raises:
            UserError: it is another.
        """
        try:
            found = json.loads(self.path.read_bytes())
        except FileNotFoundError:
            return None
        except NotADirectoryError as error:
            raise UserError(f"{self.out} is no folder; give another --out") from error
        except OSError as error:
            raise UserError(f"{self.path} cannot be read: {error.strerror}") from error
        except ValueError:
            found = None
        if isinstance(found, dict) and (found.get("made_by"), found.get("version")) == (MADE_BY, VERSION):
            pictures = found.get("pictures")
            if not isinstance(found.get("settings"), dict) or not isinstance(pictures, dict):
                raise UserError(f"{self.path} lacks settings or pictures, as mappings: {ANOTHER}")
            for name, entry in pictures.items():
                files = entry.get("files") if isinstance(entry, dict) else None
                if not isinstance(files, list) or not all(isinstance(file, str) for file in files):
                    raise UserError(f"{self.path} does not say which files '{name}' has: {ANOTHER}")
            return found
        raise UserError(f"{self.path} is not a record of `{MADE_BY}`, or one of another version: {ANOTHER}")


def _times(pictures: list[tuple[str, Entry]]) -> list[float]:
    """When each picture was taken, in seconds."""
    numbered = [float(number) for number in range(len(pictures))]
    if all("time" in entry for _, entry in pictures):
        return [float(entry["time"]) for _, entry in pictures]
    try:
        named = [float(leaf) for leaf, _ in pictures]
    except ValueError:
        return numbered
    return named if len(set(named)) == len(named) and all(map(math.isfinite, named)) else numbered


def _otherwise(differing: list[str], theirs: Entry, ours: Entry) -> str:
    """In what other predictions differ."""
    if differing == ["identity"]:
        return f"of {theirs.get('model')} as it was before it changed"
    key = next(key for key in differing if key != "identity")
    if key == "model":
        return f"of {theirs.get(key)}, and this is {ours.get(key)}"
    if key == "space":
        return f"of {theirs.get(key)}, and this model is read as {ours.get(key)}"
    return f"made {_option(key, theirs.get(key))}, and these would be {_option(key, ours.get(key))}"


def _option(key: str, value: object) -> str:
    """A setting as it is typed."""
    if value is None or value is False:
        return f"without --{key}"
    parts = value if isinstance(value, list) else [str(value).lower() if value is True else value]
    return f"with --{key} {','.join(map(str, parts))}"
