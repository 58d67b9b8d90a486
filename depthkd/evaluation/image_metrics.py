"""The slow metrics, which take a CPU as long as the network takes a GPU: what they need of an image, and how
they are computed, in this process or in a worker."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64
from scipy.ndimage import distance_transform_edt  # type: ignore[attr-defined]  # its stubs forget it

from depthkd.batch import DepthSpace, Quantity
from depthkd.benchmarks.benchmark import Benchmark
from depthkd.benchmarks.protocol import Protocol
from depthkd.evaluation.scoring import Fitted
from depthkd.formats.sample import AnnotatedSample, Sample
from depthkd.metrics.boundary import SMALLEST_DEPTH, boundary_f1, boundary_recall
from depthkd.metrics.catalogue import BY_NAME, MetricSet, names_of
from depthkd.metrics.edges import boundary_errors, pseudo_boundary_errors
from depthkd.metrics.planarity import mean_plane_errors, plane_errors
from depthkd.shapes import DepthArray, MaskArray, OneMap

SLOW = (MetricSet.EDGES, MetricSet.ANNOTATED_EDGES, MetricSet.PLANES, MetricSet.MATTE)
UNFITTED = (MetricSet.MATTE,)  # can do without a truth


@dataclass
class ImageJob:
    """What the metrics of `SLOW` need of one image, to be sent to a worker process.

    Args:
        sets: which of them.
        stand_in: the depth that boundary ratios are taken of.
        fitted: aligned depth, dense true depth as the metrics' scripts want it, and where that was
            measured; None: there is no truth.
        intrinsics, edges, planes, normals, matte: the sample's, where it is annotated.
    """

    sets: tuple[MetricSet, ...]
    stand_in: DepthArray
    fitted: tuple[DepthArray, DepthArray, MaskArray] | None = None
    intrinsics: Float64[np.ndarray, "3 3"] | None = None
    edges: MaskArray | None = None
    planes: Bool[np.ndarray, "planes height width"] | None = None
    normals: Float64[np.ndarray, "planes 3"] | None = None
    matte: MaskArray | None = None


def image_metrics(job: ImageJob) -> dict[str, float]:
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


def broken_metrics(job: ImageJob) -> dict[str, float]:
    """The metrics of a job whose prediction is not finite: the worst of those that its image has."""
    fitted, planes = job.fitted, np.nan
    if fitted is not None:
        _, truth, valid = fitted
        planes = image_metrics(replace(job, sets=(MetricSet.PLANES,), fitted=(truth, truth, valid)))["planes"]
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


def image_sets(benchmark: Benchmark, sample: Sample) -> tuple[MetricSet, ...]:
    """The benchmark's metrics for worker processes, less those that lack the sample's truth."""
    possible = SLOW if sample.depth is not None else UNFITTED
    return tuple(one for one in possible if one in benchmark.metrics)


def image_job(
    one: Fitted | None,
    raw: OneMap,
    space: DepthSpace,
    sample: Sample,
    benchmark: Benchmark,
    protocol: Protocol,
) -> ImageJob | None:
    """What a worker process needs for the metrics of `image_sets`, if there are any.

    Args:
        one: the prediction fitted to the sample's truth; None: there is no truth.
        raw, space: the model's raw prediction.
        sample, benchmark, protocol: what it is compared with, and how.
    """
    sets = image_sets(benchmark, sample)
    if not sets:
        return None
    if one is None:
        job = ImageJob(sets, as_depth(raw, space))
    else:
        aligned = _array(one.aligned)
        stand_in = as_depth(raw, space) if protocol.stand_in == "raw" else aligned
        measured = torch.isfinite(one.true_depth(protocol))[0].cpu().numpy()
        job = ImageJob(sets, stand_in, (aligned, dense(one, protocol, benchmark), measured))
    job.intrinsics = sample.intrinsics
    if isinstance(sample, AnnotatedSample):
        job.edges, job.planes, job.normals = sample.edges, sample.planes, sample.normals
        job.matte = sample.matte
    return job


def as_depth(raw: OneMap, space: DepthSpace) -> Float32[np.ndarray, "height width"]:
    """A raw prediction in the place of depth: a disparity's inverse, clipped as Depth Pro's script does."""
    return _array(raw if space.quantity is Quantity.DEPTH else 1.0 / raw.clamp(min=SMALLEST_DEPTH))


def dense(one: Fitted, protocol: Protocol, benchmark: Benchmark) -> Float32[np.ndarray, "height width"]:
    """True depth without holes, for metrics that take no mask: cut at the protocol's largest depth, unless
    the benchmark says `edges_beyond_range`, and filled as its `unmeasured` says."""
    measured = (torch.isfinite(one.truth) & (one.truth > 0))[0].cpu().numpy()  # whatever the range and crop
    truth = np.where(measured, _array(one.truth), 1.0)
    depth = np.where(measured, truth if one.space.quantity is Quantity.DEPTH else 1.0 / truth, 0.0)
    end = None if benchmark.edges_beyond_range else protocol.max_depth
    largest = depth.max() if end is None else end
    depth = np.minimum(depth, largest).astype(np.float32)
    if benchmark.unmeasured == "nearest" and measured.any():
        rows, columns = distance_transform_edt(~measured, return_distances=False, return_indices=True)
        return np.asarray(depth[rows, columns])
    return np.where(measured, depth, np.float32(largest if benchmark.unmeasured == "far" else 0.0))


def _array(depth: OneMap) -> np.ndarray:
    return np.asarray(depth[0].float().cpu().numpy())
