"""Whether one of two rows is better, over the seeds that both were trained with."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student_t  # type: ignore[attr-defined]  # its stubs forget it

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Verdict:
    """The difference of two rows over their common seeds, worse minus better, and what it says."""

    mean: float
    low: float
    high: float
    seeds: int

    @property
    def word(self) -> str:
        """Agrees, disagrees, or undecided."""
        if self.low > 0:
            return "agrees"
        return "disagrees" if self.high < 0 else "undecided"


def verdict(better: Mapping[int, float], worse: Mapping[int, float]) -> Verdict:
    """Student's t interval of the paired differences over the seeds that both have.

    Args:
        better, worse: seed -> metric, of the rows that the claim calls so; lower is better.
    """
    shared = sorted(set(better) & set(worse))
    values = np.array([worse[s] - better[s] for s in shared])
    mean = float(values.mean()) if shared else float("nan")
    if len(shared) < 2:
        return Verdict(mean, float("-inf"), float("inf"), len(shared))
    half = float(
        student_t.ppf((1 + CONFIDENCE) / 2, len(shared) - 1) * values.std(ddof=1) / len(shared) ** 0.5
    )
    return Verdict(mean, mean - half, mean + half, len(shared))
