"""TartanAir: 30 rendered environments, indoors and outdoors, along camera paths (Wang et al. 2020)."""

import re

import numpy as np
from jaxtyping import Float64

from depthkd.datasets.dataset import Decoded, DepthDataset
from depthkd.datasets.encodings import rendered
from depthkd.formats.depth import read_npy
from depthkd.formats.images import decode_image
from depthkd.geometry import camera_matrix

CAMERA = (320.0, 320.0, 320.0, 240.0)  # px, of all images: 90 degrees at 640 x 480
SKY = 1000.0  # m; the owners: "the sky has a large depth value (e.g. 10000)"
IMAGE = re.compile(r"(?P<path>(?:.*/)?P\d+/)image_(?P<side>left|right)/(?P<frame>\d+)_(?P=side)\.png")


class TartanAir(DepthDataset):
    """Images of 640 x 480 of both cameras, with depth in meters as .npy; the sky is infinite, and not valid.

    All images of the root count that lie in the owners' layout; `split` names a list with lines `image
    depth`.
    """

    name = "tartanair"
    title = "TartanAir"
    layout = (
        "<environment>/{Easy,Hard}/PNNN/{image,depth}_{left,right}/*, as the owners' image_left.zip, "
        "depth_left.zip and those of the right camera unpack"
    )
    places = ("tartanair", "TartanAir")

    def own_lines(self, split: str | None) -> list[str]:
        """See `ListedDataset.own_lines`."""
        return self.lines_like(
            IMAGE, lambda m: [f"{m['path']}depth_{m['side']}/{m['frame']}_{m['side']}_depth.npy"]
        )

    def intrinsics(self, line: list[str]) -> Float64[np.ndarray, "3 3"]:
        """The camera of all images."""
        return camera_matrix(*CAMERA)

    def decode(self, line: list[str]) -> Decoded:
        """See `DepthDataset.decode`."""
        image = decode_image(self.archive.read(line[0]), line[0])
        depth = read_npy(self.archive.read(line[1]), line[1]).astype(np.float32)
        return image, *rendered(np.where(depth >= SKY, np.float32(np.inf), depth), ~np.isnan(depth))
