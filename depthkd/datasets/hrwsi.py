"""HR-WSI: stereo photographs from the web, with disparity by optical flow (Xian et al. 2020)."""

import re
from typing import ClassVar

from depthkd.batch import DepthSpace
from depthkd.datasets.dataset import Decoded, DepthDataset
from depthkd.formats.depth import read_depth_png
from depthkd.formats.images import decode_image
from depthkd.formats.sample import BadSample

IMAGE = re.compile(r"(?P<folder>(?:.*/)?)imgs/(?P<name>[^/]+)\.jpg")


class HRWSI(DepthDataset):
    """Lines `image disparity mask`; disparities of unknown scale and offset, valid where the mask is not 0.

    The cameras are unknown, and PNGs of 8 or 16 bits hold the disparities in a range of their own.

    Args:
        root: the folder, tar or zip.
        split: "train" (also where None), all images but those below val/; "val", the latter; or a list.
    """

    name = "hrwsi"
    title = "HR-WSI"
    space = DepthSpace.parse("affine disparity")
    splits: ClassVar = {"train": None, "val": None}
    layout = "{train,val}/{imgs/*.jpg,gts/*.png,valid_masks/*.png}, as the owners' archive unpacks"
    words = 3
    places = ("hrwsi", "HRWSI", "HR-WSI")

    def own_lines(self, split: str | None) -> list[str]:
        """See `ListedDataset.own_lines`."""
        lines = self.lines_like(
            IMAGE, lambda m: [f"{m['folder']}{kind}/{m['name']}.png" for kind in ("gts", "valid_masks")]
        )
        return self.of_split(split, "val", lines)

    def paths(self, line: list[str]) -> list[str]:
        """See `ListedDataset.paths`."""
        return line[:3]

    def decode(self, line: list[str]) -> Decoded:
        """See `DepthDataset.decode`; disparities, as the file has them."""
        image = decode_image(self.archive.read(line[0]), line[0])
        disparity, known = read_depth_png(self.archive.read(line[1]), 1, 0, (), line[1])
        mask = decode_image(self.archive.read(line[2]), line[2])[..., 0] > 0
        if mask.shape != known.shape:
            raise BadSample(f"{line[2]} has {mask.shape} pixels, but {line[1]} {known.shape}")
        return image, disparity, known & mask
