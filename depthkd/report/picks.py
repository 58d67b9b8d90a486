"""Which samples of a benchmark are worth a picture."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import TypeVar

SPREAD = "spread evenly"

Item = TypeVar("Item")


def spread(items: Sequence[Item], count: int) -> list[Item]:
    """So many items, spread evenly over all of them; all, where they are fewer."""
    count = min(count, len(items))
    return [items[i * len(items) // count] for i in range(count)]


def picked(
    metrics: Mapping[int, Mapping[str, float]], count: int, by: str = "abs_rel", best: str = "lowest"
) -> dict[int, list[str]]:
    """Index -> why: `count` samples spread evenly over all, and the best, the median and the worst.

    Args:
        metrics: index -> metric -> value, of the model whose predictions are drawn.
        count: how many are spread over all.
        by: the metric that says what is best.
        best: "lowest" or "highest".
    """
    known = [index for index, values in metrics.items() if isfinite(values.get(by, float("nan")))]
    reasons: dict[int, list[str]] = {}
    if not known:
        return reasons
    for index in spread(known, count):
        reasons.setdefault(index, []).append(SPREAD)
    ranked = sorted(known, key=lambda index: metrics[index][by], reverse=best == "highest")
    for name, index in (("best", ranked[0]), ("median", ranked[len(ranked) // 2]), ("worst", ranked[-1])):
        reasons.setdefault(index, []).append(name)
    return reasons
