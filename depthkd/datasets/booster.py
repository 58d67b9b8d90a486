"""Booster: rooms with mirrors and glass, painted over to be measured (Zama Ramirez et al. 2022)."""

import re
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float64

from depthkd.datasets.dataset import Decoded, DepthDataset
from depthkd.datasets.encodings import measured
from depthkd.errors import UserError
from depthkd.formats.depth import read_depth_npy
from depthkd.formats.images import decode_image
from depthkd.formats.sample import BadSample

MILLIMETER = 1e-3  # m, the unit of the calibration's baseline
IMAGE = re.compile(r"(?P<scene>(?:.*/)?)camera_(?P<camera>00|02)/im\d+\.png")
NODES = {"00": "proj_matL", "02": "proj_matR"}
CALIBRATION = "calib_00-02.xml"


def read_calibration(data: bytes, node: str, name: str) -> tuple[Float64[np.ndarray, "3 3"], float]:
    """A camera's matrix, in pixels, and the baseline in meters, from a scene's calib_00-02.xml.

    Raises:
        BadSample: it is no such file.
    """
    try:
        text = data.decode()
        file = cv2.FileStorage(text, cv2.FILE_STORAGE_READ | cv2.FILE_STORAGE_MEMORY)
        camera, baseline = file.getNode(node).mat(), float(file.getNode("baselineLR").real())
    except (UnicodeDecodeError, cv2.error, SystemError) as error:
        raise BadSample(f"{name} is no XML file that OpenCV wrote: {error}") from error
    if camera is None or camera.shape[0] < 3 or camera.shape[1] < 3 or not baseline > 0:
        raise BadSample(f"{name} lacks the matrix {node} or a baselineLR above 0")
    return np.asarray(camera[:3, :3], np.float64), baseline * MILLIMETER


class Booster(DepthDataset):
    """Images of camera_00 and camera_02 with their disparities.

    All images of the root count that have a disparity: train/balanced has 228 of each camera, which
    are SharpDepth's 456. As in the owners' script, image and truth are shrunk to a quarter; depth is
    fx * baseline / disparity. `split` names a list with lines `image disparity calibration`.

    Args:
        factor: by which both are shrunk.
        root, split: see `ListedDataset`.
    """

    name = "booster"
    title = "Booster"
    layout = (
        "<scene>/{camera_00,camera_02}/im*.png, <scene>/disp_{00,02}.npy and <scene>/calib_00-02.xml, as in "
        "Booster's train/balanced"
    )
    words = 3
    places = ("booster", "Booster", "booster_gt")
    folders = ("", "train/balanced", "balanced")

    def __init__(self, root: str | Path, split: str | Path | None = None, factor: int = 4) -> None:
        super().__init__(root, split)
        if factor < 1:
            raise UserError(f"data set '{self.name}': factor must be at least 1, not {factor}")
        self.factor = factor

    def own_lines(self, split: str | None) -> list[str]:
        """See `ListedDataset.own_lines`.

        Raises:
            MissingFileError: the root holds no images with disparity.
        """
        return self.lines_like(
            IMAGE, lambda m: (f"{m['scene']}disp_{m['camera']}.npy", f"{m['scene']}{CALIBRATION}")
        )

    def image_file(self, index: int) -> tuple[str, bytes | None]:
        """See `Dataset.image_file`."""
        path, data = super().image_file(index)
        return path, data if self.factor == 1 else None

    def paths(self, line: list[str]) -> list[str]:
        """See `ListedDataset.paths`."""
        return line[:3]

    def intrinsics(self, line: list[str]) -> Float64[np.ndarray, "3 3"]:
        """The camera of the shrunk image."""
        camera, _ = self._calibration(line)
        camera[:2] /= self.factor
        camera[:2, 2] += 0.5 / self.factor - 0.5  # the image's corner stays where it is
        return camera

    def decode(self, line: list[str]) -> Decoded:
        """See `DepthDataset.decode`."""
        image = decode_image(self.archive.read(line[0]), line[0])
        disparity, known = read_depth_npy(self.archive.read(line[1]), name=line[1])
        camera, baseline = self._calibration(line)
        with np.errstate(divide="ignore"):
            depth, mask = measured(camera[0, 0] * baseline / disparity, known)
        size = image.shape[1] // self.factor, image.shape[0] // self.factor
        if self.factor > 1:
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
            depth = cv2.resize(depth, size, interpolation=cv2.INTER_NEAREST_EXACT)
            mask = cv2.resize(mask.view(np.uint8), size, interpolation=cv2.INTER_NEAREST_EXACT).view(np.bool_)
        return image, depth, mask

    def _calibration(self, line: list[str]) -> tuple[Float64[np.ndarray, "3 3"], float]:
        match = IMAGE.fullmatch(line[0])
        node = NODES[match["camera"] if match else "00"]
        return read_calibration(self.archive.read(line[2]), node, line[2])
