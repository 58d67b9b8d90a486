import numpy as np
import pytest

from depthkd.batch import AFFINE_DISPARITY, METRIC_DEPTH, DepthSpace
from depthkd.report.depth_histogram import BARS, HEIGHT, LEFT, LETTERS, LEVELS, PIXELS, DepthHistogram
from depthkd.report.pictures import GAP

BLUE = (31, 95, 168)


def histogram(values: list[float], space: DepthSpace, invalid: int = 0) -> DepthHistogram:
    depth = np.array([[*values, *[0.0] * invalid]], np.float32)
    return DepthHistogram.of(depth, np.arange(depth.size)[None] < len(values), space)


def test_bars_are_equally_wide_in_the_logarithm_where_values_are_positive() -> None:
    assert histogram([1, 10, 100, 2], METRIC_DEPTH).counts(2).tolist() == [2, 2]  # the middle is 10
    assert histogram([1, 10, 100, 2], AFFINE_DISPARITY).counts(2).tolist() == [3, 1]  # and here 50.5
    assert histogram([-1, 0, 3], AFFINE_DISPARITY).counts(4).tolist() == [1, 1, 0, 1]
    assert histogram([4, 4], METRIC_DEPTH).counts(3).tolist() == [0, 2, 0]
    assert histogram([-4], AFFINE_DISPARITY).counts(3).tolist() == [0, 1, 0]


def test_quantiles_and_valid_pixels_are_those_of_all_maps() -> None:
    parts = [
        histogram([float(v) for v in range(low, high)], METRIC_DEPTH, missing)
        for low, high, missing in ((1, 41, 60), (41, 102, 41))
    ]
    whole = DepthHistogram.together(parts)
    assert whole.sentence() == (
        "metric depth of 2 maps, in m: 1 % below 2, 50 % below 51, 99 % below 100; 50.0 % of pixels are valid"
    )
    assert (
        "affine disparity of 1 maps, each on a scale of its own: 1 %"
        in histogram([1], AFFINE_DISPARITY).sentence()
    )


def test_a_large_map_hides_no_small_one() -> None:
    large = np.linspace(1, 2, 10 * PIXELS, dtype=np.float32).reshape(10, PIXELS)
    one = DepthHistogram.of(large, large > 0, METRIC_DEPTH)
    assert (len(one.values), one.valid, one.pixels) == (PIXELS, 10 * PIXELS, 10 * PIXELS)
    assert np.quantile(one.values, (0, 0.3, 1)) == pytest.approx((1, 1.3, 2), abs=1e-4)


def test_letters_stand_where_the_values_are() -> None:
    line = histogram([1] * 8 + [10] * 4 + [100], METRIC_DEPTH).line()
    low, high = "1 ", " 100 (log scale)"
    assert line.startswith(low) and line.endswith(high)
    letters = line.removeprefix(low).removesuffix(high)
    assert len(letters) == LETTERS and letters.split() == ["█", "▄", "▁"]
    assert [letters.index(letter) for letter in "█▄▁"] == [0, LETTERS // 2, LETTERS - 1]
    assert "(log scale)" not in histogram([1, 2], AFFINE_DISPARITY).line() and len(LEVELS) == 9


def test_the_picture_has_its_bars_where_the_values_are() -> None:
    width = LEFT + GAP + 6 * BARS
    picture = histogram([1] * 3 + [1000] * 1 + [10], METRIC_DEPTH).picture(width)
    assert picture.shape == (HEIGHT, width, 3)
    heights = (picture == BLUE).all(-1).sum(0)
    bars = [heights[LEFT + 6 * bar + 3] for bar in (0, BARS // 3, BARS - 1)]
    assert bars[1] == bars[2] == pytest.approx(bars[0] / 3, abs=1)
    assert (np.flatnonzero(heights) // 1 >= LEFT).all() and np.count_nonzero(heights) <= 3 * 6


@pytest.mark.parametrize(
    ("values", "space", "ticks"),
    [
        ([0.7, 39.0], METRIC_DEPTH, [1, 2, 5, 10, 20]),
        ([1e-4, 1e4], METRIC_DEPTH, [1e-4, 1e-3, 1e-2, 0.1, 1, 10, 100, 1e3, 1e4]),
        ([1.1, 3.9], METRIC_DEPTH, [1.5, 2, 2.5, 3, 3.5]),
        ([-1.0, 3.2], AFFINE_DISPARITY, [-1, 0, 1, 2, 3]),
    ],
)
def test_ticks_are_round(values: list[float], space: DepthSpace, ticks: list[float]) -> None:
    assert histogram(values, space)._ticks() == pytest.approx(ticks)


@pytest.mark.parametrize("values", [[3.0], [1e-9, 1e9], [0.5, 0.50001]])
def test_any_values_can_be_drawn(values: list[float]) -> None:
    for space in (METRIC_DEPTH, AFFINE_DISPARITY):
        assert (histogram(values, space).picture(600) == BLUE).all(-1).any()
