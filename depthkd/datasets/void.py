"""VOID: indoor images with the points that visual-inertial odometry tracks (Wong et al. 2020)."""

import re
from typing import ClassVar

import numpy as np
from jaxtyping import Float64

from depthkd.datasets.cameras import read_matrix
from depthkd.datasets.dataset import Decoded, DepthDataset
from depthkd.errors import MissingFileError, UserError
from depthkd.formats.depth import read_depth_png
from depthkd.formats.images import decode_image
from depthkd.shapes import DepthArray

PATH = re.compile(r"(?:.*/)?void_(?P<density>150|500|1500)/(?P<path>data/.*)")
LISTS = ("image", "ground_truth", "sparse_depth", "intrinsics")  # test_<name>.txt, line by line of one image


class VOID(DepthDataset):
    """Lines `rgb depth sparse intrinsics`; PNGs in 1/256 meter, 0 not measured.

    Args:
        root: the folder, tar or zip.
        split: how many points an image has, about: "1500" (also where None), "500" or "150", the owners' 800
            images of 8 sequences; or a list.
    """

    name = "void"
    title = "VOID"
    splits: ClassVar = {"1500": None, "500": None, "150": None}
    layout = (
        "void_{1500,500,150}/test_{image,ground_truth,sparse_depth,intrinsics}.txt and data/<sequence>/{"
        "image,ground_truth,sparse_depth}/*.png and K.txt beside them, as the owners' void_release.zip"
    )
    places = ("void_release", "void_release.zip", "void")
    folders = ("", "void_release", "data/void_release")
    words = 4

    def own_lines(self, split: str | None) -> list[str]:
        """See `ListedDataset.own_lines`.

        Raises:
            MissingFileError: the root has not all of the owners' lists.
            UserError: they are not of one another, or of other points.
        """
        prefix = f"void_{split}/"
        if f"{prefix}test_image.txt" not in self.archive and self.root.stem == f"void_{split}":
            prefix = ""  # the root is the folder of these points
        names = [f"{prefix}test_{name}.txt" for name in LISTS]
        missing = [name for name in names if name not in self.archive]
        if missing:
            raise MissingFileError(
                f"data set '{self.name}': {self.root} has no {missing[0]}; it would hold {self.layout}"
            )
        lists = [self._listed(name, str(split), prefix) for name in names]
        if len({len(one) for one in lists}) > 1:
            counts = ", ".join(f"{len(one)} in {name}" for one, name in zip(lists, names, strict=True))
            raise UserError(f"data set '{self.name}': its lists would have a line an image, not {counts}")
        return ["\t".join(words) for words in zip(*lists, strict=True)]

    def _listed(self, name: str, split: str, prefix: str) -> list[str]:
        """The paths of one of the owners' lists, which begin with such as void_1500, below any folders."""
        paths = []
        for line in self.archive.read(name).decode("utf-8", "replace").split():
            match = PATH.fullmatch(line)
            if match is None or match["density"] != split:
                raise UserError(
                    f"data set '{self.name}': '{line}' in {name} of {self.root} would be a path like "
                    f"void_{split}/data/<sequence>/..."
                )
            paths.append(prefix + match["path"])
        return paths

    def paths(self, line: list[str]) -> list[str]:
        """See `ListedDataset.paths`."""
        return line[:4]

    def intrinsics(self, line: list[str]) -> Float64[np.ndarray, "3 3"]:
        """The sequence's K.txt; distortion is left out.

        Raises:
            BadSample: it is no camera.
        """
        return read_matrix(self.archive.read(line[3]), line[3])

    def sparse(self, line: list[str]) -> DepthArray:
        """The points that were tracked."""
        return self._depth(line[2])[0]

    def decode(self, line: list[str]) -> Decoded:
        """See `DepthDataset.decode`."""
        image = decode_image(self.archive.read(line[0]), line[0])
        return image, *self._depth(line[1])

    def _depth(self, path: str) -> tuple[DepthArray, np.ndarray]:
        return read_depth_png(self.archive.read(path), 1 / 256, name=path)
