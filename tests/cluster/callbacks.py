"""What tests add to a run."""

import json
import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import lightning.pytorch as pl


class Signal(pl.Callback):
    """Sends a signal to its own process, on one rank, after so many batches."""

    def __init__(self, name: str, batches: int, rank: int = 0) -> None:
        self.number = signal.Signals[name]
        self.batches = batches
        self.rank = rank
        self.seen = 0

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        self.seen += 1
        if self.seen == self.batches and trainer.global_rank == self.rank:
            os.kill(os.getpid(), self.number)


class Slow(pl.Callback):
    """Sleeps after each batch, so that a run lasts long enough to be stopped from outside; not once SLURM has
    started it again."""

    def __init__(self, seconds: float) -> None:
        self.seconds = 0.0 if os.environ.get("SLURM_RESTART_COUNT", "0") != "0" else seconds

    def on_train_batch_end(self, *args: Any) -> None:
        time.sleep(self.seconds)


class TeacherCalls(pl.Callback):
    """Writes which teachers each step of each rank called, and how often: `calls-<rank>.json`."""

    def __init__(self) -> None:
        self.steps: list[Counter[str]] = []

    def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
        for name, teacher in module.teachers.items():
            teacher.model.register_forward_hook(lambda *_, name=name: self.steps[-1].update([name]))

    def on_train_batch_start(self, *args: Any) -> None:
        self.steps.append(Counter())

    def on_train_end(self, trainer: pl.Trainer, module: Any) -> None:
        Path(f"calls-{trainer.global_rank}.json").write_text(json.dumps(self.steps))


class Samples(pl.Callback):
    """Writes which samples each rank trains on: `samples-<rank>.jsonl`, a line each batch with its number in
    the run and source, position and key of each sample."""

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_index: int) -> None:
        number = trainer.datamodule._processed()
        samples = [
            (name, position, key)
            for name, some in batch.items()
            for position, key in zip(some.positions, some.keys, strict=True)
        ]
        with Path(f"samples-{trainer.global_rank}.jsonl").open("a") as file:
            file.write(json.dumps([number, samples]) + "\n")
