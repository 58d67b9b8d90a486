"""An evaluation that is killed and repeated (Done-when 4 of the evaluation's issue)."""

from pathlib import Path

from tests.processes import run

WORDS = [
    *("test", "--models.k.class_path", "tests.evaluation.subjects.Killer"),
    *("--benchmarks.b.class_path", "tests.evaluation.subjects.Boxes", "--benchmarks.b.init_args.count", "9"),
    *("--photographs", "false", "--pictures", "0", "--workers", "0"),
]


def test_killed_half_way_the_same_command_goes_on(tmp_path: Path) -> None:
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    for folder in (cut, whole):
        folder.mkdir()
    (cut / "kill_after").write_text("5")
    assert run([*WORDS, "--out", "o"], cut)[0] == [-9]
    measured = len((cut / "o/per_sample.csv").read_text().splitlines()) - 1
    assert 0 < measured < 6
    (cut / "kill_after").unlink()
    for folder in (cut, whole):
        (folder / "asked").unlink(missing_ok=True)
        status, log = run([*WORDS, "--out", "o"], folder)
        assert status == [0], log
    assert len((cut / "asked").read_text()) == 9 - measured
    assert len((whole / "asked").read_text()) == 9
    assert (cut / "o/per_sample.csv").read_text() == (whole / "o/per_sample.csv").read_text()
