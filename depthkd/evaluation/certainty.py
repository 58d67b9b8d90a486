"""Which metrics of a benchmark are decided: intervals of the models, and of the differences between them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from math import isfinite

import numpy as np

from depthkd.evaluation.records import Records
from depthkd.metrics.catalogue import BY_NAME, CATALOGUE, phrase
from depthkd.report.bootstrap import Interval, interval, paired

MOST = 4  # models of which every pair has a sentence
FEWEST = 8  # images: with fewer, all differences of one sign would often be chance
WITH_INTERVALS = [entry.name for entry in CATALOGUE if entry.interval]


@dataclass(frozen=True)
class Certainty:
    """What the images of one benchmark can say.

    Args:
        intervals: model -> metric -> its mean and 95 % interval over images.
        differences: (model, other model) -> metric -> the paired difference.
    """

    intervals: dict[str, dict[str, Interval]] = field(default_factory=dict)
    differences: dict[tuple[str, str], dict[str, Interval]] = field(default_factory=dict)

    def sentences(self) -> list[str]:
        """One for the intervals, and one for each pair of models; of many, for those with the first alone."""
        means = [
            f"{model} " + ", ".join(f"{phrase(f)} {i.low:.3f} to {i.high:.3f}" for f, i in found.items())
            for model, found in self.intervals.items()
        ]
        sentences = [f"95 % intervals over images: {'; '.join(means)}."] if means else []
        many, first = len(self.intervals) > MOST, next(iter(self.intervals), None)
        for (one, other), found in self.differences.items():
            if many and one != first:
                continue
            parts = [
                f"{phrase(f)} {i.mean:+.3f} ({i.low:+.3f} to {i.high:+.3f}: "
                f"{'decided' if i.decided else 'not decided'})"
                for f, i in found.items()
            ]
            sentences.append(f"{one} minus {other}, image by image: {', '.join(parts)}.")
        if many:
            sentences.append("Differences between the others are in results.json.")
        return sentences


def certainty(records: Records, benchmark: str, models: list[str]) -> Certainty:
    """Intervals of the named models on one benchmark; of fewer than `FEWEST` images nothing is said."""
    rows = {model: records.of(benchmark, model) for model in models}
    values = {model: {f: _known(found, f) for f in WITH_INTERVALS} for model, found in rows.items()}
    weights = {model: {f: _weights(found, f) for f in WITH_INTERVALS} for model, found in rows.items()}
    intervals: dict[str, dict[str, Interval]] = {}
    for model in models:
        for metric, known in values[model].items():
            if len(known) >= FEWEST:
                found = interval(
                    np.array(list(known.values()), np.float64),
                    weights=np.array([weights[model][metric][key] for key in known], np.float64),
                )
                intervals.setdefault(model, {})[metric] = found
    differences = {}
    for one, other in combinations(intervals, 2):
        both = [f for f in intervals[one] if f in intervals[other]]
        differences[one, other] = {
            f: paired(values[one][f], values[other][f], weights=weights[one][f]) for f in both
        }
    return Certainty(intervals, differences)


def _known(rows: Mapping[int, Mapping[str, float]], metric: str) -> dict[str, float]:
    return {str(i): v[metric] for i, v in rows.items() if isfinite(v.get(metric, float("nan")))}


def _weights(rows: Mapping[int, Mapping[str, float]], metric: str) -> dict[str, float]:
    return {str(i): v.get(BY_NAME[metric].weight or "", 1.0) for i, v in rows.items()}
