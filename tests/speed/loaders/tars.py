"""Tars, which three of the loaders read."""

from pathlib import Path

from tests.data.shards import write_tar
from tests.speed.loaders.loader import Samples

SHARDS = 4  # webdataset and Energon want one for each worker of each rank


def write_tars(folder: Path, samples: Samples) -> str:
    """Shards with every fourth sample each; returns their urls."""
    folder.mkdir(parents=True)
    keys = list(samples)
    for shard in range(SHARDS):
        members = {key: {"jpg": samples[key]} for key in keys[shard::SHARDS]}
        write_tar(folder / f"{shard}.tar", members)
    return str(folder / f"{{0..{SHARDS - 1}}}.tar")
