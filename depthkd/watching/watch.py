"""What every run logs beside its losses: speed, waiting, gradients, agreement, and pictures now and then."""

import logging
import sys
import time
import warnings
from collections import deque
from typing import Any

import torch
from lightning.fabric.utilities.throughput import get_available_flops
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer
from torch.utils.flop_counter import FlopCounterMode

from depthkd.batch import TrainingBatch
from depthkd.cluster.processors import processors
from depthkd.errors import UserError
from depthkd.watching.agreement import agreement
from depthkd.watching.work import DataWait, Work

WINDOW = 30.0  # seconds over which speed is told, and the loader is judged
LEAST = 20  # optimizer steps of a window that is judged
TOO_MUCH = 0.2  # of a window spent waiting for data: more workers would then save as much
MOMENTS = 64  # kept of a window

log = logging.getLogger(__name__)


class Watch(Callback):
    """Counts and logs what a run does; see docs/watching.md.

    Every `trainer.log_every_n_steps` it logs `train/gradient_norm` (before clipping), `train/agreement`,
    `train/samples`, `train/images_per_second`, `train/waiting_for_data` and, where the device's peak is
    known, `train/mfu`. Nothing of it draws random numbers or waits for the device in other steps.

    Args:
        pictures_every_n_steps: optimizer steps between two pictures of the latest batch; 0: none.
        peak_tflops: of one device in the precision of training, in 10^12 operations a second, for
            `train/mfu`; None: what Lightning's table says of it, if it is there.

    Raises:
        UserError: an argument is out of its range.
    """

    def __init__(self, pictures_every_n_steps: int = 500, peak_tflops: float | None = None) -> None:
        if pictures_every_n_steps < 0:
            raise UserError(f"watch.pictures_every_n_steps must be 0 or more, not {pictures_every_n_steps}")
        if peak_tflops is not None and not 0 < peak_tflops < float("inf"):
            raise UserError(f"watch.peak_tflops must be above 0, not {peak_tflops:g}")
        self.pictures_every_n_steps = pictures_every_n_steps
        self.peak_tflops = peak_tflops
        self.work = Work()
        self._logged = Work()  # at the last step that was logged
        self._moments: deque[Work] = deque(maxlen=MOMENTS)
        self._began: float | None = None  # when the first batch was done, later by what validation took
        self._first_step = self._step = 0
        self._waited_before = 0.0
        self._paused = 0.0
        self._peak: float | None = None
        self._counter: FlopCounterMode | None = None
        self._operations = 0  # of a batch
        self._slow_said = False

    def recent(self) -> Work:
        """What was done in about the last half minute."""
        return self.work.since(self._moments[0]) if self._moments else self.work

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the step at which this process begins, and find out what the device can do at most."""
        self._step = trainer.global_step
        self._peak = self.peak_tflops * 1e12 if self.peak_tflops else _peak(trainer)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: TrainingBatch, batch_idx: int
    ) -> None:
        """Count the operations of this process's first batch, where they are asked for."""
        if self._began is None and self._peak is not None:
            self._counter = FlopCounterMode(display=False)
            self._counter.__enter__()  # type: ignore[no-untyped-call]

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Log the norm of all gradients, before they are clipped."""
        if (trainer.global_step + 1) % _every(trainer) == 0:
            gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
            pl_module.log("train/gradient_norm", get_total_norm(gradients))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: TrainingBatch, batch_idx: int
    ) -> None:
        """Count this batch, and log where this step is logged."""
        images = sum(len(part) for part in batch.values()) * trainer.world_size
        self._count(trainer, images)
        step = trainer.global_step
        if step == self._step:  # gradients are being accumulated
            return
        self._step = step
        if step % _every(trainer) == 0:
            seen = trainer.fit_loop.epoch_loop.batch_progress.total.ready * images
            self._log(trainer, pl_module, seen, images // trainer.world_size)
        if self.pictures_every_n_steps and step % self.pictures_every_n_steps == 0:
            pl_module.log_pictures()  # type: ignore[operator]  # of Method

    def _count(self, trainer: Trainer, images: int) -> None:
        now, waited = time.monotonic(), data_wait(trainer)
        self._stop_counting()
        if self._began is None:  # with what is made only once: workers, compiled kernels
            self._began, self._waited_before, self._first_step = now, waited, trainer.global_step
            return
        self.work = Work(
            seconds=now - self._began,
            steps=trainer.global_step - self._first_step,
            images=self.work.images + images,
            waited=waited - self._waited_before,
            operations=self.work.operations + self._operations,
        )
        if not self._moments or self.work.seconds - self._moments[-1].seconds > WINDOW / MOMENTS:
            self._moments.append(self.work)
        while len(self._moments) > 1 and self.work.seconds - self._moments[1].seconds >= WINDOW:
            self._moments.popleft()
        self._judge(trainer)

    def _log(self, trainer: Trainer, module: LightningModule, seen: int, size: int) -> None:
        found: dict[str, Any] = {"train/samples": float(seen)}
        latest = getattr(module, "latest", {})
        if "student" in latest and "target" in latest:
            found["train/agreement"] = agreement(latest["student"], latest["target"], latest.get("mask"))
        done, self._logged = self.work.since(self._logged), self.work
        if done.steps:
            found["train/images_per_second"] = done.images_per_second
            found["train/waiting_for_data"] = done.waiting
            if self._peak is not None:
                found["train/mfu"] = done.utilization(self._peak)
        module.log_dict(found, batch_size=size)

    def _judge(self, trainer: Trainer) -> None:
        """Say once that the loader holds training up."""
        window = self.recent()
        if self._slow_said or window.seconds < WINDOW * (1 - 2 / MOMENTS) or window.steps < LEAST:
            return
        if window.waiting > TOO_MUCH:
            self._slow_said = True
            if trainer.is_global_zero:
                log.warning("%s", bottleneck(window, trainer))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        self._paused = time.monotonic()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on."""
        if self._began is not None:
            self._began += time.monotonic() - self._paused

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the mode in which operations are counted."""
        self._stop_counting()

    def _stop_counting(self) -> None:
        if self._counter is not None:
            self._counter.__exit__(None, None, None)  # type: ignore[no-untyped-call]
            self._operations = self._counter.get_total_flops()
            self._counter = None


def _every(trainer: Any) -> int:
    """Optimizer steps between two that are logged; Lightning sets this without declaring it."""
    return int(trainer.log_every_n_steps) or sys.maxsize


def data_wait(trainer: Trainer) -> float:
    """Seconds that this rank has waited for data; 0 where the loader does not count them."""
    wait = getattr(getattr(trainer, "datamodule", None), "wait", None)
    return wait.seconds if isinstance(wait, DataWait) else 0.0


def bottleneck(window: Work, trainer: Trainer) -> str:
    """That training waits for data, and what would help."""
    workers = getattr(getattr(trainer, "datamodule", None), "workers", 0)
    spare = max(1, processors() // max(1, trainer.num_devices)) - 1
    more = f"data.workers {spare} (now {workers}), " if spare > workers else ""
    return (
        f"the loader is the bottleneck: of the last {window.seconds:.0f} s, {window.waiting:.0%} went by "
        f"waiting for data; what helps: {more}smaller crops, `shorter_side_at_least: auto` in the sources, "
        "or faster storage (`access: cache` for shards on other machines)"
    )


def _peak(trainer: Trainer) -> float | None:
    """Operations a second of the device at most, in the precision of training; None where it is unknown."""
    precision = str(trainer.precision)
    half = torch.bfloat16 if precision.startswith("bf16") else torch.float16
    kind = half if "16" in precision else torch.float32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is unknown
        return get_available_flops(trainer.strategy.root_device, kind)
