"""What a tested model costs at the size at which it ran most often: parameters, multiply-adds, latency."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from depthkd.cost.cost import (
    COUNTED,
    MULTIPLY_ADDS,
    PARAMETERS,
    Cost,
    billions,
    counted,
    eager,
    millions,
    milliseconds,
    size_text,
)
from depthkd.cost.forward import Setting
from depthkd.cost.latency import WARM_UP
from depthkd.evaluation.measure import EvaluatedModel
from depthkd.evaluation.records import Records
from depthkd.evaluation.task import Task

EAGER, LATENCY = "eager", "latency (ms)"
REPEATS, SECONDS = 20, 10.0  # forward passes that are timed: no more begin after so many seconds


def costs(model: EvaluatedModel, tasks: Sequence[Task], records: Records) -> dict[str, Cost]:
    """Task -> what the model costs at the size at which most of its images ran, alone.

    Args:
        model: which.
        tasks: on what it was measured; those of which no sample could be read are left out.
        records: of all samples.
    """
    found: dict[tuple[int, int], Cost] = {}
    sizes = {task.name: _usual_size(model, task, records) for task in tasks}
    for size in dict.fromkeys(size for size in sizes.values() if size is not None):
        setting = Setting(size, model.device)
        times = {EAGER: eager(model.model, setting, REPEATS, SECONDS)}
        found[size] = replace(counted(model.name, model.model, setting), latency=times)
    return {name: found[size] for name, size in sizes.items() if size is not None}


def _usual_size(model: EvaluatedModel, task: Task, records: Records) -> tuple[int, int] | None:
    """The most frequent size; of a model that does not tell, that of an image. None without images."""
    rows = records.rows(task.name, model.name)
    if not rows:
        return None
    size, _ = Counter(row.run_at for row in rows.values()).most_common(1)[0]
    if size is not None:
        return size
    height, width, _ = task.benchmark.sample(next(iter(rows))).image.shape
    return int(height), int(width)


def columns(found: Mapping[str, Cost]) -> dict[str, dict[str, str]]:
    """Heading -> row -> text, of the columns of a table; none without costs."""
    if not found:
        return {}
    return {
        PARAMETERS: {row: millions(one.parameters) for row, one in found.items()},
        MULTIPLY_ADDS: {row: billions(one.multiply_adds) for row, one in found.items()},
        LATENCY: {row: milliseconds(one.latency[EAGER]) for row, one in found.items()},
    }


def remarks(found: Mapping[str, Cost]) -> list[str]:
    """What stands under a table with these columns."""
    if not found:
        return []
    places = "; ".join(f"{row} at {size_text(one)} on {one.machine}" for row, one in found.items())
    how = (
        "Cost: of one forward pass of one image at the size at which most of these images ran, without a "
        f"compiler: {places}. Latency: the median of up to {REPEATS} runs after {WARM_UP} to warm up, and "
        f"both quartiles. {COUNTED}"
    )
    return [how, *(note for one in found.values() for note in one.notes)]
