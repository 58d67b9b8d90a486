"""All benchmarks beside the papers: which rows stand there, and what is said to be reproduced."""

import re
from pathlib import Path
from typing import Any

import pytest

from depthkd.benchmarks.benchmark import FigureSet
from depthkd.evaluate import evaluate
from depthkd.report.published import published
from tests.conftest import CommandLine
from tests.evaluation.subjects import Boxes, Seer

DEPTH = (FigureSet.DEPTH,)
OPTIONS: dict[str, Any] = {"photographs": False, "pictures": 0, "workers": 0}


def like(name: str, data_set: str | None, figures: tuple[FigureSet, ...] = DEPTH) -> Boxes:
    benchmark = Boxes(figures=figures, data_set=data_set)
    benchmark.name = name
    return benchmark


def test_papers_stand_under_ours_where_the_benchmark_is_theirs(tmp_path: Path) -> None:
    benchmarks: Any = {"n": like("nyuv2", "NYUv2"), "s": like("sintel", "Sintel", tuple(FigureSet))}
    evaluate({"seer": Seer(blur=3)}, benchmarks, out=tmp_path, **OPTIONS)
    table = (tmp_path / "table.md").read_text()
    accuracy = table[table.index("## Accuracy on all benchmarks (marigold)") :]
    (row,) = [
        line for line in accuracy.splitlines() if line.startswith("| Distill Any Depth, Table 5: Ours* ")
    ]
    assert " 0.043 " in row and " 0.981 " in row
    sharpness = table[table.index("## Sharpness on all benchmarks") :]
    assert "FiffDepth, Table 2:" in sharpness
    page = (tmp_path / "report.html").read_text()
    assert "<td>Distill Any Depth, Table 5: Ours*" in page
    assert page.count("<svg") == 1 and "Accuracy on n, sharpness on s" in page


def test_shards_that_borrow_a_name_are_not_compared(tmp_path: Path) -> None:
    evaluate({"seer": Seer()}, {"n": like("nyuv2", None)}, out=tmp_path, **OPTIONS)
    assert "Distill Any Depth" not in (tmp_path / "table.md").read_text()


@pytest.mark.parametrize("near", [True, False])
def test_it_is_said_which_protocol_reproduces_a_row(
    tmp_path: Path, near: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Seer(blur=3)
    model.source = "depth-anything/Depth-Anything-V2-Large-hf"
    options = OPTIONS | {"protocol": ["marigold", "depth_anything"]}
    first = evaluate({"m": model}, {"n": like("nyuv2", "NYUv2")}, out=tmp_path / "a", **options)
    said = first["published"]
    ours = {n: f["figures"]["m"]["abs_rel"] for n, f in first["benchmarks"].items()}
    if near:  # as if the paper printed what we found under one of them
        cells = [c for c in published("nyuv2") if c.row == "Depth Anything V2 ViT-L"]
        figures = first["benchmarks"]["n (depth_anything)"]["figures"]["m"]
        for cell in cells:
            object.__setattr__(cell, "value", figures[cell.figure])
        try:
            said = evaluate({"m": model}, {"n": like("nyuv2", "NYUv2")}, out=tmp_path / "a", **options)[
                "published"
            ]
        finally:
            published.__globals__["_figures"].cache_clear()
    (sentence,) = [s for s in said if "Depth Anything V2 ViT-L" in s]
    assert ours["n (marigold)"] != ours["n (depth_anything)"]
    start = "reproduced: Depth Anything V2's Depth Anything V2 ViT-L on nyuv2 is nearest under depth_anything"
    assert sentence.startswith(start) if near else sentence.startswith("NOT REPRODUCED")
    assert sentence in (tmp_path / "a/table.md").read_text()


def test_a_root_is_listed_without_models_and_tested_with_them(
    tmp_path: Path, command_line: CommandLine
) -> None:
    (tmp_path / "data/nyuv2").mkdir(parents=True)
    status, out, err = command_line("test", "--root", "data")
    assert status == 0 and err == ""
    assert re.search(r"\| nyuv2 +\| +NYUv2 \| +nyuv2 \| +654 \| +654 \|", out)
    assert "benchmark 'kitti': none of kitti/kitti_eigen_split_test.tar" in out
    status, out, err = command_line("test", "--root", "nowhere")
    assert status == 2 and err == "depthkd test: nowhere is no folder; benchmarks are looked for in one\n"
    seer = ["--models.s.class_path", "tests.evaluation.subjects.Seer"]
    status, out, err = command_line("test", "--root", "data", *seer)
    assert status == 2 and "one or more benchmarks" in err
    assert "left out: benchmark 'nyuv2': data/nyuv2 lacks files of 654 of 654 samples" in out
