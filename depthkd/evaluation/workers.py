"""Worker processes for the slow metrics, so that the network need not wait for them."""

import signal
from concurrent.futures import Future, ProcessPoolExecutor
from types import TracebackType

import cv2
import torch

from depthkd.cluster.processors import processors
from depthkd.evaluation.image_metrics import ImageJob, image_metrics
from depthkd.processes import pool

MOST = 8


class Workers:
    """Processes that start with the first job, and leave with the block.

    Args:
        count: how many; 0: the jobs are done here; None: one less than there are processors, at most 8.
    """

    def __init__(self, count: int | None = None) -> None:
        self.count = min(MOST, processors() - 1) if count is None else count
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "Workers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def submit(self, job: ImageJob) -> "Future[dict[str, float]]":
        """Compute `image_metrics`; the future is ready at once where there are no processes."""
        if self.count == 0:
            done: Future[dict[str, float]] = Future()
            done.set_result(image_metrics(job))
            return done
        if self._pool is None:
            self._pool = pool(self.count, _start)
        return self._pool.submit(image_metrics, job)


def _start() -> None:
    """One thread; and Ctrl-C is for the main process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
