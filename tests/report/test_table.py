from math import inf, nan

from depthkd.report.table import markdown_table, metrics_table, number


def test_columns_align_in_plain_text() -> None:
    table = markdown_table(["model", "AbsRel ↓"], [["a", "0.1"], ["a longer name", "12.25"]])
    assert table.splitlines() == [
        "| model         | AbsRel ↓ |",
        "|---------------|---------:|",
        "| a             |      0.1 |",
        "| a longer name |    12.25 |",
    ]


def test_numbers() -> None:
    assert [number(x) for x in (0.12345, 12.3456, nan, inf)] == ["0.1235", "12.35", "-", "inf"]


def test_protocol_stands_beside_the_metrics() -> None:
    metrics = {"student": {"delta1": 0.9, "abs_rel": 0.1, "images": 2.0, "seconds": 3.0}}
    text = metrics_table("kitti", "marigold: as told", 3, metrics, ["One sample could not be read."])
    lines = text.splitlines()
    assert lines[0] == "## kitti (3 samples)"
    assert lines[2] == "Protocol marigold: as told."
    assert lines[4] == "| model   | AbsRel ↓ |   δ1 ↑ | images |"
    assert lines[6] == "| student |   0.1000 | 0.9000 |      2 |"
    assert lines[-1] == "One sample could not be read."


def test_more_columns_stand_in_the_first_table_alone() -> None:
    metrics = {
        "a": {"abs_rel": 0.1, "boundary_f1": 0.3, "images": 2.0},
        "ramp": {"abs_rel": 0.2, "images": 2.0},
    }
    text = metrics_table(
        "b", "p", 2, metrics, run_at={"a": "4 x 4", "ramp": "-"}, columns={"cost": {"a": "7"}}
    )
    first, second = text.split("\n\n")[2:4]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in first.splitlines()]
    assert cells[0] == ["model", "AbsRel ↓", "cost", "run at", "images"]
    assert cells[2:] == [["a", "0.1000", "7", "4 x 4", "2"], ["ramp", "0.2000", "-", "-", "2"]]
    assert "cost" not in second and "run at" in second
