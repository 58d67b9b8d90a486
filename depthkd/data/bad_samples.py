"""Samples that could not be used: said once, counted by kind, listed in the run's folder; too many of them
stop the run, saved, on all ranks at once."""

import json
import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from depthkd.batch import Skipped
from depthkd.cluster.slurm import EveryRankError
from depthkd.cluster.votes import Vote
from depthkd.runs.folder import Run
from depthkd.runs.saving import writes_nothing

ENOUGH_TO_JUDGE = 100  # samples, before the share of bad ones stops a run
WINDOW = 2000  # samples over all ranks, the last ones, of which the share counts

log = logging.getLogger(__name__)


class Noted(NamedTuple):
    """A bad sample of a source, met for the first time on this rank."""

    source: str
    kind: str
    sentence: str


class BadSamples:
    """One rank's count of good and bad samples."""

    def __init__(self) -> None:
        self.kinds: Counter[str] = Counter()
        """Bad samples by kind, each time that they are met."""
        self._good = 0
        self._bad = 0
        self._known: set[str] = set()
        self._new: list[Noted] = []

    def note(self, source: str, good: int, bad: Iterable[Skipped]) -> None:
        """Count some samples of a source, and say each bad one once.

        Args:
            source: its name in `data.train`.
            good: how many more could be used; negative where some that counted as good cannot.
            bad: those that could not.
        """
        self._good += good
        for kind, sentence in bad:
            self._bad += 1
            self.kinds[kind] += 1
            if sentence not in self._known:
                self._known.add(sentence)
                self._new.append(Noted(source, kind, sentence))
                log.warning("skipped a bad sample: %s", sentence)

    def take(self) -> tuple[int, int, list[Noted]]:
        """Good and bad samples since the last call, and the new ones among the bad."""
        taken = self._good, self._bad, self._new
        self._good, self._bad, self._new = 0, 0, []
        return taken


class BadSampleCheck(Callback):
    """Writes `bad_samples/<rank>.jsonl`, and stops a run whose last samples were too often bad.

    Args:
        save: saves a run on all ranks; returns where, or None where nothing is written.
    """

    def __init__(self, save: Callable[[Trainer], Path | None]) -> None:
        self._save = save
        self._step = -1
        self._window: deque[tuple[int, int]] = deque()
        self._last = ""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count."""
        self._vote = Vote(trainer.world_size)
        self._step = trainer.global_step
        self._window.clear()

    def on_train_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """List what was bad since the last step, and judge.

        Raises:
            EveryRankError: of the last samples of all ranks, more than `data.max_bad_fraction` were bad.
        """
        if trainer.global_step == self._step:
            return
        self._step = trainer.global_step
        data = _data(trainer)
        good, bad, new = data.bad.take()
        self._list(trainer, new)
        good, bad = self._vote(good, bad)
        self._window.append((good, bad))
        good, bad = (sum(counts) for counts in zip(*self._window, strict=True))
        while good + bad - sum(self._window[0]) >= WINDOW:
            oldest = self._window.popleft()
            good, bad = good - oldest[0], bad - oldest[1]
        if good + bad < ENOUGH_TO_JUDGE or bad <= data.max_bad_fraction * (good + bad):
            return
        path = self._save(trainer)
        saved = f"; step {self._step} is saved in {path}" if path else ""
        raise EveryRankError(
            f"{bad} of the last {good + bad} samples were bad, more than data.max_bad_fraction="
            f"{data.max_bad_fraction:g}: mend the shards, or raise it to train without them"
            f"{self._example(trainer)}{saved}"
        )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say how many were bad, by kind."""
        data = _data(trainer)
        self._list(trainer, data.bad.take()[2])
        kinds = data.bad.kinds
        if kinds:
            counted = ", ".join(f"{kind} {count}" for kind, count in kinds.most_common())
            log.warning("bad samples that this rank has met, each time: %s%s", counted, self._where(trainer))

    def _list(self, trainer: Trainer, new: list[Noted]) -> None:
        if not new:
            return
        self._last = new[-1].sentence
        if writes_nothing(trainer):
            return
        path = Run(trainer.default_root_dir).bad_samples / f"{trainer.global_rank}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.writelines(
                json.dumps({"step": self._step, **noted._asdict()}, ensure_ascii=False) + "\n"
                for noted in new
            )

    def _example(self, trainer: Trainer) -> str:
        return f"; the last: {self._last}" if self._last else self._where(trainer)

    def _where(self, trainer: Trainer) -> str:
        return "" if writes_nothing(trainer) else f"; {Run(trainer.default_root_dir).bad_samples} lists them"


def _data(trainer: Any) -> Any:
    """The datamodule, which Lightning sets without declaring it."""
    return trainer.datamodule
