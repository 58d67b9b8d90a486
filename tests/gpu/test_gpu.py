"""`make gpu` on a machine without a GPU, so that it cannot rot; and what happens to a part that fails."""

import json
import os
import time
from pathlib import Path

import pytest
import torch

from tests.gpu.__main__ import PARTS, main
from tests.gpu.parts import Part, Place, run_parts
from tests.gpu.report import Report, Row, compared


def found(place: Place) -> list[Row]:
    return [compared("it", 1.001, 1.0, 0.01), Row("also", "5 | 6")]


def fails(place: Place) -> list[Row]:
    raise ValueError("no such\nkernel")


def hangs(place: Place) -> list[Row]:
    time.sleep(60)
    return []


def dies(place: Place) -> list[Row]:
    os._exit(7)


def test_a_part_costs_no_other_part_its_rows(tmp_path: Path) -> None:
    parts = [Part(work.__name__, work, 1.0) for work in (found, fails, hangs, dies)]
    report = Report(tmp_path / "out", {"device": "d"})
    run_parts([*parts, Part("again", found, 1.0)], Place(torch.device("cpu"), tmp_path), report)
    written = json.loads((tmp_path / "out/report.json").read_text())["parts"]
    assert list(written) == ["found", "fails", "hangs", "dies", "again"]
    assert [row["ok"] for row in written["again"]["rows"]] == [True, None]
    assert written["fails"]["rows"][0]["metric"] == "ValueError: no such kernel"
    assert written["hangs"]["rows"][0]["metric"] == "stopped after 1 s"
    assert written["dies"]["rows"][0]["metric"] == "its process ended with status 7"
    assert report.failed == ["fails: all of it", "hangs: all of it", "dies: all of it"]
    table = (tmp_path / "out/report.md").read_text()
    assert "| found | it | 1.001, 1.0e-03 from 1 | at most 1e-02 | ok |" in table
    assert "| found | also | 5 / 6 |  |  |" in table


def test_what_the_time_does_not_suffice_for_is_a_row(tmp_path: Path) -> None:
    report = Report(tmp_path, {})
    run_parts([Part("late", found, 1.0)], Place(torch.device("cpu"), tmp_path), report, seconds=-1.0)
    assert report.parts["late"]["rows"][0]["metric"] == "not begun: -1 s were over"
    assert report.failed == ["late: all of it"]


def test_the_short_form_holds_on_a_cpu(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    names = {part.name for part in PARTS if part.short}
    assert main(tmp_path, [], short=True) == 0, capfd.readouterr().out
    assert set(json.loads((tmp_path / "report.json").read_text())["parts"]) == names


def test_a_part_that_does_not_exist_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(tmp_path, ["speling"]) == 2
    assert "there is no part 'speling'; there are losses, " in capfd.readouterr().out


@pytest.mark.long
@pytest.mark.timeout(900)
def test_all_rows_hold_on_a_cpu(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(tmp_path, []) == 0, capfd.readouterr().out
    assert len(json.loads((tmp_path / "report.json").read_text())["parts"]) == len(PARTS)
