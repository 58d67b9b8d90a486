"""Progress where there is no terminal: a line in the log every so often, instead of a bar."""

import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback


class ProgressLines(Callback):
    """Prints step, loss, speed and the time left on rank 0: soon after the start, then every `seconds`."""

    def __init__(self, seconds: float = 30.0) -> None:
        self.seconds = seconds
        self._start = self._next = 0.0
        self._from = self._step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the time."""
        self._start = time.monotonic()
        self._next = self._start + min(self.seconds, 5.0)
        self._from = self._step = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Print, if it is time; the loss is read only then, because that waits for the device."""
        now = time.monotonic()
        if now < self._next or trainer.global_step == self._step or not trainer.is_global_zero:
            return
        self._next, self._step = now + self.seconds, trainer.global_step
        speed = (trainer.global_step - self._from) / (now - self._start)
        left = (trainer.max_steps - trainer.global_step) / speed
        loss = trainer.callback_metrics.get("train/loss")
        loss_text = "" if loss is None else f", loss {float(loss):.4g}"
        print(
            f"step {trainer.global_step} of {trainer.max_steps}{loss_text}, "
            f"{speed:.3g} steps/s, {duration(left)} left",
            flush=True,
        )


def duration(seconds: float) -> str:
    """Hours, minutes and seconds, as far as they matter: 1:02:03, 2:03, 0:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
