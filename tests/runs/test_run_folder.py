"""What a run's folder says of itself: how far it is, who works in it, and that a mistake costs it nothing."""

import fcntl
import multiprocessing
import os
import re
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import yaml

from depthkd.errors import UserError
from depthkd.in_use import InUse
from depthkd.runs.folder import CHECKPOINT, Progress, Run, read_checkpoint
from depthkd.runs.start import RunStart
from depthkd.runs.trained_on import read_digests
from tests.conftest import CommandLine
from tests.runs.conftest import Fit


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_progress_is_steps_of_steps(tmp_path: Path) -> None:
    run = Run(tmp_path / "x")
    assert run.progress() is None
    run.checkpoint.parent.mkdir(parents=True)
    for facts, asked, expected in (
        ({"steps": 9}, 9, Progress(6, 9)),
        ({"steps": 6}, 6, Progress(6, 6)),
        ({"steps": 9, "ended": True}, 9, Progress(6, 9, True)),
        ({}, 8, Progress(6, 8)),  # of depthkd 0.1.0: the config knows
        ({"steps": 6}, 9, Progress(6, 9)),  # gone on with, and killed before it saved
        ({"steps": 9, "ended": True}, 12, Progress(6, 12)),
        ({"steps": 9}, -1, Progress(6, 9)),
    ):
        run.config.write_text(f"trainer: {{max_steps: {asked}}}")
        torch.save({"depthkd": facts, "global_step": 6, "weights": torch.zeros(3)}, run.checkpoint)
        assert run.progress() == expected == Run(run.checkpoint).progress()
    assert [p.finished for p in (Progress(6, 9), Progress(9, 9), Progress(6, 9, True))] == [False, True, True]
    run.checkpoint.write_bytes(run.checkpoint.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"last\.ckpt is not a checkpoint, or was cut short"):
        run.progress()


def hold(folder: str, taken: Any, release: Any) -> None:
    run = Run(folder)
    run.in_use.take()
    taken.set()
    release.wait(30)
    os._exit(0)  # as a killed process ends: nothing is tidied up


