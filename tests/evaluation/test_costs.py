"""`depthkd test --cost`: what tested models cost, beside their metrics."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from depthkd.cost.cost import digits
from depthkd.cost.counting import multiply_adds
from depthkd.models import DepthAnything
from depthkd.models.model import DepthModel
from tests.evaluation.subjects import SIZE, Boxes
from tests.evaluation.test_measure import results_of
from tests.models.smallest import Level


@pytest.mark.parametrize("resolution", [None, 16])
def test_columns_in_table_results_and_report(resolution: int | None, tmp_path: Path) -> None:
    model = DepthAnything(size="tiny").eval()
    found = results_of(model, tmp_path, cost=True, resolution=resolution)
    size = model.runs_at(*SIZE, resolution)
    assert size is not None
    with torch.no_grad():
        count = multiply_adds(lambda: model(torch.rand(1, 3, *size))).count
    parameters = sum(p.numel() for p in model.parameters())
    kept = json.loads((tmp_path / "results.json").read_text())["benchmarks"]["boxes"]["costs"]
    assert list(kept) == ["seer"] and found["benchmarks"]["boxes"]["costs"].keys() == kept.keys()
    assert kept["seer"]["size"] == list(size)
    assert (kept["seer"]["parameters"], kept["seer"]["multiply_adds"]) == (parameters, count)
    assert 0 < kept["seer"]["latency"]["eager"]["low"] <= kept["seer"]["latency"]["eager"]["median"]
    shown = [digits(parameters / 1e6), digits(count / 1e9)]
    table = (tmp_path / "table.md").read_text()
    row = next(line for line in table.splitlines() if line.startswith("| seer "))
    assert [cell.strip() for cell in row.split("|")][-6:-4] == shown
    heads = [line for line in table.splitlines() if "multiply-adds (G)" in line and line.startswith("|")]
    assert len(heads) == 1 and heads[0].count("latency (ms)") == 1
    assert f"without a compiler: seer at {size[0]} x {size[1]} on " in table
    report = (tmp_path / "report.html").read_text()
    assert re.search(
        rf"<td>{re.escape(shown[0])}</td><td>{re.escape(shown[1])}</td><td>\S+ \(\S+ to \S+\)</td>", report
    )
    assert report.count(">parameters (M)</th>") == 1


def results(out: Path, model: DepthModel, **options: Any) -> Any:
    return results_of(model, out, Boxes(count=2), **options)["benchmarks"]["boxes"]


def test_nothing_is_measured_unasked(tmp_path: Path) -> None:
    model = DepthAnything(size="tiny")
    found = results(tmp_path, model)
    assert found["costs"] == {} and "parameters (M)" not in (tmp_path / "table.md").read_text()
    again = results(tmp_path, model, cost=True)
    assert again["metrics"]["seer"] == found["metrics"]["seer"] and again["costs"]["seer"]["parameters"] > 0


def test_a_model_that_chooses_its_size_is_measured_on_the_images_size(tmp_path: Path) -> None:
    model = Level()
    seen = []
    model.register_forward_pre_hook(lambda _, images: seen.append(tuple(images[0].shape)))
    cost = results(tmp_path, model, cost=True)["costs"]["seer"]
    assert cost["size"] is None and cost["multiply_adds"] == 0
    assert set(seen) == {(1, 3, *SIZE)}
