import pytest

from depthkd.benchmarks.protocol import PROTOCOLS
from depthkd.datasets.da2k import SCENARIOS
from depthkd.metrics.catalogue import FORMULAS
from depthkd.report.published import (
    PublishedMetric,
    _lines,
    _metrics,
    published,
    reproduced,
    rows_of,
)

BENCHMARKS = {
    *("nyuv2", "kitti", "eth3d", "scannet", "diode", "diode_indoor", "sintel", "spring", "ibims1", "booster"),
    *("nuscenes", "unrealstereo4k", "da2k", "am2k", "p3m10k", "dis5k"),
    *(f"da2k_{scenario}" for scenario in SCENARIOS),
}
PIXELS = {"pdbe_accuracy", "pdbe_completeness", "dbe_paper_accuracy", "dbe_paper_completeness"}
FRACTIONS = {"delta1", "delta2", "delta3", "pair_accuracy", "boundary_f1", "boundary_recall"}
CELLS_OF_TABLES = {  # rows times columns, less the dashes
    ("Distill Any Depth", "Table 1"): 8 * 2,
    ("Distill Any Depth", "Table 2"): 4 * 2,
    ("Distill Any Depth", "Table 3"): 6 * 2,
    ("Distill Any Depth", "Table 4"): 4 * 2,
    ("Distill Any Depth", "Table 5"): 12 * 10 - 6,
    ("SharpDepth", "Table 1"): 9 * 12 - 6,
    ("SharpDepth", "Table 2"): 8 * 12,
    ("SharpDepth", "Table 3"): 9 * 5,
    ("SharpDepth", "Table 6"): 6 * 8 * 4,
    ("Depth Anything V2", "Table 2"): 8 * 10,
    ("Depth Anything V2", "Table 3"): 8,
    ("Depth Anything V2", "Table 4"): 2 * 11 * 6,
    ("Depth Anything V2", "Table 5"): 10 * 11,
    ("Depth Anything V2", "Table 6"): 2 * 11,
    ("Depth Anything V2", "Table 9"): 6 * 10,
    ("Depth Anything V2", "Table 10"): 10 * 10,
    ("Depth Anything V2", "Table 11"): 2 * 10,
    ("Depth Anything V2", "Table 12"): 6,
    ("Depth Anything V2", "Table 13"): 7 * 10,
    ("Depth Anything V2", "Table 14"): 6 * 9,
    ("FiffDepth", "Table 1"): 12 * 11,
    ("FiffDepth", "Table 2"): 7 * 6,
}


def cell(paper: str, table: str, row: str, benchmark: str, metric: str) -> PublishedMetric:
    found = [c for c in published(benchmark, metric) if (c.paper, c.table, c.row) == (paper, table, row)]
    assert len(found) == 1, found
    return found[0]


def test_every_cell_of_every_table_is_there_once() -> None:
    cells = _metrics()
    assert {t: sum((c.paper, c.table) == t for c in cells) for t in CELLS_OF_TABLES} == CELLS_OF_TABLES
    assert len(cells) == sum(CELLS_OF_TABLES.values())
    assert len({(c.source, c.benchmark, c.metric) for c in cells}) == len(cells)


def test_all_names_are_ours() -> None:
    for c in _metrics():
        assert c.benchmark in BENCHMARKS, c
        assert c.metric in {*FORMULAS, *PIXELS, *FRACTIONS}, c
        assert c.protocol in {*PROTOCOLS, "none", "unknown"}, c
        assert c.mark in {"", "doubt", "erratum"}, c
        assert c.note or not c.mark, c
    assert {c.benchmark for c in _metrics()} == BENCHMARKS


def test_values_are_in_range_and_fractions_are_not_percentages() -> None:
    for c in _metrics():
        assert 2 <= c.decimals + 2 * (c.metric in PIXELS | {"rmse"}) <= 7, c
        if c.metric in FRACTIONS:
            assert 0 < c.value <= 1, c
        elif c.metric == "abs_rel":
            assert 0.03 < c.value < 6, c
        elif c.metric in ("pdbe_accuracy", "dbe_accuracy"):
            assert 1 < c.value < 10, c  # truncated at 10 px
        else:
            assert 0 < c.value < 1000, c


