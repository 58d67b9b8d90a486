"""Processes beside this one, which never outlive it."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from functools import partial
from itertools import islice
from multiprocessing import active_children, connection, get_context, parent_process
from typing import TypeVar

Key = TypeVar("Key")
Result = TypeVar("Result")
GRACE = 60  # seconds in which a process may save before it is killed


def pool(count: int, start: Callable[[], None] | None = None) -> ProcessPoolExecutor:
    """Processes that get SIGTERM once this one is gone, `kill -9` included, and SIGKILL later.

    They are spawned: threads of this process, torch's and OpenCV's among them, do not survive a fork.

    Args:
        count: how many.
        start: called once in each of them; None: Ctrl-C is left to this process.
    """
    return ProcessPoolExecutor(count, get_context("spawn"), partial(_start, start or _leave_ctrl_c))


def finished(
    processes: ProcessPoolExecutor,
    count: int,
    function: Callable[..., Result],
    jobs: Mapping[Key, tuple[object, ...]],
) -> Iterator[tuple[Key, Result]]:
    """Long jobs as they are done. None waits in the pool, which would begin it after an interruption.

    Args:
        processes: a `pool`, whose processes do not hear Ctrl-C themselves, but save and leave on SIGTERM.
        count: how many it has.
        function: what they do.
        jobs: key -> the function's arguments.

    Raises:
        KeyboardInterrupt: Ctrl-C, once the processes have saved; a second one kills them.
    """
    waiting = iter(jobs.items())
    running: dict[Future[Result], Key] = {}
    try:
        while True:
            for key, arguments in islice(waiting, count - len(running)):
                running[processes.submit(function, *arguments)] = key
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()
    except KeyboardInterrupt:
        print("saving what is under way; once more Ctrl-C stops at once", file=sys.stderr)
        for process in active_children():
            process.terminate()
        try:
            processes.shutdown()
        except KeyboardInterrupt:
            for process in active_children():
                process.kill()
        raise


def _leave_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _start(start: Callable[[], None]) -> None:
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    start()


def _leave_with_parent() -> None:
    """A pool's process waits for jobs in a pipe that it holds open itself, so the pipe's end never comes."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)  # a training saves, and would then wait for another job
        time.sleep(GRACE)
        os.kill(os.getpid(), signal.SIGKILL)
