"""KITTI, Eigen's split: 697 lines, 652 of them with improved truth (Uhrig et al. 2017)."""

import re
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8

from depthkd.benchmarks.files import Decoded, FileBenchmark
from depthkd.formats.datasets import camera_matrix
from depthkd.formats.depth import Depth, Mask, read_depth_png
from depthkd.formats.images import decode_image, image_size
from depthkd.formats.sample import BadSample

DATE = re.compile(r"20\d\d_\d\d_\d\d")
CAMERAS = {  # fx = fy, cx and cy in px of P_rect_02, whole images, top-left pixel's centre at (0, 0)
    "2011_09_26": (721.5377, 609.5593, 172.8540),
    "2011_09_28": (707.0493, 604.0814, 180.5066),
    "2011_09_29": (718.3351, 600.3891, 181.5122),
    "2011_09_30": (707.0912, 601.8873, 183.1104),
    "2011_10_03": (718.8560, 607.1928, 185.2157),
}
KB_CROP = (352, 1216)  # height, width: bottom and centre, of image and truth
CROPS = {  # rows and columns that are scored, as fractions of the map
    "eigen": (0.3324324, 0.91351351, 0.0359477, 0.96405229),
    "garg": (0.40810811, 0.99189189, 0.03594771, 0.96405229),
}


def kb_region(size: tuple[int, ...], name: str) -> tuple[slice, slice]:
    """Rows and columns of the benchmark's crop in an image of that (height, width).

    Raises:
        BadSample: the image is smaller.
    """
    height, width = size
    top, left = height - KB_CROP[0], (width - KB_CROP[1]) // 2
    if top < 0 or left < 0:
        raise BadSample(f"{name} is {height} x {width}, smaller than the crop, {KB_CROP[0]} x {KB_CROP[1]}")
    return slice(top, top + KB_CROP[0]), slice(left, left + KB_CROP[1])


def kb_cropped(
    image: UInt8[np.ndarray, "_ _ 3"], depth: Float32[np.ndarray, "_ _"], mask: Bool[np.ndarray, "_ _"],
    line: list[str],
) -> Decoded:  # fmt: skip
    """Image, depth and mask, each cut to the benchmark's crop.

    Raises:
        BadSample: one is smaller; `line` names the files of image and truth.
    """
    rows, columns = kb_region(image.shape[:2], line[0])
    image = image[rows, columns]
    rows, columns = kb_region(mask.shape, line[1])
    return image, depth[rows, columns], mask[rows, columns]


def scored_crop(size: tuple[int, ...], crop: str) -> Bool[np.ndarray, "height width"]:
    """Where a crop of `CROPS` lets pixels count; everywhere for "none"."""
    height, width = size
    mask = np.full(size, crop == "none")
    if crop != "none":
        top, bottom, left, right = CROPS[crop]
        mask[int(top * height) : int(bottom * height), int(left * width) : int(right * width)] = True
    return mask


class KITTI(FileBenchmark):
    """Lines `rgb depth focal`; PNGs in 1/256 metre, 0 not measured; 1e-5 to 80 m.

    Args:
        crop: which pixels are scored: "eigen" (Marigold), "garg", or "none".
        kb_crop: whether image and truth are cut to 352 x 1216 first, as most papers do.
        root, settings: see `FileBenchmark`.
    """

    name = "kitti"
    data_set = "KITTI"
    split_name = "kitti_eigen_test_697.txt"
    layout = (
        "<date>/<drive>/image_02/data/*.png and <drive>/proj_depth/groundtruth/image_02/*.png, as Marigold's "
        "kitti_eigen_split_test.tar has them"
    )
    min_depth = 1e-5
    max_depth = 80.0
    own_resolution = "native"

    def __init__(
        self,
        root: str | Path,
        crop: Literal["eigen", "garg", "none"] = "eigen",
        kb_crop: bool = True,
        **settings: Any,
    ) -> None:
        super().__init__(root, **settings)
        self.crop = crop
        self.kb_crop = kb_crop

    def intrinsics(self, line: list[str]) -> Float64[np.ndarray, "3 3"] | None:
        """The rectified color camera of the image's day, after the crop; None where the path names no day."""
        date = DATE.search(line[0])
        if date is None or date[0] not in CAMERAS:
            return None
        focal, cx, cy = CAMERAS[date[0]]
        top, left = self._corner(line)
        return camera_matrix(focal, focal, cx - left, cy - top)

    def _corner(self, line: list[str]) -> tuple[int, int]:
        """Where in the whole image the cut one begins: row and column."""
        if not self.kb_crop:
            return 0, 0
        rows, columns = kb_region(image_size(self.archive.read(line[0]), line[0]), line[0])
        return rows.start, columns.start

    def read_truth(self, path: str) -> tuple[Depth, Mask]:
        """Depth in metres, and where it is valid."""
        return read_depth_png(self.archive.read(path), 1 / 256, name=path)

    def decode(self, line: list[str]) -> Decoded:
        """See `FileBenchmark.decode`."""
        image = decode_image(self.archive.read(line[0]), line[0])
        depth, mask = self.read_truth(line[1])
        if self.kb_crop:
            image, depth, mask = kb_cropped(image, depth, mask, line)
        return image, depth, mask & scored_crop(mask.shape, self.crop)
