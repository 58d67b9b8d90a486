"""KITTI, Eigen's split: 697 lines, 652 of them with improved truth (Uhrig et al. 2017)."""

import re
from typing import ClassVar

import numpy as np
from jaxtyping import Float64

from depthkd.datasets.dataset import Decoded, DepthDataset
from depthkd.formats.depth import read_depth_png
from depthkd.formats.images import decode_image
from depthkd.geometry import camera_matrix

DATE = re.compile(r"20\d\d_\d\d_\d\d")
CAMERAS = {  # fx = fy, cx and cy in px of P_rect_02, whole images, top-left pixel's center at (0, 0)
    "2011_09_26": (721.5377, 609.5593, 172.8540),
    "2011_09_28": (707.0493, 604.0814, 180.5066),
    "2011_09_29": (718.3351, 600.3891, 181.5122),
    "2011_09_30": (707.0912, 601.8873, 183.1104),
    "2011_10_03": (718.8560, 607.1928, 185.2157),
}


class KITTI(DepthDataset):
    """Lines `rgb depth focal`; PNGs in 1/256 meter, 0 not measured.

    Args:
        root, split: see `ListedDataset`.
    """

    name = "kitti"
    title = "KITTI"
    splits: ClassVar = {"test": "kitti_eigen_test_697.txt"}
    layout = (
        "<date>/<drive>/image_02/data/*.png and <drive>/proj_depth/groundtruth/image_02/*.png, as Marigold's "
        "kitti_eigen_split_test.tar has them"
    )
    places = ("kitti/kitti_eigen_split_test.tar", "kitti/kitti_eigen_split_test", "kitti")

    def intrinsics(self, line: list[str]) -> Float64[np.ndarray, "3 3"] | None:
        """The rectified color camera of the image's day; None where the path names no day."""
        date = DATE.search(line[0])
        if date is None or date[0] not in CAMERAS:
            return None
        focal, cx, cy = CAMERAS[date[0]]
        return camera_matrix(focal, focal, cx, cy)

    def decode(self, line: list[str]) -> Decoded:
        """See `DepthDataset.decode`."""
        image = decode_image(self.archive.read(line[0]), line[0])
        return image, *read_depth_png(self.archive.read(line[1]), 1 / 256, name=line[1])
