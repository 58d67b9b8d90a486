"""MPI Sintel: 1064 frames of the training films' final pass (Butler et al. 2012), with sharp truth."""

from pathlib import PurePosixPath

import numpy as np
from jaxtyping import Float64

from depthkd.benchmarks.files import Decoded, FileBenchmark
from depthkd.formats.cameras import read_cam
from depthkd.formats.datasets import read_dpt
from depthkd.formats.images import decode_image
from depthkd.metrics.catalogue import MetricSet


class Sintel(FileBenchmark):
    """Lines that begin with `final/<film>/frame_NNNN.png`; the truth is `depth/<film>/frame_NNNN.dpt`.

    Cameras are read from `camdata_left/<film>/frame_NNNN.cam` of the depth's archive, where they are there.
    1e-3 to 200 m, as SharpDepth scores it; others stop at 70 or 80 m. Figures of edges see all depths, also
    those beyond 200 m, because SharpDepth cuts Spring's and UnrealStereo4K's truth there, but not Sintel's.
    """

    name = "sintel"
    data_set = "Sintel"
    figures = (MetricSet.DEPTH, MetricSet.EDGES)
    split_name = "sintel.txt"
    layout = "final/<film>/*.png and depth/<film>/*.dpt, as in training/ of MPI-Sintel-complete and its depth"
    folders = ("", "training")
    max_depth = 200.0
    edges_beyond_range = True

    def paths(self, line: list[str]) -> list[str]:
        """See `ListedBenchmark.paths`."""
        return [line[0], _beside(line[0], "depth", ".dpt")]

    def intrinsics(self, line: list[str]) -> Float64[np.ndarray, "3 3"] | None:
        """The frame's camera, where its .cam file is there."""
        path = _beside(line[0], "camdata_left", ".cam")
        return read_cam(self.archive.read(path), path) if path in self.archive else None

    def decode(self, line: list[str]) -> Decoded:
        """See `FileBenchmark.decode`."""
        path = self.paths(line)[1]
        image = decode_image(self.archive.read(line[0]), line[0])
        depth, mask = read_dpt(self.archive.read(path), path)
        return image, depth, mask


def _beside(image: str, folder: str, suffix: str) -> str:
    """The file of another kind that belongs to an image."""
    return str(PurePosixPath(folder, *PurePosixPath(image).parts[1:]).with_suffix(suffix))
