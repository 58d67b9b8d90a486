"""Grain: https://github.com/google/grain, over ArrayRecord, its own format.

State is per process: `DatasetIterator.get_state()`. Its experimental `ElasticIterator` is made for other
numbers of ranks.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import grain
from array_record.python.array_record_module import ArrayRecordWriter

from tests.speed.loaders.loader import BATCH, Decode, Loader, Open, Place, Samples, Stream, ranks_part

IN_THIS_THREAD = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)


def workers_of(count: int) -> grain.MultiprocessingOptions:
    return grain.MultiprocessingOptions(num_workers=count, per_worker_buffer_size=2)


class Grain(Loader):
    name = "Grain"

    def write(self, folder: Path, samples: Samples) -> str:
        folder.mkdir(parents=True)
        path = str(folder / "samples.array_record")
        writer = ArrayRecordWriter(path, "group_size:1")
        for key, data in samples.items():
            writer.write(key.encode() + b"\0" + data)  # a record has no name
        writer.close()
        return path

    def images(self, source: str, decode: Decode, workers: int) -> Iterator[Any]:
        dataset = (
            grain.MapDataset.source(grain.sources.ArrayRecordDataSource([source]))
            .shuffle(seed=0)
            .repeat()
            .map(Image(decode))
            .batch(BATCH)
            .to_iter_dataset(IN_THIS_THREAD)
        )
        return iter(dataset.mp_prefetch(workers_of(workers)) if workers else dataset)

    def streams(self, folder: Path, sources: Mapping[str, Samples]) -> dict[str, Open]:
        paths = [self.write(folder / name, samples) for name, samples in sources.items()]

        def mixed() -> grain.MapDataset:
            return grain.MapDataset.mix(
                [
                    grain.MapDataset.source(grain.sources.ArrayRecordDataSource([path]))
                    .shuffle(seed=0)
                    .repeat()
                    .map(key)
                    for path in paths
                ]
            )

        def open_sliced(place: Place, states: Sequence[Any] | None) -> Stream:
            part = mixed()[place.rank :: place.ranks].batch(ranks_part(place), batch_fn=list)
            workers = workers_of(place.workers)
            return Run(part.to_iter_dataset(IN_THIS_THREAD).mp_prefetch(workers), place, states)

        def open_elastic(place: Place, states: Sequence[Any] | None) -> Stream:
            shard = grain.sharding.ShardOptions(place.rank, place.ranks)
            return Run(
                grain.experimental.ElasticIterator(
                    mixed(),
                    BATCH,
                    shard,
                    read_options=IN_THIS_THREAD,
                    multiprocessing_options=workers_of(place.workers),
                ),
                place,
                states,
            )

        return {self.name: open_sliced, f"{self.name}, `ElasticIterator`": open_elastic}


class Run(Stream):
    def __init__(self, dataset: grain.IterDataset, place: Place, states: Sequence[Any] | None) -> None:
        self._batches = iter(dataset)
        if states:
            try:
                self._batches.set_state(json.loads(states[place.rank % len(states)]))
            except Exception:
                self.close()
                raise

    def step(self) -> list[str]:
        return list(next(self._batches))

    def state(self) -> str:
        """As a checkpoint would hold it; its owners' checkpoint handler writes JSON too."""
        return json.dumps(self._batches.get_state())

    def close(self) -> None:
        self._batches.close()


class Image:
    """Workers are spawned, and get it by pickle."""

    def __init__(self, decode: Decode) -> None:
        self._decode = decode

    def __call__(self, record: bytes) -> Any:
        return self._decode(record[record.index(b"\0") + 1 :]).numpy()


def key(record: bytes) -> str:
    return record[: record.index(b"\0")].decode()
