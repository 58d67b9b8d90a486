"""BlendedMVS and BlendedMVG: rendered reconstructions, blended with photographs (Yao et al. 2020)."""

import re

import numpy as np
from jaxtyping import Float64

from depthkd.batch import DepthSpace
from depthkd.datasets.dataset import Decoded, DepthDataset
from depthkd.datasets.encodings import measured, read_pfm
from depthkd.formats.images import decode_image
from depthkd.formats.sample import BadSample

IMAGE = re.compile(r"(?P<scene>(?:.*/)?)blended_images/(?P<view>\d+)\.jpg")
NUMBERS = 9  # of a camera's matrix


class BlendedMVS(DepthDataset):
    """Photographs with the depth of a reconstruction, whose scale is unknown: PFMs, 0 where it has nothing.

    All images of the root count; `split` names a list with lines `image depth camera`.
    """

    name = "blendedmvs"
    title = "BlendedMVS"
    space = DepthSpace.parse("scale depth")
    layout = (
        "<scene>/blended_images/*.jpg, <scene>/rendered_depth_maps/*.pfm and <scene>/cams/*_cam.txt, as the "
        "owners' zips unpack"
    )
    words = 3
    places = ("blendedmvs", "BlendedMVS", "BlendedMVG")

    def own_lines(self, split: str | None) -> list[str]:
        """See `ListedDataset.own_lines`."""
        return self.lines_like(
            IMAGE,
            lambda m: (
                f"{m['scene']}rendered_depth_maps/{m['view']}.pfm",
                f"{m['scene']}cams/{m['view']}_cam.txt",
            ),
        )

    def paths(self, line: list[str]) -> list[str]:
        """See `ListedDataset.paths`."""
        return line[:3]

    def intrinsics(self, line: list[str]) -> Float64[np.ndarray, "3 3"]:
        """The camera of an image, from the words behind "intrinsic" in its text file."""
        words = self.archive.read(line[2]).decode(errors="replace").partition("intrinsic")[2].split()
        try:
            matrix = np.array([float(word) for word in words[:NUMBERS]]).reshape(3, 3)
        except ValueError as error:
            raise BadSample(f"{line[2]} has no matrix of nine numbers behind 'intrinsic'") from error
        return matrix

    def decode(self, line: list[str]) -> Decoded:
        """See `DepthDataset.decode`."""
        image = decode_image(self.archive.read(line[0]), line[0])
        return image, *measured(read_pfm(self.archive.read(line[1]), line[1]))
