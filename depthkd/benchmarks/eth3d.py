"""ETH3D: 454 high-resolution images with laser-scanned truth (Schöps et al. 2017)."""

from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Float64

from depthkd.benchmarks.files import Decoded, FileBenchmark
from depthkd.formats.cameras import read_colmap
from depthkd.formats.datasets import read_raw_float32
from depthkd.formats.images import decode_image


class ETH3D(FileBenchmark):
    """Lines `rgb depth`; raw float32 metres, infinite where nothing was measured; no upper bound.

    Models run at a longer side of 756 px, 504 x 756, and the fit sees at most 1024 px a side, as Marigold's
    scripts have it.

    Cameras are read from the owners' `rgb/<scene>/dslr_calibration_jpg/{cameras,images}.txt`, where they are
    there; Marigold's tar has none. The images are distorted, and the matrix is that of their middle.

    Args:
        height, width: of the truth, which its files do not say.
        root, settings: see `FileBenchmark`.
    """

    name = "eth3d"
    data_set = "ETH3D"
    split_name = "eth3d_454.txt"
    layout = "rgb/<scene>/images/dslr_images/*.JPG and depth/<scene>_dslr_depth/..., as Marigold's eth3d.tar"
    min_depth = 1e-5
    max_depth = None
    own_resolution = "longer 756"
    fit_side = 1024

    def __init__(
        self,
        root: str | Path,
        height: int = 4032,
        width: int = 6048,
        **settings: Any,
    ) -> None:
        super().__init__(root, **settings)
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
        """See `FileBenchmark.decode`."""
        image = decode_image(self.archive.read(line[0]), line[0])
        depth, mask = read_raw_float32(self.archive.read(line[1]), *self.size, line[1])
        return image, depth, mask
