"""Depth that was measured at some pixels of photographs, for models that complete it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from depthkd.batch import METRIC_DEPTH
from depthkd.datasets.folder import DEPTH_SUFFIXES
from depthkd.datasets.pairing import in_order, partners, without_shared
from depthkd.datasets.raw_depth import RawDepth
from depthkd.errors import UserError
from depthkd.formats.depth import Number
from depthkd.formats.images import RGB
from depthkd.formats.sample import BadSample
from depthkd.paths import expand_paths
from depthkd.shapes import DepthArray

Pair = Literal["name", "order"]


class Measured:
    """A file of measured depth for each photograph: a .png or .npy of its size, 0 where nothing was measured.

    A single file is that of a single photograph. Several are paired as by `depthkd shards pack --depth`, and
    where each photograph has a file of its name, but for the suffix, others are left alone.

    Args:
        patterns: of the files.
        scale: meters = number * scale.
        pair: "name", or "order": the first photograph with the first file, and so on.
        photographs: that are predicted. Those of the files that both patterns match are left out.

    Raises:
        MissingFileError: a pattern stands for nothing.
        UserError: files cannot be paired, and the sentence names one; or there are none.
    """

    def __init__(
        self, patterns: str | Sequence[str], scale: Number, pair: Pair, photographs: Sequence[Path]
    ) -> None:
        if not scale > 0:
            raise UserError(f"sparse_scale would be meters for a number in the files, above 0, not {scale}")
        self.raw = RawDepth(METRIC_DEPTH, scale)
        files = [Path(path) for path in expand_paths(patterns, DEPTH_SUFFIXES)]
        if not files:
            raise UserError("sparse names no file of measured depth: leave it out, or give one")
        images, maps = without_shared(photographs, files)
        if pair == "order":
            found = in_order(images, maps)
        else:
            asked = {path.stem for path in images}
            same = [path for path in maps if path.stem in asked]
            maps = same if {path.stem for path in same} == asked else maps
            found = maps if len(images) == len(maps) == 1 else partners(images, maps)
        self.files = dict(zip(images, found, strict=True))

    def read(self, photograph: Path, image: RGB) -> DepthArray:
        """Depth in meters, 0 where nothing was measured.

        Raises:
            BadSample: it cannot be read, has no measured pixel, or is not of the photograph's size.
        """
        path, (height, width) = self.files[photograph], image.shape[:2]
        depth, mask = self.raw.read(path)
        if depth.shape != (height, width):
            found = f"{depth.shape[1]} x {depth.shape[0]}"
            turned = (
                "; photographs are turned as their EXIF block says" if depth.shape == (width, height) else ""
            )
            raise BadSample(f"{path} is {found}, but its image {photograph} is {width} x {height}{turned}")
        depth[~mask] = 0.0
        return depth
