"""IRS: 103,316 rendered images of homes, offices, restaurants and stores, in stereo (Wang et al. 2019)."""

import re

import numpy as np
from jaxtyping import Float64

from depthkd.datasets.dataset import Decoded, DepthDataset
from depthkd.datasets.encodings import read_exr, rendered
from depthkd.formats.images import decode_image
from depthkd.geometry import camera_matrix

IMAGE = re.compile(r"(?P<folder>(?:.*/)?)l_(?P<frame>\d+)\.png")
FOCAL = 480.0  # px, at 960 x 540
BASELINE = 0.1  # m; both from the owners' README
CENTER = (479.5, 269.5)  # px: of the image, where a rendered camera has it; the owners do not say


class IRS(DepthDataset):
    """Left images of 960 x 540 with disparities in pixels, of which depth is 48 m / disparity.

    All left images of the root count. `split` names a list with lines `left right disparity`, such as those
    in lists/ of the owners' repository; the right image is not read. Disparities are OpenEXR images:
    `pip install 'depthkd[exr]'`.
    """

    name = "irs"
    title = "IRS"
    layout = "{Home,Office,Restaurant,Store}/<scene>/{l_*.png,d_*.exr}, as the owners' zips unpack"
    words = 3
    places = ("irs", "IRS", "IRSDataset")
    folders = ("", "IRSDataset")

    def own_lines(self, split: str | None) -> list[str]:
        """See `ListedDataset.own_lines`."""
        return self.lines_like(
            IMAGE, lambda m: (f"{m['folder']}r_{m['frame']}.png", f"{m['folder']}d_{m['frame']}.exr")
        )

    def paths(self, line: list[str]) -> list[str]:
        """See `ListedDataset.paths`."""
        return [line[0], line[2]]

    def intrinsics(self, line: list[str]) -> Float64[np.ndarray, "3 3"]:
        """The camera of all images."""
        return camera_matrix(FOCAL, FOCAL, *CENTER)

    def decode(self, line: list[str]) -> Decoded:
        """See `DepthDataset.decode`."""
        image = decode_image(self.archive.read(line[0]), line[0])
        disparity = read_exr(self.archive.read(line[2]), line[2])
        with np.errstate(divide="ignore"):
            return image, *rendered(FOCAL * BASELINE / disparity, disparity >= 0)
