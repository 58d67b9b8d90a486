"""MPI Sintel: 1064 frames of the training films' final pass (Butler et al. 2012), with sharp truth."""

from pathlib import PurePosixPath
from typing import ClassVar

import numpy as np
from jaxtyping import Float64

from depthkd.datasets.cameras import read_cam
from depthkd.datasets.dataset import Decoded, DepthDataset
from depthkd.datasets.encodings import read_dpt
from depthkd.formats.images import decode_image


class Sintel(DepthDataset):
    """Lines that begin with `final/<film>/frame_NNNN.png`; the truth is `depth/<film>/frame_NNNN.dpt`.

    Cameras are read from `camdata_left/<film>/frame_NNNN.cam` of the depth's archive, where they are there.
    """

    name = "sintel"
    title = "Sintel"
    splits: ClassVar = {"test": "sintel.txt"}
    layout = "final/<film>/*.png and depth/<film>/*.dpt, as in training/ of MPI-Sintel-complete and its depth"
    words = 1
    places = ("sintel", "MPI-Sintel-complete", "MPI-Sintel")
    folders = ("", "training")

    def paths(self, line: list[str]) -> list[str]:
        """See `ListedDataset.paths`."""
        return [line[0], _beside(line[0], "depth", ".dpt")]

    def intrinsics(self, line: list[str]) -> Float64[np.ndarray, "3 3"] | None:
        """The frame's camera, where its .cam file is there."""
        path = _beside(line[0], "camdata_left", ".cam")
        return read_cam(self.archive.read(path), path) if path in self.archive else None

    def decode(self, line: list[str]) -> Decoded:
        """See `DepthDataset.decode`."""
        path = self.paths(line)[1]
        image = decode_image(self.archive.read(line[0]), line[0])
        depth, mask = read_dpt(self.archive.read(path), path)
        return image, depth, mask


def _beside(image: str, folder: str, suffix: str) -> str:
    """The file of another kind that belongs to an image."""
    return str(PurePosixPath(folder, *PurePosixPath(image).parts[1:]).with_suffix(suffix))
