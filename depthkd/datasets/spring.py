"""Spring: 1015 rendered frames with very fine true disparity (Mehl et al. 2023), as SharpDepth chose them."""

from typing import ClassVar

import numpy as np
from jaxtyping import Float64

from depthkd.datasets.dataset import Decoded, DepthDataset
from depthkd.datasets.encodings import read_dsp5, rendered
from depthkd.formats.images import decode_image
from depthkd.geometry import camera_matrix

BASELINE = 0.065  # m


class Spring(DepthDataset):
    """Lines `image disparity fx fy cx cy`.

    Every second row and column of the disparity is one pixel of the image, and depth is
    fx * baseline / disparity; it is infinite in the sky.
    """

    name = "spring"
    title = "Spring"
    splits: ClassVar = {"test": "spring_test.txt"}
    layout = "<scene>/frame_left/*.png and <scene>/disp1_left/*.dsp5, as in Spring's train/"
    words = 6
    places = ("spring", "Spring")
    folders = ("", "train")

    def intrinsics(self, line: list[str]) -> Float64[np.ndarray, "3 3"]:
        """The list's camera, whose principal point counts from the image's corner."""
        fx, fy, cx, cy = self.numbers(line, 2, 6)
        return camera_matrix(fx, fy, cx - 0.5, cy - 0.5)

    def decode(self, line: list[str]) -> Decoded:
        """See `DepthDataset.decode`."""
        image = decode_image(self.archive.read(line[0]), line[0])
        disparity = read_dsp5(self.archive.read(line[1]), line[1])[::2, ::2]
        with np.errstate(divide="ignore"):
            return image, *rendered(self.numbers(line, 2, 3)[0] * BASELINE / disparity)
