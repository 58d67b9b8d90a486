"""Ours: the position in the stream is all that has to be saved."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from depthkd.batch import TrainingBatch
from depthkd.data.loaders import StreamLoader
from depthkd.data.stream import ShardSource, StreamBatches
from tests.speed.loaders.decoding import CROP
from tests.speed.loaders.loader import BATCH, Loader, Open, Place, Samples, Stream
from tests.speed.loaders.tars import write_tars


def nothing(batch: TrainingBatch) -> None:
    """What a run would do with each batch before it trains on it."""


class Depthkd(Loader):
    name = "depthkd"
    decoders: ClassVar[Mapping[str, Any]] = {"`null`": None, "`auto`": "auto"}  # of shorter_side_at_least

    def write(self, folder: Path, samples: Samples) -> str:
        return write_tars(folder, samples)

    def images(self, source: str, decode: Any, workers: int) -> Iterator[Any]:
        shards = ShardSource(source, transform=CROP, shorter_side_at_least=decode)
        opened = {"photos": shards.open("photos", 0)}
        return iter(
            StreamLoader(lambda start: StreamBatches(opened, BATCH, start=start), int, nothing, workers)
        )

    def streams(self, folder: Path, sources: Mapping[str, Samples]) -> dict[str, Open]:
        opened = {
            name: ShardSource(self.write(folder / name, samples), share=1 / len(sources)).open(name, 0)
            for name, samples in sources.items()
        }

        def open_stream(place: Place, states: Sequence[int] | None) -> Stream:
            return Run(opened, place, states[0] if states else 0)

        return {self.name: open_stream}


class Run(Stream):
    def __init__(self, opened: Mapping[str, Any], place: Place, processed: int) -> None:
        self._processed = processed

        def batches(start: int) -> StreamBatches:
            return StreamBatches(opened, BATCH, place.rank, place.ranks, start)

        self._batches = iter(StreamLoader(batches, lambda: processed, nothing, place.workers))

    def step(self) -> list[str]:
        batch = next(self._batches)
        self._processed += 1
        return [key for part in batch.values() for key in part.keys]

    def state(self) -> int:
        """What a checkpoint of a run holds: how many global batches it has trained on."""
        return self._processed