def test_one_process_a_folder(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    taken, release = context.Event(), context.Event()
    other = context.Process(target=hold, args=(str(tmp_path), taken, release))
    other.start()
    assert taken.wait(30)
    for attempt in (Run(tmp_path).in_use.check, Run(tmp_path).in_use.take):
        with pytest.raises(UserError, match=rf"is being trained in by process {other.pid} on .*--run"):
            attempt()
    release.set()
    other.join()
    Run(tmp_path).in_use.check()
    run = Run(tmp_path)
    run.in_use.take()
    run.in_use.release()
    assert list(tmp_path.iterdir()) == []


def look(file: str, looking: Any, release: Any) -> None:
    with Path(file).open("a+") as stream:
        fcntl.lockf(stream, fcntl.LOCK_SH)
        looking.set()
        release.wait(0.2)


def test_one_who_only_looks_is_in_nobodys_way(tmp_path: Path) -> None:
    """Every rank of a run that goes on looks into the file that its killed self has left."""
    context = multiprocessing.get_context("fork")
    looking, release = context.Event(), context.Event()
    (tmp_path / ".in_use").write_text("process 1 on n1\n")
    other = context.Process(target=look, args=(str(tmp_path / ".in_use"), looking, release))
    other.start()
    assert looking.wait(30)
    Run(tmp_path).in_use.check()
    run = Run(tmp_path)
    run.in_use.take()
    run.in_use.release()
    other.join()


def hold_files(files: list[str], taken: Any, release: Any) -> None:
    held = [InUse(Path(file), "") for file in files]
    for one in held:
        one.take()
    taken.set()
    release.wait(60)


def test_a_test_and_scenes_are_one_processs_too(
    tmp_path: Path, scene_shards: Path, command_line: CommandLine
) -> None:
    context = multiprocessing.get_context("fork")
    taken, release = context.Event(), context.Event()
    files = [str(tmp_path / "t/.in_use"), str(tmp_path / ".s.in_use")]
    other = context.Process(target=hold_files, args=(files, taken, release))
    other.start()
    assert taken.wait(30)
    benchmark = ["--benchmarks.b", "depthkd.benchmarks.ShardBenchmark", "--benchmarks.b.limit", "1"]
    benchmark += ["--benchmarks.b.urls", str(scene_shards / "studio_test"), "--photographs", "false"]
    model = ["--models.m.class_path", "depthkd.models.DepthAnything", "--models.m.init_args.size", "tiny"]
    test = ["test", *model, *benchmark, "--out", "t"]
    size = ["--height", "32", "--width", "32"]
    make = ["shards", "scenes", "--out", "s", "--style", "film", "--count", "2", *size]
    for words, said in ((test, "t is being written by process"), (make, "s is being made by process")):
        status, _, err = command_line(*words)
        assert status == 2 and said in err and f"process {other.pid} on" in err, err
    release.set()
    other.join()
    for words in (test, make):
        assert command_line(*words)[0] == 0
    assert not list(tmp_path.rglob("*.in_use*"))


def test_a_mistake_moves_and_writes_nothing(fit: Fit, tmp_path: Path) -> None:
    assert fit("--run", "runs/x")[0] == 0
    before = tree(tmp_path / "runs")
    for words in (["--data.train.studio.urls", "nowhere.tar"], ["--data.train.studio.share", "0.3"]):
        status, _, err = fit("--run", "runs/x", *words)
        assert status == 2, err
        assert tree(tmp_path / "runs") == before
    for run in ("runs/x", "runs/y"):
        assert fit("--run", run, "--trainer.fast_dev_run", "2")[0] == 0
    assert tree(tmp_path / "runs") == before
    status, out, _ = fit("--run", "runs/x", "--ckpt_path", "last")
    assert (status, "at step 6 of 6: nothing is left to do" in out) == (0, True)
    assert tree(tmp_path / "runs") == before


@pytest.mark.parametrize("spelling", ["--run=~/x", "--run ~/x", "--run=file://{home}/x"])
def test_home_is_read_in_one_way(
    spelling: str, fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    words = spelling.format(home=home).split()
    for steps in ("2", "1"):
        status, out, err = fit(*words, "--trainer.max_steps", steps)
        assert status == 0, err
    assert "held an earlier run, which is now" in out
    assert Run(home / "x.1").progress() == Progress(2, 2)
    assert Run(home / "x").progress() == Progress(1, 1)
    assert not (tmp_path / "~").exists()
    assert fit(*words, "--ckpt_path", "last", "--trainer.max_steps", "2")[0] == 0
    assert Run("~/x").progress() == Progress(2, 2)


def test_other_verbs_read_home_too(
    command_line: CommandLine, scene_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    image = "depthkd.benchmarks.Motorcycle"
    model = ["--models.m.class_path", "depthkd.models.DepthAnything", "--models.m.size", "tiny"]
    options = ["--photographs", "false", "--pictures", "0", "--resolution", "32"]
    assert command_line("test", *model, "--benchmarks.b", image, "--out=~/t", *options)[0] == 0
    words = ["--style", "studio", "--count", "1", "--height", "16", "--width", "24", "--workers", "1"]
    assert command_line("shards", "scenes", "--out=~/s", *words)[0] == 0
    assert command_line("shards", "pack", "--images=~/p/*.png", "--out=~/k/a.tar")[0] == 2  # nothing is there
    assert sorted(p.name for p in (tmp_path / "home").iterdir()) == ["s", "t"]
    assert not (tmp_path / "~").exists()


def settings(run: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(Path(run, "config.yaml").read_text())
    return found


def test_what_a_resumed_run_learns_at_is_what_its_config_says(
    fit: Fit, caplog: pytest.LogCaptureFixture
) -> None:
    assert fit("--run", "runs/x")[0] == 0
    rate = "model.init_args.optimization.learning_rate"
    more = ["--ckpt_path", "last", "--trainer.max_steps", "9"]
    assert fit("--run", "runs/x", *more, f"--{rate}", "1e-5")[0] == 0
    # six steps of a cosine over seven, after two of warming up: (1 + cos(4 / 7 pi)) / 2 of 1e-5
    assert "at step 6 with other settings" in caplog.text
    assert "was 0 there and is 3.89e-06 from here on" in caplog.text
    assert settings("runs/x")["model"]["init_args"]["optimization"]["learning_rate"] == 1e-5
    before = yaml.safe_load(Path("runs/x/config.until_step_6.yaml").read_text())
    assert before["model"]["init_args"]["optimization"]["learning_rate"] == 1e-3
    group = read_checkpoint(Path("runs/x") / CHECKPOINT)["optimizer_states"][0]["param_groups"][-1]
    assert group["initial_lr"] == 1e-5
    caplog.clear()
    more = ["--ckpt_path", "last", "--trainer.max_steps", "10"]
    assert fit("--run", "runs/x", *more, f"--{rate}", "1e-5")[0] == 0
    assert "at step 9 with other settings" in caplog.text  # a longer cosine


def test_a_config_of_a_resumed_run_starts_a_new_one(fit: Fit, command_line: CommandLine) -> None:
    assert fit("--run", "runs/x", "--trainer.max_steps", "3")[0] == 0
    assert fit("--run", "runs/x", "--ckpt_path", "last")[0] == 0
    found = settings("runs/x")
    assert found["ckpt_path"] is None and found["trainer"]["precision"] == "auto"
    status, _, err = command_line("fit", "--config", "runs/x/config.yaml", "--run", "runs/y")
    assert status == 0, err
    assert Run("runs/y").progress() == Progress(6, 6)
    assert settings("runs/y") == found | {"run": "runs/y"}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["--model.init_args.student.init_args.size", "mini"],
            r"the checkpoint's weights do not fit model\.init_args: \d+ tensors differ, '.*' among them",
        ),
        (
            ["--model.init_args.optimization.ema_decay", "0.9"],
            r"'student_average\..*' among them \(absent in the checkpoint, \[.*\] here\)",
        ),
        (
            ["--model", "depthkd.methods.MetricFineTune", "--model.student.metric_max_depth", "20"],
            r"trained by depthkd\.methods\.depth_anything_v2\.SupervisedDepth, and the config's model is",
        ),
    ],
)
def test_another_student_does_not_go_on(words: list[str], sentence: str, fit: Fit) -> None:
    assert fit("--run", "runs/x", "--trainer.max_steps", "1")[0] == 0
    status, _, err = fit("--run", "runs/x", "--ckpt_path", "last", *words)
    said = [line for line in err.splitlines() if line.startswith("depthkd fit: ")]
    assert status == 2 and len(said) == 1, err
    assert re.search(sentence, said[0]), said[0]


def test_validation_takes_the_runs_last_checkpoint(
    fit: Fit, config: Path, command_line: CommandLine, scene_shards: Path
) -> None:
    assert fit("--run", "runs/x", "--trainer.max_steps", "2")[0] == 0
    key = "--data.validation.b"
    benchmark = [key, "depthkd.benchmarks.ShardBenchmark", f"{key}.resolution", "16"]
    benchmark += [f"{key}.urls", str(scene_shards / "studio_test")]
    words = ["validate", "--config", config, "--run", "runs/x", *benchmark]
    before = tree(Path("runs"))
    outputs = [command_line(*words, *more) for more in ([], ["--ckpt_path", "runs/x"])]
    assert [status for status, _, _ in outputs] == [0, 0]
    values = {out.partition("val/b/abs_rel")[2].split()[1] for _, out, _ in outputs}
    assert len(values) == 1 and float(values.pop()) > 0
    assert tree(Path("runs")) == before  # a look writes nothing
    status, _, err = command_line("validate", "--config", config, "--run", "runs/y", *benchmark)
    assert status == 2 and "there is no runs/y/checkpoints/last.ckpt to validate" in err
    status, _, err = command_line("validate", "--config", config, "--run", "runs/x")
    assert status == 2 and "data.validation names no benchmarks" in err


def test_a_run_that_is_gone_on_with_is_unfinished_before_it_saves_again(
    fit: Fit, command_line: CommandLine, config: Path
) -> None:
    """As after kill -9: its last checkpoint is at the end of what was asked for before."""
    assert fit("--run", "runs/x", "--trainer.max_steps", "3")[0] == 0
    before = Path("runs/x", CHECKPOINT).read_bytes()
    assert fit("--run", "runs/x", "--ckpt_path", "last", "--trainer.max_steps", "5")[0] == 0
    Path("runs/x", CHECKPOINT).write_bytes(before)
    assert Run("runs/x").progress() == Progress(3, 5)
    # a command that asks for no more has finished it: its config counts from then on
    status, out, _ = fit("--run", "runs/x", "--ckpt_path", "last", "--trainer.max_steps", "3")
    assert status == 0 and "at step 3 of 3: nothing is left to do" in out
    assert Run("runs/x").progress() == Progress(3, 3)


def test_what_changed_on_resuming_is_said(fit: Fit) -> None:
    assert fit("--run", "runs/x", "--trainer.max_steps", "3")[0] == 0
    more = ["--ckpt_path", "last", "--model.init_args.normalization", "hybrid", "--trainer.max_steps", "4"]
    status, out, err = fit("--run", "runs/x", *more)
    assert status == 0, err
    assert (
        "runs/x goes on at step 3 with another config than before (kept as config.until_step_3.yaml): "
        "trainer.max_steps was 3 and is 4; model.init_args.normalization was global and is hybrid" in out
    )
    assert "another config" not in fit("--run", "runs/x", *more[:-1], "4")[1]


def test_going_on_from_another_run_costs_neither_its_place(fit: Fit) -> None:
    for name, seed in (("a", "1"), ("b", "2")):
        words = ["--run", f"runs/{name}", "--trainer.max_steps", "2", "--seed_everything", seed]
        assert fit(*words)[0] == 0
    seen = {name: set(read_digests(Path("runs") / name)) for name in "ab"}
    words = ["--ckpt_path", "runs/a", "--seed_everything", "1", "--trainer.max_steps", "3"]
    status, out, err = fit("--run", "runs/b", *words)
    assert status == 0, err
    assert "runs/b held an earlier run, which is now runs/b.1" in out
    progress = [Run(f"runs/{name}").progress() for name in ("a", "b", "b.1")]
    assert progress == [Progress(2, 2), Progress(3, 3), Progress(2, 2)]
    assert set(read_digests(Path("runs/b"))) > seen["a"]  # what it has learned from, by way of the other
    assert set(read_digests(Path("runs/b.1"))) == seen["b"]


def test_a_mistake_that_shows_in_a_step_gives_the_earlier_run_its_place_again(
    fit: Fit, tmp_path: Path, scene_shards: Path
) -> None:
    assert fit("--run", "runs/x", "--trainer.max_steps", "2")[0] == 0
    before = tree(tmp_path / "runs")
    benchmark = ["--data.validation.f", "depthkd.benchmarks.ShardBenchmark"]
    benchmark += ["--data.validation.f.urls", str(scene_shards / "film_train")]  # images alone
    for words, said in (
        (["--data.train.studio.labelled", "false"], "learns from labels"),
        ([*benchmark, "--trainer.val_check_interval", "1"], "has no 'depth' mapping"),
    ):
        status, out, err = fit("--run", "runs/x", *words)
        assert status == 2 and said in err, err
        assert "nothing was saved: runs/x is the earlier run again" in out
        assert tree(tmp_path / "runs") == before


def test_a_run_is_a_folder_that_can_be_moved(
    fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("photo.jpg").touch()
    for name in ("photo.jpg", "runs/x/checkpoints/last.ckpt", "/dev/null"):
        status, _, err = fit("--run", name)
        assert status == 2 and f"--run {name}: it would be the run's folder" in err
    assert fit("--run", "photo.jpg/x")[2].strip().endswith("cannot be written: Not a directory")
    assert fit("--run", "runs/x", "--trainer.max_steps", "1")[0] == 0
    for place, name in (("runs/x", "."), ("runs/x", tmp_path / "runs/x"), ("runs/x/logs", "..")):
        monkeypatch.chdir(tmp_path / place)
        status, _, err = fit("--run", name)
        assert status == 2 and "holds an earlier run, and the working folder" in err, err
    monkeypatch.chdir(tmp_path / "runs/x")
    assert fit("--run", ".", "--ckpt_path", "last", "--trainer.max_steps", "2")[0] == 0
    assert Run(".").progress() == Progress(2, 2)


def test_an_earlier_run_that_cannot_have_its_place_again_is_told_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("x", "x.1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "kept").touch()
    monkeypatch.setattr("shutil.rmtree", lambda *_, **__: None)  # as where it may not be removed
    run = Run(tmp_path / "x")
    start = RunStart(run, lambda: "", resumes=False)
    start._aside = tmp_path / "x.1"
    run.in_use.take()
    start.on_exception(pl.Trainer(logger=False, accelerator="cpu"), pl.LightningModule(), RuntimeError())
    assert f"still {tmp_path / 'x.1'}: Directory not empty" in capsys.readouterr().out
