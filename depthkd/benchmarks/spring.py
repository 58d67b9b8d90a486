"""Spring: 1015 rendered frames with very fine true disparity (Mehl et al. 2023), as SharpDepth chose them."""

import numpy as np
from jaxtyping import Float64

from depthkd.benchmarks.files import Decoded, FileBenchmark
from depthkd.formats.datasets import camera_matrix, measured, read_dsp5
from depthkd.formats.images import decode_image
from depthkd.metrics.catalogue import MetricSet

BASELINE = 0.065  # m
FARTHEST = 200.0  # m


class Spring(FileBenchmark):
    """Lines `image disparity fx fy cx cy`; 1e-5 to 200 m, as SharpDepth scores it.

    Every second row and column of the disparity is one pixel of the image, and depth is
    fx * baseline / disparity. What is farther than 200 m, the sky among it, is drawn in to 200 m, so
    that the whole map has edges; the range leaves it out of figures per pixel.
    """

    name = "spring"
    data_set = "Spring"
    split_name = "spring_test.txt"
    layout = "<scene>/frame_left/*.png and <scene>/disp1_left/*.dsp5, as in Spring's train/"
    folders = ("", "train")
    figures = (MetricSet.DEPTH, MetricSet.EDGES)
    min_depth = 1e-5
    max_depth = FARTHEST

    def intrinsics(self, line: list[str]) -> Float64[np.ndarray, "3 3"]:
        """The list's camera, whose principal point counts from the image's corner."""
        fx, fy, cx, cy = (float(word) for word in line[2:6])
        return camera_matrix(fx, fy, cx - 0.5, cy - 0.5)

    def decode(self, line: list[str]) -> Decoded:
        """See `FileBenchmark.decode`."""
        image = decode_image(self.archive.read(line[0]), line[0])
        disparity = read_dsp5(self.archive.read(line[1]), line[1])[::2, ::2]
        with np.errstate(divide="ignore"):
            depth = np.minimum(float(line[2]) * BASELINE / disparity, FARTHEST)
        return image, *measured(depth)
