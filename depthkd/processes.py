"""Processes beside this one, which never outlive it."""

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import connection, get_context, parent_process


def pool(count: int, start: Callable[[], None] | None = None) -> ProcessPoolExecutor:
    """Processes that get SIGTERM once this one is gone, however it went: `kill -9` included.

    They are spawned: threads of this process, torch's and OpenCV's among them, do not survive a fork.

    Args:
        count: how many.
        start: called once in each of them; None: Ctrl-C is left to this process.
    """
    return ProcessPoolExecutor(count, get_context("spawn"), partial(_start, start or _leave_ctrl_c))


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
        os.kill(os.getpid(), signal.SIGTERM)
