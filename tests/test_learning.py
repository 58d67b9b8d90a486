"""The main job and its relatives, shortened: teachers and students learn more than where a pixel lies."""

import json
from pathlib import Path

import pytest
import yaml

from tests.processes import make_scenes, run

ROOT = Path(__file__).parent.parent
QUIET = ["--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]
STALLED = 900.0  # seconds; minutes here, but machines stall
WINDOW = ["--data.train.sa1b.transform.init_args.window", "48"]

Errors = dict[str, dict[str, float]]  # benchmark -> row -> AbsRel


def fit(folder: Path, config: str, steps: int, *more: str) -> None:
    words = [*more, "--trainer.max_steps", str(steps), "--trainer.val_check_interval", str(steps), *QUIET]
    codes, output = run(["fit", "--config", f"configs/tiny/{config}.yaml", *words], folder, timeout=STALLED)
    assert codes == [0], output


def crops(*sources: str) -> list[str]:
    """Smaller crops than the config's."""
    words = []
    for name in sources:
        place = f"--data.train.{name}.transform.init_args"
        words += [f"{place}.size", "48", f"{place}.smallest", "52"]
    return words


def errors(folder: Path, student: str) -> Errors:
    """AbsRel of the main job's report, with a student of choice."""
    report = {"base": "configs/tiny/demo.yaml", "needs": None, "claims": []}
    (folder / "report.yaml").write_text(yaml.safe_dump(report))
    words = ["test", "--config", "report.yaml", "--out", f"runs/test/{student}"]
    words += ["--models.student", f"runs/tiny/{student}"]
    codes, output = run(words, folder, timeout=STALLED)
    assert codes == [0], output
    assert "marigold: least-squares scale and shift" in output
    place = folder / "runs/test" / student
    assert (place / "sheet.png").stat().st_size > 10_000
    results = json.loads((place / "results.json").read_text())
    metrics = {name: benchmark["metrics"] for name, benchmark in results["benchmarks"].items()}
    return {name: {row: f["abs_rel"] for row, f in rows.items()} for name, rows in metrics.items()}


def assert_learned(film: dict[str, float], message: str) -> None:
    """The student beats itself untrained and the trivial rows on the unlabelled style."""
    assert film["student"] < 0.90 * film["best constant per image"], message
    assert film["student"] < 0.90 * film["student, untrained"], message
    assert film["student"] < 0.97 * film["vertical ramp"], message


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with small scenes and a teacher."""
    folder = tmp_path_factory.mktemp("learning")
    (folder / "configs").symlink_to(ROOT / "configs")
    make_scenes(
        folder,
        ("studio_train", 1, 240, "labelled"),
        ("studio_test", 2, 24, "labelled"),
        ("film_train", 3, 240, "sa1b"),
        ("film_test", 4, 24, "labelled"),
    )
    fit(folder, "teacher", 750)
    return folder


@pytest.mark.timeout(2 * STALLED)
def test_the_main_job_learns(taught: Path) -> None:
    embedded = ["--model.init_args.teacher", "{class_path: depthkd.models.Embedded}"]
    fit(taught, "cross_context", 250, *crops("sa1b"), *WINDOW, *embedded)
    error = errors(taught, "cross_context")
    studio, film = error["studio"], error["film"]
    message = json.dumps(error, indent=2)
    assert studio["teacher"] < 0.93 * studio["mean training map"], message
    assert studio["teacher"] < 0.85 * studio["teacher, untrained"], message
    assert film["student"] < 1.15 * film["teacher"], message
    assert_learned(film, message)


@pytest.mark.long
@pytest.mark.timeout(2 * STALLED)
def test_two_teachers_in_turn_teach_as_well(taught: Path) -> None:
    fit(taught, "assistant_teacher", 280, *crops("studio"))
    fit(taught, "assistant", 300, *crops("sa1b"), *WINDOW)
    film = errors(taught, "assistant")["film"]
    message = json.dumps(film, indent=2)
    assert film["student"] < 1.15 * film["teacher"], message
    assert_learned(film, message)


@pytest.mark.long
@pytest.mark.timeout(2 * STALLED)
def test_a_diffusion_unet_learns_to_answer_in_one_pass(taught: Path) -> None:
    fit(taught, "fiff", 450, "--data.batch_size", "8", *crops("synthetic", "laion_art"))
    error = errors(taught, "fiff")
    message = json.dumps(error, indent=2)
    assert_learned(error["film"], message)
    for rows in (error["studio"], error["film"]):
        assert rows["student"] < 1.00 * rows["mean training map"], message
        assert rows["student, given the truth"] < 0.03, message


@pytest.mark.long
@pytest.mark.timeout(3000)
def test_fiffdepth_reaches_what_its_tiny_config_says(tmp_path: Path) -> None:
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    codes, output = run(["fit", "--config", "configs/tiny/fiff.yaml", *QUIET], tmp_path, timeout=2500)
    assert codes == [0], output
    for name, rows in errors(tmp_path, "fiff").items():
        if name != "motorcycle":
            assert rows["student"] < 0.65 * rows["best constant per image"], json.dumps(rows)
            assert rows["student"] < 0.90 * rows["mean training map"], json.dumps(rows)
