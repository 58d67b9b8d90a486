"""One model on one benchmark, under one protocol or several: asked once, scored under each."""

import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, replace
from math import isnan, nan
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from depthkd.alignment import Fit
from depthkd.benchmarks.protocol import Protocol
from depthkd.evaluation.answers import (
    Answers,
    AnswersOfTruth,
    Inference,
    WrongAnswerError,
    answers_folder,
    says_nothing,
)
from depthkd.evaluation.doubts import doubts, fit_facts
from depthkd.evaluation.metrics import DIVISIONS, broken_metrics, means, pair_metrics
from depthkd.evaluation.outcomes import Outcome
from depthkd.evaluation.provenance import Provenance
from depthkd.evaluation.records import Records, Row
from depthkd.evaluation.scoring import Fitted, ahead, fitted, slow_job, study_windows
from depthkd.evaluation.workers import Workers
from depthkd.formats.sample import BadSample, Sample
from depthkd.metrics.catalogue import MetricSet
from depthkd.metrics.magnitude import output_magnitude
from depthkd.models.model import DepthModel
from depthkd.report.pictures import metrics_caption
from depthkd.resolution import size_range

WAITING = 4  # jobs a worker process may be behind

Map = Float[Tensor, "1 height width"]


@dataclass
class Subject:
    """A model that is tested.

    Args:
        name: what tables call it.
        model: on the device, in eval mode.
        weights: its identity.
        device: where it runs.
        provenance: what it was trained on.
        trivial: whether it is one of the rows that give the others their meaning.
        knows_truth: whether it is asked what it would answer if it knew the truth.
    """

    name: str
    model: DepthModel
    weights: str
    device: torch.device
    provenance: Provenance
    trivial: bool = False
    knows_truth: bool = False

    def knowing_truth(self) -> "Subject":
        """The row that no answer of this model can beat, because it passes an autoencoder."""
        name, weights = f"{self.name}, given the truth", f"{self.weights} given the truth"
        return replace(self, name=name, weights=weights, trivial=True, knows_truth=True)

    def answers(self, outcome: Outcome, seed: int, out: Path | None) -> Answers:
        """Its answers to a benchmark's images; kept below `out`, if that is given."""
        how = outcome.protocol
        keep = out is not None and not self.trivial
        kind = AnswersOfTruth if self.knows_truth else Answers
        return kind(
            self.model,
            Inference(how.resolution, how.scale, how.flip, seed),
            self.device,
            answers_folder(out, outcome.title, self.name) if keep and out is not None else None,
            f"model {self.weights}, data {outcome.data}",
        )


@dataclass
class Pending:
    """A sample's metrics, of which some are still being computed."""

    outcome: Outcome
    index: int
    row: Row
    slow: "Future[dict[str, float]] | None"

    def ready(self) -> bool:
        """Whether nothing has to be waited for."""
        return self.slow is None or self.slow.done()


def measure(
    subject: Subject,
    outcomes: list[Outcome],
    records: Records,
    workers: Workers,
    seed: int = 0,
    out: Path | None = None,
) -> None:
    """Score a model on a benchmark, but for the samples that `records` has already.

    Args:
        subject: the model.
        outcomes: the benchmark's, one a protocol; they get the metrics.
        records: of the folder of results.
        workers: for the metrics that take a processor's time.
        seed: of models that draw noise.
        out: keeps raw predictions below it, and takes up those that are there; None: neither.
    """
    benchmark, name = outcomes[0].benchmark, subject.name
    missing: dict[str, set[int]] = {}
    for outcome in outcomes:
        records.begin(outcome.name, name, f"{outcome.identity}; model {subject.weights}; seed {seed}")
        missing[outcome.name] = set(range(len(benchmark))) - set(records.rows(outcome.name, name))
    wanted = sorted(set().union(*missing.values()))
    known = len(benchmark) - len(wanted)
    answers = subject.answers(outcomes[0], seed, out)
    pending: deque[Pending] = deque()
    start = time.perf_counter()
    label = f"{name} on {outcomes[0].title}"
    samples = ahead(benchmark, wanted)
    for index, sample in tqdm(
        samples, desc=label, total=len(benchmark), initial=known, unit="image", disable=None
    ):
        if isinstance(sample, BadSample):
            for outcome in outcomes:
                outcome.unreadable[index] = str(sample)
            continue
        try:
            raw = answers(index, sample)
        except WrongAnswerError as error:
            said = f"{name} was not scored, because of '{sample.key}': {error}"
            for outcome in outcomes:
                outcome.faults.setdefault(name, []).append(said)
            break
        for outcome in outcomes:
            if index in missing[outcome.name]:
                pending.append(_judge(subject, outcome, index, sample, raw, workers))
        while pending and (pending[0].ready() or len(pending) > WAITING * workers.count):
            _finish(pending.popleft(), name, records)
    while pending:
        _finish(pending.popleft(), name, records)
    seconds = time.perf_counter() - start
    for outcome in outcomes:
        _sum_up(subject, outcome, records)
        outcome.seconds[name] = seconds
        before = f", {known} of them measured before" if known else ""
        if outcome.metrics[name]["images"]:
            metrics = outcome.metrics[name]
            caption = f"{metrics_caption(metrics)}, {int(metrics['images'])} images"
            print(f"{name} on {outcome.name}: {caption} in {seconds:.1f} s{before}")


