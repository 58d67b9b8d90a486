"""Every pixel of the test image says where it was: red its column, green its row; depth both exactly."""

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest

from depthkd.data.transforms import CrossContextCrop, ResizeCrop, SquareCrop, Transform, WholeImage
from depthkd.formats.sample import Sample

FX, FY, CX, CY = 130.0, 120.0, 95.0, 60.0


def painted(height: int = 150, width: int = 200, labelled: bool = True) -> Sample:
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([columns, rows, np.full_like(rows, 77)], axis=-1).astype(np.uint8)
    if not labelled:
        return Sample("painted", image)
    intrinsics = np.array([[FX, 0, CX], [0, FY, CY], [0, 0, 1]])
    depth = (columns + 1000.0 * rows).astype(np.float32)
    return Sample("painted", image, depth, checkered(columns, rows), intrinsics)


def checkered(columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return (columns // 5 + rows // 7) % 2 == 0


def source_places(sample: Sample, mirrored: bool) -> tuple[np.ndarray, np.ndarray]:
    """Where each column and row of a transformed sample was, by its camera."""
    assert sample.intrinsics is not None
    (fx, _, cx), (_, fy, cy), _ = sample.intrinsics
    height, width = sample.image.shape[:2]
    x = (np.arange(width) - cx) / fx * (-1 if mirrored else 1)
    y = (np.arange(height) - cy) / fy
    return x * FX + CX, y * FY + CY


TRANSFORMS = {
    "whole, both axes shrink": (lambda flip: WholeImage(60, 90, flip), (60, 90)),
    "whole, one axis grows": (lambda flip: WholeImage(300, 90, flip), (300, 90)),
    "resize and crop": (lambda flip: ResizeCrop(64, flip), (64, 64)),
    "resize and crop, growing": (lambda flip: ResizeCrop((180, 230), flip), (180, 230)),
    "square, shrinking": (lambda flip: SquareCrop(56, 100, flip), (56, 56)),
    "square, growing": (lambda flip: SquareCrop(210, 100, flip), (210, 210)),
    "square, small image": (lambda flip: SquareCrop(56, 400, flip), (56, 56)),
    "cross context": (lambda flip: CrossContextCrop(56, 100, 4, 40, "random", flip), (56, 56)),
    "cross context, grid": (lambda flip: CrossContextCrop(56, 100, 4, 90, "grid", flip), (56, 56)),
    "cross context, small image": (lambda flip: CrossContextCrop(56, 400, 3, 350, flip=flip), (56, 56)),
}


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("seed", range(3))
def test_all_that_belongs_to_a_pixel_stays_with_it(name: str, mirrored: bool, seed: int):
    make, size = TRANSFORMS[name]
    transform: Transform = make(float(mirrored))
    out = transform(painted(), np.random.default_rng(seed))
    assert out.image.shape == (*size, 3)
    assert out.depth is not None and out.mask is not None
    columns, rows = source_places(out, mirrored)

    # nearest: the source pixel in which the center lies, up to the rounding of ties
    depth_rows, depth_columns = np.divmod(out.depth, 1000)
    assert np.abs(depth_columns - columns).max() <= 0.5 + 1e-6
    assert np.abs(depth_rows - rows[:, None]).max() <= 0.5 + 1e-6
    np.testing.assert_array_equal(out.mask, checkered(depth_columns.astype(int), depth_rows.astype(int)))

    inner = out.image[3:-3, 3:-3].astype(float)  # the outermost pixels have no neighbors to go by
    assert np.abs(inner[..., 0] - columns[3:-3]).max() < 0.8  # half a gray level is rounding
    assert np.abs(inner[..., 1] - rows[3:-3, None]).max() < 0.8
    assert abs((inner[..., 0] - columns[3:-3]).mean()) < 0.15
    assert np.abs(inner[..., 2] - 77).max() <= 1


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("placement", ["random", "grid"])
@pytest.mark.parametrize("smallest", [100, 400])
def test_windows_show_what_their_boxes_say(mirrored: bool, placement: str, smallest: int):
    window = 85 * smallest // 100
    transform = CrossContextCrop(56, smallest, 4, window, placement, float(mirrored))
    out = transform(painted(), np.random.default_rng(5))
    assert out.windows is not None and out.boxes is not None
    assert out.windows.shape == (4, window, window, 3)
    assert out.boxes.min() >= 0 and (out.boxes[:, :2] + out.boxes[:, 2:]).max() <= 1 + 1e-6
    columns, rows = source_places(out, mirrored)
    for view, (top, left, tall, wide) in zip(out.windows.astype(float), out.boxes, strict=True):
        steps = (np.arange(window) + 0.5) / window
        # the region's pixel i has its center at the fraction (i + .5) / 56
        at_columns = np.polyval(np.polyfit(np.arange(56), columns, 1), (left + steps * wide) * 56 - 0.5)
        at_rows = np.polyval(np.polyfit(np.arange(56), rows, 1), (top + steps * tall) * 56 - 0.5)
        tolerance = 1e-3 if smallest == 100 else 0.8  # native pixels are unresized: exact
        inner = slice(3, -3)
        assert np.abs(view[inner, inner, 0] - at_columns[inner]).max() < tolerance
        assert np.abs(view[inner, inner, 1] - at_rows[inner, None]).max() < tolerance


def test_a_small_image_keeps_the_windows_share_of_the_region():
    transform = CrossContextCrop(56, smallest=644, windows=2, window=560)
    out = transform(painted(150, 200), np.random.default_rng(0))
    assert out.boxes is not None
    np.testing.assert_allclose(out.boxes[:, 2:], round(150 * 560 / 644) / 150)


@pytest.mark.parametrize("seed", range(5))
def test_a_grid_covers_the_region_with_overlap(seed: int):
    out = CrossContextCrop(56, 100, 9, 60, "grid")(painted(), np.random.default_rng(seed))
    assert out.boxes is not None
    covered = np.zeros((1000, 1000), dtype=int)
    for top, left, tall, wide in np.round(out.boxes * 1000).astype(int):
        covered[top : top + tall, left : left + wide] += 1
    assert covered.min() >= 1
    assert covered.max() > 1


def test_regions_reach_every_allowed_side_and_every_edge():
    transform = SquareCrop(10, smallest=7, flip=0.5)
    sample, rng = painted(9, 12, labelled=False), np.random.default_rng(0)
    drawn = [transform.region(sample, rng) for _ in range(500)]
    assert {side for _, _, side, _ in drawn} == {7, 8, 9}
    assert all(top + side <= 9 and left + side <= 12 for top, left, side, _ in drawn)
    assert {top for top, _, side, _ in drawn if side == 7} == {0, 1, 2}
    assert {left for _, left, side, _ in drawn if side == 7} == set(range(6))
    assert 200 < sum(mirrored for *_, mirrored in drawn) < 300


def test_cross_context_draws_the_region_of_a_square_crop():
    shared = SquareCrop(56, 100)(painted(), np.random.default_rng(3))
    both = CrossContextCrop(56, 100, 4, 40)(painted(), np.random.default_rng(3))
    np.testing.assert_array_equal(shared.image, both.image)


def test_a_transform_leaves_the_given_sample_alone_and_unlabelled_ones_unlabelled():
    sample = painted(labelled=False)
    out = SquareCrop(56, 100, flip=1.0)(sample, np.random.default_rng(0))
    assert out.depth is None and out.mask is None and out.intrinsics is None
    np.testing.assert_array_equal(sample.image, painted().image)


def test_fine_stripes_average_to_gray_instead_of_aliasing():
    stripes = np.zeros((90, 90, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    out = WholeImage(200, 30, flip=0.0)(Sample("stripes", stripes), np.random.default_rng(0))
    assert np.abs(out.image.astype(float) - 127.5).max() < 45


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: CrossContextCrop(window=700), "window would be 1 to 644"),
        (lambda: CrossContextCrop(windows=5, placement="grid"), "windows would be 1, 4, 9"),
        (lambda: CrossContextCrop(windows=0), "needs windows of 1 or more, not 0"),
        (lambda: SquareCrop(flip=1.5), "flip is a probability between 0 and 1, not 1.5"),
        (lambda: WholeImage(0, 10), "must be 1 pixel or more, not 0 x 10"),
    ],
)
def test_settings_that_cannot_be_are_named(make, sentence: str):
    with pytest.raises(ValueError, match=sentence):
        make()


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "transform",
    [
        lambda flip: WholeImage(60, 70, flip),
        lambda flip: ResizeCrop(64, flip),
        lambda flip: SquareCrop(40, 80, flip),
    ],
)
def test_an_image_at_half_its_size_gives_the_same_region(
    transform: Callable[[float], Transform], seed: int, mirrored: bool
):
    chosen, sample = transform(float(mirrored)), painted(labelled=False)
    needed = chosen.pixels_needed(150, 200, np.random.default_rng(seed))
    assert needed is not None and 2 * needed <= 150
    half = replace(sample, image=cv2.resize(sample.image, (100, 75), interpolation=cv2.INTER_AREA))
    half.decoded_from = (150, 200)
    one, other = (chosen(each, np.random.default_rng(seed)) for each in (sample, half))
    assert one.image.shape == other.image.shape and other.decoded_from is None
    difference = np.abs(one.image.astype(float) - other.image)  # columns and rows, as colors
    assert difference.max() <= 3 and difference.mean() <= 1.2  # half a pixel of the half


def test_windows_and_growing_crops_need_every_pixel():
    rng = np.random.default_rng(0)
    assert CrossContextCrop(40, 80, 2, 40).pixels_needed(150, 200, rng) is None
    assert SquareCrop(150, 150).pixels_needed(150, 200, rng) == 150
    assert (SquareCrop(300, 150).pixels_needed(150, 200, rng) or 0) >= 150
    assert ResizeCrop(300).pixels_needed(150, 200, rng) == 300
    assert WholeImage(30, 80).pixels_needed(150, 200, rng) == 60
