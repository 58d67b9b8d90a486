"""What signals have asked of this process. A handler notes it and does nothing else."""

import signal
import threading
from types import FrameType

LEAVE, REQUEUE = 1, 2  # the larger prevails
ASKED = {signal.SIGTERM: LEAVE, signal.SIGUSR1: REQUEUE}

_asked = 0


def note(number: int, frame: FrameType | None) -> None:
    """The handler."""
    global _asked
    _asked = max(_asked, ASKED[signal.Signals(number)])


def listen(*numbers: signal.Signals) -> None:
    """Note these signals from now on; only a main thread can."""
    if threading.current_thread() is threading.main_thread():
        for number in numbers:
            signal.signal(number, note)


def ignore(*numbers: signal.Signals) -> None:
    """From now on: an interpreter that shuts down puts the deadly defaults back in place of handlers."""
    if threading.current_thread() is threading.main_thread():
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)


def asked() -> int:
    """0, LEAVE or REQUEUE."""
    return _asked


def forget() -> None:
    """Back to 0."""
    global _asked
    _asked = 0
