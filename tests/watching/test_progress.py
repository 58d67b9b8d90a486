from io import StringIO
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from depthkd.watching import progress
from depthkd.watching.progress import ProgressBar, ProgressLines, ValidationLines, duration
from depthkd.watching.watch import Watch
from depthkd.watching.work import Work


def test_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    metrics = {"train/loss": torch.tensor(0.25)}
    trainer: Any = MagicMock(
        spec=Trainer, global_step=10, max_steps=130, is_global_zero=True, callback_metrics=metrics
    )
    watch = Watch()
    lines = ProgressLines(watch, 30.0)
    lines.on_train_start(trainer, MagicMock(spec=LightningModule))
    for i in range(1, 81):  # one step a second
        clock[0] += 1.0
        trainer.global_step += 1
        watch.work = Work(seconds=float(i), steps=i, images=4 * i, waited=0.25 * i)
        lines.on_train_batch_end(trainer)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == ("step 15 of 130, loss 0.25, 1 steps/s, 4 images/s, 25% waiting for data, 1:55 left")
    assert [line.split()[1] for line in said] == ["15", "45", "75"]


def test_other_ranks_are_silent(capsys: pytest.CaptureFixture[str]) -> None:
    trainer: Any = MagicMock(
        spec=Trainer, global_step=0, max_steps=9, is_global_zero=False, callback_metrics={}
    )
    watch = Watch()
    watch.work = Work(1.0, 1, 4)
    lines = ProgressLines(watch, 0.0)
    lines.on_train_start(trainer, MagicMock(spec=LightningModule))
    trainer.global_step = 1
    lines.on_train_batch_end(trainer)
    assert capsys.readouterr().out == ""


def test_a_validation_is_a_line_for_each_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    metrics = {"train/loss": 0.5, "val/a/abs_rel": 0.25, "val/b/abs_rel": 0.5, "val/a/delta1": 0.125}
    values = {name: torch.tensor(value) for name, value in metrics.items()}
    trainer: Any = MagicMock(spec=Trainer, global_step=7, is_global_zero=True, callback_metrics=values)
    trainer.sanity_checking, trainer.state = False, MagicMock()
    for of_zero, fits in (
        (True, TrainerFn.FITTING),
        (False, TrainerFn.FITTING),
        (True, TrainerFn.VALIDATING),
    ):
        trainer.is_global_zero, trainer.state.fn = of_zero, fits
        ValidationLines().on_validation_end(trainer, MagicMock(spec=LightningModule))
    said = capsys.readouterr().out.splitlines()
    assert said == ["step 7, val/a: abs_rel 0.2500, delta1 0.1250", "step 7, val/b: abs_rel 0.5000"]


def test_the_bar_goes_on_where_the_run_does(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    screen = StringIO()
    monkeypatch.setattr(progress, "sys", MagicMock(stdout=screen))
    metrics = {"train/loss": torch.tensor(0.25)}
    trainer: Any = MagicMock(
        spec=Trainer, global_step=40, max_steps=50, is_global_zero=True, callback_metrics=metrics
    )
    module, watch = MagicMock(spec=LightningModule), Watch()
    bar = ProgressBar(watch)
    bar.setup(trainer, module, "fit")
    bar.on_train_start(trainer, module)
    assert (bar.train_progress_bar.initial, bar.train_progress_bar.total) == (40, 50)
    for step in range(41, 51):
        clock[0] += 0.2
        trainer.global_step = step
        watch.work = Work(seconds=step - 40.0, steps=step - 40, images=8 * (step - 40), waited=0.1)
        bar.on_train_batch_end(trainer, module)
    assert bar.train_progress_bar.n == 50
    drawn = str(bar.train_progress_bar)
    assert "50/50" in drawn and "loss 0.25, 8 images/s, 1% waiting for data" in drawn
    states = [line for line in screen.getvalue().split("\r") if "images/s" in line]
    assert 3 <= len(states) <= 5  # and not ten: each reads the loss from the device
    bar.on_train_end()


@pytest.mark.parametrize(("seconds", "text"), [(3.4, "0:03"), (123.0, "2:03"), (3723.0, "1:02:03")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
