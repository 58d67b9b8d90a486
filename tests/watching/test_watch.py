"""Of a run on a clock of its own: what is counted, and what is said of the loader."""

import logging
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer

from depthkd.batch import Batch
from depthkd.watching import watch
from depthkd.watching.watch import Watch
from depthkd.watching.work import Work

BATCH = {name: Batch(torch.zeros(count, 3, 2, 2), [name] * count) for name, count in (("a", 3), ("b", 1))}


class Simulation:
    """Steps of a second each, of which the loader takes a part."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, workers: int = 2) -> None:
        self.now = self.waited = 0.0
        monkeypatch.setattr(watch, "time", MagicMock(monotonic=lambda: self.now))
        monkeypatch.setattr(watch, "data_wait", lambda trainer: self.waited)
        monkeypatch.setattr(watch, "processors", lambda: 16)
        self.trainer: Any = MagicMock(
            spec=Trainer, global_step=0, world_size=2, num_devices=2, is_global_zero=True, log_every_n_steps=0
        )
        self.trainer.datamodule = MagicMock(workers=workers)
        self.module: Any = MagicMock(spec=LightningModule)
        self.watch = Watch(pictures_every_n_steps=0)

    def steps(self, count: int, waiting: float) -> None:
        for _ in range(count):
            self.now += 1.0
            self.waited += waiting
            self.trainer.global_step += 1
            self.watch.on_train_batch_end(self.trainer, self.module, None, BATCH, 0)

    def validate(self, seconds: float) -> None:
        self.watch.on_validation_start(self.trainer, self.module)
        self.now += seconds
        self.watch.on_validation_end(self.trainer, self.module)


def test_counts_all_ranks_from_the_second_batch_on_and_no_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Simulation(monkeypatch)
    run.now = run.waited = 50.0  # until the first batch has come
    run.steps(11, 0.25)
    run.validate(100.0)
    assert run.watch.work == Work(10.0, 10, 80, 2.5)
    run.steps(100, 0.0)
    run.validate(100.0)
    run.steps(1, 0.5)
    recent = run.watch.recent()
    assert (recent.seconds, recent.images_per_second, recent.waited) == (30.0, 8.0, 0.5)


@pytest.mark.parametrize(
    ("waiting", "workers", "sentence"),
    [
        (0.1, 2, None),
        (
            0.4,
            2,
            "of the last 30 s, 40% went by waiting for data; what helps: data.workers 7 (now 2)",
        ),
        (0.4, 7, "40% went by waiting for data; what helps: smaller crops"),
    ],
)
def test_a_loader_that_is_too_slow_is_told_once(
    waiting: float,
    workers: int,
    sentence: str | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = Simulation(monkeypatch, workers)
    with caplog.at_level(logging.WARNING):
        run.steps(25, waiting)
        assert not caplog.records  # too early to tell
        run.steps(100, waiting)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == (sentence is not None)
    assert sentence is None or sentence in said[0]


def test_a_start_that_waits_is_no_bottleneck(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = Simulation(monkeypatch)
    run.steps(1, 1.0)
    run.steps(100, 0.05)
    assert not caplog.records
