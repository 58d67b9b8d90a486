"""The Middlebury 2014 motorcycle that scikit-image carries: one real image with measured truth, offline."""

import numpy as np
from skimage.data import stereo_motorcycle

from depthkd.batch import METRIC_DEPTH
from depthkd.benchmarks.benchmark import Benchmark, Protocol
from depthkd.formats.sample import Sample

# scikit-image's documentation of `stereo_motorcycle`, for the images reduced by 4.
FOCAL_LENGTH = 994.978  # px
PRINCIPAL_POINT = (311.193, 254.877)  # px, of the left camera
PRINCIPAL_POINT_OFFSET = 31.086  # px, x of the right camera's minus the left's
BASELINE = 0.193001  # m


class Motorcycle(Benchmark):
    """One image of 500x741 pixels, 2.1 to 5.0 m deep, 93 % of it measured.

    Depth is baseline * focal length / (disparity + offset of the principal points): the printed
    disparities alone are not proportional to 1 / depth.
    """

    name = "motorcycle"
    data_set = "Middlebury"

    def __init__(self, protocol: str | Protocol = "marigold") -> None:
        self.protocol = Protocol.named(protocol, min_depth=1e-3, max_depth=10.0)

    def __len__(self) -> int:
        return 1

    def sample(self, index: int) -> Sample:
        """The left image with its metric depth."""
        if index != 0:
            raise IndexError(f"motorcycle has one sample, so no index {index}")
        image, _, disparity = stereo_motorcycle()
        mask = np.isfinite(disparity)
        offset = np.where(mask, disparity, 0.0).astype(np.float64) + PRINCIPAL_POINT_OFFSET
        depth = np.where(mask, BASELINE * FOCAL_LENGTH / offset, 0.0).astype(np.float32)
        cx, cy = PRINCIPAL_POINT
        intrinsics = np.array([[FOCAL_LENGTH, 0, cx], [0, FOCAL_LENGTH, cy], [0, 0, 1]])
        return Sample("motorcycle", np.array(image), depth, mask, intrinsics, METRIC_DEPTH)
