"""`python -m tests.speed.label`: labels beside the bare forward of the same batches, of the embedded teacher.

One shard of photographs is labelled, decoding, encoding and writing included, and the network then runs on
batches of the same sizes that lie in memory. Both run the network on one thread. They take turns. The wall
time says what other programs on the machine leave of it; where those take a processor, the time
of the main thread, in which the network runs, is the fairer figure: what it spends beside the forward is what
labelling would add on a machine with a processor for the other threads.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median

import torch

from depthkd.datasets.photographs import Photographs
from depthkd.formats.images import decode_image, encode_jpeg
from depthkd.formats.tar import index_tar
from depthkd.formats.writing import write_tar
from depthkd.models import Embedded
from depthkd.models.frozen import Frozen
from depthkd.verbs.label.shard import ShardLabeller
from depthkd.verbs.label.teachers import Asked, Teachers
from tests.speed.stream import machine, photo

BATCH = 8


def photographs(count: int) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Crops of scikit-image's photographs, 400 x 280."""
    known = Photographs()
    for i in range(count):
        image = known.sample(i % len(known)).image
        top, left = i % 7, i % 11
        yield f"{i:04}", {"jpg": encode_jpeg(image[top : top + 280, left : left + 400])}


def large(count: int) -> Iterator[tuple[str, dict[str, bytes]]]:
    """JPEGs of 2250 x 1500, SA-1B's size."""
    for i in range(count):
        yield f"{i:04}", {"jpg": photo(i)}


def forward(teachers: Teachers, batch: torch.Tensor, times: int) -> None:
    """What labels cannot do without."""
    for _ in range(times):
        teachers.relative.model.infer(batch, "native")


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """Seconds on the wall, and of this thread's processor time."""
    wall, own = time.perf_counter(), time.thread_time()
    call()
    return time.perf_counter() - wall, time.thread_time() - own


def main() -> None:
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=64)
    asked = parser.parse_args()
    teachers = Teachers(Frozen(Embedded), None, Asked(batch_size=BATCH), torch.device("cpu"))
    print(f"{machine()}; {asked.images} images in batches of {BATCH}, median of {asked.rounds} rounds\n")
    print("| images | wall time beside the bare forward | the main thread's | images/s | bare |")
    print("|---|---|---|---|---|")
    for name, samples in (("400 x 280", photographs), ("2250 x 1500", large)):
        with tempfile.TemporaryDirectory() as folder:
            tar = Path(folder) / "0.tar"
            write_tar(samples(asked.images), tar)
            index = index_tar(tar)
            labeller = ShardLabeller(teachers, Path(folder) / "labels", 0, 1)
            sizes = teachers.sizes(*decode_image(index.read(0)["jpg"], name).shape[:2])
            bare = partial(forward, teachers, torch.rand(BATCH, 3, *sizes[0]), asked.images // BATCH)
            whole = partial(labeller, index, "0.tar", lambda samples, bad: None)
            bare()
            whole()
            pairs = [(timed(bare), timed(whole)) for _ in range(asked.rounds)]
        wall, own = (median(ours[i] / theirs[i] for theirs, ours in pairs) for i in (0, 1))
        rates = [asked.images / median(pair[i][0] for pair in pairs) for i in (1, 0)]
        print(f"| {name} | {wall:.3f} | {own:.3f} | {rates[0]:.1f} | {rates[1]:.1f} |")


if __name__ == "__main__":
    main()
