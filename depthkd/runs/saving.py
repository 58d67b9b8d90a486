"""How a run is saved: whole or not at all, on optimizer steps only, and read without unpickling."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.plugins.io import CheckpointIO

from depthkd.batch import TrainingBatch
from depthkd.errors import UserError
from depthkd.formats.whole_files import whole_file
from depthkd.runs.folder import CHECKPOINT, Run, read_checkpoint
from depthkd.runs.trained_on import TrainedOn, read_data_sets, read_digests

MEBIBYTE = 2**20


def writes_nothing(trainer: Any) -> bool:
    """Whether a run only tries out (`trainer.fast_dev_run`)."""
    return bool(trainer.fast_dev_run)


def save_now(trainer: Trainer) -> Path | None:
    """Save a run on all ranks; where, or None where nothing is written."""
    # not `trainer.checkpoint_callback`: a config may add ModelCheckpoints of its own before ours
    checkpoint = next(c for c in trainer.checkpoint_callbacks if isinstance(c, RunCheckpoint))
    checkpoint.save(trainer)
    return None if writes_nothing(trainer) else Run(trainer.default_root_dir).last


class SafeCheckpointIO(CheckpointIO):
    """Writes under a temporary name and renames, so that the last checkpoint is always a whole one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write all of it, or leave the last one as it is."""
        with whole_file(Path(path)) as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError:  # which does not say why it could not write; whoever writes next hears it
                file.write(bytes(MEBIBYTE))
                file.flush()
                raise

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read tensors and plain values; nothing else is ever unpickled."""
        return read_checkpoint(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        """Delete a checkpoint that a newer one replaces."""
        Path(path).unlink(missing_ok=True)


class RecordTrainedOn(Callback):
    """Keeps `trained_on/` of the run folder up to date: which images the run has met (a zero-shot guard).

    Args:
        before: another run, from whose checkpoint this one goes on; its images count too.
    """

    def __init__(self, before: Path | None = None) -> None:
        self.before = before

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take up what this run has noted before; an earlier run of the name is set aside by now."""
        self.trained_on = TrainedOn(Path(trainer.default_root_dir), trainer.global_rank)
        if self.before is not None and trainer.is_global_zero:
            digests = (int(digest) for digest in read_digests(self.before))
            self.trained_on.add(digests, read_data_sets(self.before))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: TrainingBatch, batch_idx: int
    ) -> None:
        """Note the batch's images."""
        for part in batch.values():
            self.trained_on.add(part.digests, part.data_sets)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: Any) -> None:
        """Write them: what a checkpoint has learned from is on disk when it is."""
        self.trained_on.save()


class RunCheckpoint(ModelCheckpoint):
    """Keeps `checkpoints/last.ckpt` of the run folder up to date.

    Args:
        every_n_train_steps: optimizer steps between two saves; the last step is saved too.

    Raises:
        UserError: it is not above 0.
    """

    def __init__(self, every_n_train_steps: int = 500) -> None:
        if every_n_train_steps < 1:
            raise UserError(f"checkpoint.every_n_train_steps must be 1 or more, not {every_n_train_steps}")
        super().__init__(
            filename=Path(CHECKPOINT).stem,
            every_n_train_steps=every_n_train_steps,
            save_on_train_epoch_end=False,
            enable_version_counter=False,
            auto_insert_metric_name=False,
        )
        self._seen_step = -1

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Save into the run folder, whatever the logger does."""
        self.dirpath = str(Run(trainer.default_root_dir).last.parent)
        super().setup(trainer, pl_module, stage)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember the step at which this process took over."""
        super().on_train_start(trainer, pl_module)
        self._seen_step = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Save only after an optimizer step: gradients that are being accumulated are in no checkpoint."""
        if trainer.global_step == self._seen_step:
            return
        self._seen_step = trainer.global_step
        super().on_train_batch_end(trainer, *args, **kwargs)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validation saves nothing: the steps do."""

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the end of training, also where its last step is saved: that it is the end is new."""
        self.save(trainer, again=trainer.should_stop and trainer.global_step < trainer.max_steps)

    def save(self, trainer: Trainer, again: bool = False) -> None:
        """Save now, on all ranks, unless this very step was just saved (or `again`) or nothing is written."""
        if writes_nothing(trainer) or (self._last_global_step_saved == trainer.global_step and not again):
            return
        self._save_none_monitor_checkpoint(trainer, self._monitor_candidates(trainer))
