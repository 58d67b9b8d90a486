"""Patterns of sparse depth: counts, places, names, and that nothing is measured where nothing is known."""

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.data import astronaut

from depthkd.errors import UserError
from depthkd.geometry import camera_matrix
from depthkd.sparse_depth import Corners, Holes, LidarLines, Points, SparsePattern, parse_pattern

ALL = [
    "2150 points",
    "1 point",
    "0 points",
    "10 to 2000 points",
    "lidar 64",
    "lidar 8 of 53.13 degrees",
    "orb",
    "orb 300",
    "sift",
    "sift 50",
    "1/8 resolution",
    "1 hole",
    "3 holes of 20 %",
    "missing borders of 10 %",
    "nearer than 5 m",
    "3 to 10 m",
    "nearest 70 %",
    "5 % outliers",
    "5 % outliers, 500 points",
    "1 hole, lidar 16, 10 % outliers",
]
IMAGE = cv2.resize(astronaut(), (160, 120), interpolation=cv2.INTER_AREA)
SHAPE = IMAGE.shape[:2]


def room(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A depth map from 1 to 12 m, of which no number is met twice, and where it is known."""
    rng = np.random.default_rng(seed)
    depth = (1 + 11 * rng.permutation(SHAPE[0] * SHAPE[1]) / (SHAPE[0] * SHAPE[1])).astype(np.float32)
    return depth.reshape(SHAPE), rng.random(SHAPE) < 0.7


def measured(
    pattern: str | SparsePattern, seed: int = 0, camera: np.ndarray | None = None, mask: object = None
) -> np.ndarray:
    depth, known = room()
    known = known if mask is None else np.broadcast_to(np.asarray(mask, bool), SHAPE).copy()
    return parse_pattern(pattern)(depth, known, IMAGE, camera, np.random.default_rng(seed))


@pytest.mark.parametrize("name", ALL)
def test_a_name_is_read_and_printed(name: str) -> None:
    pattern = parse_pattern(name)
    assert pattern.name == name
    assert parse_pattern(pattern.name) == pattern
    assert parse_pattern(pattern) is pattern


@pytest.mark.parametrize("name", ALL)
def test_only_what_is_known_is_measured_and_the_generator_decides(name: str) -> None:
    depth, known = room()
    depth[0, :9], depth[1, :9], depth[2, :9] = np.nan, np.inf, -1
    known[:3, :9] = True
    made = [parse_pattern(name)(depth, known, IMAGE, None, np.random.default_rng(5)) for _ in range(2)]
    np.testing.assert_array_equal(*made)
    sparse = made[0]
    assert sparse.dtype == np.float32
    assert sparse.shape == SHAPE
    assert np.isfinite(sparse).all()
    assert not sparse[~known].any()
    assert not sparse[:3, :9].any()
    if "outliers" not in name:
        where = sparse > 0
        np.testing.assert_array_equal(sparse[where], depth[where])


@pytest.mark.parametrize("name", ALL)
def test_nothing_known_and_all_known(name: str) -> None:
    assert not measured(name, mask=False).any()
    assert (measured(name, mask=True) > 0).any() == (name != "0 points")


@pytest.mark.parametrize("count", [2150, 500, 1, 0])
def test_so_many_points_and_others_with_another_seed(count: int) -> None:
    one, other = (measured(f"{count} points", seed) for seed in (0, 1))
    assert np.count_nonzero(one) == np.count_nonzero(other) == count
    assert (count == 0) == np.array_equal(one, other)


def test_fewer_valid_pixels_than_asked_give_all() -> None:
    np.testing.assert_array_equal(measured("99999 points") > 0, room()[1])


def test_points_are_uniform() -> None:
    """Of 400 draws of half of 4 pixels, each has about 200."""
    depth, known = np.ones((2, 2), np.float32), np.ones((2, 2), bool)
    image = np.zeros((2, 2, 3), np.uint8)
    rng = np.random.default_rng(0)
    drawn = np.stack([Points(2)(depth, known, image, None, rng) for _ in range(400)]).sum(0)
    assert drawn.sum() == 800
    assert (abs(drawn - 200) < 50).all()  # five standard deviations


def test_a_range_of_points_is_logarithmic() -> None:
    counts = [np.count_nonzero(measured("10 to 1000 points", seed, mask=True)) for seed in range(200)]
    assert 10 <= min(counts) < 20
    assert 700 < max(counts) <= 1000
    assert 60 < np.median(counts) < 170  # 100 is the middle


def lines_written_out(lines: int, camera: np.ndarray) -> np.ndarray:
    """OMNI-DC's LiDAR, measurement by measurement."""
    chosen = np.zeros(SHAPE, bool)
    for i in range(lines):
        pitch = -0.5 + i / (lines - 1) if lines > 1 else 0.0
        for j in range(200):
            yaw = math.pi / 2.1 * (2 * j / 199 - 1)
            y, x = math.sin(pitch), math.cos(pitch) * math.sin(yaw)
            z = math.sqrt(1 - x * x - y * y)
            column = round(camera[0, 0] * x / z + camera[0, 2])
            row = round(camera[1, 1] * y / z + camera[1, 2])
            if 0 <= row < SHAPE[0] and 0 <= column < SHAPE[1]:
                chosen[row, column] = True
    return chosen


@pytest.mark.parametrize("lines", [64, 32, 16, 8, 1])
def test_lidar_lines_are_those_of_omni_dc(lines: int) -> None:
    height, width = SHAPE
    assumed = camera_matrix(float(height), float(height), width / 2, height / 2)
    expected = lines_written_out(lines, assumed)
    np.testing.assert_array_equal(measured(f"lidar {lines}", mask=True) > 0, expected)
    known = camera_matrix(150.0, 155.0, 70.0, 65.0)
    expected = lines_written_out(lines, known)
    np.testing.assert_array_equal(measured(f"lidar {lines}", camera=known, mask=True) > 0, expected)
    name = f"lidar {lines} of 53.13010235 degrees"
    with_camera = measured(name, camera=known, mask=True) > 0
    np.testing.assert_array_equal(with_camera, measured(f"lidar {lines}", mask=True) > 0)


def test_corners_are_opencvs_and_the_strongest_first() -> None:
    gray = cv2.cvtColor(IMAGE, cv2.COLOR_RGB2GRAY)
    found = cv2.SIFT.create().detect(gray)
    expected = np.zeros(SHAPE, bool)
    for corner in found:
        expected[round(corner.pt[1]), round(corner.pt[0])] = True
    np.testing.assert_array_equal(measured("sift", mask=True) > 0, expected)
    some = measured("sift 50", mask=True) > 0
    assert some.sum() == 50
    assert (some <= expected).all()
    by_pixel = {(round(c.pt[1]), round(c.pt[0])): 0.0 for c in found}
    for corner in found:
        place = round(corner.pt[1]), round(corner.pt[0])
        by_pixel[place] = max(by_pixel[place], corner.response)
    weakest = min(by_pixel[y, x] for y, x in np.argwhere(some))
    assert weakest >= max(strength for place, strength in by_pixel.items() if not some[place])


def test_an_image_without_corners_gets_random_points() -> None:
    depth, known = room()
    blank = np.zeros_like(IMAGE)
    for pattern, count in ((Corners("orb"), 1000), (Corners("sift", 30), 30)):
        sparse = pattern(depth, known, blank, None, np.random.default_rng(0))
        assert np.count_nonzero(sparse) == count


def test_places_of_low_resolution_borders_and_holes() -> None:
    low = measured("1/8 resolution", mask=True) > 0
    rows, columns = np.nonzero(low)
    assert set(rows) == set(range(4, 120, 8))
    assert set(columns) == set(range(4, 160, 8))
    inside = measured("missing borders of 10 %", mask=True) > 0
    assert inside[12:-12, 16:-16].all()
    assert inside.sum() == 96 * 128
    hole = measured("1 hole", mask=True) == 0
    rows, columns = np.nonzero(hole)
    assert hole.sum() == 40 * 40 == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)


