"""ETH3D's images with the points that structure from motion found in them, at the size of OMNI-DC."""

from dataclasses import replace
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any, Literal

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, UInt8

from depthkd.datasets.archive import Archive
from depthkd.datasets.cameras import read_colmap_points
from depthkd.datasets.dataset import Decoded
from depthkd.datasets.eth3d import ETH3D
from depthkd.formats.sample import BadSample, Sample
from depthkd.geometry import crop_intrinsics, resize_intrinsics
from depthkd.shapes import DepthArray, MaskArray

FACTOR = 8  # by which image and truth are shrunk
CROP = (480, 640)  # of the shrunk image, its middle
PARTS = {  # scenes; OMNI-DC validates on two others, courtyard and office
    "indoors": ("delivery_area", "kicker", "pipes", "relief", "relief_2", "terrains"),
    "outdoor": ("electro", "facade", "meadow", "playground", "terrace"),
}
Part = Literal["all", "indoor", "outdoor"]


class ETH3DSfM(ETH3D):
    """Lines `rgb depth`; an eighth of ETH3D's size, the middle 480 x 640, with the points of COLMAP's model.

    Image and truth are shrunk to an eighth, where a pixel's truth is the mean of what was measured in it. A
    point is where the owners' features found it, at the depth of its place in their model; the nearest one
    counts in a pixel.

    Args:
        root: as of `ETH3D`, with `rgb/<scene>/dslr_calibration_jpg/{images,points3D}.txt` of the owners'
            multi_view_training_dslr_jpg.7z, which are not in Marigold's tar.
        part: "all", "indoor" (6 scenes) or "outdoor" (5), without the two that OMNI-DC validates on.
        split, height, width: see `ETH3D`.
    """

    name = "eth3d_sfm"
    layout = (
        "rgb/<scene>/images/dslr_images/*.JPG and depth/<scene>_dslr_depth/..., as Marigold's eth3d.tar, and "
        "rgb/<scene>/dslr_calibration_jpg/{images,points3D}.txt, as ETH3D's multi_view_training_dslr_jpg.7z"
    )

    def __init__(self, *place: Any, part: Part = "all", **settings: Any) -> None:
        super().__init__(*place, **settings)
        self.part = part

    def has_truth(self, line: list[str]) -> bool:
        """Lines of other scenes do not count."""
        part = _part(line)
        return part is not None and part.startswith(self.part if self.part != "all" else "")

    def group(self, index: int) -> str | None:
        """ "indoors" or "outdoor", where both are tested."""
        return _part(self.line(index)) if self.part == "all" else None

    def paths(self, line: list[str]) -> list[str]:
        """See `ListedDataset.paths`."""
        folder = _model(line)
        return [*line[:2], f"{folder}/images.txt", f"{folder}/points3D.txt"]

    def sample_of(self, line: list[str]) -> Sample:
        """See `ListedDataset.sample_of`."""
        sample = super().sample_of(line)
        if sample.intrinsics is None:
            return sample
        camera = resize_intrinsics(torch.from_numpy(sample.intrinsics), 1 / FACTOR, 1 / FACTOR)
        return replace(sample, intrinsics=crop_intrinsics(camera, *self._corner()).numpy())

    def sparse(self, line: list[str]) -> DepthArray:
        """The points, in the pixels of what `decode` gives."""
        _, _, images, points = self.paths(line)
        known = _points(self.archive, images, points).get(PurePosixPath(line[0]).name)
        if known is None:
            raise BadSample(f"{images} has no image {PurePosixPath(line[0]).name}")
        top, left = self._corner()
        column = np.floor(known[:, 0] / FACTOR - left).astype(int)
        row = np.floor(known[:, 1] / FACTOR - top).astype(int)
        inside = (row >= 0) & (row < CROP[0]) & (column >= 0) & (column < CROP[1]) & (known[:, 2] > 0)
        nearest = np.full(CROP, np.inf)
        np.minimum.at(nearest, (row[inside], column[inside]), known[inside, 2])
        return np.where(np.isinf(nearest), 0, nearest).astype(np.float32)

    def decode(self, line: list[str]) -> Decoded:
        """See `DepthDataset.decode`."""
        image, depth, mask = super().decode(line)
        if image.shape[:2] != mask.shape:
            raise BadSample(f"{line[0]} has {image.shape[:2]} pixels, but its truth {mask.shape}")
        top, left = self._corner()
        area = np.s_[top : top + CROP[0], left : left + CROP[1]]
        shrunk, known = shrunk_truth(depth, mask)
        return shrunk_image(image)[area], shrunk[area], known[area]

    def _corner(self) -> tuple[int, int]:
        """Row and column of the crop in the shrunk image.

        Raises:
            BadSample: that is smaller than the crop.
        """
        height, width = (side // FACTOR for side in self.size)
        top, left = (height - CROP[0]) // 2, (width - CROP[1]) // 2
        if min(top, left) < 0:
            raise BadSample(f"{self.name}: an eighth of {self.size} is smaller than the crop, {CROP}")
        return top, left


def shrunk_image(image: UInt8[np.ndarray, "_ _ 3"]) -> UInt8[np.ndarray, "_ _ 3"]:
    """An eighth of an image: means of 8 x 8 pixels; what is left over at the end is left out."""
    height, width = (side // FACTOR for side in image.shape[:2])
    whole = image[: height * FACTOR, : width * FACTOR]
    return np.asarray(cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def shrunk_truth(
    depth: DepthArray, mask: MaskArray
) -> tuple[Float32[np.ndarray, "small_height small_width"], Bool[np.ndarray, "small_height small_width"]]:
    """An eighth of a depth map: the mean of what is known of 8 x 8 pixels, and where that is any."""
    height, width = (side // FACTOR for side in depth.shape)
    shape, area = (height, FACTOR, width, FACTOR), np.s_[: height * FACTOR, : width * FACTOR]
    known = mask[area].reshape(shape).sum((1, 3))
    total = np.where(mask, depth, 0)[area].reshape(shape).sum((1, 3), dtype=np.float64)
    return (total / np.maximum(known, 1)).astype(np.float32), known > 0


def _part(line: list[str]) -> str | None:
    folders = set(PurePosixPath(line[0]).parts)
    return next((part for part, scenes in PARTS.items() if folders & set(scenes)), None)


def _model(line: list[str]) -> str:
    parents = PurePosixPath(line[0]).parents
    return str(parents[min(2, len(parents) - 1)] / "dslr_calibration_jpg")


@lru_cache(1)
def _points(archive: Archive, images: str, points: str) -> dict[str, Float64[np.ndarray, "points 3"]]:
    return read_colmap_points(archive.read(images), archive.read(points), images)
