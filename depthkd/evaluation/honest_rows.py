"""The rows that a network of depth completion has to beat, and that need no training: interpolation, and each
tested model's relative depth fitted to the points.

`INTERPOLATIONS` and `FITS` are all there is to change for another row.
"""

from collections.abc import Iterator
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from depthkd.formats.whole_files import whole_file
from depthkd.models.completion.points import AlignedToPoints, InterpolatedPoints
from depthkd.models.model import DepthModel, RawPrediction
from depthkd.models.wrapper import Wrapper
from depthkd.resolution import Asked, Resolution
from depthkd.shapes import Image, Map
from depthkd.sparse_depth.fits import PointFit
from depthkd.sparse_depth.interpolation import Interpolation

INTERPOLATIONS: Final[dict[str, Interpolation]] = {
    "nearest point": "nearest",
    "linear interpolation": "linear",
}
FITS: Final[dict[str, PointFit]] = {
    "global fit": "least_squares",
    "robust fit": "robust",
    "local fit": "local",
    "inverse-distance residuals": "residuals",
}
PICTURED = ("linear interpolation", "local fit")  # ends of the names of those that reports show pictures of
STAGES = "relative_depth"  # folder of what is remembered while a model's rows are measured


def of_points() -> dict[str, Any]:
    """Row -> what builds it, of those that do not look at the image."""
    return {name: partial(InterpolatedPoints, how) for name, how in INTERPOLATIONS.items()}


def of_model(name: str) -> list[str]:
    """The rows of a tested model's relative depth."""
    return [f"{name}, {fit}" for fit in FITS]


def fitted_to_points(name: str, model: DepthModel, folder: Path) -> Iterator[tuple[str, DepthModel]]:
    """The rows of a tested model's relative depth, and the model of each.

    Args:
        name: the tested model's.
        model: the tested one. Of one that takes sparse depth and stands on another model, that other one is
            fitted; of one that takes sparse depth and stands on none there are no rows.
        folder: where the relative depth of each image is kept, so that it is predicted once for all rows and
            all patterns.
    """
    found = relative_stage(model)
    if found is None:
        return
    stage, resolution = found
    remembered = Remembered(stage, resolution)
    remembered.folder = folder
    for row, fit in zip(of_model(name), FITS.values(), strict=True):
        yield row, AlignedToPoints(remembered, fit)


def relative_stage(model: DepthModel) -> tuple[DepthModel, Asked] | None:
    """The model whose depth a tested one aligns to the points, or itself where it takes none; and the size at
    which that runs where nobody asks for another."""
    if not model.takes_sparse_depth:
        return model, None
    others = [one for one in model.companions() if not one.takes_sparse_depth]
    at: Asked = getattr(model.unwrapped(), "relative_resolution", None)
    return (others[0], at) if len(others) == 1 else None


class Remembered(Wrapper):
    """Another model that predicts each image once, and keeps its raw prediction in a folder.

    Args:
        network: the other one.
        resolution: the size at which it runs where nobody asks for another.

    Attributes:
        folder: where; made where it is missing. None, as at first: nothing is kept.
    """

    caches = ("folder",)

    def __init__(self, network: DepthModel, resolution: Asked = None) -> None:
        super().__init__(network)
        self.folder: Path | None = None  # no argument: where predictions are kept does not change them
        self.resolution = resolution

    def _at(self, asked: Asked) -> Resolution:
        wanted = Resolution.parse(asked)
        if wanted.side != "own" or self.resolution is None:
            return wanted
        return Resolution.parse(self.resolution).times(wanted.scale)

    def runs_at(
        self, height: int, width: int, resolution: Asked = None, scale: float = 1.0
    ) -> tuple[int, int] | None:
        """As the other's."""
        return self.network.runs_at(height, width, self._at(resolution), scale)

    def infer(self, image: Image, resolution: Asked = None, *how: Any, **more: Any) -> RawPrediction:
        """As the other's, or what is kept of it."""
        asked = self._at(resolution)
        if self.folder is None:
            return self.network.infer(image, asked, *how, **more)
        path = self.folder / f"{_digest(image, asked, how, sorted(more.items()))}.npy"
        try:
            return torch.from_numpy(np.load(path, allow_pickle=False)).to(image.device)
        except (FileNotFoundError, ValueError, EOFError):
            raw = self.network.infer(image, asked, *how, **more)
        self.folder.mkdir(parents=True, exist_ok=True)
        with whole_file(path, sync=False) as file:
            np.save(file, raw.cpu().numpy())
        return raw

    def predict(self, image: Image, *how: Any, **more: Any) -> Map:
        """`infer`, brought to the image's size."""
        return self.resize_to(self.infer(image, *how, **more), (image.shape[-2], image.shape[-1]))


def _digest(*values: Any) -> str:
    found = blake2b(digest_size=16)

    def add(value: Any) -> None:
        if isinstance(value, Tensor):
            found.update(f"{value.dtype}{tuple(value.shape)}".encode())
            found.update(value.detach().cpu().contiguous().numpy().data)
        elif isinstance(value, list | tuple):
            found.update(f"[{len(value)}".encode())
            for one in value:
                add(one)
        else:
            found.update(repr(value).encode())

    add(values)
    return found.hexdigest()
