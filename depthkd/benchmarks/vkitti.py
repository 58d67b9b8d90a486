"""Virtual KITTI 2 (Cabon et al. 2020): the 5364 images that Marigold validates on."""

import numpy as np
from jaxtyping import Float64

from depthkd.benchmarks.kitti import KITTI
from depthkd.formats.datasets import camera_matrix
from depthkd.formats.depth import Depth, Mask, read_depth_png
from depthkd.metrics.catalogue import MetricSet

SCENE = "Scene01"
VARIATIONS = ("clone", "morning", "overcast", "sunset", "15-deg-left", "15-deg-right")
FRAMES = 447
CAMERA = (725.0087, 725.0087, 620.5, 187.0)  # px, of whole images, from the owners' intrinsic.txt
SKY = 655.35  # m


class VirtualKITTI2(KITTI):
    """Scene01 of both cameras, without fog, rain and the turns by 30 degrees; 1e-5 to 80 m.

    PNGs in centimetres. The sky keeps its 655.35 m, but is not valid. A list of one's own has lines
    `rgb depth`.

    Args:
        root, crop, kb_crop, settings: see `KITTI`.
    """

    name = "vkitti2"
    data_set = "Virtual KITTI 2"
    layout = (
        "Scene01/<variation>/frames/{rgb,depth}/Camera_{0,1}/*, below rgb/ and depth/ as in Marigold's "
        "vkitti.tar, or below vkitti_2.0.3_rgb/ and vkitti_2.0.3_depth/, as the owners' two tars unpack"
    )
    folders = ("", "rgb", "depth", "vkitti_2.0.3_rgb", "vkitti_2.0.3_depth")
    figures = (MetricSet.DEPTH, MetricSet.EDGES)

    def listed(self) -> list[str]:
        """See `ListedBenchmark.listed`; Marigold's list is regular enough to be counted off."""
        if self.split is not None:
            return super().listed()
        folders = [f"{SCENE}/{variation}/frames" for variation in VARIATIONS]
        return [
            f"{folder}/rgb/Camera_{camera}/rgb_{i:05d}.jpg {folder}/depth/Camera_{camera}/depth_{i:05d}.png"
            for folder in folders
            for camera in (0, 1)
            for i in range(FRAMES)
        ]

    def read_truth(self, path: str) -> tuple[Depth, Mask]:
        """See `KITTI.read_truth`."""
        depth, mask = read_depth_png(self.archive.read(path), 1 / 100, name=path)
        return depth, mask & (depth < SKY)

    def intrinsics(self, line: list[str]) -> Float64[np.ndarray, "3 3"]:
        """The camera of all images, after the crop."""
        fx, fy, cx, cy = CAMERA
        top, left = self._corner(line)
        return camera_matrix(fx, fy, cx - left, cy - top)
