"""Shards in, batches out, and a run that resumes where it was."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningDataModule

from depthkd.batch import Batch, Skipped, TrainingBatch
from depthkd.benchmarks.benchmark import Benchmark
from depthkd.data.bad_samples import BadSamples
from depthkd.data.fingerprint import Facts, stream_changes
from depthkd.data.loaders import BenchmarkLoader, StreamLoader
from depthkd.data.shares import places_per_rank
from depthkd.data.stream import ATTEMPTS, OpenSource, ShardSource, StreamBatches
from depthkd.errors import UserError
from depthkd.metrics.catalogue import MetricSet
from depthkd.watching.work import DataWait

NO_LABEL = "no usable label"  # the kind of such a bad sample

log = logging.getLogger(__name__)


class ShardDataModule(LightningDataModule):
    """Training batches from tar shards, and benchmarks to validate on.

    Its state is how many batches the run has *processed* and what the stream depends on: nothing
    in it belongs to a rank or a worker, so a run may resume with another number of either.

    Args:
        train: sources by names of your choice; their shares sum to 1.
        batch_size: samples in a global batch, over all sources and ranks.
        workers: decoding processes of each rank; 0 decodes between the steps.
        seed: what the order and every crop and flip are drawn from.
        validation: benchmarks by names of your choice.
        max_bad_fraction: `depthkd fit` stops when of the last 2,000 samples, over all ranks, more than this
            fraction was unusable.
        allow_changed_stream: resume although seed, batch size or sources are not what they were.
    """

    def __init__(
        self,
        train: dict[str, ShardSource],
        batch_size: int = 8,
        workers: int = 2,
        seed: int = 0,
        validation: dict[str, Benchmark] | None = None,
        max_bad_fraction: float = 0.05,
        allow_changed_stream: bool = False,
    ) -> None:
        super().__init__()
        if workers < 0:
            raise UserError(f"data.workers must be 0 or more, not {workers}")
        if seed < 0:
            raise UserError(f"data.seed must be 0 or more, not {seed}")
        if not 0.0 <= max_bad_fraction <= 1.0:
            raise UserError(f"data.max_bad_fraction must be from 0 to 1, not {max_bad_fraction:g}")
        for name, benchmark in (validation or {}).items():
            if MetricSet.DEPTH not in benchmark.metrics:
                raise UserError(
                    f"data.validation.{name} has no depth to validate on: only `depthkd test` can score it"
                )
        # a rank without a sample of a small benchmark waits for the others
        self.allow_zero_length_dataloader_with_multiple_devices = True
        self.train = train
        self.batch_size = batch_size
        self.workers = workers
        self.seed = seed
        self.validation = validation or {}
        self.max_bad_fraction = max_bad_fraction
        self.allow_changed_stream = allow_changed_stream
        self._sources: dict[str, OpenSource] = {}
        self.bad = BadSamples()
        self.wait = DataWait()
        self._in_a_row: dict[str, int] = {}

    def setup(self, stage: str) -> None:
        """Check the shares and open the training shards, before a run that trains.

        Raises:
            UserError, MissingFileError: a sentence that names `data.train.<name>.share` or `.urls`.
        """
        if stage != "fit":
            return
        shares = {name: source.share for name, source in self.train.items()}
        places_per_rank(shares, self.batch_size, self._ranks()[1])
        turn = (0, 1) if self.trainer is None else (self.trainer.local_rank, self.trainer.num_devices)
        self._sources = {name: source.open(name, self.seed, turn) for name, source in self.train.items()}

    def label_teachers(self) -> dict[str, dict[str, Any]]:
        """Name -> source, license and training sets of each network that made labels which are read."""
        told: dict[str, dict[str, Any]] = {}
        for name, source in self._sources.items():
            for number, one in enumerate(source.label_teachers(), 1):
                told[f"labels of {name}" + (f", {number}" if number > 1 else "")] = one
        return told

    def training_size(self) -> tuple[int, int] | None:
        """Height and width of the images of the training source that has the largest ones; None: the images
        of each differ, or none is open."""
        sizes = [size for source in self._sources.values() if (size := source.image_size()) is not None]
        return max(sizes, key=lambda size: (size[0] * size[1], min(size)), default=None)

    def train_dataloader(self) -> StreamLoader:
        """The stream from the first batch that the run has not processed."""
        rank, world_size = self._ranks()
        return StreamLoader(
            lambda start: StreamBatches(self._sources, self.batch_size, rank, world_size, start),
            self._start,
            self.note_skipped,
            self.workers,
            pin_memory=self.trainer is not None and self.trainer.strategy.root_device.type == "cuda",
            wait=self.wait,
        )

    def val_dataloader(self) -> list[BenchmarkLoader]:
        """One loader a benchmark, in their order in the configuration."""
        return [BenchmarkLoader(benchmark, *self._ranks()) for benchmark in self.validation.values()]

    def transfer_batch_to_device(
        self, batch: TrainingBatch | Batch, device: torch.device, dataloader_idx: int
    ) -> TrainingBatch | Batch:
        """Copy to the device, in the background where the memory is pinned."""
        if isinstance(batch, Batch):
            return batch.to(device)
        return {name: part.to(device, non_blocking=True) for name, part in batch.items()}

    def note_skipped(self, batch: TrainingBatch) -> None:
        """Say every bad sample of this rank once, and count."""
        for name, part in batch.items():
            self.bad.note(name, len(part), part.skipped)

    def note_unusable(self, source: str, sentences: Sequence[str], samples: int) -> None:
        """Say and count the samples of a batch, handed out as good, that have no label to learn from.

        Args:
            source: whose samples.
            sentences: one about each that has none.
            samples: how many the batch has of that source.

        Raises:
            UserError: at least 20 of the source in a row had no label.
        """
        in_a_row = self._in_a_row.get(source, 0) + samples if len(sentences) == samples else 0
        self._in_a_row[source] = in_a_row
        self.bad.note(source, -len(sentences), [Skipped(NO_LABEL, sentence) for sentence in sentences])
        if in_a_row >= ATTEMPTS:
            raise UserError(
                f"{in_a_row} samples in a row have no label to learn from; the last: {sentences[-1]}"
            )

    def fingerprint(self) -> Facts:
        """What the stream depends on: neither ranks nor workers."""
        facts: Facts = {"data.seed": self.seed, "data.batch_size": self.batch_size}
        for name, source in self._sources.items():
            facts |= {f"data.train.{name}.{key}": value for key, value in source.fingerprint().items()}
        return facts

    def state_dict(self) -> dict[str, Any]:
        """Processed batches and the fingerprint: the same on all ranks."""
        return {"processed": self._processed(), "fingerprint": self.fingerprint()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Check that the stream is the one that the checkpoint was trained on.

        Raises:
            UserError: it is another one, and `allow_changed_stream` is not set.
        """
        paths = {f"data.train.{name}": source.paths for name, source in self._sources.items()}
        differing = stream_changes(state_dict["fingerprint"], self.fingerprint(), paths)
        if not self._sources or not differing:
            return
        changes = ", ".join(differing).replace("data.seed", "data.seed (seed_everything)")
        if not self.allow_changed_stream:
            raise UserError(
                f"the checkpoint was trained on another stream: {changes}; restore that, or set "
                "data.allow_changed_stream=true to go on with the new stream at batch "
                f"{state_dict['processed']}"
            )
        log.warning("going on with another stream than the checkpoint's: %s", changes)

    def _start(self) -> int:
        """The batch with which an epoch of the loop starts; `overfit_batches` repeats the first ones."""
        repeated = int(getattr(self.trainer, "overfit_batches", 0))
        return self._processed() % repeated if repeated else self._processed()

    def _processed(self) -> int:
        if self.trainer is None:
            return 0
        progress = self.trainer.fit_loop.epoch_loop.batch_progress.state_dict()
        return int(progress["total"]["processed"])

    def _ranks(self) -> tuple[int, int]:
        if self.trainer is None:
            return 0, 1
        return self.trainer.global_rank, self.trainer.world_size
