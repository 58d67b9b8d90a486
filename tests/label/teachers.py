"""Tiny teachers and shards, for labels."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from depthkd.batch import AFFINE_DISPARITY, METRIC_DEPTH
from depthkd.formats.images import encode_jpeg
from depthkd.models.model import DepthModel, DepthOutput
from depthkd.shapes import Image
from depthkd.verbs.label.label import label
from tests.data.shards import write_tar

SIZES = [(48, 64), (64, 48), (50, 70)]


class Gray(DepthModel):
    """Disparity of what is bright, for tests."""

    space = AFFINE_DISPARITY
    multiple = 8
    source, license, training_sets = "gray", "mit", ("nothing",)

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))

    def forward(self, image: Image) -> DepthOutput:
        return DepthOutput(self.gain * self.fit_input(image).mean(1))

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        return self.parameters()


class Meters(Gray):
    """Metric depth 1 / (2 * disparity + 0.1), but for a fifth of the rows, where it is wrong."""

    space = METRIC_DEPTH

    def forward(self, image: Image) -> DepthOutput:
        depth = 1 / (2 * self.fit_input(image).mean(1) + 0.1)
        depth[:, : depth.shape[1] // 5] *= 5
        return DepthOutput(depth)


class Masked(Meters):
    """Meters that does not know the upper half of an image."""

    def forward(self, image: Image) -> DepthOutput:
        depth = super().forward(image).depth
        depth[:, : depth.shape[1] // 2] = torch.inf
        return DepthOutput(depth)


class Same(Gray):
    """One map for every image."""

    def forward(self, image: Image) -> DepthOutput:
        rows = torch.linspace(0, 1, image.shape[-2])
        return DepthOutput((rows[:, None] + 0 * image[:, 0]) * self.gain)


def picture(seed: int, size: tuple[int, int]) -> bytes:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    rows, columns = (np.arange(n) * m // n for n, m in zip(size, (6, 8), strict=True))
    return encode_jpeg(coarse[rows[:, None], columns])


def write_images(folder: Path) -> Path:
    """Three shards of 5, of three sizes; the second has a broken image."""
    folder.mkdir()
    for shard in range(3):
        samples = {f"{shard}{i}": {"jpg": picture(10 * shard + i, SIZES[i % 3])} for i in range(5)}
        if shard == 1:
            samples["12"] = {"jpg": samples["12"]["jpg"][:100]}
        write_tar(folder / f"sa_{shard}.tar", samples)
    return folder


def made(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.tar*")) if path.suffix != ".index"}


def run(images: Path, out: Path, model: DepthModel | None = None, **options: Any) -> Any:
    return label(str(images), out, model or Gray(), **{"batch_size": 2, "device": "cpu", **options})
