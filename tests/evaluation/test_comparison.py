"""All benchmarks beside the papers: which rows stand there, and what is said to be reproduced."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from depthkd.batch import METRIC_DEPTH
from depthkd.benchmarks.protocol import Protocol
from depthkd.evaluation.evaluate import evaluate
from depthkd.evaluation.protocols import differences
from depthkd.metrics.catalogue import MetricSet
from depthkd.report.published import published
from tests.conftest import CommandLine
from tests.evaluation.subjects import Boxes, Seer

DEPTH = (MetricSet.DEPTH,)
OPTIONS: dict[str, Any] = {"photographs": False, "pictures": 0, "workers": 0}


def like(name: str, data_set: str | None, metrics: tuple[MetricSet, ...] = DEPTH) -> Boxes:
    benchmark = Boxes(metrics=metrics, data_set=data_set)
    benchmark.name = name
    return benchmark


def test_papers_stand_under_ours_where_the_benchmark_is_theirs(tmp_path: Path) -> None:
    benchmarks: Any = {
        "n": like("nyuv2", "NYUv2"),
        "s": like("sintel", "Sintel", (MetricSet.DEPTH, MetricSet.EDGES)),
    }
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
    assert '<th scope="row">Distill Any Depth, Table 5: Ours*' in page
    assert page.count("<svg") == 1 and "Accuracy on n, sharpness on s" in page


def test_shards_that_borrow_a_name_are_not_compared(tmp_path: Path) -> None:
    evaluate({"seer": Seer()}, {"n": like("nyuv2", None)}, out=tmp_path, **OPTIONS)
    assert "Distill Any Depth" not in (tmp_path / "table.md").read_text()


@pytest.mark.parametrize("near", [True, False])
def test_it_is_said_which_protocol_reproduces_a_row(
    tmp_path: Path, near: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Famous(Seer):
        def __init__(self) -> None:
            super().__init__(blur=3)
            self.source = "depth-anything/Depth-Anything-V2-Large-hf"

    def tested() -> Any:
        names = ["marigold", "depth_anything"]
        return evaluate(
            {"m": Famous()}, {"n": like("nyuv2", "NYUv2")}, out=tmp_path, protocol=names, **OPTIONS
        )

    results = tested()
    if near:  # as if the paper printed what we found under one of them
        ours = results["benchmarks"]["n (depth_anything)"]["metrics"]["m"]
        printed = [
            replace(c, value=ours[c.metric], decimals=4) for c in published("nyuv2") if c.metric in ours
        ]
        for module in ("depthkd.evaluation.comparison.published", "depthkd.report.published.published"):
            monkeypatch.setattr(module, lambda name: printed if name == "nyuv2" else [])
        results = tested()
    (sentence,) = [s for s in results["published"] if "Depth Anything V2 ViT-L on" in s]
    start = "reproduced: Depth Anything V2's Depth Anything V2 ViT-L on nyuv2 is nearest under depth_anything"
    assert sentence.startswith(start if near else "NOT REPRODUCED: Depth Anything V2's")
    assert sentence in (tmp_path / "table.md").read_text()


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
    (tmp_path / "data/nyuv2/test/a").mkdir(parents=True)
    for name, value in (("rgb", 100), ("depth", 2000)):
        image = np.full((480, 640) + ((3,) if name == "rgb" else ()), value, np.uint16)
        image[200:300] = value + 50
        image = image.astype(np.uint8) if name == "rgb" else image
        cv2.imwrite(str(tmp_path / f"data/nyuv2/test/a/{name}_1.png"), image)
    (tmp_path / "short.txt").write_text("test/a/rgb_1.png test/a/depth_1.png test/a/depth_1.png")
    here = ["test", "--root", "data", "--only", "[nyuv2, kitti]", "--splits.nyuv2", "short.txt"]
    words = ["--models.s.class_path", "tests.evaluation.subjects.Seer", "--photographs", "false"]
    status, out, err = command_line(*here, *words, "--out", "o")
    assert status == 0, err
    assert "left out: benchmark 'kitti': none of" in out and "s on nyuv2: AbsRel" in out
    table = (tmp_path / "o/table.md").read_text()
    assert "nyuv2: not the papers' samples but 1, chosen by split=short.txt and limit=None." in table
    assert "Left out: benchmark 'kitti'" in table
    seer = ["--models.s.class_path", "tests.evaluation.subjects.Seer"]
    status, out, err = command_line("test", "--root", "data", *seer)
    assert status == 2 and "one or more benchmarks" in err
    assert "left out: benchmark 'nyuv2': data/nyuv2 lacks files of 654 of 654 samples" in out


def test_a_papers_table_is_laid_out_as_there_with_our_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmarks: Any = {"n": like("nyuv2", "NYUv2"), "k": like("kitti", "KITTI"), "mine": like("mine", None)}
    seer: Any = {"seer": Seer()}
    table = "SharpDepth, Table 1"
    evaluate(seer, benchmarks, out=tmp_path, tables=[table], **OPTIONS)
    for text in (capsys.readouterr().out, (tmp_path / "table.md").read_text()):
        own = text[text.index(f"## {table}, and ours") :]
        header = next(line for line in own.splitlines() if line.startswith("| model"))
        assert header.index("kitti δ1") < header.index("kitti AbsRel") < header.index("nyuv2 δ1")
        assert "mine" not in header and "| seer " in own and f"| {table}: UniDepth-aligned Lotus" in own
    assert f'<th scope="row">{table}: SharpDepth (ours)' in (tmp_path / "report.html").read_text()
    with pytest.raises(ValueError, match="no paper's table is called 'Table 1'"):
        evaluate(seer, benchmarks, out=tmp_path / "other", tables=["Table 1"], **OPTIONS)
    assert not (tmp_path / "other").exists()


def test_why_metrics_differ_where_one_of_two_protocols_fits_nothing() -> None:
    metric, marigold = (Protocol.named(name) for name in ("metric", "marigold"))
    said = differences(metric, marigold, [METRIC_DEPTH])
    assert said == ("metric applies no fit; marigold applies least-squares scale and shift, fits in depth")
    assert differences(marigold, metric, [METRIC_DEPTH]).startswith("marigold applies least-squares")