@pytest.mark.parametrize(
    ("where", "value", "protocol"),
    [
        (("Distill Any Depth", "Table 5", "Ours*", "nyuv2", "delta1"), 0.981, "marigold"),
        (("Distill Any Depth", "Table 5", "Ours†", "diode", "abs_rel"), 0.142, "marigold"),
        (("Distill Any Depth", "Table 5", "DepthAnything v2", "eth3d", "abs_rel"), 0.131, "depth_anything"),
        (("Distill Any Depth", "Table 5", "DepthAnything v2", "scannet", "abs_rel"), 0.042, "marigold"),
        (
            ("Distill Any Depth", "Table 1", "Local-Global Distillation, No Norm.", "eth3d", "abs_rel"),
            0.273,
            "",
        ),
        (("Distill Any Depth", "Table 3", "DA-L to Midas-L, Ours", "diode", "abs_rel"), 0.295, ""),
        (("SharpDepth", "Table 6", "SharpDepth (Ours)", "kitti", "delta1"), 0.97315, "metric"),
        (("SharpDepth", "Table 6", "Metric3Dv2", "nuscenes", "silog"), 28.267, "metric"),
        (("SharpDepth", "Table 2", "Lotus", "unrealstereo4k", "pdbe_completeness"), 33.2, "marigold"),
        (("SharpDepth", "Table 2", "SharpDepth (ours)", "ibims1", "dbe_paper_accuracy"), 1.80, "metric"),
        (("SharpDepth", "Table 3", "F Marigold teacher", "kitti", "rmse"), 2.34, "metric"),
        (
            ("Depth Anything V2", "Table 2", "Depth Anything V2 ViT-L", "nyuv2", "abs_rel"),
            0.045,
            "depth_anything",
        ),
        (("Depth Anything V2", "Table 2", "Depth Anything V1 ViT-B", "sintel", "delta1"), 0.756, ""),
        (("Depth Anything V2", "Table 4", "Ours (ViT-L)", "kitti", "rmse_log"), 0.067, "metric"),
        (("Depth Anything V2", "Table 14", "ViT-S, D^u", "da2k_aerial", "pair_accuracy"), 0.964, "none"),
        (("FiffDepth", "Table 1", "FiffDepth (Ours)", "diode", "abs_rel"), 0.239, "marigold"),
        (("FiffDepth", "Table 2", "Depth Pro", "am2k", "boundary_recall"), 0.173, "unknown"),
    ],
)
def test_single_cells(where: tuple[str, str, str, str, str], value: float, protocol: str) -> None:
    found = cell(*where)
    assert found.value == value
    assert protocol in ("", found.protocol)


def test_tables_that_print_the_same_model_agree() -> None:
    for size in "SBL":
        for benchmark in ("kitti", "nyuv2", "sintel", "eth3d", "diode_indoor"):
            for metric in ("abs_rel", "delta1"):
                one = cell("Depth Anything V2", "Table 2", f"Depth Anything V2 ViT-{size}", benchmark, metric)
                other = cell("Depth Anything V2", "Table 5", f"ViT-{size}, D^u", benchmark, metric)
                assert one.value == other.value
    for c in _metrics():
        if (c.paper, c.table) == ("SharpDepth", "Table 1") and c.row not in (
            "BetterDepth",
            "SharpDepth (ours)",
        ):
            precise = cell("SharpDepth", "Table 6", c.row, c.benchmark, c.metric)
            assert abs(c.value - precise.value) < 0.00501 or c.mark == "doubt", c


