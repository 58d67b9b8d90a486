"""Small tars to stream from."""

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from depthkd.batch import METRIC_DEPTH
from depthkd.formats.sample import Sample
from depthkd.formats.shard_samples import encode_sample

HEIGHT, WIDTH = 24, 32


def write_tar(path: Path, samples: Mapping[str, Mapping[str, bytes]]) -> Path:
    """A tar of samples: key -> suffix -> bytes."""
    with tarfile.open(path, "w") as tar:
        for key, members in samples.items():
            for suffix, data in members.items():
                info = tarfile.TarInfo(f"{key}.{suffix}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return path


def write_shards(folder: Path, counts: list[int], labelled: bool = False, bad: int = 0) -> str:
    """Shards 0, 1, ... of so many samples each, whose first `bad` are no images; the pattern of their urls.

    Sample i of shard s has the key "<s>_<i>", and one depth throughout.
    """
    rng = np.random.default_rng(0)
    for shard, count in enumerate(counts):
        samples: dict[str, Mapping[str, bytes]] = {}
        for i in range(count):
            key = f"{shard:02}_{i:02}"
            if i < bad:
                samples[key] = {"png": b"not a picture"}
                continue
            image = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
            depth = np.full((HEIGHT, WIDTH), 1.0 + i, dtype=np.float32) if labelled else None
            if depth is not None:
                depth[0] = 50.0  # a range for the codec
            camera = np.array([[30.0, 0, 15.5], [0, 30.0, 11.5], [0, 0, 1]]) if labelled else None
            sample = Sample(key, image, depth, None, camera, METRIC_DEPTH if labelled else None)
            samples[key] = encode_sample(sample, image="png")
        write_tar(folder / f"{folder.name}_{shard:02}.tar", samples)
    return str(folder / f"{folder.name}_{{00..{len(counts) - 1:02}}}.tar")
