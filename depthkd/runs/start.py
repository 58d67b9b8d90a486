"""What a run does to its folder when it starts: not before everything is built and sure to train."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger

from depthkd.cluster.slurm import EveryRankError, mark
from depthkd.errors import UserError
from depthkd.formats.whole_files import write_whole
from depthkd.runs.folder import Run
from depthkd.runs.saving import writes_nothing
from depthkd.watching import loggers as logs

Tree = dict[str, Any]

OPTIMIZATION = "model.init_args.optimization."
ABSENT = "not set"
SHORT = 60  # characters of a setting's value in a sentence
TOLD = 8  # changed settings that are told one by one


class RunStart(Callback):
    """Sets an earlier run of the same name aside, writes config.yaml, and lets the logs begin: the last thing
    before training.

    Whatever is wrong with a command has been said by then, so that a mistake costs no earlier run its
    place. With `fast_dev_run` nothing is written at all.

    Args:
        run: the run.
        config: makes the text of its config.
        resumes: whether it goes on from a checkpoint of its own, so that what is there stays.
        loggers: that take the place of the trainer's then.
    """

    def __init__(
        self, run: Run, config: Callable[[], str], resumes: bool, loggers: Sequence[Logger] = ()
    ) -> None:
        self.run = run
        self.config = config
        self.resumes = resumes
        self.loggers = loggers
        self._began = False
        self._aside: Path | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the folder, on the first rank, and let the others know.

        Raises:
            EveryRankError: another process trains in it, or it cannot be written.
        """
        self._began = True
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
        if trainer.is_global_zero:
            step = trainer.global_step if self.resumes else 0
            logs.begin(self.loggers, self.run.folder, self.run.logs, step, self.resumes)
        trainer.loggers = list(self.loggers)

    def _begin(self, step: int) -> None:
        self.run.in_use.check()
        self._aside = None if self.resumes else self.run.set_aside()
        if self._aside is not None:
            print(
                f"depthkd fit: {self.run.folder} held an earlier run, which is now {self._aside} "
                "(--ckpt_path last goes on instead)",
                flush=True,
            )
        self.run.in_use.take()
        before = self.run.settings() if self.resumes and self.run.config.is_file() else None
        kept = self._write_config(step)
        if before is not None and kept is not None:
            self._say_changes(step, kept, before)
        mark(self.run.folder)

    def _write_config(self, step: int) -> Path | None:
        """The config that counts from now on; where the one before is kept, if there was another."""
        text, place, kept = self.config(), self.run.config, None
        if place.is_file() and self.resumes and (before := place.read_text(encoding="utf-8")) != text:
            kept = place.with_name(f"config.until_step_{step}.yaml")
            write_whole(kept, before)
        write_whole(place, text)
        return kept

    def _say_changes(self, step: int, kept: Path, before: Tree) -> None:
        """What is another setting from here on; the method itself tells what it learns at."""
        changes = [c for c in differences(before, self.run.settings()) if not c.startswith(OPTIMIZATION)]
        if not changes:
            return
        more = f"; and {len(changes) - TOLD} more" if len(changes) > TOLD else ""
        print(
            f"depthkd fit: {self.run.folder} goes on at step {step} with another config than before (kept as "
            f"{kept.name}): {'; '.join(changes[:TOLD])}{more}",
            flush=True,
        )

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Where nothing was left to do, this config has finished the run, whatever the last one asked for."""
        left_out = self._began or not self.resumes or not self.run.config.is_file()
        if not left_out and trainer.is_global_zero and not writes_nothing(trainer):
            self.run.in_use.check()
            self._write_config(trainer.global_step)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """The folder is free again."""
        self.run.in_use.release()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Likewise: Lightning tears nothing down then. An earlier run gets its place again, if nothing was
        saved of this one; some mistakes show only in a step, or in validation."""
        ours = self.run.in_use.held or not self.run.folder.exists()
        if self._aside is not None and ours and not self.run.last.exists():
            print(f"depthkd fit: nothing was saved: {self._restore(self._aside)}", flush=True)
        self.run.in_use.release()

    def _restore(self, earlier: Path) -> str:
        """Give an earlier run its place again; where it is then."""
        try:
            shutil.rmtree(self.run.folder, ignore_errors=True)
            earlier.rename(self.run.folder)
        except OSError as error:  # what stopped the run may have stopped this too
            return f"{self.run.folder} is in the way of the earlier run, still {earlier}: {error.strerror}"
        return f"{self.run.folder} is the earlier run again"


def differences(before: Tree, after: Tree, above: str = "") -> list[str]:
    """Part of a sentence for each setting that differs between two configs, such as "trainer.max_steps was 6
    and is 9"."""
    changes = []
    for key in dict.fromkeys([*before, *after]):
        name, old, new = f"{above}{key}", before.get(key, ABSENT), after.get(key, ABSENT)
        if isinstance(old, dict) and isinstance(new, dict):
            changes += differences(old, new, f"{name}.")
        elif old != new:
            changes.append(f"{name} was {_in_short(old)} and is {_in_short(new)}")
    return changes


def _in_short(value: object) -> str:
    text = str(value)
    return text if len(text) <= SHORT else f"{text[: SHORT - 3]}..."
