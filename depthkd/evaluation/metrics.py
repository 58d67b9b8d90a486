"""Which metrics a set holds, how those that need a processor's time are computed, and their means."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import isnan

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64

from depthkd.batch import Quantity
from depthkd.evaluation import doubts
from depthkd.formats.sample import AnnotatedSample, Sample
from depthkd.metrics.boundary import boundary_f1, boundary_recall
from depthkd.metrics.catalogue import BY_NAME, MetricSet, names_of
from depthkd.metrics.edges import boundary_errors, pseudo_boundary_errors
from depthkd.metrics.ordinal import closer_is_first
from depthkd.metrics.planarity import mean_plane_errors, plane_errors

Image = Float32[np.ndarray, "height width"]
Mask = Bool[np.ndarray, "height width"]

DIVISIONS = (2, 4)
FACTS = ("camera", "truth_low", "truth_high", *doubts.FACTS)  # beside the metrics of a sample, not averaged
SLOW = (MetricSet.EDGES, MetricSet.ANNOTATED_EDGES, MetricSet.PLANES, MetricSet.MATTE)
UNFITTED = (MetricSet.PAIRS, MetricSet.MATTE)  # can do without a truth


@dataclass
class SlowJob:
    """What the metrics of `SLOW` need of one image, to be sent to a worker process.

    Args:
        sets: which of them.
        stand_in: the depth that boundary ratios are taken of.
        fitted: aligned depth, dense true depth as the metrics' scripts want it, and where that was
            measured; None: there is no truth.
        intrinsics, edges, planes, normals, matte: the sample's, where it is annotated.
    """

    sets: tuple[MetricSet, ...]
    stand_in: Image
    fitted: tuple[Image, Image, Mask] | None = None
    intrinsics: Float64[np.ndarray, "3 3"] | None = None
    edges: Mask | None = None
    planes: Bool[np.ndarray, "planes height width"] | None = None
    normals: Float64[np.ndarray, "planes 3"] | None = None
    matte: Mask | None = None


def slow_metrics(job: SlowJob) -> dict[str, float]:
    """The metrics of a job; NaN where the sample lacks an annotation."""
    metrics = dict.fromkeys(names_of(job.sets), np.nan)
    if MetricSet.MATTE in job.sets and job.matte is not None:
        metrics["boundary_recall"] = boundary_recall(job.stand_in, job.matte)
    if job.fitted is None:
        return metrics
    prediction, truth, valid = job.fitted
    if MetricSet.EDGES in job.sets:
        metrics |= pseudo_boundary_errors(prediction, truth)
        metrics["boundary_f1"] = boundary_f1(job.stand_in, truth)
    if MetricSet.ANNOTATED_EDGES in job.sets and job.edges is not None:
        metrics |= boundary_errors(prediction, job.edges, "current")
        older = boundary_errors(prediction, job.edges, "paper")
        metrics |= {name.replace("dbe_", "dbe_paper_"): value for name, value in older.items()}
    planes, normals, camera = job.planes, job.normals, job.intrinsics
    if MetricSet.PLANES in job.sets and planes is not None and normals is not None and camera is not None:
        errors = plane_errors(prediction, truth, valid, planes, normals, camera)
        metrics |= mean_plane_errors(errors) | {"planes": float(len(errors))}
    return metrics


def broken_metrics(job: SlowJob) -> dict[str, float]:
    """The metrics of a job whose answer is not finite: the worst of those that its image has."""
    fitted, planes = job.fitted, np.nan
    if fitted is not None:
        _, truth, valid = fitted
        planes = slow_metrics(replace(job, sets=(MetricSet.PLANES,), fitted=(truth, truth, valid)))["planes"]
    there = {
        MetricSet.MATTE: job.matte is not None,
        MetricSet.EDGES: fitted is not None,
        MetricSet.ANNOTATED_EDGES: fitted is not None and job.edges is not None and bool(job.edges.any()),
        MetricSet.PLANES: planes > 0,
    }
    metrics = {
        name: BY_NAME[name].worst if there[one] else np.nan for one in job.sets for name in names_of([one])
    }
    return metrics | ({"planes": planes} if MetricSet.PLANES in job.sets else {})


def pair_metrics(prediction: torch.Tensor, quantity: Quantity, sample: Sample) -> dict[str, float]:
    """The share of pairs that the raw prediction [height, width] orders rightly, and their number."""
    if not isinstance(sample, AnnotatedSample) or sample.pairs is None or not len(sample.pairs):
        return {"pair_accuracy": float("nan"), "pairs": 0.0}
    points = torch.from_numpy(sample.pairs).to(prediction.device)
    right = closer_is_first(prediction, points[:, 0], points[:, 1], quantity)
    return {"pair_accuracy": float(right.double().mean()), "pairs": float(len(points))}


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