def _judge(
    subject: Subject, outcome: Outcome, index: int, sample: Sample, raw: Map, workers: Workers
) -> Pending:
    """One sample under one protocol."""
    benchmark, space = outcome.benchmark, subject.model.space
    fault = "" if subject.trivial else _fault(subject.name, raw, sample, outcome.protocol)
    values: dict[str, float] = {}
    slow = None
    one = None if sample.depth is None else fitted(raw, space, sample, outcome.protocol)
    if one is not None:
        values |= one.metrics(outcome.protocol)
        values |= _facts(subject, outcome, raw, one, scored=not isnan(values["abs_rel"]))
        if MetricSet.WINDOWS in outcome.sets:
            values |= study_windows(raw, space, one, outcome.protocol, DIVISIONS)
    job = slow_job(one, raw, space, sample, benchmark, outcome.protocol)
    if job is not None and bool(torch.isfinite(raw).all()):
        slow = workers.submit(job)
    elif job is not None:
        values |= broken_metrics(job)
    if MetricSet.OUTPUT in outcome.sets:
        values |= {name: float(value) for name, value in output_magnitude(raw).items()}
    if MetricSet.PAIRS in benchmark.metrics:
        values |= pair_metrics(raw[0], space.quantity, sample)
    if subject.model.takes_camera:
        values["camera"] = float(sample.intrinsics is not None)
    row = Row(
        sample.key,
        values,
        benchmark.group(index) or "",
        subject.provenance.saw(sample.digest),
        fault,
        None if subject.knows_truth else _run_at(subject, outcome, sample),
    )
    return Pending(outcome, index, row, slow)


def _run_at(subject: Subject, outcome: Outcome, sample: Sample) -> tuple[int, int] | None:
    how, size = outcome.protocol, sample.image.shape
    return subject.model.runs_at(int(size[0]), int(size[1]), how.resolution, how.scale)


def _fault(name: str, raw: Map, sample: Sample, protocol: Protocol) -> str:
    """The sentence about an answer that says nothing; empty for one that does."""
    nothing = says_nothing(raw)
    if nothing is None:
        return ""
    costs = ""
    if not bool(torch.isfinite(raw).all()):
        costs = ", which count as an infinite error in each metric that needs them"
    elif protocol.fit is Fit.SCALE_AND_SHIFT:
        costs = ", so that its fit is the best constant"
    return f"{name} answers '{sample.key}' with {nothing}{costs}"


def _facts(subject: Subject, outcome: Outcome, raw: Map, one: Fitted, scored: bool) -> dict[str, float]:
    """What has to be known of a sample for the remarks under the table."""
    if scored:
        maps = (raw, subject.model.space, one.truth, one.space, one.mask)
        return {} if subject.trivial else fit_facts(*maps, outcome.protocol)
    depth = one.measured_depth()
    return {"truth_low": float(depth.min()), "truth_high": float(depth.max())} if depth.numel() else {}


def _finish(pending: Pending, name: str, records: Records) -> None:
    if pending.slow is not None:
        pending.row.values.update(pending.slow.result())
    records.add(pending.outcome.name, name, pending.index, pending.row)


def _sum_up(subject: Subject, outcome: Outcome, records: Records) -> None:
    """Means over images, and what has to be said about some of them."""
    name = subject.name
    rows = records.rows(outcome.name, name)
    outcome.metrics[name] = means(row.values for row in rows.values())
    for group in dict.fromkeys(row.group for row in rows.values()):
        if group:
            part = means(row.values for row in rows.values() if row.group == group)
            outcome.groups.setdefault(group, {})[name] = part
    if subject.trivial:
        outcome.trivial.append(name)
    sizes = size_range(row.run_at for row in rows.values())
    preprocessing = subject.model.preprocessing
    own = "" if preprocessing == DepthModel.preprocessing else f", {preprocessing}"
    outcome.run_at[name] = "-" if subject.trivial and sizes == "own" else f"{sizes}{own}"
    for index, row in rows.items():
        if row.fault:
            outcome.faults.setdefault(name, []).append(row.fault)
        if outcome.fitted and isnan(row.values.get("abs_rel", nan)):
            outcome.without_truth[index] = row.sample
            if "truth_low" in row.values:
                outcome.ranges[index] = row.values["truth_low"], row.values["truth_high"]
    images = sum(row.trained_on for row in rows.values())
    outcome.overlaps[name] = subject.provenance.sentences(name, outcome.benchmark.guarded_as, images)
    if not subject.trivial:
        _doubt(subject, outcome, [row.values for row in rows.values()])


def _doubt(subject: Subject, outcome: Outcome, rows: list[dict[str, float]]) -> None:
    """What is said of a model's space, and of the cameras that it was given."""
    if outcome.fitted:
        outcome.doubts[subject.name] = doubts(subject.name, rows, subject.model.space, outcome.protocol)
    if subject.model.takes_camera:
        outcome.cameras[subject.name] = [row.get("camera", 0.0) > 0 for row in rows]
