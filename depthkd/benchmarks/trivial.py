"""Predictors that look at nothing: the rows without which no metric means anything.

A fit makes almost anything look learned. These are fitted and scored like every model, in affine
disparity; what a network adds to them is what it has learned.
"""

from collections.abc import Iterable, Iterator

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from depthkd.batch import AFFINE_DISPARITY, Ambiguity, Quantity
from depthkd.benchmarks.benchmark import Benchmark
from depthkd.errors import UserError
from depthkd.formats.sample import Sample
from depthkd.models.model import DepthModel, DepthOutput, resize_map
from depthkd.resolution import Asked
from depthkd.shapes import Image


class TrivialModel(DepthModel):
    """A DepthModel without parameters."""

    space = AFFINE_DISPARITY
    license = "none"

    def runs_at(self, height: int, width: int, resolution: Asked = None, scale: float = 1.0) -> None:
        """At no size."""

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        """None."""
        return iter(())


class BestConstant(TrivialModel):
    """The same disparity everywhere; the fit makes it the best constant of each image."""

    source = "best constant per image"

    def forward(self, image: Image) -> DepthOutput:
        """Ones."""
        return DepthOutput(torch.ones_like(image[:, 0]))


class VerticalRamp(TrivialModel):
    """Nearer towards the bottom: 0 above the first row to 1 in the last one."""

    source = "vertical ramp"

    def forward(self, image: Image) -> DepthOutput:
        """A ramp from top to bottom."""
        height = image.shape[-2]
        rows = torch.arange(1, height + 1, dtype=image.dtype, device=image.device) / height
        return DepthOutput(rows[None, :, None].expand(len(image), height, image.shape[-1]).contiguous())


class MeanMap(TrivialModel):
    """The mean disparity map of the training samples, stretched to the image.

    Args:
        disparity: see `mean_disparity_map`.
    """

    source = "mean training disparity map"
    disparity: Tensor

    def __init__(self, disparity: Float32[np.ndarray, "height width"]) -> None:
        super().__init__()
        self.register_buffer("disparity", torch.from_numpy(disparity))

    def forward(self, image: Image) -> DepthOutput:
        """The map at the image's size."""
        resized = resize_map(self.disparity[None], (image.shape[-2], image.shape[-1]))
        return DepthOutput(resized.expand(len(image), -1, -1).contiguous())


def mean_disparity_map(
    samples: Iterable[Sample], height: int = 192, width: int = 256
) -> Float32[np.ndarray, "height width"]:
    """The mean of the samples' disparities, each divided by its median over its valid pixels.

    Labels whose offset is unknown have their median subtracted and are divided by their mean
    absolute deviation instead. Pixels that no sample knows get the mean of the others.

    Raises:
        UserError: no sample has a valid pixel, or a label is affine depth.
    """
    total, count = np.zeros((height, width)), np.zeros((height, width))
    for sample in samples:
        if sample.depth is None or sample.mask is None or not sample.mask.any():
            continue
        disparity = np.where(sample.mask, _normalized_disparity(sample), 0.0)
        size = (width, height)
        weight = cv2.resize(sample.mask.astype(np.float64), size, interpolation=cv2.INTER_AREA)
        total += cv2.resize(disparity, size, interpolation=cv2.INTER_AREA)
        count += weight
    if not count.any():
        raise UserError("the mean disparity map needs labelled samples, but none has a valid pixel")
    known = count > 0
    mean = total / np.where(known, count, 1.0)
    return np.where(known, mean, mean[known].mean()).astype(np.float32)


def spread(benchmark: Benchmark, limit: int) -> Iterator[Sample]:
    """At most `limit` samples, spread evenly over the benchmark."""
    number = min(limit, len(benchmark))
    return (benchmark.sample(i * len(benchmark) // number) for i in range(number))


def _normalized_disparity(sample: Sample) -> Float[np.ndarray, "height width"]:
    assert sample.depth is not None and sample.mask is not None
    if sample.space is None:
        raise UserError(f"sample '{sample.key}' has a depth map, but no space says what it holds")
    depth = np.where(sample.mask, sample.depth, 1.0).astype(np.float64)
    if sample.space.quantity is Quantity.DEPTH:
        sample.space.inverse()
        depth = np.reciprocal(depth)
    median = float(np.median(depth[sample.mask]))
    if sample.space.ambiguity is not Ambiguity.AFFINE:
        return depth / median
    deviation = float(np.abs(depth - median)[sample.mask].mean())
    return (depth - median) / max(deviation, 1e-12)
