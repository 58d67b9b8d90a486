"""Preemption: a signal asks, all ranks agree at an optimizer step, and the run is saved and left."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from depthkd.cluster import signals
from depthkd.cluster.votes import Vote

# slurm/fit.sbatch requeues after 75 (EX_TEMPFAIL)
STATUS = {signals.STOP: 130, signals.LEAVE: 143, signals.REQUEUE: 75}
ENDING = {signals.STOP: "interrupted", signals.LEAVE: "asked to leave", signals.REQUEUE: "to be requeued"}


class Preempted(SystemExit):
    """The run was asked to stop, and was saved; the process ends with a status that says so."""

    def __init__(self, asked: int, step: int, path: Path | None) -> None:
        saved = (
            f"saved step {step} in {path}; --ckpt_path last goes on from there"
            if path
            else "nothing is saved"
        )
        self.sentence = f"{ENDING[asked]}: {saved}"
        super().__init__(STATUS[asked])


class Preemption(Callback):
    """Saves and leaves after SIGTERM, SIGUSR1 or Ctrl-C, on the same optimizer step on every rank.

    The handler notes a number and nothing else: whatever saves, logs or talks to other ranks inside a
    handler can interrupt the very call that it needs. At each optimizer step the ranks vote (see `Vote`).

    After SIGUSR1, which SLURM sends before the time limit, the process ends with status 75, and the
    job's script requeues. After SIGTERM (`scontrol requeue`, `scancel`, a preempting job) whoever
    sent it decides whether the job comes back; the status is 143, and 130 after Ctrl-C.

    Args:
        save: saves a run on all ranks; returns where, or None where nothing is written.
    """

    def __init__(self, save: Callable[[Trainer], Path | None]) -> None:
        self._save = save
        self._step = -1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signals from Lightning, whose handlers save and talk inside; its teardown puts back
        what stood before them."""
        signals.listen(signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
        self._vote = Vote(trainer.world_size, largest=True)
        self._step = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Save and leave, if that was agreed.

        Raises:
            Preempted: it was.
        """
        if trainer.global_step == self._step:
            return
        self._step = trainer.global_step
        (asked,) = self._vote(signals.asked())
        if not asked:
            return
        trainer._logger_connector.update_train_step_metrics()  # which Lightning does behind this hook
        path = self._save(trainer)
        raise Preempted(asked, trainer.global_step, path)
