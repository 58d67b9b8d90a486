"""What signals have asked of this process. A handler notes it and does nothing else."""

import os
import signal
import threading
from types import FrameType

STOP, LEAVE, REQUEUE = 1, 2, 3  # the largest prevails
ASKED = {signal.SIGINT: STOP, signal.SIGTERM: LEAVE, signal.SIGUSR1: REQUEUE}
PATIENCE = b"\nsaving at the end of this step; once more Ctrl-C stops at once\n"

_asked = 0


def note(number: int, frame: FrameType | None) -> None:
    """The handler. Who presses Ctrl-C a second time wants no more steps.

    Raises:
        KeyboardInterrupt: it is the second time.
    """
    global _asked
    asked = ASKED[signal.Signals(number)]
    if asked == STOP:
        if _asked == STOP:
            raise KeyboardInterrupt
        os.write(2, PATIENCE)  # print may be what was interrupted
    _asked = max(_asked, asked)


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
    """0, STOP, LEAVE or REQUEUE."""
    return _asked


def forget() -> int:
    """What was asked; from now on it is nothing, and Ctrl-C interrupts again."""
    global _asked
    was, _asked = _asked, 0
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return was
