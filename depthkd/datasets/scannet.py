"""ScanNet: 800 images of its validation scenes (Dai et al. 2017), as Marigold drew them."""

from typing import ClassVar

from depthkd.datasets.dataset import Decoded, DepthDataset
from depthkd.formats.depth import read_depth_png
from depthkd.formats.images import decode_image


class ScanNet(DepthDataset):
    """Lines `rgb depth`; PNGs in millimeters, 0 not measured."""

    name = "scannet"
    title = "ScanNet"
    splits: ClassVar = {"test": "scannet_val_800.txt"}
    layout = "<scene>/{color/*.jpg,depth/*.png}, as Marigold's scannet_val_sampled_800_1.tar has them"
    places = ("scannet/scannet_val_sampled_800_1.tar", "scannet/scannet_val_sampled_800_1", "scannet")

    def decode(self, line: list[str]) -> Decoded:
        """See `DepthDataset.decode`."""
        image = decode_image(self.archive.read(line[0]), line[0])
        depth, mask = read_depth_png(self.archive.read(line[1]), 1 / 1000, name=line[1])
        return image, depth, mask
