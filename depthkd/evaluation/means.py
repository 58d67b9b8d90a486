"""Means over images, and the facts about an image that stand beside its metrics."""

from collections.abc import Iterable, Mapping
from math import isnan

import numpy as np

from depthkd.evaluation import doubts
from depthkd.metrics.catalogue import BY_NAME

FACTS = ("camera", "truth_low", "truth_high", *doubts.FACTS)  # beside the metrics of a sample, not averaged


def means(rows: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The mean of every metric over the images that have it, and "images": over how many there is any.

    Means over pairs and planes are weighted by their numbers, and these summed, so that all pairs and all
    planes count alike.
    """
    rows = list(rows)
    names = list(dict.fromkeys(name for row in rows for name in row if name not in FACTS))
    found: dict[str, float] = {}
    for name in names:
        known = [row for row in rows if not isnan(row.get(name, float("nan")))]
        by = BY_NAME[name].weight
        weight = [1.0 if by is None else row[by] for row in known]
        values = [row[name] for row in known]
        if BY_NAME[name].count:
            found[name] = sum(values)
        else:
            found[name] = float(np.average(values, weights=weight)) if sum(weight) else float("nan")
    averaged = [name for name in names if not BY_NAME[name].count]
    measured = [row for row in rows if any(not isnan(row.get(name, float("nan"))) for name in averaged)]
    return found | {"images": float(len(measured))}
