"""Small benchmarks and models whose metrics can be worked out by hand."""

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from depthkd.batch import AFFINE_DISPARITY, METRIC_DEPTH, DepthSpace
from depthkd.benchmarks import Benchmark, Protocol
from depthkd.formats.sample import AnnotatedSample, BadSample, Sample
from depthkd.metrics.catalogue import STUDIES, MetricSet
from depthkd.models.model import DepthModel, DepthOutput

SIZE = 40, 56
UNASKED = (*STUDIES, MetricSet.COMPLETION)  # sets of metrics that no annotation of the boxes is for


class Boxes(Benchmark):
    """A box before a wall, at another place in every image; annotated in every way."""

    name = "boxes"

    def __init__(
        self,
        count: int = 6,
        metrics: tuple[MetricSet, ...] = tuple(s for s in MetricSet if s not in UNASKED),
        unreadable: tuple[int, ...] = (),
        without_truth: tuple[int, ...] = (),
        data_set: str | None = None,
    ) -> None:
        self.protocol = Protocol.named("marigold", max_depth=20.0)
        self.count = count
        self.metrics = metrics
        self.unreadable = unreadable
        self.without_truth = without_truth
        self.data_set = data_set

    def __len__(self) -> int:
        return self.count

    def group(self, index: int) -> str:
        return "even" if index % 2 == 0 else "odd"

    def sample(self, index: int) -> Sample:
        if index in self.unreadable:
            raise BadSample(f"box{index}.png is cut off")
        depth = np.full(SIZE, 8.0, np.float32)
        depth += np.linspace(0, 2, SIZE[1], dtype=np.float32)[None]
        box = np.s_[10:30, 8 + index : 28 + index]
        depth[box] = 3.0
        mask = np.ones(SIZE, bool) if index not in self.without_truth else np.zeros(SIZE, bool)
        edges = np.zeros(SIZE, bool)
        edges[10:30, 8 + index] = edges[10:30, 27 + index] = True
        matte = np.zeros(SIZE, bool)
        matte[box] = True
        wall = np.zeros((1, *SIZE), bool)
        wall[0, 30:] = True
        image = np.repeat((depth * 20).astype(np.uint8)[..., None], 3, axis=2)
        pairs = np.array([[[20, 18 + index], [5, 5]], [[20, 18 + index], [35, 50]], [[2, 2], [2, 50]]])
        camera = np.array([[50.0, 0, 27.5], [0, 50.0, 19.5], [0, 0, 1]])
        sample = AnnotatedSample(
            f"box{index}",
            image,
            depth,
            mask,
            camera,
            METRIC_DEPTH,
            digest=1000 + index,
            edges=edges,
            planes=wall,
            normals=np.array([[0.0, 1.0, 0.0]]),
            pairs=pairs,
            matte=matte,
        )
        return (
            sample if MetricSet.DEPTH in self.metrics else replace(sample, depth=None, mask=None, space=None)
        )


class Seer(DepthModel):
    """Reads the boxes' disparity off the image, and blurs it; counts how often it is asked."""

    asked = 0

    def __init__(
        self, blur: int = 1, space: DepthSpace = AFFINE_DISPARITY, broken: float | None = None
    ) -> None:
        super().__init__()
        self.space, self.blur, self.broken = space, blur, broken
        self.source, self.license = f"seer {blur}", "MIT"

    def forward(self, image: Float[Tensor, "batch 3 height width"]) -> DepthOutput:
        Seer.asked += len(image)
        depth = (image.mean(1) * 255 / 20).clamp(min=1.0)
        values = depth if self.space.quantity == "depth" else 3.0 / depth + 0.5
        side = self.blur
        smooth = torch.nn.functional.avg_pool2d(values[:, None], side, 1, side // 2, count_include_pad=False)
        if self.broken is not None:
            smooth[..., 0, :3] = self.broken
        return DepthOutput(smooth[:, 0])

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        return iter(())


class Killer(Seer):
    """Notes in the working folder how often it is asked, and kills its process if a file there says so."""

    def forward(self, image: Float[Tensor, "batch 3 height width"]) -> DepthOutput:
        with Path("asked").open("a") as log:
            log.write("x")
        limit = Path("kill_after")
        if limit.is_file() and Path("asked").stat().st_size > int(limit.read_text()):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(image)
