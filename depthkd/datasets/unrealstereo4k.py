"""UnrealStereo4K: 200 rendered images with true disparity (Tosi et al. 2021), as SharpDepth chose them."""

from pathlib import PurePosixPath
from typing import ClassVar

import numpy as np
from jaxtyping import Float64

from depthkd.datasets.cameras import read_matrix_line
from depthkd.datasets.dataset import Decoded, DepthDataset
from depthkd.datasets.encodings import rendered
from depthkd.formats.depth import read_depth_npy
from depthkd.formats.images import decode_image


class UnrealStereo4K(DepthDataset):
    """Lines `image disparity factor` of sequence 00008.

    Depth is factor / disparity; the list says 960 for all, and depth is infinite in the sky. Cameras are read
    from `Extrinsics0/NNNNN.txt` of the sequence, where they are there.
    """

    name = "unrealstereo4k"
    title = "UnrealStereo4K"
    splits: ClassVar = {"test": "unrealstereo4k_test.txt"}
    layout = "Image0/*.png and Disp0/*.npy of sequence 00008"
    words = 3
    places = ("unrealstereo4k", "UnrealStereo4K")
    folders = ("", "00008")

    def intrinsics(self, line: list[str]) -> Float64[np.ndarray, "3 3"] | None:
        """The image's camera, where its text file is there."""
        image = PurePosixPath(line[0])
        path = str(
            image.parent.parent / image.parent.name.replace("Image", "Extrinsics") / f"{image.stem}.txt"
        )
        return read_matrix_line(self.archive.read(path), path) if path in self.archive else None

    def decode(self, line: list[str]) -> Decoded:
        """See `DepthDataset.decode`."""
        image = decode_image(self.archive.read(line[0]), line[0])
        disparity, known = read_depth_npy(self.archive.read(line[1]), name=line[1])
        with np.errstate(divide="ignore"):
            return image, *rendered(self.numbers(line, 2, 3)[0] / disparity, known)
