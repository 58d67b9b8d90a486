"""What every loader of the comparison is asked for. Nothing heavy is imported: Grain spawns its workers."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

BATCH = 8  # images of a batch; in the test of exactness, of all ranks together
Samples = Mapping[str, bytes]  # key -> JPEG
Decode = Callable[[bytes], Any]


@dataclass(frozen=True)
class Place:
    """A rank's number, how many ranks there are, and the workers of each."""

    rank: int
    ranks: int
    workers: int


class Stream(ABC):
    """One rank's stream."""

    @abstractmethod
    def step(self) -> list[str]:
        """Keys of this rank's part of the next global batch."""

    @abstractmethod
    def state(self) -> Any:
        """What the loader would save now."""

    def close(self) -> None:  # noqa: B027 - most have nothing to do
        """Let go of its workers, where garbage collection does not."""


Open = Callable[[Place, Sequence[Any] | None], Stream]
"""A rank's stream: from the beginning, or from the states that all ranks saved."""


class Loader(ABC):
    name: str
    decoders: ClassVar[Mapping[str, Any]] = {}  # its own, by their names; none: it runs those of others

    @classmethod
    def path(cls) -> str:
        """The file and the class: "depthkd.Depthkd"."""
        return f"{cls.__module__.rsplit('.', 1)[1]}.{cls.__name__}"

    @abstractmethod
    def write(self, folder: Path, samples: Samples) -> str:
        """The samples in the loader's own format; returns where they are."""

    @abstractmethod
    def images(self, source: str, decode: Decode, workers: int) -> Iterator[Any]:
        """Batches of decoded crops, without end."""

    @abstractmethod
    def streams(self, folder: Path, sources: Mapping[str, Samples]) -> dict[str, Open]:
        """Ways of reading these sources, half and half, by their row's title; first writes to `folder`."""


def ranks_part(place: Place) -> int:
    """Samples of a rank's part of a global batch."""
    return BATCH // place.ranks


@contextmanager
def rank_in_environment(place: Place) -> Iterator[None]:
    """The variables by which a launcher tells a process its rank."""
    variables = {
        "RANK": place.rank,
        "GLOBAL_RANK": place.rank,
        "WORLD_SIZE": place.ranks,
        "NNODES": 1,
    }
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update({name: str(value) for name, value in variables.items()})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
