"""report.html as a file: one row a model, intervals folded, small enough to send."""

import re
from pathlib import Path

import numpy as np
import pytest

from depthkd.batch import AFFINE_DISPARITY, METRIC_DEPTH
from depthkd.report.html import LARGEST_SIDE, Section, write_report
from depthkd.report.pictures import SheetRow

CAMERA = np.array([[400.0, 0, 239.5], [0, 400.0, 179.5], [0, 0, 1]])
METRICS = {name: {"abs_rel": 0.1, "delta1": 0.9, "images": 30.0} for name in ("teacher", "student", "ramp")}


def row(number: int, models: tuple[str, ...]) -> SheetRow:
    rng = np.random.default_rng(number)
    image = rng.integers(0, 255, (18, 24, 3), dtype=np.uint8).repeat(20, 0).repeat(20, 1)
    depth = np.linspace(1, 5, 360)[:, None] + 0.2 * rng.random((18, 24)).repeat(20, 0).repeat(20, 1)
    made = SheetRow(f"film: {number}", image, depth, camera=CAMERA)
    for name in models:
        made.predictions[name], made.spaces[name] = depth * 1.1, METRIC_DEPTH
    return made


@pytest.fixture
def page(tmp_path: Path) -> str:
    models = ("teacher", "student")
    photo = SheetRow("cat", row(9, ()).image)
    for name in models:
        photo.predictions[name], photo.spaces[name] = np.ones((360, 480)), AFFINE_DISPARITY
    sections = [
        Section(
            "film", "marigold: a fit", METRICS, ("ramp",),
            {"teacher": {"abs_rel": "0.0900 to 0.1100"}}, ["The teacher is better."], ["A remark."],
            [("best", row(number, models)) for number in range(5)],
        ),
        Section("photographs", "none", {}, pictures=[("a photograph", photo)] * 4),
    ]  # fmt: skip
    write_report(tmp_path / "report.html", "a test", {"device": "cpu"}, sections)
    return (tmp_path / "report.html").read_text()


def test_a_sample_has_a_row_of_pictures_for_its_truth_and_one_for_each_model(page: str) -> None:
    sample = page.split("<h3>")[1]
    rows = [re.findall(r"<figcaption>([^<]*)", part) for part in sample.split('<div class="row"')[1:]]
    assert rows == [
        ["image", "truth", "truth, from the side"],
        ["teacher", "teacher: error", "teacher: edges", "teacher, from the side"],
        ["student", "student: error", "student: edges", "student, from the side"],
    ]
    photo = page.split("<h3>")[-1]
    assert re.findall(r"<figcaption>([^<]*)", photo) == ["image", "teacher", "student"]


def test_intervals_are_folded_and_every_kind_of_picture_is_explained(page: str) -> None:
    folded = re.findall(r"<details>.*?</details>", page, re.S)
    assert len(folded) == 1 and "0.0900 to 0.1100" in folded[0] and "The teacher is better." in folded[0]
    assert "A remark." not in folded[0]
    for kind in ("depth", "error", "edges", "from the side"):
        assert f"<b>{kind}</b>" in page


def test_it_is_small_enough_to_send_and_fits_any_screen(page: str) -> None:
    assert page.count("<img") > 60 and len(page) < 3_000_000
    assert 'name="viewport"' in page and LARGEST_SIDE >= 256
    assert page.count("<table") == page.count('<div class="wide"'), "wide tables scroll by themselves"
