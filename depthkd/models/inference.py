"""Inference on one image: how a model is run, on which device, and whether its prediction is a map."""

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from depthkd.batch import DepthSpace, Quantity
from depthkd.errors import UserError
from depthkd.formats.sample import Sample
from depthkd.models.model import DepthModel
from depthkd.shapes import Map

NARROWEST = 16  # times as long as wide: beyond that an image grows to more pixels than memory may hold
WAITING = 4  # batches of images that wait for others of their size

One = TypeVar("One")


@dataclass(frozen=True)
class Inference:
    """How a network is run, apart from what is then done with its prediction.

    Args:
        resolution: the size, see `Protocol`; None: the model's own.
        scale: a further factor on it (Depth Anything V2's test-time scaling: 1, 2, 4).
        flip: average with the mirrored image's prediction.
        seed: of networks that draw noise; every image's draws begin anew from it.
        scales: several further factors: the mean of the predictions at all of them, at the image's size.
    """

    resolution: int | str | None = None
    scale: float = 1.0
    flip: bool = False
    seed: int = 0
    scales: tuple[float, ...] = ()

    def at_each_scale(self) -> "list[Inference]":
        """The passes whose mean is the prediction."""
        return [replace(self, scale=self.scale * factor, scales=()) for factor in self.scales] or [self]


class WrongPredictionError(Exception):
    """A network that does not answer an image with one map; the sentence says what it does instead."""


class UnansweredError(WrongPredictionError):
    """A network that has no depth for one image, because too few of its pixels are measured."""


def infer_sample(
    model: DepthModel, sample: Sample, how: Inference, device: torch.device
) -> Float[Tensor, "1 _ _"]:
    """A model's raw prediction for a sample's image, of one pass, float32, at the network's size.

    Raises:
        WrongPredictionError: it does not answer with one map; an `UnansweredError` where that is because of
            the measured points.
    """
    torch.manual_seed(how.seed)
    image, camera = image_tensor(sample.image, device), sample.intrinsics
    intrinsics = None if camera is None else torch.tensor(camera, device=device)[None].float()
    given = {}
    if model.takes_sparse_depth and sample.sparse is not None:
        given["sparse"] = torch.tensor(sample.sparse, device=device)[None]
    try:
        depth = model.infer(image, how.resolution, how.scale, how.flip, intrinsics, **given)
    except UserError as error:  # it does not take an image as odd as this one
        if given:
            raise UnansweredError(str(error)) from error
        raise WrongPredictionError(str(error)) from error
    if depth.ndim != 3 or len(depth) != 1 or 0 in depth.shape:
        raise WrongPredictionError(
            f"{type(model).__name__} answers an image of {sample.image.shape[0]} x "
            f"{sample.image.shape[1]} pixels with {list(depth.shape)}; it would be [1, height, width]"
        )
    return depth


def predict_sample(
    model: DepthModel, sample: Sample, how: Inference, device: torch.device
) -> Float[Tensor, "1 height width"]:
    """`infer_sample` at the image's own size.

    Raises:
        WrongPredictionError: the model does not answer with one map.
    """
    size = int(sample.image.shape[0]), int(sample.image.shape[1])
    return mean_of(
        model.resize_to(infer_sample(model, sample, one, device), size) for one in how.at_each_scale()
    )


def mean_of(predictions: Iterable[Map]) -> Map:
    """The mean of one or more maps of one size."""
    several = list(predictions)
    return several[0] if len(several) == 1 else torch.stack(several).mean(0)


def is_enlarged_strip(size: tuple[int, int], runs_at: Iterable[tuple[int, int]]) -> bool:
    """Whether an image is so narrow that it becomes far larger, because its shorter side is brought to a
    network's.

    Args:
        size: height and width of the image.
        runs_at: heights and widths at which it runs.
    """
    long, short = max(size), min(size)
    return long > NARROWEST * short and max(max(shown) for shown in runs_at) > long


def batches(images: Iterable[One], size: int, group: Callable[[One], Hashable]) -> Iterator[list[One]]:
    """Images of one group together, `size` of them at a time; which ones depends on their order alone.

    Where so many wait for others of their group that they would fill `WAITING` batches, those of the group
    that waits longest go on.
    """
    waiting: dict[Hashable, list[One]] = {}
    for image in images:
        kind = group(image)
        waiting.setdefault(kind, []).append(image)
        if len(waiting[kind]) == size:
            yield waiting.pop(kind)
        elif sum(map(len, waiting.values())) >= WAITING * size:
            yield waiting.pop(next(iter(waiting)))
    yield from waiting.values()


def says_nothing(prediction: Float[Tensor, "1 height width"], space: DepthSpace | None = None) -> str | None:
    """What is in a prediction that cannot be depth, because it has numbers that are not finite, or one value
    everywhere; None for any other.

    Args:
        prediction: the map.
        space: what it means. Given a space of depth, pixels that are infinitely far are those of which a
            network says that it does not know them, and the others count.
    """
    known = prediction.flatten()
    if space is not None and space.quantity is Quantity.DEPTH:
        known = known[~known.isposinf()]
        if not len(known):
            return "infinite depth everywhere"
    broken = int((~torch.isfinite(known)).sum())
    if broken:
        return f"{broken} numbers that are not finite, of {prediction.numel()}"
    if len(known) > 1 and bool(known.max() == known.min()):
        return f"{float(known.max()):g} everywhere"
    return None


def device_of(name: str) -> torch.device:
    """The device of that name; "auto" is a GPU where there is one.

    Raises:
        UserError: there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"device '{name}' does not exist; it would be auto, cpu, cuda or cuda:1") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"device '{name}' is not there: torch sees {torch.cuda.device_count()} CUDA device(s)"
        )
    return device


def image_tensor(
    image: UInt8[np.ndarray, "height width 3"], device: torch.device
) -> Float[Tensor, "1 3 height width"]:
    """An image as models take it: a batch of one, RGB in [0, 1]."""
    return torch.tensor(image).to(device).permute(2, 0, 1)[None].float() / 255.0
