"""KITTI: streets with LiDAR's depth, gathered over time (Uhrig et al. 2017); Eigen's split tests on 652."""

import re
from typing import ClassVar

import numpy as np
from jaxtyping import Float64

from depthkd.datasets.dataset import Decoded, DepthDataset, shipped_split
from depthkd.formats.depth import read_depth_png
from depthkd.formats.images import decode_image
from depthkd.geometry import camera_matrix

DATE = re.compile(r"20\d\d_\d\d_\d\d")
TRUTH = re.compile(
    r"(?:.*/)?(?P<path>(?P<drive>(?P<day>20\d\d_\d\d_\d\d)_drive_\d{4}_sync)/proj_depth/groundtruth/"
    r"(?P<camera>image_0[23])/(?P<frame>\d{10})\.png)"
)
# fx = fy, cx and cy in px of P_rect_02 and of P_rect_03, which differ in their fourth columns alone; whole
# images, top-left pixel's center at (0, 0)
CAMERAS = {
    "2011_09_26": (721.5377, 609.5593, 172.8540),
    "2011_09_28": (707.0493, 604.0814, 180.5066),
    "2011_09_29": (718.3351, 600.3891, 181.5122),
    "2011_09_30": (707.0912, 601.8873, 183.1104),
    "2011_10_03": (718.8560, 607.1928, 185.2157),
}


class KITTI(DepthDataset):
    """Lines `rgb depth`, perhaps with the focal length behind; PNGs in 1/256 meter, 0 not measured.

    Args:
        root: the folder, tar or zip.
        split: "test" (also where None), Eigen's 697 lines, 652 of them with depth; "train", every depth map
            that the root has of both color cameras, but for the 28 drives of Eigen's test; or a list, such
            as the eigen_train_files_with_gt.txt that comes with BTS: Eigen's 23,158 images of 33 drives, of
            the left camera.
    """

    name = "kitti"
    title = "KITTI"
    splits: ClassVar = {"test": "kitti_eigen_test_697.txt", "train": None}
    layout = (
        "<date>/<drive>/image_0{2,3}/data/*.png, in the root or below raw/, and "
        "<drive>/proj_depth/groundtruth/image_0{2,3}/*.png, in the root or below data_depth_annotated/"
        "{train,val}/; Marigold's kitti_eigen_split_test.tar has those of the test"
    )
    places = ("kitti/kitti_eigen_split_test.tar", "kitti/kitti_eigen_split_test", "kitti")
    folders = (
        "", "raw", "raw_data", "kitti_raw", "data_depth_annotated", "data_depth_annotated/train",
        "data_depth_annotated/val", "train", "val",
    )  # fmt: skip

    def own_lines(self, split: str | None) -> list[str]:
        """See `ListedDataset.own_lines`."""
        tested = shipped_split("kitti_eigen_test_697.txt")
        if split != "train":
            return tested
        found = [match for name in self.archive.names() if (match := TRUTH.fullmatch(name))]
        if not found:
            raise self.nothing_here("depth maps")
        drives = {line.split("/")[1] for line in tested}
        lines = [
            f"{m['day']}/{m['drive']}/{m['camera']}/data/{m['frame']}.png\t{m['path']}"
            for m in found
            if m["drive"] not in drives
        ]
        return list(dict.fromkeys(lines))  # a drive may stand in the root and below data_depth_annotated

    def intrinsics(self, line: list[str]) -> Float64[np.ndarray, "3 3"] | None:
        """The rectified color cameras of the day, which are alike; None where the path names no day."""
        return camera_of_day(line[0])

    def decode(self, line: list[str]) -> Decoded:
        """See `DepthDataset.decode`."""
        image = decode_image(self.archive.read(line[0]), line[0])
        return image, *read_depth_png(self.archive.read(line[1]), 1 / 256, name=line[1])


def camera_of_day(path: str) -> Float64[np.ndarray, "3 3"] | None:
    """The rectified color cameras of the day that a path names, of whole images; None where it names none."""
    date = DATE.search(path)
    if date is None or date[0] not in CAMERAS:
        return None
    focal, cx, cy = CAMERAS[date[0]]
    return camera_matrix(focal, focal, cx, cy)
