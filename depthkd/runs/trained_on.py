"""Which images a run has trained on, by the digests of their files: a file of each rank in its folder."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import UInt64

from depthkd.errors import UserError
from depthkd.formats.whole_files import whole_file
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


class TrainedOn:
    """Collects one rank's digests and writes them.

    Args:
        run: the run's folder; what an interrupted part of the run has written there is taken up.
        rank: of this process.
    """

    def __init__(self, run: Path, rank: int) -> None:
        self.path = Run(run).trained_on / f"{rank}.npy"
        self.known: Digests = _read(self.path) if self.path.is_file() else np.zeros(0, np.uint64)
        self.fresh: set[int] = set()

    def add(self, digests: Iterable[int]) -> None:
        """Note some images."""
        self.fresh.update(digests)

    def save(self) -> None:
        """Write what has been noted."""
        if not self.fresh:
            return
        both = np.union1d(self.known, np.fromiter(self.fresh, np.uint64, len(self.fresh)))
        self.known, self.fresh = both[:MOST], set()
        with whole_file(self.path) as file:
            np.save(file, self.known)


def _read(path: Path) -> Digests:
    try:
        return np.asarray(np.load(path, allow_pickle=False), np.uint64).ravel()
    except (ValueError, EOFError) as error:
        raise UserError(f"{path} does not hold the digests of images: {error}; remove it") from error
