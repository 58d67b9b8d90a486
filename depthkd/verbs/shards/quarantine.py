"""What `depthkd shards verify --quarantine` does with what is bad."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from depthkd.errors import UserError
from depthkd.formats.quarantine import NotMovedError, check_free, move_bad, remove_moved
from depthkd.formats.shard_set import add_to_manifests, facts_of
from depthkd.formats.shard_urls import Shards
from depthkd.formats.tar import NoSampleError
from depthkd.formats.tar_headers import DamagedTarError
from depthkd.formats.tar_index import ShardFacts
from depthkd.in_use import InUse
from depthkd.storage.files import LocalFile
from depthkd.storage.remote import is_remote, shown
from depthkd.verbs.shards.bad import CheckedTar, print_listed

LOCK, LOCKS = ".quarantine.in_use", ".*.in_use"


class Quarantine:
    """A folder for bad samples, and what has become of the tars that had some; see `quarantining`."""

    def __init__(self, folder: Path, listed: Mapping[str, str]) -> None:
        self.folder = folder
        self._listed = {str(Path(path)): file for path, file in listed.items()}
        self.left: list[str] = []
        """A sentence for each tar that is bad, and stays as it is."""
        self._seen: list[str] = []
        self._emptied: list[LocalFile] = []
        self._removed: list[str] = []
        self._samples = self._tars = 0

    def add(self, tar: CheckedTar) -> None:
        """Move what is bad of a tar.

        Raises:
            UserError: something cannot be written.
        """
        if not tar.sentences:
            self._seen.append(tar.file.name)
            return
        if not isinstance(tar.fault, DamagedTarError | NoSampleError | None):
            self.left.append(str(tar.fault))
            return
        listed_in = self._listed.get(tar.file.name)
        if not tar.good and listed_in is not None:
            self.left.append(
                f"{tar.file.name} has no good sample, and {listed_in} names it: exclude it there"
            )
            return
        assert isinstance(tar.file, LocalFile)
        try:
            if move_bad(tar.file, tar.bad, tar.fault, self.folder, tar.failed):
                self._seen.append(tar.file.name)
            else:
                self._emptied.append(tar.file)
        except NotMovedError as error:
            self.left.append(str(error))
            return
        self._samples += len(tar.bad)
        self._tars += 1

    def remove_emptied(self) -> None:
        """Remove the tars without a good sample, at the end: until then the same urls stand for the same
        tars, also after an interruption."""
        for file in self._emptied:
            try:
                remove_moved(file)
                self._removed.append(file.name)
            except NotMovedError as error:
                self.left.append(str(error))

    def write_manifests(self) -> None:
        """Bring the manifests of the tars' folders up to date."""
        told = {path: facts_of(path) for path in self._seen}
        known = {path: facts for path, facts in told.items() if isinstance(facts, ShardFacts)}
        add_to_manifests(known, gone=self._removed)

    def report(self) -> None:
        """Print what was moved, and what was not."""
        if self._tars:
            print(f"moved to {self.folder}: {self._samples} samples of {self._tars} tars")
        print_listed("tars without a good sample, which are gone from their places", self._removed)
        print_listed("bad tars that stay as they are", self.left)


@contextmanager
def quarantining(folder: Path, shards: Shards) -> Iterator[Quarantine]:
    """A quarantine for some tars, which nobody else of depthkd writes in the meantime.

    Args:
        folder: where what is bad goes; it is made when something is.
        shards: the tars.

    Raises:
        UserError: a tar is on another machine, or is being written; two have one name; or the folder has
            tars of its own, or bad samples of others.
    """
    folders = _folders(folder, shards.paths)
    found = Quarantine(folder, shards.listed)
    with ExitStack() as stack:
        if not folder.exists():
            stack.callback(_remove_empty, folder)
        for place in folders:
            stack.enter_context(quarantine_lock(place))
            for other in place.glob(LOCKS):
                if other.name != LOCK:
                    InUse(other, f"{place} is being packed into by {{who}}: wait for it").check()
        try:
            yield found
            found.remove_emptied()
        finally:
            found.write_manifests()
    found.report()


def quarantine_lock(folder: Path) -> InUse:
    """Held while a quarantine writes files of a folder."""
    return InUse(folder / LOCK, f"{folder} is in use by a quarantine, {{who}}: wait for it", folder)


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def _folders(folder: Path, paths: Sequence[str]) -> list[Path]:
    """All folders that will be written, that of the quarantine first."""
    by_name: dict[str, str] = {}
    for path in paths:
        if is_remote(path):
            raise UserError(
                f"{shown(path)} is on another machine, and a quarantine writes tars anew: copy it here first"
            )
        name = Path(path).name
        if name in by_name:
            raise UserError(
                f"{by_name[name]} and {path} have one name, and what is bad of them would lie in one place: "
                "quarantine one folder at a time"
            )
        by_name[name] = path
        check_free(folder, Path(path))
    here = {place.resolve() for path in paths for place in (Path(path).parent, Path(path).resolve().parent)}
    if folder.resolve() in here:
        raise UserError(f"{folder} holds tars that are verified: name another folder for what is bad")
    return [folder.resolve(), *sorted(here)]
