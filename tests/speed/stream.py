"""`python -m tests.speed.stream`: our stream and other loaders, their throughput and how exactly they resume.

All read the same 2250 x 1500 JPEGs (SA-1B's size), each from its own format, crop a random square of 644 to
1500 pixels and bring it to 560: with Pillow and torchvision, as most do, and with depthkd's decoder and crop.
Images are counted a second of processor time, of all processes together, which other programs do not
disturb. Every loader is warm when the clock starts, and they take turns.
"""

import argparse
import os
import platform
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import psutil
import simplejpeg
import torch

from depthkd.formats.images import decode_image
from tests.speed import exactness
from tests.speed.loaders import installed, versions
from tests.speed.loaders.decoding import CROP, decode_ours, decode_usual
from tests.speed.loaders.loader import BATCH, Loader, Samples

PHOTOS, KEYS = 40, 120  # more keys than a round reads: no loader comes to its end
ROUND, WARM = 64, 16  # images
WORKERS = (0, 2)
DECODERS = {"Pillow, torchvision": decode_usual, "depthkd's": decode_ours}
USUAL, AUTO, BARE = (
    ("webdataset", "Pillow, torchvision"),
    ("depthkd", "`auto`"),
    ("bare decodes", "simplejpeg"),
)
Row = tuple[str, str]
"""A loader, and what decodes and crops."""
Make = Callable[[int], Iterator[Any]]
"""Workers -> batches."""


def photo(seed: int) -> bytes:
    """Smooth colors with some grain, which JPEG compresses about as a photograph."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (45, 68, 3), dtype=np.uint8)
    smooth = cv2.resize(coarse, (2250, 1500), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    grain = cv2.resize(rng.normal(0, 12, (750, 1125)).astype(np.float32), (2250, 1500))
    pixels = np.clip(smooth + grain[..., None], 0, 255).astype(np.uint8)
    return bytes(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])[1])


def bare_decodes(samples: Samples) -> Iterator[Any]:
    """Batches of what simplejpeg alone makes of each image, at the scale that its crop needs."""
    tasks = []
    for seed, data in enumerate(samples.values()):
        height, width = decode_image(data, "photo").shape[:2]
        needed = CROP.pixels_needed(height, width, np.random.default_rng(seed))
        tall, wide = decode_image(data, "photo", shorter_side_at_least=needed).shape[:2]
        tasks.append((data, {"min_height": tall, "min_width": wide, "min_factor": round(height / tall)}))
    endless = cycle(tasks)
    while True:
        yield [simplejpeg.decode_jpeg(data, strict=True, **scale) for data, scale in islice(endless, BATCH)]


def makers(loaders: Sequence[Loader], samples: Samples, folder: Path) -> dict[Row, Make]:
    """What is measured; every loader's data is written here, before any clock starts."""
    makes: dict[Row, Make] = {}
    for loader in loaders:
        source = loader.write(folder / loader.name, samples)
        for decoder, decode in (loader.decoders or DECODERS).items():
            makes[loader.name, decoder] = partial(loader.images, source, decode)
    return makes


def processor_seconds() -> float:
    """Of this process and of its workers, since each began."""
    this = psutil.Process()
    times = [process.cpu_times() for process in (this, *this.children(recursive=True))]
    return sum(time.user + time.system for time in times)


def images_per_second(batches: Iterator[Any], images: int = ROUND, warm: int = WARM) -> float:
    """Of processor time."""
    for _ in islice(batches, warm // BATCH):
        pass
    start = processor_seconds()
    for _ in islice(batches, images // BATCH):
        pass
    rate = images / (processor_seconds() - start)
    getattr(batches, "close", int)()  # Grain's workers end with it, the others' with their iterator
    return rate


def measured(makes: dict[Row, Make], rounds: int) -> dict[tuple[Row, int], float]:
    """Images a second, the median of all rounds, by row and workers."""
    rates: dict[tuple[Row, int], list[float]] = {}
    for _ in range(rounds):
        for row, make in makes.items():
            for workers in WORKERS if row != BARE else (0,):
                rates.setdefault((row, workers), []).append(images_per_second(make(workers)))
    return {key: median(values) for key, values in rates.items()}


def report(rates: dict[tuple[Row, int], float]) -> None:
    """Print the table."""
    columns = ["one process", "2 workers", "beside webdataset with Pillow", "of bare decodes"]
    print(f"| loader | decoder and crop | {' | '.join(columns)} |")
    print("|---" * (len(columns) + 2) + "|")
    for (row, workers), rate in rates.items():
        if not workers:
            others = [f"{rates[row, 2]:.0f}" if (row, 2) in rates else "-"]
            others += [f"{rate / rates[USUAL, 0]:.2f}", f"{rate / rates[BARE, 0]:.0%}"]
            print(f"| {' | '.join(row)} | {rate:.0f} | {' | '.join(others)} |")


def machine() -> str:
    """Its cores and their name."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", info.read_text()) if info.exists() else [platform.machine()]
    return f"{os.cpu_count()} cores, {names[0]}"


def main() -> None:
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    loaders = installed()
    photos = [photo(seed) for seed in range(PHOTOS)]
    samples = {f"{i:03}": photos[i % PHOTOS] for i in range(KEYS)}
    size = sum(map(len, photos)) / PHOTOS / 1e6
    print(f"{date.today()}, {machine()}; {versions(loaders)}; JPEGs of {size:.2f} MB\n")
    with tempfile.TemporaryDirectory() as folder:
        makes = makers(loaders, samples, Path(folder)) | {BARE: lambda workers: bare_decodes(samples)}
        report(measured(makes, rounds))
    print()
    exactness.report(loaders)


if __name__ == "__main__":
    main()
