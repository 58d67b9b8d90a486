"""ScanNet: 800 images of its validation scenes (Dai et al. 2017), as Marigold drew them."""

from depthkd.benchmarks.files import Decoded, FileBenchmark
from depthkd.formats.depth import read_depth_png
from depthkd.formats.images import decode_image


class ScanNet(FileBenchmark):
    """Lines `rgb depth`; PNGs in millimetres, 0 not measured; 1e-3 to 10 m."""

    name = "scannet"
    data_set = "ScanNet"
    split_name = "scannet_val_800.txt"
    own_resolution = "native"
    layout = "<scene>/{color/*.jpg,depth/*.png}, as Marigold's scannet_val_sampled_800_1.tar has them"

    def decode(self, line: list[str]) -> Decoded:
        """See `FileBenchmark.decode`."""
        image = decode_image(self.archive.read(line[0]), line[0])
        depth, mask = read_depth_png(self.archive.read(line[1]), 1 / 1000, name=line[1])
        return image, depth, mask
