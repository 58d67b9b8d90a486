"""Which figures of a benchmark are decided: intervals of the models, and of the differences between them."""

from dataclasses import dataclass, field
from itertools import combinations
from math import isfinite

import numpy as np

from depthkd.report.bootstrap import Interval, interval, paired
from depthkd.report.records import Records

FEWEST = 8  # images: with fewer, all differences of one sign would often be chance
FIGURES = {"abs_rel": "AbsRel", "delta1": "δ1"}


@dataclass(frozen=True)
class Certainty:
    """What the images of one benchmark can say.

    Args:
        intervals: model -> figure -> its mean and 95 % interval over images.
        differences: (model, other model) -> figure -> the paired difference.
    """

    intervals: dict[str, dict[str, Interval]] = field(default_factory=dict)
    differences: dict[tuple[str, str], dict[str, Interval]] = field(default_factory=dict)

    def sentences(self) -> list[str]:
        """One for the intervals, and one for each pair of models."""
        means = [
            f"{model} " + ", ".join(f"{FIGURES[f]} {i.low:.3f} to {i.high:.3f}" for f, i in found.items())
            for model, found in self.intervals.items()
        ]
        said = [f"95 % intervals over images: {'; '.join(means)}."] if means else []
        for (one, other), found in self.differences.items():
            parts = [
                f"{FIGURES[f]} {i.mean:+.3f} ({i.low:+.3f} to {i.high:+.3f}: "
                f"{'decided' if i.decided else 'not decided'})"
                for f, i in found.items()
            ]
            said.append(f"{one} minus {other}, image by image: {', '.join(parts)}.")
        return said


def certainty(records: Records, benchmark: str, models: list[str]) -> Certainty:
    """Intervals of the named models on one benchmark; of fewer than `FEWEST` images nothing is said."""
    values = {
        model: {
            figure: {
                str(i): v[figure] for i, v in records.of(benchmark, model).items() if isfinite(v[figure])
            }
            for figure in FIGURES
        }
        for model in models
    }
    enough = [model for model in models if all(len(v) >= FEWEST for v in values[model].values())]
    intervals = {
        m: {f: interval(np.array(list(v.values()), dtype=np.float64)) for f, v in values[m].items()}
        for m in enough
    }
    differences = {
        (one, other): {f: paired(values[one][f], values[other][f]) for f in FIGURES}
        for one, other in combinations(enough, 2)
    }
    return Certainty(intervals, differences)
