"""Transforms in a row: composing, KITTI's crop, mirroring and small rotations."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from depthkd.batch import METRIC_DEPTH
from depthkd.data import Compose, CrossContextCrop, KBCrop, RandomFlip, RandomRotation, ResizeCrop
from depthkd.data.augmentation import rotated
from depthkd.errors import UserError
from depthkd.formats.sample import BadSample, Sample
from depthkd.geometry import camera_matrix


def sample(height: int = 20, width: int = 31, seed: int = 0) -> Sample:
    rng = np.random.default_rng(seed)
    return Sample(
        "a",
        rng.integers(0, 256, (height, width, 3), np.uint8),
        rng.uniform(1, 10, (height, width)).astype(np.float32),
        rng.random((height, width)) > 0.2,
        camera_matrix(30.0, 30.0, 12.0, 7.0),
        METRIC_DEPTH,
    )


@pytest.mark.parametrize("degrees", [1.0, -17.0, 63.0])
def test_a_rotation_is_that_of_every_pixel(degrees: float) -> None:
    """Against a loop over pixels: where each comes from, by the angle, counterclockwise."""
    before = sample()
    after = rotated(before, degrees)
    assert before.depth is not None and before.mask is not None
    assert after.depth is not None and after.mask is not None and after.intrinsics is not None
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    checked = 0
    for y, x in np.ndindex(20, 31):
        across, down = x - 15.0, y - 9.5
        column, row = 15.0 + cosine * across - sine * down, 9.5 + sine * across + cosine * down
        nearest = round(row), round(column)
        if 0 <= nearest[0] < 20 and 0 <= nearest[1] < 31:
            if min(abs(column % 1 - 0.5), abs(row % 1 - 0.5)) > 1e-2:  # not halfway between two
                assert after.depth[y, x] == before.depth[nearest]
                assert after.mask[y, x] == before.mask[nearest]
        elif not (-0.51 < row < 19.51 and -0.51 < column < 30.51):
            assert not after.mask[y, x] and not after.image[y, x].any()
        if 0 <= row < 19 and 0 <= column < 30:
            top, left = int(row), int(column)
            weights = np.outer([1 - row + top, row - top], [1 - column + left, column - left])
            around = before.image[top : top + 2, left : left + 2]
            assert np.abs((weights[..., None] * around).sum((0, 1)) - after.image[y, x]).max() < 1.6
            checked += 1
    assert checked > 100
    point = after.intrinsics[:2, 2] - [15.0, 9.5]  # turned back it is where it was
    back = cosine * point[0] - sine * point[1], sine * point[0] + cosine * point[1]
    assert back == pytest.approx((12.0 - 15.0, 7.0 - 9.5))


def test_rotations_mirrorings_and_crops_are_drawn_from_the_generator() -> None:
    both = Compose([RandomRotation(5.0), RandomFlip(0.5)])
    found = [both(sample(), np.random.default_rng(seed)) for seed in (3, 3, 4)]
    assert np.array_equal(found[0].image, found[1].image)
    assert not np.array_equal(found[0].image, found[2].image)
    rng = np.random.default_rng(3)
    expected = rotated(sample(), float(rng.uniform(-5, 5)))
    mirrored = rng.random() < 0.5
    assert expected.depth is not None and found[0].depth is not None
    assert np.array_equal(found[0].depth, expected.depth[:, ::-1] if mirrored else expected.depth)
    plain = RandomFlip(0.0)(sample(), np.random.default_rng(0))
    assert np.array_equal(plain.image, sample().image)
    unlabelled = replace(sample(), depth=None, mask=None, intrinsics=None)
    assert both(unlabelled, np.random.default_rng(3)).depth is None


def test_kittis_crop_is_at_the_bottom_and_in_the_middle() -> None:
    whole = sample(375, 1242)
    cut = KBCrop()(whole, np.random.default_rng(0))
    assert whole.depth is not None and cut.intrinsics is not None
    assert np.array_equal(cut.depth, whole.depth[23:, 13:1229])  # type: ignore[arg-type]
    assert cut.image.shape == (352, 1216, 3) == (*KBCrop().output_size, 3)
    assert cut.intrinsics[:2, 2].tolist() == [12.0 - 13, 7.0 - 23]
    assert KBCrop()(replace(whole, depth=None, mask=None), np.random.default_rng(0)).mask is None
    with pytest.raises(BadSample, match="a is 300 x 1242, smaller than the crop, 352 x 1216"):
        KBCrop()(sample(300, 1242), np.random.default_rng(0))


def test_sizes_are_those_of_the_last_one_that_says_one() -> None:
    def size(*transforms: Any) -> tuple[int, int] | None:
        return Compose(list(transforms)).output_size

    assert size(KBCrop(), RandomRotation(), RandomFlip()) == (352, 1216)
    assert size(KBCrop(), ResizeCrop(28)) == (28, 28)
    assert size(RandomRotation(), RandomFlip()) is None
    rng = np.random.default_rng(0)
    needed = ResizeCrop(28).pixels_needed(100, 200, rng)
    assert needed == Compose([ResizeCrop(28), RandomFlip()]).pixels_needed(100, 200, rng) is not None
    assert Compose([RandomRotation(), ResizeCrop(28)]).pixels_needed(100, 200, rng) is None


def test_what_cannot_be_composed_is_refused() -> None:
    for wrong, sentence in (
        (lambda: Compose([]), "Compose needs one or more transforms"),
        (lambda: Compose([CrossContextCrop(), RandomFlip()]), "CrossContextCrop is the last"),
        (lambda: RandomRotation(-1.0), r"degrees must be from 0 to 180, not -1\.0"),
        (lambda: RandomFlip(1.5), r"between 0 and 1, not 1\.5"),
    ):
        with pytest.raises(UserError, match=sentence):
            wrong()


def test_the_corners_of_a_rotation_are_not_valid_and_no_sky() -> None:
    """Also of depth without a mask; and the sky stays the sky."""
    depth = np.full((20, 31), 2.0, np.float32)
    depth[:10] = np.inf
    turned = rotated(Sample("a", np.zeros((20, 31, 3), np.uint8), depth), 20.0)
    assert turned.depth is not None and turned.mask is not None
    free = turned.depth == 0
    assert free.any() and not turned.mask[free].any()
    assert np.isposinf(turned.depth).any() and not turned.mask[np.isposinf(turned.depth)].any()
    assert turned.mask[turned.depth == 2].all()
