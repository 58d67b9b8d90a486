"""Virtual KITTI 2: five rendered streets in ten weathers and views, by two cameras (Cabon et al. 2020)."""

from typing import ClassVar

import numpy as np
from jaxtyping import Float64

from depthkd.datasets.dataset import Decoded, DepthDataset
from depthkd.datasets.encodings import rendered
from depthkd.formats.depth import read_depth_png
from depthkd.formats.images import decode_image
from depthkd.geometry import camera_matrix

FRAMES = {"Scene01": 447, "Scene02": 233, "Scene06": 270, "Scene18": 339, "Scene20": 837}
SCENES = {"val": ("Scene01",), "train": ("Scene02", "Scene06", "Scene18", "Scene20")}
VARIATIONS = ("clone", "morning", "overcast", "sunset", "15-deg-left", "15-deg-right")
CAMERA = (725.0087, 725.0087, 620.5, 187.0)  # px, from the owners' intrinsic.txt
SKY = 655.35  # m


class VirtualKITTI2(DepthDataset):
    """Images of 1242 x 375 with PNGs in centimeters; the sky, 655.35 m in them, is infinite, and not valid.

    Marigold's splits, without fog, rain and the turns by 30 degrees, are regular enough to be counted off:
    "val" has the 5,364 images of Scene01, and "train" the 20,148 of the other four scenes.

    Args:
        root: the folder or tar.
        split: "val" (also where None), "train", or a list with lines `rgb depth`.
    """

    name = "virtual_kitti_2"
    title = "Virtual KITTI 2"
    layout = (
        "SceneNN/<variation>/frames/{rgb,depth}/Camera_{0,1}/*, below rgb/ and depth/ as in Marigold's "
        "vkitti.tar, or below vkitti_2.0.3_rgb/ and vkitti_2.0.3_depth/, as the owners' two tars unpack"
    )
    splits: ClassVar = {"val": None, "train": None}
    folders = ("", "rgb", "depth", "vkitti_2.0.3_rgb", "vkitti_2.0.3_depth")
    places = ("vkitti/vkitti.tar", "vkitti/vkitti", "vkitti", "vkitti2")

    def own_lines(self, split: str | None) -> list[str]:
        """See `ListedDataset.own_lines`."""
        return [
            f"{scene}/{variation}/frames/rgb/Camera_{camera}/rgb_{i:05d}.jpg "
            f"{scene}/{variation}/frames/depth/Camera_{camera}/depth_{i:05d}.png"
            for scene in SCENES[split or "val"]
            for variation in VARIATIONS
            for camera in (0, 1)
            for i in range(FRAMES[scene])
        ]

    def intrinsics(self, line: list[str]) -> Float64[np.ndarray, "3 3"]:
        """The camera of all images."""
        return camera_matrix(*CAMERA)

    def decode(self, line: list[str]) -> Decoded:
        """See `DepthDataset.decode`."""
        image = decode_image(self.archive.read(line[0]), line[0])
        depth, known = read_depth_png(self.archive.read(line[1]), 1 / 100, name=line[1])
        return image, *rendered(np.where(depth >= np.float32(SKY), np.float32(np.inf), depth), known)
