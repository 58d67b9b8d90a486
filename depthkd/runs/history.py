"""What a run has logged, read back: values over steps, from TensorBoard's files and from CSV."""

import csv
import logging
from collections.abc import Iterator
from pathlib import Path

from depthkd.runs.folder import LOGS, Run

History = dict[str, list[tuple[int, float]]]  # name -> (step, value), in order of steps

EVENTS, METRICS = "events.out.tfevents.*", "metrics.csv"  # TensorBoard's and Lightning's names
NOT_LOGGED = ("epoch", "step")  # columns that say when, not what


def history(run: Run) -> History:
    """Everything that a run has logged as numbers; nothing where it has no logs.

    Where a run was interrupted and has gone over the same steps again, the later value of a step counts. A
    value that TensorBoard and CSV both have is taken from TensorBoard. A line that is being written, or was
    cut short by a kill, is passed over.
    """
    folder = run.folder / LOGS
    found: History = {}
    for read in (_from_tensorboard, _from_csv):
        for name, points in read(folder).items():
            found.setdefault(name, sorted(points.items()))
    return found


def _from_tensorboard(folder: Path) -> dict[str, dict[int, float]]:
    folders = sorted({path.parent for path in folder.rglob(EVENTS)})
    if not folders:
        return {}
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    # it warns of a file's last, torn record, which a running or killed training leaves
    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    found: dict[str, dict[int, float]] = {}
    for place in folders:
        events = EventAccumulator(str(place), {"scalars": 0, "images": 1})
        events.Reload()
        for name in events.Tags()["scalars"]:
            if name not in NOT_LOGGED:
                written = sorted(events.Scalars(name), key=lambda event: float(event.wall_time))
                found.setdefault(name, {}).update((int(e.step), float(e.value)) for e in written)
    return found


def _from_csv(folder: Path) -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = {}
    for path in sorted(folder.rglob(METRICS), key=lambda path: path.stat().st_mtime):
        for step, name, value in _cells(path):
            found.setdefault(name, {})[step] = value
    return found


def _cells(path: Path) -> Iterator[tuple[int, str, float]]:
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        for row in csv.DictReader(file):
            step = _number(row.get("step"))
            if step is None:
                continue
            for name, text in row.items():
                value = _number(text)
                if name not in (None, *NOT_LOGGED) and value is not None:
                    yield int(step), name, value


def _number(text: str | None) -> float | None:
    """None where a cell is empty or cut short."""
    try:
        return float(text or "")
    except (TypeError, ValueError):
        return None
