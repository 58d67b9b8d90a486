"""Pages in Chromium: nothing is fetched, mouse and keyboard move all, and axe finds nothing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from depthkd.batch import METRIC_DEPTH
from depthkd.report.annotation_page import AnnotatedImage, annotation_page
from depthkd.report.curves import curves, keys
from depthkd.report.document import Block, Cell, Document, Drawing, Fold, Heading, Part, Table, Text
from depthkd.report.html import Section, plot_html, write_report
from depthkd.report.interactive import SCRIPTS, STYLES, cloud, cloud_data, comparison
from depthkd.report.pictures import SheetRow
from depthkd.report.scatter import Point, scatter
from tests.report.conftest import WIDTHS, Opened, axe, broken_images, scrolls_sideways

CAMERA = np.array([[200.0, 0, 79.5], [0, 200.0, 59.5], [0, 0, 1]])
EDGE = "document.querySelector('.stage').style.getPropertyValue('--at')"
PIXELS = "document.querySelector('canvas').toDataURL()"


def row(title: str) -> SheetRow:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (12, 16, 3), dtype=np.uint8).repeat(10, 0).repeat(10, 1)
    depth = np.linspace(1, 3, 160, dtype=np.float32)[None].repeat(120, 0)
    made = SheetRow(title, image, depth, camera=CAMERA)
    for name in ("student", "a teacher with a long name"):
        made.predictions[name], made.spaces[name] = depth * 1.1, METRIC_DEPTH
    return made


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    rows = [row("one"), row("two")]
    cells = [Cell(f"0.{i}", "0.1 to 0.2", best=i == 1) for i in range(14)]
    table = Table(
        "metrics", ["model", *(f"metric {i}" for i in range(14))], [["a_long.name", *cells]] * 2, [1]
    )
    words = Table(
        "settings", ["setting", "x", "y"], [["model.init_args." + "z" * 60, "w" * 80, "-"]], words=True
    )
    plot = scatter(
        [Point("a", 3.0, 0.1, size=1.0), Point("b", 30.0, 0.2, trivial=True)], "M", "AbsRel", "cost"
    )
    data = cloud_data(rows[0].image, {"a": rows[0].predictions["student"], "truth": rows[0].truth}, CAMERA)
    line = curves("train/loss", {"a": [(0, 2.0), (9, 1.0)], "b": [(3, 1.5)]})
    parts: list[list[Block]] = [
        [Heading("of one"), table, Fold("more", [words]), Text("a note", "note"), Text("unfinished", "warn")],
        [Drawing(plot_html(plot)), Drawing(f'{keys(["a", "b"])}<div class="curves">{line}</div>')],
        [Drawing(comparison(rows)), Drawing(cloud("one", data, ["a", "truth"]))],
    ]
    document = Document(
        "A report", [Text("lead", "note")], [Part(f"Part {i}", p) for i, p in enumerate(parts)]
    )
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(document.html(STYLES, SCRIPTS))
    return path.as_uri()


@pytest.mark.parametrize("width", WIDTHS)
def test_every_width_is_whole_and_accessible(opened: Opened, report: str, width: int) -> None:
    page = opened(report, width, color_scheme="dark" if width == 360 else "light")
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true })")
    assert not scrolls_sideways(page) and not broken_images(page)
    assert width == 768 or not axe(page)


def test_slider_and_cloud_move_by_keyboard_and_by_mouse(opened: Opened, report: str) -> None:
    page = opened(report)
    slider, stage = page.locator("input[type=range]").first, page.locator(".stage").first
    assert page.evaluate(EDGE) == "50%"
    before = stage.screenshot()
    slider.focus()
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    assert page.evaluate(EDGE) == "70%" and stage.screenshot() != before
    assert slider.get_attribute("aria-valuetext") == "70 % image, the rest student"
    box = stage.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + 30)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + 30)
    page.mouse.up()
    assert page.evaluate(EDGE) == "25%" and slider.input_value() == "25"
    page.locator("select").first.select_option("truth")
    assert page.locator(".tag.left").all_inner_texts() == ["truth", "truth"]
    seen = {page.evaluate(PIXELS)}
    canvas = page.locator("canvas")
    canvas.scroll_into_view_if_needed()

    def changed() -> bool:
        page.wait_for_timeout(100)
        now = page.evaluate(PIXELS)
        return now not in seen and not seen.add(now)  # type: ignore[func-returns-value]

    canvas.focus()
    for key in ("ArrowLeft", "ArrowUp", "+"):
        page.keyboard.press(key)
        assert changed(), key
    page.get_by_role("button", name="turn to the right").click()
    assert changed()
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + 200, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 260, box["y"] + 130, steps=2)
    page.mouse.up()
    assert changed()


def test_the_page_can_be_walked_through_from_its_skip_link_and_printed(opened: Opened, report: str) -> None:
    page = opened(report, 360)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    for _ in range(6):
        page.keyboard.press("Tab")
        assert page.evaluate(outline) == "solid"
    page.emulate_media(media="print")
    hidden = "[...document.querySelectorAll('nav, .controls, .pairs input')].every((e) => !e.offsetHeight)"
    assert page.evaluate(hidden)
    over, under = (page.locator(f".stage {layer}").first.bounding_box() for layer in (".over", ".under"))
    assert under["x"] - over["x"] > 50, "both are seen on paper, each below its name"


def test_one_slow_look_around_and_none_for_those_who_want_no_motion(opened: Opened, report: str) -> None:
    for motion, moves in (("no-preference", True), ("reduce", False)):
        page = opened(report, reduced_motion=motion)
        page.locator("canvas").scroll_into_view_if_needed()
        page.wait_for_timeout(300)
        before = page.evaluate(PIXELS)
        page.wait_for_timeout(500)
        assert (page.evaluate(PIXELS) != before) is moves


def test_the_page_of_a_test_is_accessible(opened: Opened, tmp_path: Path) -> None:
    metrics = {name: {"abs_rel": 0.1, "delta1": 0.9, "images": 30.0} for name in ("model", "ramp")}
    intervals = {"model": {"abs_rel": "0.09 to 0.11"}}
    section = Section("film", "a protocol", metrics, ["ramp"], intervals, ["Better."], ["A remark."],
                      [("best", row("one"))], groups={"indoor": metrics})  # fmt: skip
    plot = scatter([Point("a", 3.0, 0.1), Point("b", 30.0, 0.2, trivial=True)], "x", "y", "two")
    write_report(tmp_path / "report.html", "a test", {"device": "cpu"}, [section], ["## All\n\nSo."], [plot])
    page = opened((tmp_path / "report.html").as_uri(), 360)
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true })")
    assert not scrolls_sideways(page) and not broken_images(page)
    assert not axe(page)


def test_the_page_of_annotators_is_accessible(opened: Opened, tmp_path: Path) -> None:
    import cv2

    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images/a.png"), row("a").image)
    pairs: list[Any] = [{"point1": [10, 10], "point2": [100, 150]}]
    image = AnnotatedImage("images/a.png", "indoor", 120, 160, pairs)
    (tmp_path / "annotate.html").write_text(annotation_page([image], "abc"))
    page = opened((tmp_path / "annotate.html").as_uri(), 360)
    page.wait_for_timeout(100)
    assert not axe(page) and not broken_images(page) and not scrolls_sideways(page)
