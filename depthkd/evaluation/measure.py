"""One model on one benchmark, under one protocol or several: run once, scored under each."""

import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from math import isnan, nan
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from depthkd.alignment import Fit
from depthkd.benchmarks.protocol import Protocol
from depthkd.evaluation.doubts import doubts, fit_facts
from depthkd.evaluation.honest_rows import PICTURED
from depthkd.evaluation.image_metrics import broken_metrics, image_job
from depthkd.evaluation.means import means
from depthkd.evaluation.provenance import Provenance
from depthkd.evaluation.raw_predictions import RawPredictions, TruthThroughCodec, predictions_folder
from depthkd.evaluation.reading import ahead
from depthkd.evaluation.records import Records, SampleRecord
from depthkd.evaluation.rows import given_truth
from depthkd.evaluation.scoring import DIVISIONS, Fitted, fitted, pair_metrics, study_windows
from depthkd.evaluation.task import Task
from depthkd.evaluation.workers import Workers
from depthkd.formats.sample import BadSample, Sample
from depthkd.metrics.catalogue import MetricSet
from depthkd.metrics.magnitude import output_magnitude
from depthkd.models.inference import Inference, UnansweredError, WrongPredictionError, says_nothing
from depthkd.models.model import DepthModel
from depthkd.report.pictures import metrics_caption
from depthkd.resolution import size_range
from depthkd.shapes import OneMap

WAITING = 4  # jobs a worker process may be behind

Means = dict[str, float]  # metric -> mean over images


@dataclass(frozen=True)
class EvaluatedModel:
    """A model that is tested.

    Args:
        name: what tables call it.
        model: on the device, in eval mode.
        weights: its identity.
        device: where it runs.
        provenance: what it was trained on.
        trivial: whether it is one of the rows that give the others their meaning.
        knows_truth: whether it predicts the truth, passed through its autoencoder.
        completes: whether it is a row of benchmarks of depth completion alone.
    """

    name: str
    model: DepthModel
    weights: str
    device: torch.device
    provenance: Provenance
    trivial: bool = False
    knows_truth: bool = False
    completes: bool = False

    def suits(self, task: Task) -> bool:
        """Whether it is asked on a benchmark: trivial rows that need a fit say nothing of completed depth."""
        return not self.completes if not task.completion else self.completes or not self.trivial

    @property
    def pictured(self) -> bool:
        """Whether reports show pictures of its predictions."""
        return not self.trivial or (self.completes and self.name.endswith(PICTURED))

    def knowing_truth(self) -> "EvaluatedModel":
        """The truth through the model's autoencoder: a row that no prediction of the model can beat."""
        name, weights = given_truth(self.name), f"{self.weights} given the truth"
        return replace(self, name=name, weights=weights, trivial=True, knows_truth=True)

    def predictions(self, task: Task, seed: int, out: Path | None) -> RawPredictions:
        """Its raw predictions for a benchmark's images; kept below `out`, if that is given."""
        how = task.protocol
        keep = out is not None and not self.trivial
        kind = TruthThroughCodec if self.knows_truth else RawPredictions
        return kind(
            self.model,
            Inference(how.resolution, how.scale, how.flip, seed, how.scales),
            self.device,
            predictions_folder(out, task.title, self.name) if keep and out is not None else None,
            f"model {self.weights}, data {task.data}",
        )

    def runs_at(self, task: Task, sample: Sample) -> tuple[int, int] | None:
        """Height and width at which it runs on a sample; None: only it knows, or it looks at nothing."""
        how, size = task.protocol, sample.image.shape
        if self.knows_truth:
            return None
        return self.model.runs_at(int(size[0]), int(size[1]), how.resolution, how.scale)


@dataclass(frozen=True)
class Measured:
    """One model on one benchmark under one protocol, as tables want it.

    Args:
        metrics: their means over images, and "images": over how many.
        groups: part of the benchmark -> the same over its images.
        seconds: that it took, apart from what was measured before.
        run_at: the sizes at which the model ran, and whose preprocessing it took, in words.
        overlaps: sentences: why it is not zero-shot.
        faults: sentences about predictions that say nothing.
        doubts: sentences: whether its space is right.
        cameras: of a model that takes cameras, whether each image has one; None of the others.
        unreadable: index -> why a sample could not be read.
        unanswered: index -> why the model has no depth for a sample with so few points.
        without_truth: index -> the sample, of those without valid truth.
        ranges: index -> the depths of one of these, where all are outside of the protocol's range.
    """

    metrics: Means
    groups: dict[str, Means]
    seconds: float
    run_at: str
    overlaps: list[str]
    faults: list[str]
    doubts: list[str]
    cameras: list[bool] | None
    unreadable: dict[int, str]
    unanswered: dict[int, str]
    without_truth: dict[int, str]
    ranges: dict[int, tuple[float, float]]


