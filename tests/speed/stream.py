"""`python -m tests.speed.stream`: our stream against webdataset + PIL + torchvision, side by side.

Both read the same shards of 2250 x 1500 JPEGs (SA-1B's size), crop a random square of 644 to 1500
pixels and resize it to 560. Both are warm when the clock starts, and they take turns.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import torch
import webdataset as wds
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from depthkd.data.stream import ShardSource, StreamBatches
from depthkd.data.transforms import SquareCrop
from tests.data.shards import write_tar

PICTURES, ROUND, BATCH = 48, 64, 8


def photo(seed: int) -> bytes:
    """Smooth colors with some grain, which JPEG compresses about as a photograph."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (45, 68, 3), dtype=np.uint8)
    smooth = cv2.resize(coarse, (2250, 1500), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    grain = cv2.resize(rng.normal(0, 12, (750, 1125)).astype(np.float32), (2250, 1500))
    pixels = np.clip(smooth + grain[..., None], 0, 255).astype(np.uint8)
    return bytes(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])[1])


def ours(tars: list[str], workers: int) -> Iterator[Any]:
    source = ShardSource(tars, transform=SquareCrop(560, 644)).open("photos", 0)
    stream = StreamBatches({"photos": source}, BATCH)
    return iter(DataLoader(stream, batch_size=None, num_workers=workers))


def usual(tars: list[str], workers: int) -> Iterator[Any]:
    def crop(image: torch.Tensor) -> torch.Tensor:
        side = int(torch.randint(644, 1501, ()))
        square = v2.RandomCrop(side)(v2.functional.to_image(image))
        return v2.functional.resize(square, [560, 560], antialias=True)

    dataset = (
        wds.WebDataset(tars, shardshuffle=False)
        .repeat()
        .shuffle(16)
        .decode("pil")
        .to_tuple("jpg")
        .map_tuple(crop)
        .batched(BATCH)
    )
    return iter(DataLoader(dataset, batch_size=None, num_workers=workers))


def images_per_second(batches: Iterator[Any], clock: Callable[[], float]) -> float:
    start = clock()
    for _ in islice(batches, ROUND // BATCH):
        pass
    return ROUND / (clock() - start)


def main() -> None:
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        tars = []
        for shard in range(2):  # webdataset wants a shard for each worker
            samples = {f"{i:03}": {"jpg": photo(i)} for i in range(shard, PICTURES, 2)}
            tars.append(str(write_tar(Path(folder) / f"{shard}.tar", samples)))
        size = sum(Path(tar).stat().st_size for tar in tars) / PICTURES
        print(f"{PICTURES} JPEGs of {size / 1e6:.2f} MB, crops to 560 x 560")
        for workers in (0, 1, 2):
            # without workers the processor's time counts, which other programs do not disturb
            clock = time.perf_counter if workers else time.process_time
            metrics: dict[str, list[float]] = {"webdataset": [], "depthkd": []}
            for _ in range(rounds):
                for name, make in (("webdataset", usual), ("depthkd", ours)):
                    batches = make(tars, workers)
                    images_per_second(batches, clock)  # warm
                    metrics[name].append(images_per_second(batches, clock))
                    del batches
            middle = {name: median(values) for name, values in metrics.items()}
            ratio = middle["depthkd"] / middle["webdataset"]
            rates = ", ".join(f"{name} {rate:.0f} images/s" for name, rate in middle.items())
            unit = "" if workers else " of processor time"
            print(f"{workers} workers: {rates}{unit}, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
