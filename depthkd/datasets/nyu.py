"""NYUv2: 654 labelled indoor images (Silberman et al. 2012), as their owners or Marigold's tar ship them."""

from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float64

from depthkd.datasets.archive import Archive
from depthkd.datasets.dataset import Decoded, DepthDataset
from depthkd.datasets.encodings import measured
from depthkd.datasets.nyu_mat import LabelledMat
from depthkd.formats.depth import read_depth_png
from depthkd.formats.images import decode_image
from depthkd.geometry import camera_matrix

CAMERA = (518.8579, 519.4696, 325.5824, 253.7362)  # px: the toolbox's camera_params.m, as it stands there


class NYUv2(DepthDataset):
    """Lines `rgb depth filled`.

    In Marigold's export the files are PNGs in millimeters, 0 where nothing was measured. In the owners'
    nyu_depth_v2_labeled.mat, read in its place, they are frames in meters: see `LabelledMat`.

    Args:
        truth: "raw" is what Kinect measured, which papers score; "filled" its inpainting.
        root, split: see `ListedDataset`.
    """

    name = "nyuv2"
    title = "NYUv2"
    splits: ClassVar = {"test": "nyuv2_test_654.txt"}
    layout = (
        "test/<scene>/{rgb,depth,filled}_NNNN.png, as Marigold's nyu_labeled_extracted.tar has them, or the "
        "owners' nyu_depth_v2_labeled.mat"
    )
    places = (
        "nyuv2/nyu_labeled_extracted.tar",
        "nyuv2/nyu_labeled_extracted",
        "nyuv2",
        "nyu_depth_v2_labeled.mat",
    )

    def __init__(
        self,
        root: str | Path,
        split: str | Path | None = None,
        truth: Literal["raw", "filled"] = "raw",
    ) -> None:
        super().__init__(root, split)
        self.truth = truth
        self.words = 2 if truth == "raw" else 3

    @cached_property
    def archive(self) -> Archive:
        """See `ListedDataset.archive`; the owners' file as well."""
        mat = LabelledMat.within(self.root)
        return super().archive if mat is None else LabelledMat(mat)

    def paths(self, line: list[str]) -> list[str]:
        """See `ListedDataset.paths`."""
        return [line[0], line[1 if self.truth == "raw" else 2]]

    def intrinsics(self, line: list[str]) -> Float64[np.ndarray, "3 3"]:
        """The Kinect's, of which all images are; calibrated with the top-left pixel's center at (0, 0)."""
        return camera_matrix(*CAMERA)

    def decode(self, line: list[str]) -> Decoded:
        """See `DepthDataset.decode`."""
        path = self.paths(line)[1]
        if isinstance(self.archive, LabelledMat):
            return self.archive.image(line[0]), *measured(self.archive.depth(path))
        image = decode_image(self.archive.read(line[0]), line[0])
        return image, *read_depth_png(self.archive.read(path), 1 / 1000, name=path)

    def image_file(self, index: int) -> tuple[str, bytes | None]:
        """See `Dataset.image_file`."""
        path, data = super().image_file(index)
        return path, None if isinstance(self.archive, LabelledMat) else data