@dataclass(frozen=True)
class RunFacts:
    """What running a model on a benchmark's samples has shown, besides the metrics in the records.

    Args:
        seconds: that it took.
        known: how many samples had been measured before.
        unreadable: index -> why a sample could not be read.
        wrong: the sentence about a model that does not answer with maps.
        unanswered: index -> why the model has no depth for a sample with so few points.
    """

    seconds: float
    known: int
    unreadable: dict[int, str] = field(default_factory=dict)
    wrong: str | None = None
    unanswered: dict[int, str] = field(default_factory=dict)


@dataclass
class Pending:
    """A sample's metrics, of which some are still being computed."""

    task: Task
    index: int
    record: SampleRecord
    slow: "Future[dict[str, float]] | None"

    def ready(self) -> bool:
        """Whether nothing has to be waited for."""
        return self.slow is None or self.slow.done()


def measure(
    model: EvaluatedModel,
    tasks: list[Task],
    records: Records,
    workers: Workers,
    seed: int = 0,
    out: Path | None = None,
) -> list[Measured]:
    """Score a model on a benchmark, but for the samples that `records` has already.

    Args:
        model: which.
        tasks: the benchmark's, one a protocol.
        records: of the folder of results; it gets every sample's metrics.
        workers: for the metrics that take a processor's time.
        seed: of models that draw noise.
        out: keeps raw predictions below it, and takes up those that are there; None: neither.

    Returns:
        What was measured, in the order of the tasks.
    """
    ran = _ask(model, tasks, records, workers, seed, out)
    found = [_summed_up(model, task, records, ran) for task in tasks]
    before = f", {ran.known} of them measured before" if ran.known else ""
    for task, measured in zip(tasks, found, strict=True):
        if measured.metrics["images"]:
            caption = f"{metrics_caption(measured.metrics)}, {int(measured.metrics['images'])} images"
            print(f"{model.name} on {task.name}: {caption} in {ran.seconds:.1f} s{before}")
    return found


def _ask(
    model: EvaluatedModel,
    tasks: list[Task],
    records: Records,
    workers: Workers,
    seed: int,
    out: Path | None,
) -> RunFacts:
    """Run the model on the samples that the records lack; arguments as in `measure`."""
    benchmark, name = tasks[0].benchmark, model.name
    missing: dict[str, set[int]] = {}
    for task in tasks:
        records.begin(task.name, name, f"{task.identity}; model {model.weights}; seed {seed}")
        missing[task.name] = set(range(len(benchmark))) - set(records.rows(task.name, name))
    wanted = sorted(set().union(*missing.values()))
    known = len(benchmark) - len(wanted)
    predictions = model.predictions(tasks[0], seed, out)
    pending: deque[Pending] = deque()
    unreadable: dict[int, str] = {}
    unanswered: dict[int, str] = {}
    wrong = None
    start = time.perf_counter()
    samples = ahead(benchmark, wanted)
    label = f"{name} on {tasks[0].title}"
    for index, sample in tqdm(
        samples, desc=label, total=len(benchmark), initial=known, unit="image", disable=None
    ):
        if isinstance(sample, BadSample):
            unreadable[index] = str(sample)
            continue
        try:
            raw = predictions(index, sample)
        except UnansweredError as error:
            unanswered[index] = f"'{sample.key}': {error}"
            continue
        except WrongPredictionError as error:
            wrong = f"{name} was not scored, because of '{sample.key}': {error}"
            break
        for task in tasks:
            if index in missing[task.name]:
                pending.append(_judge(model, task, index, sample, raw, workers))
        while pending and (pending[0].ready() or len(pending) > WAITING * workers.count):
            _finish(pending.popleft(), name, records)
    while pending:
        _finish(pending.popleft(), name, records)
    return RunFacts(time.perf_counter() - start, known, unreadable, wrong, unanswered)


