"""The Middlebury 2014 motorcycle that scikit-image carries: one real image with measured truth, offline."""

import numpy as np
from skimage.data import stereo_motorcycle

from depthkd.batch import METRIC_DEPTH
from depthkd.datasets.dataset import Dataset
from depthkd.datasets.photographs import bundled
from depthkd.formats.sample import Sample, content_digest, read_file
from depthkd.geometry import camera_matrix

# scikit-image's documentation of `stereo_motorcycle`, for the images reduced by 4.
FOCAL_LENGTH = 994.978  # px
PRINCIPAL_POINT = (311.193, 254.877)  # px, of the left camera
PRINCIPAL_POINT_OFFSET = 31.086  # px, x of the right camera's minus the left's
BASELINE = 0.193001  # m


class Motorcycle(Dataset):
    """One image of 500x741 pixels, 2.1 to 5.0 m deep, 93 % of it measured.

    Depth is baseline * focal length / (disparity + offset of the principal points): the printed
    disparities alone are not proportional to 1 / depth.
    """

    name = "motorcycle"
    bundled = True
    title = "Middlebury"

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
        intrinsics = camera_matrix(FOCAL_LENGTH, FOCAL_LENGTH, cx, cy)
        digest = content_digest(read_file(bundled("motorcycle_left.png")))
        return Sample("motorcycle", np.array(image), depth, mask, intrinsics, METRIC_DEPTH, digest=digest)
