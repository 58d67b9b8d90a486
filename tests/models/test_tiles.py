"""Tiles of large images: no seams, finer detail than the whole's, bounded memory."""

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from depthkd.alignment import fit_scale_and_shift
from depthkd.batch import AFFINE_DISPARITY, METRIC_DEPTH, DepthSpace
from depthkd.errors import UserError
from depthkd.models.baselines import AlignedDepth
from depthkd.models.model import DepthModel, DepthOutput
from depthkd.models.tiles import COARSE, TiledDepth, parse_tiles
from depthkd.models.windows import starts
from depthkd.resolution import Asked, Resolution
from depthkd.shapes import Image

SIDE = 48  # px, at which the network runs


class Moody(DepthModel):
    """What is bright, with another scale and shift each time, at a shorter side of 48 pixels."""

    space = AFFINE_DISPARITY
    multiple = 4

    def __init__(self, native: bool = False, space: DepthSpace = AFFINE_DISPARITY) -> None:
        super().__init__()
        self.native, self.space = native, space
        self.pixels: list[int] = []

    @property
    def default_resolution(self) -> Resolution:
        return Resolution("native") if self.native else Resolution("shorter", SIDE)

    def forward(self, image: Image) -> DepthOutput:
        self.pixels.append(image.shape[-1] * image.shape[-2])
        mood = len(self.pixels)
        return DepthOutput(image.mean(1) * (1 + mood % 3) + 2 * (mood % 5))

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        return self.parameters()


class Meters(DepthModel):
    """2 to 6 meters, from left to right."""

    space, chooses_size = METRIC_DEPTH, True

    def forward(self, image: Image) -> DepthOutput:
        return DepthOutput(torch.linspace(2, 6, image.shape[-1]).expand(len(image), *image.shape[-2:]))

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        return self.parameters()


def scene(height: int = 240, width: int = 320) -> Tensor:
    """Slopes with stripes 7 pixels wide, which a network at a shorter side of 48 cannot see."""
    rows, columns = torch.linspace(0, 3, height), torch.linspace(0, 4, width)
    large = 0.5 + (rows.sin()[:, None] + columns.cos()) / 5
    fine = 0.05 * torch.sin(torch.arange(width) * 2 * math.pi / 7)
    return (large + fine).clamp(0, 1).expand(1, 3, height, width)


def error(depth: Tensor, image: Tensor) -> Tensor:
    truth = image.mean(1)
    scale, shift = fit_scale_and_shift(depth, truth, torch.ones_like(truth, dtype=torch.bool))
    return scale[:, None, None] * depth + shift[:, None, None] - truth


def test_tiles_have_no_seams_and_finer_detail_than_the_whole() -> None:
    image = scene()
    model = TiledDepth(Moody(), 6)
    wrong = error(model.predict(image), image)
    whole = error(Moody().predict(image), image)
    assert float(wrong.std()) < 0.3 * float(whole.std())
    high, wide = model.tile(240, 320)
    for dim, length, side in ((1, 240, high), (2, 320, wide)):
        steps = wrong.diff(dim=dim).abs()
        borders = {edge for start in starts(side, length, 0.25) for edge in (start, start + side)}
        across = torch.tensor(sorted(edge - 1 for edge in borders if 0 < edge < length))
        assert len(across) == 10
        elsewhere = steps.flatten().quantile(0.99)
        assert float(steps.index_select(dim, across).flatten().quantile(0.99)) <= 1.1 * float(elsewhere)


def test_no_more_than_a_few_tiles_pixels_are_seen_at_a_time() -> None:
    model = Moody(native=True)
    tiled = TiledDepth(model, "64 px")
    depth = tiled.predict(scene(200, 900))
    assert depth.shape == (1, 200, 900) and max(model.pixels) <= COARSE * 64 * 64
    assert tiled.runs_at(200, 900) == (64, 64)
    wide = Moody()
    TiledDepth(wide, "64 px").predict(scene(70, 3000))
    assert max(wide.pixels) <= 1.1 * COARSE * SIDE * SIDE  # sides are rounded to multiples


def test_an_image_smaller_than_a_tile_is_predicted_whole() -> None:
    image = scene(40, 60)
    torch.testing.assert_close(TiledDepth(Moody(), "64 px").predict(image), Moody().predict(image))


def test_tiles_of_several_images_and_of_one_are_the_same_and_meters_stay() -> None:
    image = torch.cat([scene(100, 120), scene(100, 120).flip(-1)])
    both = TiledDepth(Moody(), 2).predict(image)
    torch.testing.assert_close(TiledDepth(Moody(), 2).predict(image[1:]), both[1:])
    aligned = AlignedDepth(TiledDepth(Moody(), 2), Meters()).predict(image)
    assert aligned.shape == both.shape and float(aligned.min()) > 0.5 and float(aligned.max()) <= 6
    assert (TiledDepth(Moody(space=METRIC_DEPTH), 3).predict(scene()) > 0).all()


def test_a_metric_model_that_leaves_pixels_out_does_not_spoil_the_fit() -> None:
    class Masked(Meters):
        def predict(self, image: Tensor, *how: Asked, **more: object) -> Tensor:
            depth = super().predict(image).clone()
            depth[:, :30] = torch.inf
            return depth

    class Half(Meters):
        space = AFFINE_DISPARITY

        def forward(self, image: Image) -> DepthOutput:
            return DepthOutput(3 / super().forward(image).depth + 1)

    image = scene(100, 120)
    aligned = AlignedDepth(Half(), Masked()).predict(image)
    torch.testing.assert_close(aligned, Meters().predict(image), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("tiles", [1, 0, "-2", "65", "3 m", "32 px", "px", "1 2 px", "x"])
def test_tiles_that_cannot_be(tiles: int | str) -> None:
    with pytest.raises(UserError, match="tiles would be how many"):
        parse_tiles(tiles)
    assert parse_tiles("256px") == parse_tiles("256 px") == (0, 256) and parse_tiles(3) == (3, None)
