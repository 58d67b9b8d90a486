"""Progress on a terminal as a bar, and elsewhere as a line in the log every so often; both say the same."""

import sys
import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm
from lightning.pytorch.trainer.states import TrainerFn

from depthkd.watching.watch import Watch
from depthkd.watching.work import Work

VALIDATION = "val/"  # of its metrics, as `Validation` logs them
REDRAWN = 0.5  # seconds between two states of the bar, for which the loss is read from the device


class ProgressLines(Callback):
    """Prints step, loss, speed and the time left on rank 0: soon after the start, then every `seconds`.

    Args:
        watch: counts what the run does.
        seconds: between two lines.
    """

    def __init__(self, watch: Watch, seconds: float = 30.0) -> None:
        self.watch = watch
        self.seconds = seconds
        self._next = 0.0
        self._step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the time."""
        self._next = time.monotonic() + min(self.seconds, 5.0)
        self._step = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Print, if it is time; the loss is read only then, because that waits for the device."""
        now = time.monotonic()
        work = self.watch.work
        if now < self._next or trainer.global_step == self._step or not trainer.is_global_zero:
            return
        if not work.steps:
            return
        self._next, self._step = now + self.seconds, trainer.global_step
        left = (trainer.max_steps - trainer.global_step) / work.steps_per_second
        loss = trainer.callback_metrics.get("train/loss")
        loss_text = "" if loss is None else f", loss {float(loss):.4g}"
        print(
            f"step {trainer.global_step} of {trainer.max_steps}{loss_text}, "
            f"{work.steps_per_second:.3g} steps/s, {speed_text(work)}, {duration(left)} left",
            flush=True,
        )


class ProgressBar(TQDMProgressBar):
    """A bar over the run's optimizer steps with the time left, and one over each validation.

    It begins at the step at which the run goes on, and is drawn at most every half second: each time the
    loss is read, which waits for the device.

    Args:
        watch: counts what the run does.
    """

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self.watch = watch
        self._next = 0.0

    def init_train_tqdm(self) -> Tqdm:
        """The bar, from where the run stands to where it ends."""
        trainer = self.trainer
        return Tqdm(
            desc="fit",
            total=trainer.max_steps if trainer.max_steps > 0 else None,
            initial=trainer.global_step,
            unit="step",
            disable=self.is_disabled,
            dynamic_ncols=True,
            leave=True,
            file=sys.stdout,
            mininterval=0,
            smoothing=0.1,
        )

    def on_train_epoch_start(self, trainer: Trainer, *args: Any) -> None:
        """The bar goes on: it counts steps, and the stream has no epochs."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Draw, if it is time."""
        now, last = time.monotonic(), trainer.global_step == trainer.max_steps
        if self.is_disabled or (now < self._next and not last):
            return
        self._next = now + REDRAWN
        self._draw(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the last state."""
        if not self.is_disabled:
            self._draw(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the validation's bar."""
        self.val_progress_bar.close()
        self.reset_dataloader_idx_tracker()

    def _draw(self, trainer: Trainer) -> None:
        loss = trainer.callback_metrics.get("train/loss")
        said = [] if loss is None else [f"loss {float(loss):.4g}"]
        if self.watch.work.steps:
            said.append(speed_text(self.watch.recent()))
        self.train_progress_bar.set_postfix_str(", ".join(said), refresh=False)
        self.train_progress_bar.update(trainer.global_step - self.train_progress_bar.n)


class ValidationLines(Callback):
    """Prints what each validation during training says: a line for each benchmark."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print on rank 0; Lightning prints a table where validation is all there is to do."""
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING or not trainer.is_global_zero:
            return
        said: dict[str, list[str]] = {}
        for name, value in trainer.callback_metrics.items():
            benchmark, _, metric = name.rpartition("/")
            if benchmark.startswith(VALIDATION):
                said.setdefault(benchmark, []).append(f"{metric} {float(value):.4f}")
        for benchmark, metrics in said.items():
            Tqdm.write(f"step {trainer.global_step}, {benchmark}: {', '.join(metrics)}", file=sys.stdout)
        sys.stdout.flush()


def speed_text(work: Work) -> str:
    """Images per second, and the share of the time that went by waiting for data."""
    return f"{work.images_per_second:.3g} images/s, {work.waiting:.0%} waiting for data"


def duration(seconds: float) -> str:
    """Hours, minutes and seconds, as far as they matter: 1:02:03, 2:03, 0:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
