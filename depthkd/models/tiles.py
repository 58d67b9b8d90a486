"""TiledDepth: depth of images that are larger than a network, with the detail of their pixels."""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from depthkd.errors import UserError
from depthkd.geometry import crop_intrinsics, resize_intrinsics
from depthkd.models.model import (
    Cameras,
    DepthModel,
    DepthOutput,
    RawPrediction,
    SparseDepth,
    resize_image,
    resize_map,
)
from depthkd.models.windows import blend, starts
from depthkd.models.wrapper import Wrapper
from depthkd.resolution import NATIVE, Asked, Resolution
from depthkd.shapes import Image, Map

OVERLAP = 0.25  # the least share of a tile that the next one covers as well
MOST, LEAST_SIDE = 64, 64  # tiles along a side; px of a tile
COARSE = 4  # times as many pixels as for a tile the network may run at for the whole image
PIXELS = "px"

Size = tuple[int, int]


class TiledDepth(Wrapper):
    """Another model's depth, tile by tile, without seams.

    The network predicts the whole image, and then overlapping tiles of it, each as if it were an image.
    Every tile's map gets the scale and the shift that fit it to the whole's in least squares, and tiles are
    averaged with weights that fall smoothly to their borders (see `blend`). So what is near and far in the
    large comes from the whole image, and details come from tiles. The network never runs at more than about
    four times the pixels of a tile.

    Args:
        network: the other model.
        tiles: how many along each side, such as 3; or a tile's side in
            pixels of the image, such as "1024 px".

    Raises:
        UserError: `tiles` is neither.
    """

    def __init__(self, network: DepthModel, tiles: int | str) -> None:
        super().__init__(network)
        self.count, self.side = parse_tiles(tiles)
        self.chooses_size, self.resizes, self.fixed_size = True, True, None
        self.takes_sparse_depth = False
        self.source = f"{network.source} in tiles of {tiles}"

    def tile(self, height: int, width: int) -> Size:
        """Height and width of a tile of an image of this height and width."""
        if self.side is not None:
            return min(self.side, height), min(self.side, width)
        parts = self.count - (self.count - 1) * OVERLAP
        return math.ceil(height / parts), math.ceil(width / parts)

    def runs_at(
        self, height: int, width: int, resolution: Asked = None, scale: float = 1.0
    ) -> tuple[int, int] | None:
        """Where the network runs for a tile."""
        return self.network.runs_at(*self.tile(height, width), resolution, scale)

    def forward(self, image: Image) -> DepthOutput:
        """RGB in [0, 1] -> depth in `self.space` at the image's size."""
        return DepthOutput(self.infer(image))

    def predict_raw(self, image: Image) -> RawPrediction:
        """Depth at the image's size."""
        return self.infer(image)

    def predict_raw_with_camera(self, image: Image, intrinsics: Cameras) -> RawPrediction:
        """The same, of known cameras."""
        return self.infer(image, intrinsics=intrinsics)

    def resize_to(self, raw: RawPrediction, size: Size) -> Float[Tensor, "batch height width"]:
        """Bilinear: what `infer` gives is depth already."""
        return resize_map(raw, size)

    def predict(
        self,
        image: Image,
        resolution: Asked = None,
        scale: float = 1.0,
        flip: bool = False,
        intrinsics: Cameras | None = None,
        sparse: SparseDepth | None = None,
    ) -> Map:
        """As `infer`."""
        return self.infer(image, resolution, scale, flip, intrinsics, sparse)

    @torch.no_grad()
    def infer(
        self,
        image: Image,
        resolution: Asked = None,
        scale: float = 1.0,
        flip: bool = False,
        intrinsics: Cameras | None = None,
        sparse: SparseDepth | None = None,
    ) -> RawPrediction:
        """Depth in `self.space` at the image's size; arguments as of `DepthModel.infer`, for each tile."""
        size = image.shape[-2], image.shape[-1]
        high, wide = self.tile(*size)
        at = Resolution.parse(resolution).times(scale)
        whole, coarseness = self._whole(image, at, flip, intrinsics)
        if (high, wide) == size:
            return whole
        rows, columns = (starts(n, side, OVERLAP) for n, side in zip((high, wide), size, strict=True))
        boxes = [(top, left) for top in rows for left in columns]

        def maps() -> Iterator[Map]:
            for top, left in boxes:
                part = image[..., top : top + high, left : left + wide]
                camera = None if intrinsics is None else crop_intrinsics(intrinsics, top, left)
                yield self.network.predict(part, at, 1.0, flip, camera)

        depth = blend(whole, maps(), boxes, coarseness)
        return torch.where(depth > 0, depth, whole) if self.space.invertible else depth

    def _whole(self, image: Image, at: Resolution, flip: bool, intrinsics: Cameras | None) -> tuple[Map, int]:
        """The network's prediction of the whole image, at the image's size, and how many of its pixels a side
        of one that the network saw has."""
        size = image.shape[-2], image.shape[-1]
        run, tile = self.network.runs_at(*size, at), self.runs_at(*size, at)
        most = None if tile is None else COARSE * math.prod(tile)
        if run is not None and most is not None and math.prod(run) > most:
            factor = math.sqrt(most / math.prod(run))
            smaller = max(1, int(run[0] * factor)), max(1, int(run[1] * factor))
            if intrinsics is not None:
                intrinsics = resize_intrinsics(intrinsics, smaller[0] / size[0], smaller[1] / size[1])
            image, at, run = resize_image(image, smaller), NATIVE, smaller
        raw = self.network.infer(image, at, 1.0, flip, intrinsics)
        seen = min(raw.shape[-1] * raw.shape[-2], math.prod(size if run is None else run))
        return self.network.resize_to(raw, size), max(1, round(math.sqrt(math.prod(size) / seen)))


def parse_tiles(tiles: int | str) -> tuple[int, int | None]:
    """How many tiles along a side, and 0 with a tile's side in pixels where that is given.

    Raises:
        UserError: it is neither.
    """
    number, _, unit = str(tiles).removesuffix(PIXELS).strip().partition(" ")
    of_pixels = str(tiles).endswith(PIXELS)
    value = int(number) if number.isascii() and number.isdigit() and not unit else 0
    if of_pixels and value >= LEAST_SIDE:
        return 0, value
    if not of_pixels and 2 <= value <= MOST:
        return value, None
    raise UserError(
        f"tiles would be how many there are along each side, from 2 to {MOST}, or a tile's side in pixels, "
        f"at least {LEAST_SIDE}, such as '1024 px'; it is {tiles!r}"
    )
