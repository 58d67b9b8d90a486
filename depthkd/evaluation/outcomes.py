"""What `depthkd test` learns of a benchmark under one protocol: metrics, pictures, remarks."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

import cv2
import numpy as np
from jaxtyping import Float
from torch import Tensor

from depthkd.batch import METRIC_DEPTH, DepthSpace
from depthkd.benchmarks.benchmark import Benchmark
from depthkd.benchmarks.protocol import Protocol
from depthkd.errors import UserError
from depthkd.evaluation.answers import Answers, WrongAnswerError
from depthkd.evaluation.certainty import Certainty
from depthkd.evaluation.provenance import MARK
from depthkd.evaluation.scoring import ahead, benchmark_fingerprint, fitted, truth_space
from depthkd.formats.sample import Sample
from depthkd.metrics.boundary import SMALLEST_DEPTH
from depthkd.metrics.catalogue import MetricSet
from depthkd.report.picks import SPREAD
from depthkd.report.pictures import SheetRow, metrics_caption

PDBE_NOTE = (
    "PDBE gives a map without an edge within 10 px of a true one 10 px (SharpDepth's rule), and completeness "
    "has no upper end: a constant can beat a model there, so read it beside accuracy and F1."
)
RECALL_NOTE = (
    "Boundary recall counts no false edges, so that noise alone can beat a model; and its ratios change with "
    "the offset that an affine model leaves open, because nothing is fitted."
)
RATIOS_OF = {
    "aligned": "the fitted depth",
    "raw": f"the raw prediction (of disparity its inverse, clipped at {SMALLEST_DEPTH:g})",
}
PICTURE_SIDE = 480  # px, the longer one; a sheet's cells are smaller still

Metrics = dict[str, dict[str, float]]  # row -> metric -> value


@dataclass
class Outcome:
    """What is known of one benchmark under one protocol so far.

    Args:
        title: the benchmark's name.
        benchmark: its samples.
        protocol: how they are scored.
        alone: whether the benchmark is scored under no other protocol.
        studies: sets of metrics besides those of the benchmark.
    """

    title: str
    benchmark: Benchmark
    protocol: Protocol
    alone: bool = True
    studies: tuple[MetricSet, ...] = ()
    metrics: Metrics = field(default_factory=dict)
    groups: dict[str, Metrics] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    run_at: dict[str, str] = field(default_factory=dict)  # row -> at which sizes, and whose preprocessing
    trivial: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    overlaps: dict[str, list[str]] = field(default_factory=dict)  # row -> why it is not zero-shot
    faults: dict[str, list[str]] = field(default_factory=dict)  # row -> sentences about answers
    doubts: dict[str, list[str]] = field(default_factory=dict)  # row -> whether its space is right
    cameras: dict[str, list[bool]] = field(default_factory=dict)  # row that takes them -> image has one
    unreadable: dict[int, str] = field(default_factory=dict)
    without_truth: dict[int, str] = field(default_factory=dict)
    ranges: dict[int, tuple[float, float]] = field(default_factory=dict)  # of depths outside the protocol's
    picks: dict[int, list[str]] = field(default_factory=dict)  # which samples are drawn, and why
    rows: dict[int, SheetRow] = field(default_factory=dict)
    certainty: Certainty = field(default_factory=Certainty)

    @property
    def name(self) -> str:
        """What results and tables call it."""
        return self.title if self.alone else f"{self.title} ({self.protocol.name})"

    @cached_property
    def data(self) -> str:
        """The benchmark's fingerprint."""
        return benchmark_fingerprint(self.benchmark)

    @property
    def identity(self) -> str:
        """What metrics depend on, besides the model."""
        return f"{self.protocol!r}; data {self.data}; metrics {', '.join(self.sets)}"

    @property
    def sets(self) -> tuple[MetricSet, ...]:
        """All sets of metrics that are computed."""
        suited = [s for s in self.studies if s is not MetricSet.WINDOWS or self.fitted]
        return (*self.benchmark.metrics, *suited)

    @property
    def fitted(self) -> bool:
        """Whether predictions are fitted to a truth at all."""
        return MetricSet.DEPTH in self.benchmark.metrics

    @property
    def how(self) -> str:
        """What stands beside the metrics."""
        sets, ratios_of = self.benchmark.metrics, RATIOS_OF[self.protocol.stand_in]
        recall = f"boundary recall of {ratios_of}, foreground where alpha is above 0.1"
        if self.fitted:
            edges = {MetricSet.EDGES: f"boundary F1 of {ratios_of}", MetricSet.MATTE: recall}
            return ", ".join([str(self.protocol), *(text for s, text in edges.items() if s in sets)])
        unfitted = {
            MetricSet.PAIRS: "pairs: the raw prediction at two points, no fit; a tie is wrong; the mean over "
            "all pairs",
            MetricSet.MATTE: f"mattes: {recall}, no fit",
        }
        return "; ".join([*(text for s, text in unfitted.items() if s in sets), self.protocol.run()])

    def check(self, name: str, space: DepthSpace, optional: bool) -> bool:
        """Whether the protocol can score a model; one that is optional and cannot be gets a note.

        Raises:
            UserError: it cannot, and the model is not optional.
        """
        if not self.fitted:
            return True
        try:
            self.protocol.check(space, truth_space(self.benchmark))
        except UserError as error:
            if not optional:
                raise UserError(f"model '{name}' on benchmark '{self.title}': {error}") from error
            self.notes.append(f"No row for {name}: {error}.")
            return False
        return True

    def has_truth(self) -> bool:
        """Whether its samples have depth that can become any quantity."""
        return self.fitted and truth_space(self.benchmark).invertible

    def label(self, row: str) -> str:
        """A row's name, marked if its metrics are not zero-shot."""
        return f"{row} {MARK}" if self.overlaps.get(row) else row

    @property
    def scored(self) -> Metrics:
        """The metrics of the rows that have any."""
        return {row: found for row, found in self.metrics.items() if found["images"]}

    @property
    def unscored(self) -> list[str]:
        """The models, besides trivial rows, of which nothing could be scored."""
        return [row for row in self.metrics if row not in self.scored and row not in self.trivial]

    def remarks(self) -> list[str]:
        """What has to be said about the metrics, besides how sure they are."""
        nothing = (
            "Nothing was scored here." if not self.scored else f"Not scored: {', '.join(self.unscored)}."
        )
        said = [nothing, *self.notes] if self.unscored else list(self.notes)
        if MetricSet.EDGES in self.benchmark.metrics and self.scored:
            said.append(PDBE_NOTE)
        if MetricSet.MATTE in self.benchmark.metrics and not self.fitted:
            said.append(RECALL_NOTE)
        for sentences in self.overlaps.values():
            said += [f"{MARK} not zero-shot: {sentence}" for sentence in sentences]
        for what, found in (
            ("could not be read", self.unreadable),
            ("had no valid truth", self.without_truth),
        ):
            if found:
                said.append(f"{_counted(len(found))} {what}, the first: {next(iter(found.values()))}.")
        if self.ranges:
            said.append(self._out_of_range())
        for sentences in self.faults.values():
            said.append(f"{_counted(len(sentences))} with a faulty answer, the first: {sentences[0]}.")
        said += [sentence for sentences in self.doubts.values() for sentence in sentences]
        return said + [camera_sentence(name, given) for name, given in self.cameras.items() if given]

    def _out_of_range(self) -> str:
        """Both ranges, of the truth and of the protocol, where they have no pixel in common."""
        low, high = min(a for a, _ in self.ranges.values()), max(b for _, b in self.ranges.values())
        unit = " m" if truth_space(self.benchmark) == METRIC_DEPTH else ""
        first, last = self.protocol.min_depth or 0, self.protocol.max_depth
        end = "infinity" if last is None else f"{last:g}{unit}"
        return (
            f"The depths of {len(self.ranges)} of them are {low:g} to {high:g}{unit}, all outside of what "
            f"the protocol counts, {first:g} to {end}: is the unit of the truth right?"
        )


