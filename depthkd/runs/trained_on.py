"""Which images a run has trained on, by the digests of their files, and which public data sets they are of:
two files of each rank in its folder."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import UInt64

from depthkd.errors import UserError
from depthkd.formats.whole_files import whole_file, write_whole
from depthkd.runs.folder import Run

MOST = 20_000_000  # images, 160 MB; of more, those with the smallest digests are kept

Digests = UInt64[np.ndarray, " images"]


def read_digests(run: Path) -> Digests:
    """The digests of all ranks of a run folder (or of a checkpoint's), sorted; none where it kept none.

    Raises:
        UserError: a file of them is broken.
    """
    parts = [_read(path) for path in sorted(Run(run).trained_on.glob("*.npy"))]
    return np.unique(np.concatenate([np.zeros(0, np.uint64), *parts]))


def read_data_sets(run: Path) -> list[str]:
    """The public data sets that a run folder's (or a checkpoint's) images are of, as far as shards say so.

    Raises:
        UserError: a file of them is broken.
    """
    return sorted({name for path in Run(run).trained_on.glob("*.json") for name in _names(path)})


class TrainedOn:
    """Collects one rank's digests and data sets, and writes them.

    Args:
        run: the run's folder; what an interrupted part of the run has written there is taken up.
        rank: of this process.
    """

    def __init__(self, run: Path, rank: int) -> None:
        self.path = Run(run).trained_on / f"{rank}.npy"
        self.known: Digests = _read(self.path) if self.path.is_file() else np.zeros(0, np.uint64)
        self.fresh: set[int] = set()
        self.names = self.path.with_suffix(".json")
        self.data_sets = set(_names(self.names)) if self.names.is_file() else set()

    def add(self, digests: Iterable[int], data_sets: Iterable[str] = ()) -> None:
        """Note some images, and which public data sets they are of."""
        self.fresh.update(digests)
        self.data_sets.update(data_sets)

    def save(self) -> None:
        """Write what has been noted."""
        if self.data_sets:
            write_whole(self.names, json.dumps(sorted(self.data_sets)) + "\n")
        if not self.fresh:
            return
        both = np.union1d(self.known, np.fromiter(self.fresh, np.uint64, len(self.fresh)))
        self.known, self.fresh = both[:MOST], set()
        with whole_file(self.path) as file:
            np.save(file, self.known)


def _names(path: Path) -> list[str]:
    try:
        return [str(name) for name in json.loads(path.read_text())]
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} does not hold names of data sets: {error}; remove it") from error


def _read(path: Path) -> Digests:
    try:
        return np.asarray(np.load(path, allow_pickle=False), np.uint64).ravel()
    except (ValueError, EOFError) as error:
        raise UserError(f"{path} does not hold the digests of images: {error}; remove it") from error
