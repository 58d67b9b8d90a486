"""What a config needs is finished, or gone on with: an interrupted prerequisite is none."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from depthkd.runs.folder import CHECKPOINT, Progress, Run, read_checkpoint
from depthkd.verbs.replicate import folder_of, train_and_score
from tests.conftest import CommandLine
from tests.runs.conftest import Fit

NEED = f"runs/needed/{CHECKPOINT}"


@pytest.fixture
def dependent(config: Path, tmp_path: Path, scene_shards: Path) -> Path:
    """A test of a run that another config makes."""
    benchmark = {
        "class_path": "depthkd.benchmarks.ShardBenchmark",
        "init_args": {"urls": str(scene_shards / "studio_test"), "limit": 2, "resolution": 16},
    }
    tree = {
        "needs": {NEED: f"fit --config {config} --run runs/needed"},
        "models": {"student": "runs/needed"},
        "benchmarks": {"b": benchmark},
        **{"photographs": False, "pictures": 0, "untrained": False, "workers": 0, "out": "runs/test"},
    }
    path = tmp_path / "dependent.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def interrupt(fit: Fit, name: str, batches: int) -> int:
    """Train into the needed folder until a signal comes, in this very process, after so many batches."""
    ask = ["--trainer.callbacks+", "tests.cluster.callbacks.Signal", "--trainer.callbacks.name", name]
    return fit("--run", "runs/needed", *ask, "--trainer.callbacks.batches", batches)[0]


def weights(run: str) -> dict[str, Any]:
    found: dict[str, Any] = read_checkpoint(Run(run).checkpoint)["state_dict"]
    return found


@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_an_interrupted_need_is_gone_on_with(
    name: str, status: int, fit: Fit, dependent: Path, command_line: CommandLine
) -> None:
    assert fit("--run", "runs/whole")[0] == 0
    assert interrupt(fit, name, 2) == status
    assert Run("runs/needed").progress() == Progress(2, 6)
    done, out, err = command_line("test", "--config", dependent)
    assert done == 0, err
    assert f"--ckpt_path last   # makes {NEED}, which is at step 2 of 6" in out
    assert Run("runs/needed").progress() == Progress(6, 6)
    for key, value in weights("runs/whole").items():
        assert torch.equal(value, weights("runs/needed")[key]), key
    assert "makes" not in command_line("test", "--config", dependent)[1]


def test_an_unfinished_run_is_said_to_be_one(
    fit: Fit, dependent: Path, command_line: CommandLine, caplog: pytest.LogCaptureFixture
) -> None:
    assert interrupt(fit, "SIGTERM", 2) == 143
    words = ["--config", dependent, "--models.student", "runs/needed"]
    tree = yaml.safe_load(dependent.read_text())
    del tree["needs"]
    dependent.write_text(yaml.safe_dump(tree))
    status, out, _ = command_line("test", *words)
    assert status == 0 and "student is unfinished, at step 2 of 6" in out
    assert "runs/needed is unfinished, at step 2 of 6" in caplog.text


def test_a_need_that_is_interrupted_stops_everything(
    dependent: Path, command_line: CommandLine, config: Path
) -> None:
    tree = yaml.safe_load(config.read_text())
    tree["trainer"]["callbacks"] = [
        {"class_path": "tests.cluster.callbacks.Signal", "init_args": {"name": "SIGTERM", "batches": 1}}
    ]
    config.write_text(yaml.safe_dump(tree))
    assert command_line("test", "--config", dependent)[0] == 143
    assert not Path("runs/test").exists()


def test_a_second_ctrl_c_does_not_wait(tmp_path: Path) -> None:
    code = (
        "import os, signal, depthkd.cluster.signals as s; s.listen(signal.SIGINT); "
        "kill = lambda: os.kill(os.getpid(), signal.SIGINT); kill(); print(s.asked(), flush=True); kill()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ))
    assert done.stdout == "1\n" and "once more Ctrl-C stops at once" in done.stderr
    assert done.returncode == -signal.SIGINT


def test_an_interrupted_row_of_a_replication_is_gone_on_with(
    config: Path, tmp_path: Path, scene_shards: Path, command_line: CommandLine
) -> None:
    tree = yaml.safe_load(config.read_text())
    benchmark = {"class_path": "depthkd.benchmarks.ShardBenchmark"}
    benchmark |= {"init_args": {"urls": str(scene_shards / "studio_test"), "resolution": 16}}
    tree["data"]["validation"] = {"b": benchmark}
    ask = {"class_path": "tests.cluster.callbacks.Signal", "init_args": {"name": "SIGTERM", "batches": 2}}
    leaving = tree | {"trainer": tree["trainer"] | {"callbacks": [ask]}}

    def score(name: str, tree: dict[str, Any]) -> dict[str, float]:
        return dict(train_and_score(str(tmp_path / name), tree, "b", None, 0, ["abs_rel"]))

    with pytest.raises(SystemExit, match="143"):
        score("parts", leaving)
    run = Run(tmp_path / "parts/run")
    assert run.progress() == Progress(2, 6)
    assert score("parts", tree) == score("whole", tree)
    assert run.progress() == Progress(6, 6)


def test_a_row_of_other_settings_or_teachers_is_another_row(tmp_path: Path) -> None:
    teacher = tmp_path / "last.ckpt"
    teacher.write_bytes(b"one")
    before = folder_of(tmp_path, "a row", 0, [{"rate": 1}], [teacher])
    assert folder_of(tmp_path, "a row", 0, [{"rate": 1}], [teacher]) == before
    assert folder_of(tmp_path, "a row", 0, [{"rate": 2}], [teacher]) != before
    teacher.write_bytes(b"two")
    assert folder_of(tmp_path, "a row", 0, [{"rate": 1}], [teacher]) != before


def test_a_row_of_the_embedded_teacher_is_trained_anew_with_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"teacher": {"class_path": "depthkd.models.Embedded"}}, {"rate": 1}
    before = [folder_of(tmp_path, "a row", 0, one, []) for one in settings]
    monkeypatch.setattr("depthkd.verbs.replicate.embedded_card", lambda: {"sha256": "another"})
    after = [folder_of(tmp_path, "a row", 0, one, []) for one in settings]
    assert before[0] != after[0] and before[1] == after[1]


def test_a_need_without_a_checkpoint_starts_anew(
    fit: Fit, config: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    """As after kill -9 before the first one; the need is named by its folder."""
    Path("runs/needed").mkdir(parents=True)
    Path("runs/needed/config.yaml").write_text("trainer: {max_steps: 6}")
    needing = tmp_path / "needing.yaml"
    needs = {"runs/needed": f"fit --config {config} --run runs/needed"}
    needing.write_text(yaml.safe_dump({"base": str(config), "needs": needs}))
    status, out, err = command_line("fit", "--config", needing, "--run", "runs/y", "--trainer.max_steps", "1")
    assert status == 0, err
    assert "has no checkpoint beside its config.yaml yet" in out and "--ckpt_path last" not in out
    assert Run("runs/needed").progress() == Progress(6, 6)


def test_needs_that_cannot_be_are_told(config: Path, tmp_path: Path, command_line: CommandLine) -> None:
    path = tmp_path / "needing.yaml"
    for maker, said in (
        ("fit --config needing.yaml --run runs/z", "runs/z needs itself: `depthkd fit --config needing.yaml"),
        (
            "fit --config 'needing.yaml",
            "what makes runs/z in 'needs', `fit --config 'needing.yaml`, is no com",
        ),
    ):
        path.write_text(yaml.safe_dump({"base": str(config), "needs": {"runs/z": maker}}))
        status, _, err = command_line("fit", "--config", path.name, "--run", "runs/y")
        assert status == 2 and said in err, err
