"""What the checks add to a run."""

import json
import time
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from depthkd.batch import TrainingBatch


class Watch(pl.Callback):
    """Writes `watched.json`: when the first step was done, whether batches came from page-locked memory, and
    which lines made the host wait for the GPU in the steps from the fifth on."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {"first_step": None, "pinned": None, "waits": []}
        self.batches = 0
        self._caught: Any = None
        self._recorded: list[warnings.WarningMessage] = []

    def on_train_batch_start(
        self, trainer: pl.Trainer, module: pl.LightningModule, batch: TrainingBatch, index: int
    ) -> None:
        """Listen."""
        if self.batches >= 5 and module.device.type == "cuda":
            self._caught = warnings.catch_warnings(record=True)
            self._recorded = self._caught.__enter__()
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")

    def on_train_batch_end(self, *args: Any) -> None:
        """Stop listening."""
        self.batches += 1
        if self.found["first_step"] is None:
            self.found["first_step"] = time.time()
        if self._caught is not None:
            torch.cuda.set_sync_debug_mode("default")
            self._caught.__exit__(None, None, None)
            self._caught = None
            said = [w for w in self._recorded if "synchroniz" in str(w.message)]
            self.found["waits"].append([f"{w.filename}:{w.lineno}" for w in said])

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Write."""
        datamodule: Any = getattr(trainer, "datamodule", None)
        loader = iter(datamodule.train_dataloader())
        self.found["pinned"] = next(iter(next(loader).values())).image.is_pinned()
        Path("watched.json").write_text(json.dumps(self.found))
