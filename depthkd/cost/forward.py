"""One forward pass of a model on random images: what every cost is measured of."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Literal

import torch

from depthkd.models.frozen import HALF
from depthkd.models.model import DepthModel, RawPrediction
from depthkd.resolution import NATIVE
from depthkd.shapes import Image, Map

POINTS = 500  # of measured depth an image, as in NYUv2's tables of depth completion
Precision = Literal["32-true", "bf16-mixed", "16-mixed"]  # as a run's: mixed is autocast, weights in float32


@dataclass(frozen=True)
class Setting:
    """Under what a cost is measured.

    Args:
        size: height and width of the images in pixels, before a model rounds them to its multiple.
        device: where it runs.
        batch_size: images of one forward pass.
        precision: float32, or autocast to bfloat16 or float16.
    """

    size: tuple[int, int]
    device: torch.device
    batch_size: int = 1
    precision: Precision = "32-true"

    def image_size(self, model: DepthModel) -> tuple[int, int]:
        """Height and width of the images that this model gets: rounded, or its fixed size."""
        return model.rounded(*self.size)

    def runs_at(self, model: DepthModel) -> tuple[int, int] | None:
        """Height and width at which the network runs on them; None, where only it knows."""
        return model.runs_at(*self.image_size(model), NATIVE)


@dataclass(frozen=True)
class Forward:
    """A forward pass that can be called again and again.

    Args:
        step: the network.
        image: its input, RGB in [0, 1].
        precision: see `Setting`.
    """

    step: Callable[[Image], RawPrediction]
    image: Image
    precision: Precision

    def __call__(self) -> RawPrediction:
        """The raw prediction for the images, without gradients."""
        with torch.no_grad(), self._autocast():
            return self.step(self.image)

    def compiled(self) -> "Forward":
        """The same through torch.compile, which compiles at the first call."""
        return replace(self, step=torch.compile(self.step, dynamic=False))

    def _autocast(self) -> AbstractContextManager[None]:
        half = HALF.get(self.precision)
        context: AbstractContextManager[None] = torch.autocast(
            self.image.device.type, half, enabled=half is not None
        )
        return context


def forward_of(model: DepthModel, setting: Setting) -> Forward:
    """A model's forward pass: from images of the size at which it runs to its raw prediction there. One that
    completes depth is given points.

    Args:
        model: in eval mode, on the setting's device.
        setting: under what it runs.
    """
    shape = setting.batch_size, 3, *setting.image_size(model)
    image = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(setting.device)
    if not (model.chooses_size or model.resizes or model.takes_sparse_depth):
        return Forward(model.predict_raw, image, setting.precision)
    sparse = _sparse_depth(image) if model.takes_sparse_depth else None

    def at_this_size(image: Image) -> RawPrediction:  # which only `infer` can ask it for
        return model.infer(image, NATIVE, sparse=sparse)

    return Forward(at_this_size, image, setting.precision)


def _sparse_depth(image: Image) -> Map:
    """Depth from 1 to 10 m at some pixels drawn at random, 0 at the others."""
    generator = torch.Generator().manual_seed(0)
    sparse = torch.zeros(len(image), *image.shape[-2:])
    for row in sparse.flatten(1):
        places = torch.randperm(len(row), generator=generator)[:POINTS]
        row[places] = 1 + 9 * torch.rand(len(places), generator=generator)
    return sparse.to(image.device)
