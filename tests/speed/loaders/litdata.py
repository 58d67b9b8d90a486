"""LitData: https://github.com/Lightning-AI/litData, as its README says under "Pause, resume data streaming".

State is per rank: `StreamingDataLoader.state_dict()`. `CombinedStreamingDataset` resumes with the same ranks
and workers only; one `StreamingDataset` alone with others too, so that it has a row of its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, repeat
from pathlib import Path
from typing import Any

from litdata import CombinedStreamingDataset, StreamingDataLoader, StreamingDataset
from litdata.streaming import Cache

from tests.speed.loaders.loader import BATCH, Decode, Loader, Open, Place, Samples, Stream, ranks_part

CHUNKS = 8  # it gives each worker of each rank whole ones


class LitData(Loader):
    name = "LitData"

    def write(self, folder: Path, samples: Samples) -> str:
        folder.mkdir(parents=True)
        cache = Cache(str(folder), chunk_size=len(samples) // CHUNKS)
        for index, (key, data) in enumerate(samples.items()):
            cache[index] = {"key": key, "jpg": data}
        cache.done()
        cache.merge()
        return str(folder)

    def images(self, source: str, decode: Decode, workers: int) -> Iterator[Any]:
        dataset = StreamingDataset(
            source, shuffle=True, drop_last=True, transform=lambda sample: decode(bytes(sample["jpg"]))
        )
        loader = StreamingDataLoader(dataset, batch_size=BATCH, num_workers=workers)
        return chain.from_iterable(repeat(loader))

    def streams(self, folder: Path, sources: Mapping[str, Samples]) -> dict[str, Open]:
        one = self.write(
            folder / "all", {key: data for part in sources.values() for key, data in part.items()}
        )
        blended = [self.write(folder / name, samples) for name, samples in sources.items()]

        def open_one(place: Place, states: Sequence[Any] | None) -> Stream:
            return Run(shuffled(one), place, states)

        def open_blended(place: Place, states: Sequence[Any] | None) -> Stream:
            parts = [shuffled(source) for source in blended]
            weights = [1 / len(parts)] * len(parts)
            return Run(CombinedStreamingDataset(parts, 0, weights, iterate_over_all=False), place, states)

        return {self.name: open_blended, f"{self.name}, all in one source": open_one}


def shuffled(source: str) -> StreamingDataset:
    return StreamingDataset(source, shuffle=True, drop_last=True, transform=lambda sample: sample["key"])


class Run(Stream):
    def __init__(self, dataset: Any, place: Place, states: Sequence[Any] | None) -> None:
        self._loader = StreamingDataLoader(dataset, batch_size=ranks_part(place), num_workers=place.workers)
        if states:
            self._loader.load_state_dict(states[place.rank % len(states)])
        self._batches = chain.from_iterable(repeat(self._loader))

    def step(self) -> list[str]:
        return list(next(self._batches))

    def state(self) -> Any:
        return self._loader.state_dict()
