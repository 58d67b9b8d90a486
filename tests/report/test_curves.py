"""Curves over steps: every run has its line, no peak is lost, and what is not finite is named."""

from math import inf, nan
from xml.etree.ElementTree import fromstring

import numpy as np

from depthkd.report.curves import MOST, curves, keys, thinned


def test_thinning_keeps_the_ends_and_every_peak() -> None:
    rng = np.random.default_rng(0)
    points = [(step, float(value)) for step, value in enumerate(rng.normal(size=20_000))]
    points[7_777] = (7_777, 50.0)
    kept = thinned(points)
    assert len(kept) <= MOST + 2 and kept[0] == points[0] and kept[-1] == points[-1]
    assert (7_777, 50.0) in kept and kept == sorted(kept)
    assert thinned(points[:MOST]) == points[:MOST]


def test_a_run_is_a_line_in_the_color_of_its_place() -> None:
    found = fromstring(curves("train/loss", {"a": [], "b": [(0, 2.0), (10, 1.0)], "c": [(5, 1.5)]}, "lower"))
    lines = [e for e in found.iter() if e.tag.endswith("polyline")]
    assert [e.get("class") for e in lines] == ["curve s1"]
    assert [e.get("class") for e in found.iter() if e.tag.endswith("circle")] == ["s1", "s2"]
    (_, up), (_, down) = (point.split(",") for point in lines[0].attrib["points"].split())
    assert float(up) < float(down)
    said = "".join(found.itertext())
    assert "train/loss ↓" in said and "b ends at 1; c ends at 1.5" in said and "log scale" not in said
    assert keys(["a", "b"]).count("<li>") == 2


def test_values_that_are_not_finite_are_left_out_and_said() -> None:
    figure = curves("x", {"broken": [(0, nan), (1, 1.0), (2, inf), (3, 900.0)], "none": []})
    assert "not finite at times: broken" in figure and "(log scale)" in figure and "nan" not in figure
    assert "polyline" not in curves("x", {"all": [(0, nan)]})
