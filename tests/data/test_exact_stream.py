"""Two sources, one of them on another machine: the same samples whatever ranks and workers read them, and
whatever reads on after an interruption."""

from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from zlib import crc32

import numpy as np
import pytest

from depthkd.batch import TrainingBatch
from depthkd.data.loaders import StreamLoader
from depthkd.data.stream import OpenSource, ShardSource, StreamBatches
from depthkd.data.transforms import SquareCrop
from tests.data.shards import write_shards
from tests.storage.server import serving

BATCH, BATCHES = 16, 5
Samples = list[tuple[str, int, str, int]]
"""Source, position, key and the pixels' checksum of every sample of a global batch."""


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, OpenSource]]:
    """A quarter of each batch from this machine, with bad samples; three quarters over HTTP."""
    folder = tmp_path_factory.mktemp("sources")
    for name in ("here", "far"):
        (folder / name).mkdir()
    with serving(folder / "far") as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEPTHKD_CACHE", str(folder / "cache"))
        here = write_shards(folder / "here", [7, 6], bad=2)
        write_shards(folder / "far", [9, 8, 5])
        transform = SquareCrop(16, 18)
        yield {
            "here": ShardSource(here, share=0.25, transform=transform).open("here", 0),
            "far": ShardSource(
                f"{server.url}/far_{{00..02}}.tar", share=0.75, transform=transform, access="cache"
            ).open("far", 0),
        }


def part(batch: TrainingBatch) -> Samples:
    return [
        (name, position, key, crc32(np.ascontiguousarray(image.numpy()).tobytes()))
        for name, some in sorted(batch.items())
        for position, key, image in zip(some.positions, some.keys, some.image, strict=True)
    ]


def stream(
    sources: dict[str, OpenSource], ranks: int, workers: int, start: int, batches: int
) -> list[Samples]:
    """What all ranks together read in some global batches."""
    read: list[Samples] = [[] for _ in range(batches)]
    for rank in range(ranks):
        loader = StreamLoader(
            lambda first, rank=rank: StreamBatches(sources, BATCH, rank, ranks, first),  # type: ignore[misc]
            lambda: start, lambda _: None, workers,
        )  # fmt: skip
        with closing(iter(loader)) as running:  # type: ignore[type-var]
            for samples, batch in zip(read, islice(running, batches), strict=True):
                samples += part(batch)
    return [sorted(samples) for samples in read]


@pytest.fixture(scope="module")
def expected(sources: dict[str, OpenSource]) -> list[Samples]:
    found = stream(sources, 1, 0, 0, BATCHES)
    assert all(len({sample[:2] for sample in samples}) == BATCH for samples in found)
    assert len({sample[3] for samples in found for sample in samples}) == BATCH * BATCHES
    return found


@pytest.mark.parametrize("start", [0, 2])
@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than a small machine has
def test_every_global_batch_is_the_same_whatever_read_those_before(
    sources: dict[str, OpenSource], expected: list[Samples], ranks: int, workers: int, start: int
) -> None:
    assert stream(sources, ranks, workers, start, BATCHES - start) == expected[start:]
