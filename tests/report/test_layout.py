from math import nan

import pytest

from depthkd.report.layout import papers_own_layout, papers_table
from depthkd.report.published import paper_table, published

FIGURES = {
    "kitti": {"student": {"abs_rel": 0.0712, "delta1": 0.948}, "ramp": {"abs_rel": 0.4, "delta1": 0.3}},
    "nyuv2": {"student": {"abs_rel": 0.0443, "delta1": nan}},
}
PROTOCOLS = {"kitti": "marigold: as told", "nyuv2": "depth_anything"}


def test_models_down_and_benchmarks_across() -> None:
    table, *under = papers_table(FIGURES, PROTOCOLS).split("\n\n")
    lines = table.splitlines()
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["model", "kitti AbsRel ↓", "kitti δ1 ↑", "nyuv2 AbsRel ↓", "nyuv2 δ1 ↑"]
    assert cells[2] == ["student", "0.0712", "0.9480", "0.0443", "-"]
    assert cells[3] == ["ramp", "0.4000", "0.3000", "-", "-"]
    assert under == ["Protocol on kitti: marigold: as told.", "Protocol on nyuv2: depth_anything."]


def test_metrics_that_no_row_has_on_a_benchmark_get_no_column() -> None:
    metrics = {"sintel": {"student": {"boundary_f1": 0.3}}, "am2k": {"student": {"boundary_recall": 0.1}}}
    cells = [c for c in published("am2k") if c.row == "Depth Pro"]
    columns = ("pdbe_accuracy", "boundary_f1", "boundary_recall")
    table = papers_table(metrics, {"sintel": "raw", "am2k": "mattes"}, cells, columns).splitlines()
    assert [c.strip() for c in table[0].strip("|").split("|")] == ["model", "sintel F1 ↑", "am2k recall ↑"]
    assert [c.strip() for c in table[3].strip("|").split("|")][1:] == ["-", "0.173 p"]


def test_papers_rows_stand_under_ours_with_what_is_wrong_with_them() -> None:
    rows = {"BetterDepth", "UniDepth", "MiDaS v3.1"}
    cells = [c for b in ("kitti", "scannet") for c in published(b) if c.row in rows and "6" not in c.table]
    text = papers_table(FIGURES, PROTOCOLS, cells)
    shown = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("| ")}
    assert list(shown)[1:3] == ["student", "ramp"]
    assert "| 0.75 e |" in shown["SharpDepth, Table 1: BetterDepth"].replace("  ", "")
    assert "0.05 p" in shown["SharpDepth, Table 1: UniDepth"]
    assert "0.949 pd" in shown["Distill Any Depth, Table 5: MiDaS v3.1"]
    assert "p: measured under another protocol than ours" in text
    assert "SharpDepth, Table 1: BetterDepth on kitti: probably .075 (AbsRel)." in text


def test_no_legend_for_letters_that_are_not_used() -> None:
    cells = [c for c in published("kitti") if (c.paper, c.row) == ("FiffDepth", "FiffDepth (Ours)")]
    text = papers_table({"kitti": FIGURES["kitti"]}, PROTOCOLS, cells)
    assert "0.073" in text
    assert text.endswith("Protocol on kitti: marigold: as told.")


def test_benchmarks_that_share_a_protocol_share_a_line() -> None:
    text = papers_table(FIGURES, {"kitti": "marigold", "nyuv2": "marigold"})
    assert text.endswith("\n\nProtocol on kitti, nyuv2: marigold.")


def test_metrics_without_a_protocol_are_refused() -> None:
    with pytest.raises(ValueError, match="benchmark 'nyuv2' has no protocol"):
        papers_table(FIGURES, {"kitti": "marigold"})


def test_a_papers_own_layout_keeps_its_order_of_benchmarks_and_metrics() -> None:
    ours = {"silog": 7.0, "delta1": 0.9712, "abs_rel": 0.0613, "rmse": 2.5}
    metrics = {b: {"student": ours} for b in ("nyuv2", "kitti", "eth3d", "diode", "booster", "sintel")}
    protocols = dict.fromkeys(metrics, "metric: as told")
    wide = papers_own_layout(metrics, protocols, paper_table("SharpDepth, Table 1"))
    header, _, first, *rest = [[c.strip() for c in line.strip("|").split("|")] for line in wide.splitlines()]
    names = ["kitti", "nyuv2", "eth3d", "diode", "booster"]
    assert header == ["model", *(f"{n} {f}" for n in names for f in ("δ1 ↑", "AbsRel ↓"))]
    assert first == ["student", *["0.9712", "0.0613"] * 5]
    (paper,) = [row for row in rest if row[0] == "SharpDepth, Table 1: SharpDepth (ours)"]
    assert paper[1:5] == ["0.97", "0.06", "0.97", "0.06"] and paper[7].startswith("0.61")
    assert "nuscenes" not in wide and "sintel" not in wide
    tall = papers_own_layout(metrics, protocols, paper_table("SharpDepth, Table 6"))
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in tall.splitlines()]
    assert rows[0] == ["benchmark", "model", "AbsRel ↓", "RMSE ↓", "SIlog ↓", "δ1 ↑"]
    assert rows[2] == ["kitti", "student", "0.0613", "2.5000", "7.0000", "0.9712"]
    assert ["kitti", "SharpDepth, Table 6: SharpDepth (Ours)", "0.059", "2.374", "8.100", "0.97315"] in rows
    details = papers_own_layout(
        {"ibims1": {"student": {"dbe_paper_accuracy": 1.9}}}, protocols | {"ibims1": "metric"},
        paper_table("SharpDepth, Table 2"),
    )  # fmt: skip
    assert "| ibims1 DBE acc (paper) ↓ | ibims1 DBE compl (paper) ↓ | ibims1 AbsRel ↓ |" in details


def test_a_table_that_no_paper_has_is_a_sentence() -> None:
    with pytest.raises(ValueError, match=r"'SharpDepth, Table 9'; it would be .*'SharpDepth, Table 1'"):
        paper_table("SharpDepth, Table 9")