def test_ranges() -> None:
    depth, known = room()
    np.testing.assert_array_equal(measured("nearer than 5 m") > 0, known & (depth < 5))
    np.testing.assert_array_equal(measured("3 to 10 m") > 0, known & (depth > 3) & (depth < 10))
    near = measured("nearest 25 %")
    assert np.count_nonzero(near) == pytest.approx(known.sum() / 4, abs=1)
    assert near.max() < depth[known & (near == 0)].min()


def test_outliers_are_of_that_share_and_that_range() -> None:
    depth, known = room()
    plain, spoiled = measured("2000 points"), measured("10 % outliers, 2000 points")
    np.testing.assert_array_equal(plain > 0, spoiled > 0)  # the same pixels
    wrong = plain != spoiled
    assert 150 < wrong.sum() < 250
    low, high = np.percentile(depth[known], (10, 90))
    assert low <= spoiled[wrong].min() < spoiled[wrong].max() <= high
    assert np.array_equal(spoiled, measured("2000 points, 10 % outliers"))


def test_parts_areas_hold_for_all_and_sensors_unite() -> None:
    near = measured("200 points, nearer than 3 m")
    assert np.count_nonzero(near) == 200  # of those that are near
    assert near.max() < 3
    both = measured("lidar 8, 1/8 resolution") > 0
    one, other = (measured(name) > 0 for name in ("lidar 8", "1/8 resolution"))
    np.testing.assert_array_equal(both, one | other)


def test_thousands_and_case_and_spaces() -> None:
    assert parse_pattern("2,150 points") == Points(2150)
    assert parse_pattern("  LiDAR   64 ") == LidarLines(64)
    assert parse_pattern("5% outliers,2,150 points").name == "5 % outliers, 2150 points"


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.text(st.sampled_from("0123456789 ,%/.-mpointslidarhe"), max_size=20))
def test_anything_else_is_refused_in_a_sentence(text: str) -> None:
    try:
        parse_pattern(text)
    except UserError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    "text",
    [
        "", "many points", "-5 points", "lidar 0", "1/0 resolution", "0 holes", "2 holes of 120 %", "sift 0",
        "missing borders of 50 %", "10 to 3 m", "nearest 0 %", "101 % outliers", "5 points, sonar",
        "9 to 3 points",
    ],
)  # fmt: skip
def test_wrong_names_and_numbers(text: str) -> None:
    with pytest.raises(UserError, match="would"):
        parse_pattern(text)


def test_the_sentence_lists_what_exists() -> None:
    with pytest.raises(UserError, match=r"'sonar' in '5 points, sonar'.*'lidar 64'.*'5 % outliers'"):
        parse_pattern("5 points, sonar")
    with pytest.raises(UserError, match="hole"):
        Holes(0)
