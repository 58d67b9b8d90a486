"""A finding of `depthkd doctor`, and its line in the table."""

import shutil
import textwrap
from dataclasses import dataclass
from enum import Enum

STATE_WIDTH, WHAT_WIDTH = 9, 18  # of the first two columns


class State(Enum):
    """How good what was found is."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """What was found.

    Args:
        state: how good it is.
        what: was looked at, in a word or two.
        found: what it is like.
        advice: what to do; "" where nothing is.
    """

    state: State
    what: str
    found: str
    advice: str = ""


def ok(what: str, found: str) -> Finding:
    """Something that is as it should be."""
    return Finding(State.OK, what, found)


def warning(what: str, found: str, advice: str) -> Finding:
    """Something that may be slow, or fail later."""
    return Finding(State.WARNING, what, found, advice)


def problem(what: str, found: str, advice: str) -> Finding:
    """Something with which a run fails."""
    return Finding(State.PROBLEM, what, found, advice)


def told(finding: Finding) -> str:
    """A row of the table: state, what, what was found, and under it what to do."""
    indent = " " * (STATE_WIDTH + WHAT_WIDTH)
    width = max(60, shutil.get_terminal_size((110, 24)).columns)
    head = f"{finding.state.value:<{STATE_WIDTH}}{finding.what:<{WHAT_WIDTH - 1}} "
    rows = [head + finding.found, *([f"{indent}-> {finding.advice}"] if finding.advice else [])]
    return "\n".join(
        textwrap.fill(row, width, subsequent_indent=indent + ("   " if i else ""), break_long_words=False)
        for i, row in enumerate(rows)
    )
