"""Ctrl-C while libraries load: some of them catch whatever is raised meanwhile, and would go on."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from depthkd.loading import loading

SWALLOWS = """
import os, signal
try:
    os.kill(os.getpid(), signal.SIGINT)
except BaseException:
    pass
def main(command):
    print("went on")
    return 0
"""


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_it_counts_when_they_are_there_and_once() -> None:
    there = []
    with pytest.raises(KeyboardInterrupt), loading():
        press()
        there.append("all")
    assert there == ["all"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with loading():
        there.append("again")
    assert there == ["all", "again"]


def test_a_second_time_it_counts_at_once_and_inside_of_another_import_too() -> None:
    there = []
    with pytest.raises(KeyboardInterrupt), loading(), loading():
        press()
        there.append("once")
        press()
        there.append("twice")
    assert there == ["once"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_library_that_swallows_it_does_not_keep_a_command_from_ending(tmp_path: Path) -> None:
    script = (
        "import sys, types, depthkd.verbs as verbs; from depthkd.cli import console; "
        f"verbs.__path__.insert(0, {str(tmp_path)!r}); verbs.VERBS['swallow'] = 'x'; "
        "sys.argv = ['depthkd', 'swallow']; console()"
    )
    (tmp_path / "swallow.py").write_text(SWALLOWS)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout) == (130, ""), done.stderr
    assert done.stderr.strip() == "depthkd swallow: interrupted"
