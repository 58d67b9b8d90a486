"""The main job, shortened: the teacher and its student learn more than where a pixel lies."""

import json
from pathlib import Path

import pytest

from tests.conftest import CommandLine

ROOT = Path(__file__).parent.parent
SCENES = ["--height", "96", "--width", "128", "--workers", "1"]
QUIET = ["--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]


@pytest.mark.timeout(900)  # a minute and a half here, but machines stall
def test_the_main_job_learns(tmp_path: Path, command_line: CommandLine) -> None:
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    for name, seed, count, form in (
        ("studio_train", 1, 240, "labelled"),
        ("studio_test", 2, 24, "labelled"),
        ("film_train", 3, 240, "sa1b"),
        ("film_test", 4, 24, "labelled"),
    ):
        words = ["--style", name.split("_")[0], "--seed", seed, "--count", count, "--format", form]
        status, _, err = command_line("shards", "scenes", "--out", f"runs/scenes/{name}", *words, *SCENES)
        assert status == 0, err
    for config, steps in (("teacher", 1000), ("cross_context", 500)):
        words = ["--trainer.max_steps", steps, "--trainer.val_check_interval", steps, *QUIET]
        status, _, err = command_line("fit", "--config", f"configs/tiny/{config}.yaml", *words)
        assert status == 0, err

    status, out, err = command_line("test", "--config", "configs/tiny/demo.yaml", "--claims", "[]")
    assert status == 0, err
    results = json.loads((tmp_path / "runs/tiny/demo/results.json").read_text())
    figures = {name: benchmark["figures"] for name, benchmark in results["benchmarks"].items()}
    error = {name: {row: f["abs_rel"] for row, f in rows.items()} for name, rows in figures.items()}
    studio, film = error["studio"], error["film"]
    message = json.dumps(error, indent=2)
    assert studio["teacher"] < 0.93 * studio["mean training map"], message
    assert studio["teacher"] < 0.85 * studio["teacher, untrained"], message
    assert film["student"] < 1.15 * film["teacher"], message
    assert film["student"] < 0.90 * film["best constant per image"], message
    assert film["student"] < 0.90 * film["student, untrained"], message
    assert film["student"] < 0.97 * film["vertical ramp"], message
    assert (tmp_path / "runs/tiny/demo/sheet.png").stat().st_size > 10_000
    assert "marigold: least-squares scale and shift" in out
