"""webdataset: https://github.com/webdataset/webdataset. Its streams have no state.

Its author advises to draw shards anew after an interruption (issues 177, 234 and 271). Here the order is
seeded, and the batches that were trained on are read again and skipped.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import webdataset as wds
from torch.utils.data import DataLoader

from tests.speed.loaders.loader import BATCH, Decode, Loader, Open, Place, Samples, Stream, ranks_part
from tests.speed.loaders.tars import write_tars


class WebDataset(Loader):
    name = "webdataset"

    def write(self, folder: Path, samples: Samples) -> str:
        return write_tars(folder, samples)

    def images(self, source: str, decode: Decode, workers: int) -> Iterator[Any]:
        dataset = (
            wds.WebDataset(source, shardshuffle=False)
            .repeat()
            .shuffle(16)
            .to_tuple("jpg")
            .map_tuple(decode)
            .batched(BATCH)
        )
        return iter(DataLoader(dataset, batch_size=None, num_workers=workers))

    def streams(self, folder: Path, sources: Mapping[str, Samples]) -> dict[str, Open]:
        urls = [self.write(folder / name, samples) for name, samples in sources.items()]

        def open_stream(place: Place, states: Sequence[int] | None) -> Stream:
            return Run(urls, place, states[place.rank % len(states)] if states else 0)

        return {f"{self.name}, batches skipped": open_stream}


class Run(Stream):
    def __init__(self, urls: list[str], place: Place, skip: int) -> None:
        mixed = wds.RandomMix(
            [
                wds.WebDataset(
                    url,
                    shardshuffle=4,
                    detshuffle=True,
                    nodesplitter=wds.split_by_node,
                    empty_check=False,
                    seed=0,
                )
                .shuffle(16, seed=0)
                .repeat()
                for url in urls
            ]
        )
        self._taken = 0
        self._batches = iter(
            DataLoader(
                wds.DataPipeline(mixed, wds.batched(ranks_part(place), collation_fn=keys)),
                batch_size=None,
                num_workers=place.workers,
                worker_init_fn=seed_worker,
            )
        )
        for _ in range(skip):
            self.step()

    def step(self) -> list[str]:
        self._taken += 1
        batch: list[str] = next(self._batches)
        return batch

    def state(self) -> int:
        return self._taken


def seed_worker(worker: int) -> None:
    """RandomMix draws from Python's global generator."""
    random.seed(worker)
    torch.set_num_threads(1)


def keys(samples: list[dict[str, Any]]) -> list[str]:
    return [sample["__key__"] for sample in samples]
