"""UnrealStereo4K: 200 rendered images with true disparity (Tosi et al. 2021), as SharpDepth chose them."""

from pathlib import PurePosixPath

import numpy as np
from jaxtyping import Float64

from depthkd.benchmarks.files import Decoded, FileBenchmark
from depthkd.formats.cameras import read_matrix_line
from depthkd.formats.datasets import measured
from depthkd.formats.depth import read_depth_npy
from depthkd.formats.images import decode_image
from depthkd.metrics.catalogue import MetricSet

FARTHEST = 200.0  # m


class UnrealStereo4K(FileBenchmark):
    """Lines `image disparity factor` of sequence 00008; 1e-5 to 200 m, as SharpDepth scores it.

    Depth is factor / disparity; the list says 960 for all. What is farther than 200 m is drawn in to 200
    m, so that the whole map has edges; the range leaves it out of figures per pixel. Cameras are read from
    `Extrinsics0/NNNNN.txt` of the sequence, where they are there.
    """

    name = "unrealstereo4k"
    data_set = "UnrealStereo4K"
    split_name = "unrealstereo4k_test.txt"
    layout = "Image0/*.png and Disp0/*.npy of sequence 00008"
    folders = ("", "00008")
    figures = (MetricSet.DEPTH, MetricSet.EDGES)
    min_depth = 1e-5
    max_depth = FARTHEST

    def intrinsics(self, line: list[str]) -> Float64[np.ndarray, "3 3"] | None:
        """The image's camera, where its text file is there."""
        image = PurePosixPath(line[0])
        path = str(
            image.parent.parent / image.parent.name.replace("Image", "Extrinsics") / f"{image.stem}.txt"
        )
        return read_matrix_line(self.archive.read(path), path) if path in self.archive else None

    def decode(self, line: list[str]) -> Decoded:
        """See `FileBenchmark.decode`."""
        image = decode_image(self.archive.read(line[0]), line[0])
        disparity, known = read_depth_npy(self.archive.read(line[1]), name=line[1])
        with np.errstate(divide="ignore"):
            depth = np.minimum(float(line[2]) / disparity, FARTHEST)
        return image, *measured(depth, known)
