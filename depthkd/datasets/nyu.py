"""NYUv2: indoor images of a Kinect (Silberman et al. 2012), 1449 of them labelled, 654 of these tested."""

import re
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float64

from depthkd.datasets.archive import Archive
from depthkd.datasets.dataset import Decoded, DepthDataset, words_of
from depthkd.datasets.encodings import measured
from depthkd.datasets.nyu_mat import LabelledMat
from depthkd.errors import UserError
from depthkd.formats.depth import read_depth_png
from depthkd.formats.images import decode_image
from depthkd.geometry import camera_matrix

CAMERA = (518.8579, 519.4696, 325.5824, 253.7362)  # px: the toolbox's camera_params.m, as it stands there
TRAINING = re.compile(r"(?!(?:.*/)?test/)(?P<folder>(?:.*/)?)rgb_(?P<frame>\d+)\.(?P<kind>png|jpg)")
SYNCHRONIZED = "sync_depth_"  # in the names of BTS's depth
INSIDE = np.s_[45:472, 43:608]  # of 480 x 640: BTS trains within, for around it images and depth have borders


class NYUv2(DepthDataset):
    """Lines `rgb depth filled`, or `rgb depth` and a focal length.

    In Marigold's export the files are PNGs in millimeters, 0 where nothing was measured. In the owners'
    nyu_depth_v2_labeled.mat, read in its place, they are frames in meters: see `LabelledMat`. BTS's sync.zip
    has frames of the owners' videos, <scene>/rgb_NNNNN.jpg and <scene>/sync_depth_NNNNN.png; their depth is
    valid within the borders that BTS cuts off.

    Args:
        root: the folder, tar, zip or .mat.
        split: "test" (also where None), the 654 labelled images; "train", the other 795 of the .mat or of
            Marigold's export, or all images of sync; or a list, such as the
            nyudepthv2_train_files_with_gt.txt that comes with BTS: 24,231 images of sync.
        truth: "raw" is what Kinect measured, which papers score; "filled" its inpainting.
    """

    name = "nyuv2"
    title = "NYUv2"
    splits: ClassVar = {"test": "nyuv2_test_654.txt", "train": None}
    layout = (
        "{test,train}/<scene>/{rgb,depth,filled}_NNNN.png, as Marigold's nyu_labeled_extracted.tar has them, "
        "or the owners' nyu_depth_v2_labeled.mat, or <scene>/{rgb_NNNNN.jpg,sync_depth_NNNNN.png}, as BTS's "
        "sync.zip has them"
    )
    folders = ("", "sync")
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

    def own_lines(self, split: str | None) -> list[str]:
        """See `ListedDataset.own_lines`."""
        if split != "train":
            return super().own_lines(split)
        if isinstance(self.archive, LabelledMat):
            return self.archive.lines_without(super().own_lines("test"))
        return self.lines_like(TRAINING, _partners)

    def of_samples(self, lines: list[str]) -> list[str]:
        """See `ListedDataset.of_samples`; the paths in BTS's lists begin with a slash."""
        return ["\t".join(word.removeprefix("/") for word in words_of(line)) for line in lines]

    def listed(self) -> list[str]:
        """See `ListedDataset.listed`.

        Raises:
            UserError: filled depth is asked for, and there is none.
        """
        lines = super().listed()
        if self.truth == "filled" and any(SYNCHRONIZED in line for line in lines):
            raise UserError(
                f"data set '{self.name}': {self.root} has depth as it was measured alone; leave out truth"
            )
        return lines

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
        depth, mask = read_depth_png(self.archive.read(path), 1 / 1000, name=path)
        if SYNCHRONIZED in path and mask.shape == (480, 640):
            inside = np.zeros_like(mask)
            inside[INSIDE] = True
            mask &= inside
        return image, depth, mask

    def image_file(self, index: int) -> tuple[str, bytes | None]:
        """See `Dataset.image_file`."""
        path, data = super().image_file(index)
        return path, None if isinstance(self.archive, LabelledMat) else data


def _partners(image: re.Match[str]) -> list[str]:
    """The files that go with an image of either layout."""
    folder, frame = image["folder"], image["frame"]
    if image["kind"] == "jpg":
        return [f"{folder}{SYNCHRONIZED}{frame}.png"]
    return [f"{folder}{kind}_{frame}.png" for kind in ("depth", "filled")]
