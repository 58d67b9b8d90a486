"""The bar beside a depth map: bright is near, at its top, in every space."""

import numpy as np
import pytest

from depthkd.batch import AFFINE_DEPTH, AFFINE_DISPARITY, METRIC_DEPTH, METRIC_DISPARITY, DepthSpace, Quantity
from depthkd.report.legend import LEAST, _numbers, _values, picture_with_legend
from depthkd.report.pictures import limits, nearness


@pytest.mark.parametrize("space", [METRIC_DEPTH, METRIC_DISPARITY, AFFINE_DEPTH, AFFINE_DISPARITY])
def test_near_is_bright_in_the_map_and_at_the_top_of_the_bar(space: DepthSpace) -> None:
    values = np.linspace(1, 9, 200, dtype=np.float32)[None].repeat(300, 0)  # to the right: farther, as depth
    picture = picture_with_legend(values, space).astype(int).sum(2)
    nearest = 0 if space.quantity is Quantity.DEPTH else -1
    row = picture[150, :200]
    assert row[nearest] > 500 and row[-1 - nearest] < 30
    bar = picture[:, 200 + 10]  # within its 12 pixels, behind a gap of 6
    inside = np.flatnonzero(picture[:, 200 + 10] != 3 * 255)
    top, bottom = inside[inside > 60][0], inside[-1]
    assert bar[top + 20] > bar[(top + bottom) // 2] > bar[bottom - 40]


def test_numbers_beside_the_bar_are_the_maps_own() -> None:
    values = np.linspace(2, 10, 1001, dtype=np.float64)[None]
    for space in (METRIC_DEPTH, AFFINE_DEPTH, AFFINE_DISPARITY):
        low, high = limits(nearness(values, space))
        ends = sorted(_values(np.array([low, high]), space))
        assert ends == pytest.approx([2.16, 9.84], abs=0.02)


def test_numbers_have_the_digits_that_tell_them_apart() -> None:
    assert _numbers(np.array([1900.0, 950.0, 0.0])) == ["1900", "950", "0"]
    assert _numbers(np.array([3.641, 3.6412, 3.6414])) == ["3.641", "3.6412", "3.6414"]
    assert _numbers(np.array([2e7, 1e7])) == ["2e+07", "1e+07"]
    assert _numbers(np.array([1.0, 1.0])) == ["1", "1"]


@pytest.mark.parametrize("shape", [(1, 1), (7, 3000), (300, 7)])
def test_odd_maps_get_a_bar_all_the_same(shape: tuple[int, int]) -> None:
    for fill in (1.0, np.nan):
        picture = picture_with_legend(np.full(shape, fill, np.float32), METRIC_DEPTH)
        assert picture.shape[0] == max(LEAST, shape[0]) and picture.shape[1] > shape[1] + 40
