"""The least depth network, and a program of torch.export of it."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from depthkd.batch import AFFINE_DISPARITY
from depthkd.models.model import DepthModel, DepthOutput
from depthkd.verbs.export.forms import Asked, write_torch


class Convolution(DepthModel):
    """One convolution."""

    space, multiple, license, source = AFFINE_DISPARITY, 2, "mit", "a convolution"

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Conv2d(3, 1, 3, padding=1)

    def forward(self, image: Tensor) -> DepthOutput:
        return DepthOutput(self.head(self.fit_input(image))[:, 0])

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        return iter(())


def program(folder: Path) -> str:
    """A .pt2 file in the folder."""
    write_torch(Convolution().eval(), folder, Asked(), {"license": "mit", "training_sets": None})
    return str(folder / "model.pt2")
