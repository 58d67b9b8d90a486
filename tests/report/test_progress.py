from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer

from depthkd.report import progress
from depthkd.report.progress import ProgressLines, duration


def test_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    metrics = {"train/loss": torch.tensor(0.25)}
    trainer: Any = MagicMock(
        spec=Trainer, global_step=10, max_steps=130, is_global_zero=True, callback_metrics=metrics
    )
    lines = ProgressLines(30.0)
    lines.on_train_start(trainer, MagicMock(spec=LightningModule))
    for _ in range(80):  # one step a second
        clock[0] += 1.0
        trainer.global_step += 1
        lines.on_train_batch_end(trainer)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "step 15 of 130, loss 0.25, 1 steps/s, 1:55 left"
    assert [line.split()[1] for line in said] == ["15", "45", "75"]


def test_other_ranks_are_silent(capsys: pytest.CaptureFixture[str]) -> None:
    trainer: Any = MagicMock(
        spec=Trainer, global_step=0, max_steps=9, is_global_zero=False, callback_metrics={}
    )
    lines = ProgressLines(0.0)
    lines.on_train_start(trainer, MagicMock(spec=LightningModule))
    trainer.global_step = 1
    lines.on_train_batch_end(trainer)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("seconds", "text"), [(3.4, "0:03"), (123.0, "2:03"), (3723.0, "1:02:03")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
