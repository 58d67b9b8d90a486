from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from depthkd.batch import AFFINE_DEPTH, METRIC_DEPTH
from depthkd.report.contact_sheet import ACROSS, CELL, TALLEST, Thumbnail, contact_sheet
from depthkd.report.depth_histogram import HEIGHT, DepthHistogram
from depthkd.report.pictures import GAP, TITLE, UNKNOWN, colors, nearness

IMAGE = np.full((60, 80, 3), (200, 10, 10), np.uint8)
DEPTH = np.linspace(1, 5, 4800, dtype=np.float32).reshape(60, 80)
MASK = np.arange(80)[None].repeat(60, 0) < 40
LEFTS = [GAP + n * (CELL + GAP) for n in range(ACROSS)]
TOP = TITLE + 2 * GAP


def filled(path: Path, row: int = TOP + 40) -> list[bool]:
    """Which cells of a row of pixels have a picture."""
    pixels = np.asarray(Image.open(path))[row]
    return [bool((pixels[left + 5 : left + CELL - 5] < 250).any(-1).all()) for left in LEFTS]


def test_images_stand_beside_their_depth(tmp_path: Path) -> None:
    both = Thumbnail.of("a", IMAGE, (DEPTH, MASK, METRIC_DEPTH))
    alone = Thumbnail.of("b", IMAGE, None)
    path = tmp_path / "sheet.png"
    histogram = DepthHistogram.of(DEPTH, MASK, METRIC_DEPTH)
    contact_sheet([both, alone, both], [histogram], path)
    assert filled(path) == [True, True, True, False, True, True, False, False]
    pixels = np.asarray(Image.open(path))
    assert (pixels[TOP + 50, LEFTS[0] + 50] == IMAGE[0, 0]).all()
    expected = colors(nearness(np.where(MASK, DEPTH, np.nan).astype(np.float32), METRIC_DEPTH))
    middle = pixels[TOP + round(40.5 * CELL / 80), LEFTS[1] + round(20.5 * CELL / 80)]
    assert np.abs(middle.astype(int) - expected[40, 20]).max() < 8 and expected[40, 20].min() < 100
    assert (pixels[TOP + 50, LEFTS[1] + CELL - 5] == UNKNOWN).all()
    assert (pixels[-HEIGHT:] == histogram.picture(pixels.shape[1])).all()
    assert both.depth_range == "1 to 4.97 m"
    assert Thumbnail.of("a", None, (DEPTH, MASK, AFFINE_DEPTH)).depth_range == "1 to 4.97"


def test_images_alone_and_depth_alone_stand_close(tmp_path: Path) -> None:
    contact_sheet([Thumbnail.of(str(n), IMAGE, None) for n in range(9)], [], tmp_path / "images.jpg")
    assert filled(tmp_path / "images.jpg") == [True] * ACROSS
    assert (tmp_path / "images.jpg").read_bytes().startswith(b"\xff\xd8\xff")
    label = (DEPTH, MASK, METRIC_DEPTH)
    contact_sheet([Thumbnail.of("a", None, label)] * 2, [], tmp_path / "depth.png")
    assert filled(tmp_path / "depth.png") == [True, True] + [False] * 6


def test_a_tall_image_gets_a_margin(tmp_path: Path) -> None:
    picture = Thumbnail.of("a", np.zeros((300, 100, 3), np.uint8), None).image
    assert picture is not None and picture.shape == (TALLEST * CELL, CELL, 3)
    dark = (picture == 0).all(-1).sum(1)
    assert dark == pytest.approx(CELL * TALLEST / 3, abs=1) and (picture[:, [0, -1]] == 255).all()
