from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from depthkd.batch import AFFINE_DEPTH, AFFINE_DISPARITY, METRIC_DEPTH, DepthSpace
from depthkd.report.pictures import (
    GAP,
    UNKNOWN,
    WIDTH,
    SheetRow,
    colors,
    error_colors,
    limits,
    nearness,
    panel,
    picture_sheet,
    row_cells,
)

RAMP = np.linspace(1.0, 5.0, 60, dtype=np.float32).reshape(6, 10)


def brightness(picture: np.ndarray) -> np.ndarray:
    return picture.astype(float).sum(-1)


@pytest.mark.parametrize(
    ("values", "space"),
    [(RAMP, AFFINE_DISPARITY), (1 / RAMP, METRIC_DEPTH), (7 - RAMP, AFFINE_DEPTH)],
)
def test_near_is_bright_in_every_space(values: np.ndarray, space: DepthSpace) -> None:
    bright = brightness(colors(nearness(values, space)))
    assert bright[0, 0] < bright[3, 0] < bright[-1, -1]


def test_what_is_unknown_is_gray() -> None:
    depth = RAMP.copy()
    depth[0, 0], depth[0, 1], depth[0, 2] = np.nan, 0.0, np.inf
    near = nearness(depth, METRIC_DEPTH)
    picture = colors(near)
    assert (picture[0, :2] == UNKNOWN).all()
    assert not (picture[1:] == UNKNOWN).all(-1).any()
    nothing = colors(np.full((2, 3), np.nan, np.float32))
    assert (nothing == UNKNOWN).all()


def test_outliers_do_not_set_the_scale() -> None:
    values = np.append(np.linspace(0, 1, 1000), 1e6).astype(np.float32)[None]
    low, high = limits(values)
    assert (low, high) == pytest.approx((0.02, 0.98), abs=0.01)
    flat = colors(np.full((2, 3), 4.0, np.float32))
    assert (flat == flat[0, 0]).all()


def test_error_colors_saturate_at_half_the_truth() -> None:
    truth = np.array([[2.0, 2.0, 2.0, 2.0, np.nan]], np.float32)
    picture = error_colors(np.array([[2.0, 3.0, 1.0, 9.0, 1.0]], np.float32), truth)
    assert (picture[0, 1] == picture[0, 2]).all() and (picture[0, 1] == picture[0, 3]).all()
    assert picture[0, 0, 0] < 100 and picture[0, 1, 0] > picture[0, 1, 2]  # not red, red
    assert (picture[0, 4] == UNKNOWN).all()


def test_panel_is_side_by_side_at_the_images_size() -> None:
    image = torch.zeros(3, 6, 10)
    image[0] = 1.0
    small = torch.from_numpy(RAMP)[::2, ::2]
    picture = panel(image, [(torch.from_numpy(RAMP), AFFINE_DISPARITY), (small, METRIC_DEPTH)])
    assert picture.shape == (6, 30, 3)
    assert (picture[:, :10] == [255, 0, 0]).all()
    assert (picture[:, 10:20] == colors(RAMP)).all()
    assert brightness(picture)[0, 20] > brightness(picture)[-1, -1]


def test_sheet_has_a_cell_for_each_row_and_column(tmp_path: Path) -> None:
    image = np.full((6, 10, 3), 200, np.uint8)
    truth = RAMP.copy()
    truth[:, :5] = np.nan
    rows = [
        SheetRow("with truth", image, truth, {"a": RAMP, "b": 3 * RAMP}, captions={"a": "AbsRel 0"}),
        SheetRow("photograph", image, None, {"a": RAMP}, {"a": AFFINE_DISPARITY}),
    ]
    path = tmp_path / "new" / "sheet.png"
    picture_sheet(rows, ["a", "b"], path)
    sheet = np.asarray(Image.open(path))
    assert sheet.shape[1] == GAP + 6 * (WIDTH + GAP)  # image, truth, and two for each model
    lefts = [GAP + i * (WIDTH + GAP) for i in range(6)]
    tops = [90, sheet.shape[0] - 130]  # inside the first and the second row of cells
    filled = [[bool((sheet[top, x + 10 : x + WIDTH - 10] < 250).any()) for x in lefts] for top in tops]
    assert filled == [[True] * 6, [True, False, True, False, False, False]]
    gray = sheet[90, lefts[1] + 5 : lefts[1] + 100]
    assert (gray == UNKNOWN).all()
    with pytest.raises(ValueError, match="at least one row"):
        picture_sheet([], ["a"], path)


def test_depth_that_is_not_positive_has_no_color(tmp_path: Path) -> None:
    prediction = RAMP.copy()
    prediction[0] = 0.0
    prediction[1] = -1.0
    row = SheetRow("x", np.zeros((6, 10, 3), np.uint8), RAMP, {"a": prediction}, {"a": METRIC_DEPTH})
    (_, _, (picture, _), _) = row_cells(row, ["a"], errors=True)
    assert (picture[:2] == UNKNOWN).all() and not (picture[2:] == UNKNOWN).all()
