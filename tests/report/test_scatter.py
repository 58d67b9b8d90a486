from math import inf, nan
from xml.etree.ElementTree import Element, fromstring

import numpy as np
import pytest

from depthkd.report.axes import Axis, ticks
from depthkd.report.scatter import HEIGHT, LARGEST, LETTER, PLOT, RADIUS, WIDTH, Box, Point, scatter

SVG = "{http://www.w3.org/2000/svg}"


def drawn(points: list[Point], **settings: bool) -> Element:
    return fromstring(scatter(points, "δ1", "PDBE completeness, px", "sintel", **settings))


def circles(root: Element) -> list[tuple[float, float]]:
    return [(float(c.attrib["cx"]), float(c.attrib["cy"])) for c in root.iter(f"{SVG}circle")]


def labels(root: Element) -> list[Element]:
    return [t for t in root.iter(f"{SVG}text") if t.get("class") == "point"]


def box(label: Element) -> Box:
    width = LETTER * len(label.text or "")
    left = float(label.attrib["x"]) - (width if label.get("text-anchor") == "end" else 0)
    bottom = float(label.attrib["y"]) + 3
    return Box(left, bottom - 12, left + width, bottom)


def test_higher_metrics_lie_further_right_and_further_up() -> None:
    rng = np.random.default_rng(0)
    values = rng.uniform(0.2, 900, (20, 2))
    placed = circles(drawn([Point(str(i), float(x), float(y)) for i, (x, y) in enumerate(values)]))
    assert np.array_equal(np.argsort([u for u, _ in placed]), np.argsort(values[:, 0]))
    assert np.array_equal(np.argsort([-v for _, v in placed]), np.argsort(values[:, 1]))
    assert all(PLOT.left < u < PLOT.right and PLOT.top < v < PLOT.bottom for u, v in placed)


@pytest.mark.parametrize(
    "values",
    [
        [(0.9, 30.0)],
        [(0.9, 30.0)] * 3,
        [(0.0, 0.0)],
        [(1e-12, 1e9), (2e-12, 1e9 + 1)],
        [(-5.0, 1.0), (5.0, -1e-8)],
    ],
)
def test_few_or_equal_points(values: list[tuple[float, float]]) -> None:
    root = drawn([Point(f"model {i}", x, y) for i, (x, y) in enumerate(values)])
    assert len(circles(root)) == len(labels(root)) == len(values)
    assert all(PLOT.left < u < PLOT.right and PLOT.top < v < PLOT.bottom for u, v in circles(root))


def test_metrics_that_are_not_finite_are_named_and_left_out() -> None:
    root = drawn([Point("a", nan, 1.0), Point("b", 0.5, inf), Point("c", 0.5, 1.0, (nan, inf), (0.5, inf))])
    assert len(circles(root)) == 1
    assert not [e for e in root.iter() if e.get("class") == "whisker"]
    assert "not finite, so left out: a, b" in "".join(root.itertext())
    assert circles(drawn([Point("a", nan, nan)])) == circles(drawn([])) == []


def test_labels_cover_neither_each_other_nor_the_points() -> None:
    near = [Point(f"depth-anything/V2-{i}", 0.95 + 0.002 * i, 30.0 + i) for i in range(6)]
    root = drawn([*near, Point("vertical ramp", 0.5, 200.0, trivial=True)])
    boxes = [box(label) for label in labels(root)]
    assert len(boxes) == 7
    for i, one in enumerate(boxes):
        assert one.area - one.overlap(PLOT) < 1
        assert all(one.overlap(other) < 1 for other in boxes[:i])
        assert all(one.overlap(Box(u - 3, v - 3, u + 3, v + 3)) < 1 for u, v in circles(root))
    assert [e for e in root.iter() if e.get("class") == "leader"]


def test_trivial_rows_are_gray_and_intervals_are_whiskers() -> None:
    models = [Point("a", 0.9, 30.0, (0.85, 0.92), (20.0, 44.0)), Point("ramp", 0.5, 90.0, trivial=True)]
    root = drawn(models)
    fills = [c.attrib["fill"] for c in root.iter(f"{SVG}circle")]
    assert len(set(fills)) == 2
    across, along = [e for e in root.iter() if e.get("class") == "whisker"]
    (u, v) = circles(root)[1]
    assert float(across.attrib["x1"]) < u < float(across.attrib["x2"])
    assert float(across.attrib["y1"]) == float(across.attrib["y2"]) == v
    assert float(along.attrib["y2"]) < v < float(along.attrib["y1"])


def test_axes_say_what_is_better() -> None:
    said = "".join(drawn([Point("a", 0.9, 30.0)]).itertext())
    assert "δ1 (better →)" in said
    assert "PDBE completeness, px (← better)" in said
    said = "".join(drawn([], x_higher_is_better=False, y_higher_is_better=True).itertext())
    assert "δ1 (← better)" in said
    assert "PDBE completeness, px (better →)" in said


def test_on_a_logarithmic_axis_equal_factors_are_equally_long_and_areas_show_a_third_value() -> None:
    points = [Point(str(x), x, 0.5, size=share) for x, share in ((2.0, 0.0), (20.0, 0.25), (200.0, 1.0))]
    root = drawn(points, x_logarithmic=True)
    (a, _), (b, _), (c, _) = circles(root)
    assert b - a == pytest.approx(c - b, abs=0.2) and c - b > 100
    radii = [float(circle.attrib["r"]) for circle in root.iter(f"{SVG}circle")]
    assert radii[0] == RADIUS and radii[2] == LARGEST
    assert radii[1] - RADIUS == pytest.approx((LARGEST - RADIUS) / 2, abs=0.1)
    across = [t.text for t in root.iter(f"{SVG}text") if t.get("class") == "x"]
    assert across == ["2", "5", "10", "20", "50", "100", "200"]
    assert Axis.around([0.0, -1.0], 0.0, 1.0, logarithmic=True).ticks()[0] == (1.0, "1.0")  # a short range


def test_text_is_escaped_and_nothing_is_loaded() -> None:
    label = '<script>alert("&")</script>\x00'
    text = scatter([Point(label, 0.9, 30.0)], "a < b", "c & d", "<title>")
    root = fromstring(text)
    assert [t.text for t in labels(root)] == ['<script>alert("&")</script> ']
    assert not list(root.iter(f"{SVG}script"))
    assert text.count("http") == 1  # the namespace
    assert (root.attrib["width"], root.attrib["height"]) == (str(WIDTH), str(HEIGHT))


def test_a_long_name_is_cut_on_the_plot_and_whole_in_its_tooltip() -> None:
    root = drawn([Point("m" * 200, 0.9, 30.0)])
    assert len(labels(root)[0].text or "") == 60
    assert "m" * 200 in "".join(root.itertext())


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.83, 0.991), (-3.0, 700.0), (1e-7, 3e-7)])
def test_ticks_are_round_and_inside(low: float, high: float) -> None:
    found = ticks(low, high)
    assert 3 <= len(found) <= 8
    slack = 1e-6 * (high - low)
    assert low - slack <= found[0] and found[-1] <= high + slack
    step = found[1] - found[0]
    assert np.allclose(np.diff(found), step)
    assert float(f"{step:.0e}") == pytest.approx(step)
    assert f"{step:.0e}"[0] in "125"
