"""`python -m tests.speed.exactness`: what repeats and what is missing when a run goes on.

Two sources of 64 and 96 samples fill half of every global batch each. A run of 2 ranks with 2 workers each
saves its loader's state after 5 of 16 batches, and goes on: so far the uninterrupted run. Other runs start
from that state, with the same or with other ranks and workers. Ranks run one after another.
"""

import argparse
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tests.speed.loaders import installed, versions
from tests.speed.loaders.loader import Loader, Open, Place, Samples, rank_in_environment

COUNTS = {"a": 64, "b": 96}
SAVED, STEPS = 5, 16
FIRST = (2, 2)  # ranks, workers of each
RESUMED = ((2, 2), (2, 1), (1, 2), (4, 1))
KEYS_SHOWN = 8
Batches = list[list[str]]


def samples(counts: Mapping[str, int]) -> dict[str, Samples]:
    """Sources of tiny photos, with keys like "a_07"."""
    tiny = bytes(cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1])
    return {name: {f"{name}_{i:02}": tiny for i in range(count)} for name, count in counts.items()}


def run(
    open_stream: Open,
    ranks: int,
    workers: int,
    steps: int,
    states: Sequence[Any] | None = None,
    save: int = 0,
) -> tuple[Batches, list[Any]]:
    """The keys of every global batch, and the states that the ranks have after `save` of them."""
    batches: Batches = [[] for _ in range(steps)]
    saved = []
    for rank in range(ranks):
        place = Place(rank, ranks, workers)
        with rank_in_environment(place):
            stream = open_stream(place, states)
            for number, batch in enumerate(batches):
                batch += stream.step()
                if number + 1 == save:
                    saved.append(stream.state())
            stream.close()
    return batches, saved


@dataclass(frozen=True)
class Difference:
    """Keys that come more often than expected, those that come less often, and batches that hold others."""

    again: list[str]
    missing: list[str]
    batches: int
    of: int

    def __str__(self) -> str:
        if not self.batches:
            return "exact"
        samples = f"{len(self.again)} repeat, {len(self.missing)} missing"
        return f"{samples}; {self.batches} of {self.of} batches differ"


def difference(expected: Batches, found: Batches) -> Difference:
    """Batches are compared without regard to the order in each."""
    wanted, got = (Counter(key for batch in batches for key in batch) for batches in (expected, found))
    differ = sum(sorted(a) != sorted(b) for a, b in zip(expected, found, strict=True))
    return Difference(
        sorted((got - wanted).elements()), sorted((wanted - got).elements()), differ, len(expected)
    )


def resumed(open_stream: Open) -> list[Difference | Exception]:
    """For each of RESUMED, how it differs, or why the loader refuses."""
    whole, states = run(open_stream, *FIRST, STEPS, save=SAVED)
    found: list[Difference | Exception] = []
    for ranks, workers in RESUMED:
        try:
            rest, _ = run(open_stream, ranks, workers, STEPS - SAVED, states)
            found.append(difference(whole[SAVED:], rest))
        except Exception as error:  # of any kind: a loader's refusal is a result here
            found.append(error)
    return found


def report(loaders: Sequence[Loader]) -> None:
    """Print the table, and below it the keys and what the errors say."""
    columns = [f"{ranks} x {workers}" for ranks, workers in RESUMED]
    print(f"| loader | {' | '.join(columns)} |")
    print("|---" * (len(columns) + 1) + "|")
    notes: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for loader in loaders:
            for name, open_stream in loader.streams(Path(folder) / loader.name, samples(COUNTS)).items():
                cells = []
                for column, result in zip(columns, resumed(open_stream), strict=True):
                    if isinstance(result, Exception):
                        cells.append(f"`{type(result).__name__}`")
                        notes.append(f"{name}, {column}: {result}")
                        continue
                    cells.append(str(result))
                    if result.batches:
                        repeats, missing = (shown(keys) for keys in (result.again, result.missing))
                        notes.append(f"{name}, {column}: {repeats} repeat; {missing} are missing")
                print(f"| {name} | {' | '.join(cells)} |", flush=True)
    print("", *notes, sep="\n")


def shown(keys: list[str]) -> str:
    return " ".join(keys[:KEYS_SHOWN]) + (" ..." if len(keys) > KEYS_SHOWN else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", help="names of loaders")
    only = parser.parse_args().only
    loaders = [loader for loader in installed() if not only or loader.name in only]
    print(f"{versions(loaders)}\n")
    report(loaders)


if __name__ == "__main__":
    main()