def camera_sentence(name: str, given: list[bool]) -> str:
    """Whether a model that takes cameras was given them, image by image."""
    if all(given):
        return f"{name} was given the camera of every image."
    if not any(given):
        return f"{name} takes cameras, but none is known of these images: it was given none."
    return (
        f"{name} was given the cameras of {sum(given)} of {len(given)} images, and no camera for the others."
    )


def _counted(number: int) -> str:
    return "1 sample" if number == 1 else f"{number} samples"


def illustrate(outcome: Outcome, name: str, answers: Answers) -> None:
    """Ask a model once more for the samples that are drawn, and keep small copies.

    A model whose answers are none gets no picture: its metrics have said so.
    """
    space = answers.model.space
    for index, sample in ahead(outcome.benchmark, sorted(outcome.picks)):
        if not isinstance(sample, Sample):
            continue
        try:
            raw = answers(index, sample)
        except WrongAnswerError:
            return
        row = outcome.rows.get(index)
        if not outcome.fitted:
            if row is None:
                row = outcome.rows[index] = SheetRow(f"{outcome.name}: {sample.key}", small_image(sample))
            row.predictions[name], row.spaces[name] = small(raw), space
            continue
        one = fitted(raw, space, sample, outcome.protocol)
        if row is None:
            truth = small(one.true_depth(outcome.protocol))
            row = SheetRow(f"{outcome.name}: {sample.key}", small_image(sample), truth)
            outcome.rows[index] = row
        row.predictions[name], row.spaces[name] = small(one.aligned), METRIC_DEPTH
        row.captions[name] = metrics_caption(one.metrics(outcome.protocol))


def small_image(sample: Sample) -> np.ndarray:
    """A sample's image as pictures show it."""
    size = _small_size(*sample.image.shape[:2])
    return np.asarray(cv2.resize(sample.image, size, interpolation=cv2.INTER_AREA))


def small(depth: Float[Tensor, "1 height width"]) -> Float[np.ndarray, "small_height small_width"]:
    """A map as pictures show it. Nearest: a mean over an edge would be a depth that is nowhere."""
    size = _small_size(*depth.shape[1:])
    return np.asarray(cv2.resize(depth[0].cpu().numpy(), size, interpolation=cv2.INTER_NEAREST))


def _small_size(height: int, width: int) -> tuple[int, int]:
    scale = min(1.0, PICTURE_SIDE / max(height, width))
    return max(1, round(width * scale)), max(1, round(height * scale))


def sheet_rows(outcomes: Iterable[Outcome]) -> list[SheetRow]:
    """The samples of all benchmarks that are spread evenly, each benchmark under its first protocol."""
    shown: dict[str, Outcome] = {}
    for outcome in outcomes:
        shown.setdefault(outcome.title, outcome)
    return [row for o in shown.values() for i, row in o.rows.items() if SPREAD in o.picks[i]]
