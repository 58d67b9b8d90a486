"""What Lightning iterates over: the endless training stream, and one benchmark after another."""

import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader

from depthkd.batch import Batch, TrainingBatch
from depthkd.benchmarks.benchmark import Benchmark
from depthkd.data.collate import collate
from depthkd.data.stream import StreamBatches
from depthkd.watching.work import DataWait


class StreamLoader:
    """The training batches from where the run stands, without end and so without a length.

    Args:
        batches: makes the stream that starts at a given global batch.
        processed: how many global batches the run has trained on; asked at every `iter()`.
        note: called with every batch in the main process, before it is handed out.
        workers: processes that decode; 0 decodes in this one.
        pin_memory: copy batches into page-locked memory.
        wait: counts for how long batches are waited for.
    """

    def __init__(
        self,
        batches: Callable[[int], StreamBatches],
        processed: Callable[[], int],
        note: Callable[[TrainingBatch], None],
        workers: int = 0,
        pin_memory: bool = False,
        wait: DataWait | None = None,
    ) -> None:
        self._batches = batches
        self._processed = processed
        self._note = note
        self._workers = workers
        self._pin_memory = pin_memory
        self._wait = wait or DataWait()

    def __iter__(self) -> Iterator[TrainingBatch]:
        loader: DataLoader[TrainingBatch] = DataLoader(
            self._batches(self._processed()),
            batch_size=None,
            num_workers=self._workers,
            prefetch_factor=2 if self._workers else None,
            pin_memory=self._pin_memory,
            worker_init_fn=_start_worker,
            # forked workers notice when the trainer is killed; those of a fork server outlive it
            multiprocessing_context="fork" if self._workers and sys.platform == "linux" else None,
            # a DataLoader draws its workers' seeds from the global generator, which would make the
            # model's dropout depend on how often the run was interrupted
            generator=torch.Generator(),
        )
        return self._noted(iter(loader))

    def _noted(self, batches: Iterator[TrainingBatch]) -> Iterator[TrainingBatch]:
        while True:
            with self._wait.waiting():
                batch = next(batches, None)
            if batch is None:
                return
            self._note(batch)
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Nothing: `processed` is all. With it Lightning knows that the loader resumes mid-epoch."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to load."""


class BenchmarkLoader:
    """The samples rank, rank + world_size, ... of a benchmark, as batches of one.

    Nothing is padded or repeated, so ranks may differ by one batch, and metrics summed over ranks
    count every sample once.
    """

    def __init__(self, benchmark: Benchmark, rank: int = 0, world_size: int = 1) -> None:
        self.benchmark = benchmark
        self._indices = range(rank, len(benchmark), world_size)

    def __len__(self) -> int:
        return len(self._indices)

    def __iter__(self) -> Iterator[Batch]:
        for index in self._indices:
            batch = collate([self.benchmark.sample(index)], self.benchmark.name)
            batch.positions = [index]
            yield batch


def _start_worker(worker: int) -> None:
    """One thread; and what asks a job to leave reaches its workers too, but only the trainer answers."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
