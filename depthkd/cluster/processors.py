"""How many processors this process may use."""

import os


def processors() -> int:
    """At least 1; fewer than the machine has where the scheduler or a container says so."""
    if hasattr(os, "sched_getaffinity"):  # Linux only
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
