"""Which figures a set holds, how those that need a processor's time are computed, and their means."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isnan

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64

from depthkd.batch import Quantity
from depthkd.benchmarks.benchmark import FigureSet
from depthkd.formats.sample import AnnotatedSample, Sample
from depthkd.metrics.boundary import boundary_f1
from depthkd.metrics.depth import FORMULAS
from depthkd.metrics.edges import boundary_errors, pseudo_boundary_errors
from depthkd.metrics.magnitude import NAMES as MAGNITUDE
from depthkd.metrics.ordinal import closer_is_first
from depthkd.metrics.planarity import planarity_errors
from depthkd.metrics.windows import window_names

Image = Float32[np.ndarray, "height width"]
Mask = Bool[np.ndarray, "height width"]

DIVISIONS = (2, 4)
NAMES: dict[FigureSet, tuple[str, ...]] = {
    FigureSet.DEPTH: tuple(FORMULAS),
    FigureSet.EDGES: ("pdbe_accuracy", "pdbe_completeness", "boundary_f1"),
    FigureSet.ANNOTATED_EDGES: (
        "dbe_accuracy",
        "dbe_completeness",
        "dbe_paper_accuracy",
        "dbe_paper_completeness",
    ),
    FigureSet.PLANES: ("planarity_flatness", "planarity_orientation"),
    FigureSet.PAIRS: ("pair_accuracy", "pairs"),
    FigureSet.WINDOWS: tuple(window_names(DIVISIONS)),
    FigureSet.OUTPUT: MAGNITUDE,
}
STUDIES = (FigureSet.WINDOWS, FigureSet.OUTPUT)  # on request
WEIGHTS = {"pair_accuracy": "pairs"}  # means over pairs, not over images
COUNTS = ("pairs",)  # summed
HIGHER_IS_BETTER = ("delta", "boundary_f1", "pair_accuracy")
SLOW = (FigureSet.EDGES, FigureSet.ANNOTATED_EDGES, FigureSet.PLANES)


def names_of(sets: Iterable[FigureSet]) -> list[str]:
    """The figures of some sets, in their order."""
    wanted = set(sets)
    return [name for figures, names in NAMES.items() if figures in wanted for name in names]


def higher_is_better(figure: str) -> bool:
    """Whether a larger value of the figure is the better one."""
    return figure.startswith(HIGHER_IS_BETTER)


def worst(figure: str) -> float:
    """What a broken prediction gets."""
    return 0.0 if higher_is_better(figure) else float("inf")


@dataclass
class SlowJob:
    """What the figures of `SLOW` need of one image, to be sent to a worker process.

    Args:
        sets: which of them.
        prediction: aligned depth.
        stand_in: what boundary ratios are taken of; None: the aligned depth.
        truth: dense true depth, as the metrics' scripts want it.
        valid: where the truth was measured.
        intrinsics, edges, planes, normals: the sample's, where it is annotated.
    """

    sets: tuple[FigureSet, ...]
    prediction: Image
    stand_in: Image | None
    truth: Image
    valid: Mask
    intrinsics: Float64[np.ndarray, "3 3"] | None = None
    edges: Mask | None = None
    planes: Bool[np.ndarray, "planes height width"] | None = None
    normals: Float64[np.ndarray, "planes 3"] | None = None


def slow_figures(job: SlowJob) -> dict[str, float]:
    """The figures of a job; NaN where the sample lacks an annotation."""
    figures = dict.fromkeys(names_of(job.sets), np.nan)
    if FigureSet.EDGES in job.sets:
        figures |= pseudo_boundary_errors(job.prediction, job.truth)
        ratios_of = job.prediction if job.stand_in is None else job.stand_in
        figures["boundary_f1"] = boundary_f1(ratios_of, job.truth)
    if FigureSet.ANNOTATED_EDGES in job.sets and job.edges is not None:
        figures |= boundary_errors(job.prediction, job.edges, "current")
        older = boundary_errors(job.prediction, job.edges, "paper")
        figures |= {name.replace("dbe_", "dbe_paper_"): value for name, value in older.items()}
    planes, normals, camera = job.planes, job.normals, job.intrinsics
    if FigureSet.PLANES in job.sets and planes is not None and normals is not None and camera is not None:
        figures |= planarity_errors(job.prediction, job.truth, job.valid, planes, normals, camera)
    return figures


def pair_figures(prediction: torch.Tensor, quantity: Quantity, sample: Sample) -> dict[str, float]:
    """The share of pairs that the raw prediction [height, width] orders rightly, and their number."""
    if not isinstance(sample, AnnotatedSample) or sample.pairs is None or not len(sample.pairs):
        return {"pair_accuracy": float("nan"), "pairs": 0.0}
    points = torch.from_numpy(sample.pairs).to(prediction.device)
    right = closer_is_first(prediction, points[:, 0], points[:, 1], quantity)
    return {"pair_accuracy": float(right.double().mean()), "pairs": float(len(points))}


def means(rows: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The mean of every figure over the images that have it, and "images": over how many there is any.

    Shares of pairs are weighted by their numbers, and these summed, so that all pairs count alike.
    """
    rows = list(rows)
    names = list(dict.fromkeys(name for row in rows for name in row))
    found: dict[str, float] = {}
    for name in names:
        known = [row for row in rows if not isnan(row.get(name, float("nan")))]
        weight = [row[WEIGHTS[name]] if name in WEIGHTS else 1.0 for row in known]
        values = [row[name] for row in known]
        if name in COUNTS:
            found[name] = sum(values)
        else:
            found[name] = float(np.average(values, weights=weight)) if sum(weight) else float("nan")
    measured = [row for row in rows if any(not isnan(v) for n, v in row.items() if n not in COUNTS)]
    return found | {"images": float(len(measured))}
