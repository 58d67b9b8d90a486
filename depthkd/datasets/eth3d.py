"""ETH3D: 454 high-resolution images with laser-scanned truth (Schöps et al. 2017)."""

from pathlib import Path, PurePosixPath
from typing import ClassVar

import numpy as np
from jaxtyping import Float64

from depthkd.datasets.cameras import read_colmap
from depthkd.datasets.dataset import Decoded, DepthDataset
from depthkd.datasets.encodings import read_raw_float32
from depthkd.formats.images import decode_image


class ETH3D(DepthDataset):
    """Lines `rgb depth`; raw float32 meters, infinite where nothing was measured.

    Cameras are read from the owners' `rgb/<scene>/dslr_calibration_jpg/{cameras,images}.txt`, where they are
    there; Marigold's tar has none. The images are distorted, and the matrix is that of their middle.

    Args:
        height, width: of the truth, which its files do not say.
        root, split: see `ListedDataset`.
    """

    name = "eth3d"
    title = "ETH3D"
    splits: ClassVar = {"test": "eth3d_454.txt"}
    layout = "rgb/<scene>/images/dslr_images/*.JPG and depth/<scene>_dslr_depth/..., as Marigold's eth3d.tar"
    places = ("eth3d/eth3d.tar", "eth3d/eth3d", "eth3d")

    def __init__(
        self,
        root: str | Path,
        split: str | Path | None = None,
        height: int = 4032,
        width: int = 6048,
    ) -> None:
        super().__init__(root, split)
        self.size = height, width

    def intrinsics(self, line: list[str]) -> Float64[np.ndarray, "3 3"] | None:
        """The image's camera, where the scene's calibration is there."""
        parents = PurePosixPath(line[0]).parents
        folder = parents[min(2, len(parents) - 1)] / "dslr_calibration_jpg"
        cameras, images = (str(folder / name) for name in ("cameras.txt", "images.txt"))
        if cameras not in self.archive:
            return None
        owners = self.archive.read(images) if images in self.archive else None
        return read_colmap(self.archive.read(cameras), owners, line[0], cameras)

    def decode(self, line: list[str]) -> Decoded:
        """See `DepthDataset.decode`."""
        image = decode_image(self.archive.read(line[0]), line[0])
        depth, mask = read_raw_float32(self.archive.read(line[1]), *self.size, line[1])
        return image, depth, mask
