"""NYUv2: 654 labelled indoor images (Silberman et al. 2012), as their owners or Marigold's tar ship them."""

from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64

from depthkd.benchmarks.archive import Archive
from depthkd.benchmarks.files import Decoded, FileBenchmark
from depthkd.benchmarks.nyu_mat import LabelledMat
from depthkd.formats.datasets import camera_matrix, measured
from depthkd.formats.depth import read_depth_png
from depthkd.formats.images import decode_image

CAMERA = (518.8579, 519.4696, 325.5824, 253.7362)  # px: the toolbox's camera_params.m, as it stands there
EIGEN_CROP = np.s_[45:471, 41:601]  # of 480 x 640; outside it Kinect's depth was never projected


class NYUv2(FileBenchmark):
    """Lines `rgb depth filled`; scored in Eigen's crop.

    In Marigold's export the files are PNGs in millimetres, 0 where nothing was measured. In the owners'
    nyu_depth_v2_labeled.mat, read in its place, they are frames in metres: see `LabelledMat`.

    Args:
        truth: "raw" is what Kinect measured, which papers score; "filled" its inpainting.
        root, settings: see `FileBenchmark`.
    """

    name = "nyuv2"
    data_set = "NYUv2"
    split_name = "nyuv2_test_654.txt"
    own_resolution = "native"
    layout = (
        "test/<scene>/{rgb,depth,filled}_NNNN.png, as Marigold's nyu_labeled_extracted.tar has them, or the "
        "owners' nyu_depth_v2_labeled.mat"
    )

    def __init__(
        self,
        root: str | Path,
        truth: Literal["raw", "filled"] = "raw",
        **settings: Any,
    ) -> None:
        super().__init__(root, **settings)
        self.truth = truth

    @cached_property
    def archive(self) -> Archive:
        """See `ListedBenchmark.archive`; the owners' file as well."""
        mat = LabelledMat.within(self.root)
        return super().archive if mat is None else LabelledMat(mat)

    def paths(self, line: list[str]) -> list[str]:
        """See `ListedBenchmark.paths`."""
        return [line[0], line[1 if self.truth == "raw" else 2]]

    def intrinsics(self, line: list[str]) -> Float64[np.ndarray, "3 3"]:
        """The Kinect's, of which all images are; calibrated with the top-left pixel's centre at (0, 0)."""
        return camera_matrix(*CAMERA)

    def decode(self, line: list[str]) -> Decoded:
        """See `FileBenchmark.decode`."""
        path = self.paths(line)[1]
        if isinstance(self.archive, LabelledMat):
            image = self.archive.image(line[0])
            depth, mask = measured(self.archive.depth(path))
        else:
            image = decode_image(self.archive.read(line[0]), line[0])
            depth, mask = read_depth_png(self.archive.read(path), 1 / 1000, name=path)
        crop = np.zeros_like(mask)
        crop[EIGEN_CROP] = True
        return image, depth, mask & crop
