"""What a run does to its folder when it starts: not before everything is built and sure to train."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import _DummyExperiment
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger

from depthkd.checkpoint import writes_nothing
from depthkd.cluster.slurm import EveryRankError, mark
from depthkd.errors import UserError
from depthkd.formats.whole_files import write_whole
from depthkd.run_folder import Run


class RunLogger(TensorBoardLogger):
    """TensorBoard's log in `logs/` of a run's folder; writes nothing before `begin`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, name="logs", version="")
        self._begun = False

    def begin(self) -> None:
        """Write from now on."""
        self._begun = True

    @property
    def experiment(self) -> Any:
        """The writer; before `begin`, and on other ranks than the first, one that does nothing."""
        return super().experiment if self._begun else _DummyExperiment()


class RunStart(Callback):
    """Sets an earlier run of the same name aside, and writes config.yaml, as the last thing before training.

    Whatever is wrong with a command has been said by then, so that a mistake costs no earlier run its
    place. With `fast_dev_run` nothing is written at all.

    Args:
        run: the run.
        config: makes the text of its config.
        resumes: whether it goes on from a checkpoint, so that what is there stays.
    """

    def __init__(self, run: Run, config: Callable[[], str], resumes: bool) -> None:
        self.run = run
        self.config = config
        self.resumes = resumes

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the folder, on the first rank, and let the others know.

        Raises:
            EveryRankError: another process trains in it, or it cannot be written.
        """
        if writes_nothing(trainer):
            return
        refusal: str | None = None
        if trainer.is_global_zero:
            try:
                self._begin(trainer.global_step)
            except UserError as error:
                refusal = str(error)
        refusal = trainer.strategy.broadcast(refusal)
        if refusal is not None:
            raise EveryRankError(refusal)
        for logger in trainer.loggers:
            if isinstance(logger, RunLogger):
                logger.begin()

    def _begin(self, step: int) -> None:
        self.run.in_use.check()
        aside = None if self.resumes else self.run.set_aside()
        if aside is not None:
            print(
                f"depthkd fit: {self.run.folder} held an earlier run, which is now {aside} "
                "(--ckpt_path last goes on instead)",
                flush=True,
            )
        self.run.in_use.take()
        text, place = self.config(), self.run.config
        if place.is_file() and self.resumes and (before := place.read_text(encoding="utf-8")) != text:
            write_whole(place.with_name(f"config.until_step_{step}.yaml"), before)
        write_whole(place, text)
        mark(self.run.folder)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """The folder is free again."""
        self.run.in_use.release()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Likewise: Lightning tears nothing down then."""
        self.run.in_use.release()