def test_errata_are_marked() -> None:
    assert {(c.row, c.benchmark, c.value) for c in _metrics() if c.mark == "erratum"} == {
        ("BetterDepth", "kitti", 0.75),
        ("DepthFM", "p3m10k", 0.97),
        ("MiDaS", "scannet", 0.111),
    }
    assert all(c.mark == "doubt" for c in published("diode") if c.paper == "SharpDepth")


def test_every_model_points_at_rows_that_exist() -> None:
    printed = {(c.paper, c.row) for c in _metrics()}
    for line in _lines("published_models.csv"):
        assert (line["paper"], line["row"]) in printed, line
    assert ("Distill Any Depth", "Ours*") in rows_of("xingyang1/Distill-Any-Depth-Large-hf")
    assert rows_of("somebody/else") == []


def test_reproduced_names_the_protocol_that_fits() -> None:
    ours = {
        "marigold": {"abs_rel": 0.098, "delta1": 0.901},
        "depth_anything": {"abs_rel": 0.047, "delta1": 0.974},
    }
    said = reproduced(ours, "nyuv2", "Depth Anything V2", "Depth Anything V2 ViT-L")
    assert said.startswith("reproduced: ")
    assert "nearest under depth_anything" in said
    assert "AbsRel 0.0470 beside 0.045" in said
    assert "thought to be" not in said
    swapped = {"marigold": ours["depth_anything"], "depth_anything": ours["marigold"]}
    said = reproduced(swapped, "nyuv2", "Depth Anything V2", "Depth Anything V2 ViT-L")
    assert "nearest under marigold" in said
    assert said.endswith("the paper's protocol is thought to be depth_anything")


def test_both_metrics_have_to_be_near() -> None:
    far = {"marigold": {"abs_rel": 0.043, "delta1": 0.960}}
    said = reproduced(far, "nyuv2", "Distill Any Depth", "Ours*")
    assert said.startswith("NOT REPRODUCED: ")
    assert reproduced(far, "nyuv2", "Distill Any Depth", "Ours*", delta1_tolerance=0.03).startswith(
        "reproduced"
    )
    just = {"marigold": {"abs_rel": 0.043 + 0.005, "delta1": 0.981 - 0.010}}
    assert reproduced(just, "nyuv2", "Distill Any Depth", "Ours*").startswith("reproduced")


def test_coarse_print_is_allowed_its_last_decimal() -> None:
    ours = {"marigold": {"abs_rel": 0.049, "delta1": 0.971}}
    assert "0.010 allowed" in reproduced(ours, "nyuv2", "SharpDepth", "BetterDepth")
    assert reproduced(ours, "nyuv2", "SharpDepth", "BetterDepth").startswith("reproduced")


def test_the_more_precise_of_two_tables_counts() -> None:
    said = reproduced({"metric": {"abs_rel": 0.051, "delta1": 0.979}}, "kitti", "SharpDepth", "UniDepth")
    assert "δ1 0.97900 beside 0.97921 (Table 6; 0.010 allowed)" in said


def test_doubts_are_told_and_errata_not_compared() -> None:
    ours = {"marigold": {"abs_rel": 0.308, "delta1": 0.769}}
    assert "in doubt: its Table 4 counts 325 images" in reproduced(ours, "diode", "SharpDepth", "Marigold")
    ours = {"marigold": {"abs_rel": 0.075, "delta1": 0.951}}
    said = reproduced(ours, "kitti", "SharpDepth", "BetterDepth")
    assert said.startswith("reproduced")
    assert "AbsRel" not in said


def test_nothing_to_compare() -> None:
    broken = {"marigold": {"abs_rel": float("nan"), "delta1": 0.9}, "midas": {"abs_rel": 0.1}}
    assert reproduced(broken, "nyuv2", "Distill Any Depth", "Ours*").startswith("not compared: ")
    assert reproduced({}, "da2k", "FiffDepth", "DPT").startswith("not compared: ")
    with pytest.raises(ValueError, match="'Ours' of FiffDepth is not printed for the benchmark 'nyuv2'"):
        reproduced(broken, "nyuv2", "FiffDepth", "Ours")
