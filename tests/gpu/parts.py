"""Parts of the report, one after another, each within its own time."""

import gc
import math
import multiprocessing
import os
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from tests.gpu.report import Report, Row

LOADING, LEAVING = 120.0, 20.0  # seconds that a process may take for its imports, and for its end


@dataclass(frozen=True)
class Place:
    """Where a part works.

    Args:
        device: "cuda", or "cpu" for the tiny form of everything.
        folder: for its files; kept between parts.
    """

    device: torch.device
    folder: Path

    @property
    def tiny(self) -> bool:
        """Whether there is no GPU, so that sizes are small."""
        return self.device.type == "cpu"


@dataclass(frozen=True)
class Part:
    """A check or a measurement.

    Args:
        name: what the table calls it.
        work: returns its rows.
        limit: seconds; a part that takes longer is stopped, and is a row.
        short: whether it is among the few that `make test` runs.
    """

    name: str
    work: Callable[[Place], list[Row]]
    limit: float
    short: bool = False


class LostError(Exception):
    """A process that runs parts is gone, or takes too long."""


class Worker:
    """A process that runs parts as they are asked for.

    Args:
        parts: all of them, so that what they import is loaded before the first one's time begins.
        place: where they work.
    """

    def __init__(self, parts: Sequence[Part], place: Place) -> None:
        self.parts = parts
        self.leaving = LEAVING
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, tuple(parts), place))
        self.process.start()
        theirs.close()
        self._next(LOADING)

    def rows(self, number: int, limit: float) -> list[Row]:
        """What the part of this number found within so many seconds.

        Raises:
            LostError: it took too long, or took the process with it.
        """
        self.pipe.send(number)
        return self._next(limit)

    def _next(self, limit: float) -> list[Row]:
        try:
            if not self.pipe.poll(limit):
                self.leaving = 0.0
                raise LostError(f"stopped after {limit:.0f} s")
            rows: list[Row] = self.pipe.recv()
        except (EOFError, OSError) as error:
            self.process.join(10)
            raise LostError(f"its process ended with status {self.process.exitcode}") from error
        return rows

    def stop(self) -> None:
        """Let it end, or end it if it is busy."""
        self.pipe.close()
        self.process.join(self.leaving)
        self.process.kill()
        self.process.join()


def run_parts(parts: Sequence[Part], place: Place, report: Report, seconds: float = math.inf) -> None:
    """Run all, in a process of their own that a part which hangs can cost, within so many seconds."""
    worker: Worker | None = None
    end = time.monotonic() + seconds
    try:
        for number, part in enumerate(parts):
            start = time.monotonic()
            try:
                if start > end:
                    raise LostError(f"not begun: {seconds:.0f} s were over")
                worker = worker or Worker(parts, place)
                rows = worker.rows(number, max(1.0, min(part.limit, end - time.monotonic())))
            except LostError as error:
                if worker is not None:
                    worker.stop()
                worker, rows = None, [Row("all of it", str(error), "an end", False)]
            report.add(part.name, time.monotonic() - start, rows)
            for row in rows:
                failed = "  FAILED" if row.ok is False else ""
                print(f"{part.name}: {row.what}: {row.metric}{failed}", flush=True)
    except BaseException:
        if worker is not None:
            worker.leaving = 0.0
        raise
    finally:
        if worker is not None:
            worker.stop()


def _work(pipe: Connection, parts: Sequence[Part], place: Place) -> None:
    os.setsid()  # Ctrl-C is for the one who waits, and ends this too
    torch.set_num_threads(1 if place.tiny else 8)
    pipe.send([])  # ready
    while True:
        try:
            number: int = pipe.recv()
        except EOFError:  # nothing more is wanted
            return
        try:
            rows = parts[number].work(place)
        except Exception as error:  # a row for the table, and the traceback for whoever mends it
            traceback.print_exc()
            sentence = " ".join(str(error).split())[:300]
            rows = [Row("all of it", f"{type(error).__name__}: {sentence}", "an end", False)]
        gc.collect()
        if place.device.type == "cuda":
            torch.cuda.empty_cache()
        pipe.send(rows)