def _judge(
    model: EvaluatedModel, task: Task, index: int, sample: Sample, raw: OneMap, workers: Workers
) -> Pending:
    """One sample under one protocol."""
    benchmark, space = task.benchmark, model.model.space
    fault = "" if model.trivial else _fault(model.name, raw, sample, task.protocol)
    values: dict[str, float] = {}
    slow = None
    one = None if sample.depth is None else fitted(raw, space, sample, task.protocol)
    if one is not None:
        values |= task.metrics(one)
        values |= _facts(model, task, raw, one, scored=not isnan(values["abs_rel"]))
        if MetricSet.WINDOWS in task.sets:
            values |= study_windows(raw, space, one, task.protocol, DIVISIONS)
    job = image_job(one, raw, space, sample, benchmark, task.protocol)
    if job is not None and bool(torch.isfinite(raw).all()):
        slow = workers.submit(job)
    elif job is not None:
        values |= broken_metrics(job)
    if MetricSet.OUTPUT in task.sets:
        values |= {name: float(value) for name, value in output_magnitude(raw).items()}
    if MetricSet.PAIRS in benchmark.metrics:
        values |= pair_metrics(raw[0], space.quantity, sample)
    if model.model.takes_camera:
        values["camera"] = float(sample.intrinsics is not None)
    record = SampleRecord(
        sample.key,
        values,
        benchmark.group(index) or "",
        model.provenance.saw(sample.digest),
        fault,
        model.runs_at(task, sample),
    )
    return Pending(task, index, record, slow)


def _fault(name: str, raw: OneMap, sample: Sample, protocol: Protocol) -> str:
    """The sentence about a prediction that says nothing; empty for one that does."""
    nothing = says_nothing(raw)
    finite = bool(torch.isfinite(raw).all())
    few_points = sample.sparse is not None and np.count_nonzero(sample.sparse) < 2  # one depth completes them
    if nothing is None or (finite and few_points):
        return ""
    costs = ""
    if not finite:
        costs = ", which count as an infinite error in each metric that needs them"
    elif protocol.fit is Fit.SCALE_AND_SHIFT:
        costs = ", so that its fit is the best constant"
    return f"{name} answers '{sample.key}' with {nothing}{costs}"


def _facts(model: EvaluatedModel, task: Task, raw: OneMap, one: Fitted, scored: bool) -> dict[str, float]:
    """What has to be known of a sample for the remarks under the table."""
    if scored:
        maps = (raw, model.model.space, one.truth, one.space, one.mask)
        return {} if model.trivial else fit_facts(*maps, task.protocol)
    depth = one.measured_depth()
    return {"truth_low": float(depth.min()), "truth_high": float(depth.max())} if depth.numel() else {}


def _finish(pending: Pending, name: str, records: Records) -> None:
    if pending.slow is not None:
        pending.record.values.update(pending.slow.result())
    records.add(pending.task.name, name, pending.index, pending.record)


def _summed_up(model: EvaluatedModel, task: Task, records: Records, ran: RunFacts) -> Measured:
    """Means over images, and what has to be said about some of them."""
    name = model.name
    rows = records.rows(task.name, name)
    values = [row.values for row in rows.values()]
    sizes = size_range(row.run_at for row in rows.values())
    preprocessing = model.model.preprocessing
    own = "" if preprocessing == DepthModel.preprocessing else f", {preprocessing}"
    untrue = {i: r for i, r in rows.items() if task.fitted and isnan(r.values.get("abs_rel", nan))}
    doubtful = task.fitted and not model.trivial
    return Measured(
        metrics=means(values),
        groups={
            group: means(row.values for row in rows.values() if row.group == group)
            for group in dict.fromkeys(row.group for row in rows.values())
            if group
        },
        seconds=ran.seconds,
        run_at="-" if model.trivial and sizes == "own" else f"{sizes}{own}",
        overlaps=model.provenance.sentences(
            name, task.benchmark.guarded_as, sum(row.trained_on for row in rows.values())
        ),
        faults=[*([ran.wrong] if ran.wrong else []), *(r.fault for r in rows.values() if r.fault)],
        doubts=doubts(name, values, model.model.space, task.protocol) if doubtful else [],
        cameras=(
            [row.get("camera", 0.0) > 0 for row in values]
            if model.model.takes_camera and not model.trivial
            else None
        ),
        unreadable=ran.unreadable,
        unanswered=ran.unanswered,
        without_truth={index: row.sample for index, row in untrue.items()},
        ranges={
            index: (row.values["truth_low"], row.values["truth_high"])
            for index, row in untrue.items()
            if "truth_low" in row.values
        },
    )
