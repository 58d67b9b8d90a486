"""The zero-shot guard: whether a model, or what taught it, was trained on what it is tested on."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import UInt64

from depthkd.models.model import DepthModel
from depthkd.runs.folder import Run
from depthkd.runs.trained_on import read_data_sets, read_digests

MARK = "†"
NONE = np.zeros(0, np.uint64)


@dataclass(frozen=True)
class Provenance:
    """What is known of a model's training data.

    Args:
        training_sets: who -> the public data sets that it was trained on, by their common names; the
            model itself and, for a run, its initial weights and its teachers. What is not known is
            not there.
        digests: of the images that a run of ours was trained on, sorted.
    """

    training_sets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    digests: UInt64[np.ndarray, " images"] = field(default_factory=lambda: NONE)

    def saw(self, digest: int | None) -> bool:
        """Whether training met the image of that digest."""
        if digest is None or not self.digests.size:
            return False
        place = int(np.searchsorted(self.digests, np.uint64(digest)))
        return place < self.digests.size and int(self.digests[place]) == digest

    def sentences(self, name: str, data_set: str | None, images: int) -> list[str]:
        """Why the model's metrics on a benchmark are not zero-shot; none if nothing speaks against it."""
        found = []
        if images:
            found.append(f"{name} was trained on {images} of these very images.")
        for who, sets in self.training_sets.items():
            if data_set is not None and data_set in sets:
                whose = name if who == name else f"{who}, which {name} learned from,"
                found.append(f"{whose} was trained on {data_set}.")
        return found


def provenance(name: str, model: DepthModel, run: Path | None) -> Provenance:
    """Of a model, and of the run folder (or checkpoint) that it is from, if it is from one."""
    sets: dict[str, tuple[str, ...]] = {}
    if model.training_sets is not None:
        sets[name] = tuple(model.training_sets)
    digests = [NONE]
    for folder in _runs(run, set()):
        digests.append(read_digests(folder))
        if shards := read_data_sets(folder):
            who = name if folder == run else str(folder)
            sets[who] = tuple(dict.fromkeys([*sets.get(who, ()), *shards]))
        for teacher in Run(folder).teachers().values():
            if teacher.get("training_sets") is not None:
                sets[str(teacher["source"])] = tuple(teacher["training_sets"])
    return Provenance(sets, np.unique(np.concatenate(digests)))


def _runs(run: Path | None, visited: set[Path]) -> Iterator[Path]:
    """A run, the runs whose students taught it, and so on."""
    if run is None or run in visited:
        return
    visited.add(run)
    yield run
    for teacher in Run(run).teachers().values():
        source = Path(str(teacher["source"]))
        if source.is_dir() or source.suffix == ".ckpt":
            yield from _runs(source, visited)
