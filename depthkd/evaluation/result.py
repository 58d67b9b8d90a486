"""What `depthkd test` has learned of a benchmark under one protocol: metrics, pictures, remarks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from depthkd.batch import METRIC_DEPTH, DepthSpace
from depthkd.cost.cost import Cost
from depthkd.evaluation.certainty import Certainty
from depthkd.evaluation.drawing import Drawings, sheet_rows
from depthkd.evaluation.measure import Means, Measured
from depthkd.evaluation.provenance import MARK
from depthkd.evaluation.task import Task
from depthkd.metrics.catalogue import MetricSet
from depthkd.report.pictures import SheetRow

PDBE_NOTE = (
    "PDBE gives a map without an edge within 10 px of a true one 10 px (SharpDepth's rule), and completeness "
    "has no upper end: a constant can beat a model there, so read it beside accuracy and F1."
)
RECALL_NOTE = (
    "Boundary recall counts no false edges, so that noise alone can beat a model; and its ratios change with "
    "the offset that an affine model leaves open, because nothing is fitted."
)

Metrics = dict[str, Means]  # row -> metric -> mean


@dataclass(frozen=True)
class ModelResult:
    """One row of the tables, on all benchmarks.

    Args:
        name: the row's.
        trivial: whether it is one of the rows that give the others their meaning.
        about: what results.json says of the model.
        space: of its predictions.
        measured: task -> what was measured.
        notes: task -> sentences for under its table.
        drawn: task -> pictures.
        photographs: pictures without truth.
        costs: task -> what the model costs, where that is asked for.
    """

    name: str
    trivial: bool
    about: Mapping[str, object]
    space: DepthSpace
    measured: Mapping[str, Measured]
    notes: Mapping[str, list[str]]
    drawn: Mapping[str, Drawings] = field(default_factory=dict)
    photographs: Drawings = field(default_factory=dict)
    costs: Mapping[str, Cost] = field(default_factory=dict)


@dataclass(frozen=True)
class BenchmarkResult:
    """One benchmark under one protocol.

    Args:
        task: which.
        models: all that was tested, in order, be it on this benchmark or not.
        certainty: which metrics are decided.
    """

    task: Task
    models: tuple[ModelResult, ...]
    certainty: Certainty = field(default_factory=Certainty)

    @property
    def name(self) -> str:
        """What results and tables call it."""
        return self.task.name

    @cached_property
    def measured(self) -> dict[str, Measured]:
        """Row -> what was measured here."""
        return {m.name: m.measured[self.name] for m in self.models if self.name in m.measured}

    @cached_property
    def trivial(self) -> list[str]:
        """The rows that are no models."""
        return [model.name for model in self.models if model.trivial and model.name in self.measured]

    @property
    def metrics(self) -> Metrics:
        """Row -> means over images."""
        return {row: found.metrics for row, found in self.measured.items()}

    @property
    def groups(self) -> dict[str, Metrics]:
        """Part of the benchmark -> row -> means over its images."""
        names = dict.fromkeys(group for found in self.measured.values() for group in found.groups)
        return {
            group: {row: m.groups[group] for row, m in self.measured.items() if group in m.groups}
            for group in names
        }

    @property
    def run_at(self) -> dict[str, str]:
        """Row -> the sizes at which it ran, in words."""
        return {row: found.run_at for row, found in self.measured.items()}

    @property
    def costs(self) -> dict[str, Cost]:
        """Row -> what it costs, where that is asked for."""
        return {model.name: model.costs[self.name] for model in self.models if self.name in model.costs}

    @property
    def notes(self) -> list[str]:
        """Sentences about rows that are missing or unfinished."""
        return [note for model in self.models for note in model.notes.get(self.name, ())]

    @cached_property
    def unreadable(self) -> dict[int, str]:
        """Index -> why a sample could not be read."""
        return {index: why for found in self.measured.values() for index, why in found.unreadable.items()}

    @cached_property
    def without_truth(self) -> dict[int, str]:
        """Index -> sample, of those without valid truth."""
        return {i: sample for found in self.measured.values() for i, sample in found.without_truth.items()}

    @cached_property
    def faults(self) -> dict[str, list[str]]:
        """Row -> sentences about predictions that say nothing."""
        return {row: found.faults for row, found in self.measured.items() if found.faults}

    @cached_property
    def cameras(self) -> dict[str, list[bool]]:
        """Row that takes cameras -> whether each image has one."""
        return {row: found.cameras for row, found in self.measured.items() if found.cameras is not None}

    @property
    def pictures(self) -> dict[int, SheetRow]:
        """The samples that are drawn."""
        return sheet_rows((model.name, model.drawn.get(self.name, {})) for model in self.models)

    @property
    def picks(self) -> dict[int, list[str]]:
        """Which samples are drawn, and why."""
        drawn = [model.drawn[self.name] for model in self.models if self.name in model.drawn]
        return {index: one.why for several in reversed(drawn) for index, one in several.items()}

    def label(self, row: str) -> str:
        """A row's name, marked if its metrics are not zero-shot."""
        return f"{row} {MARK}" if row in self.measured and self.measured[row].overlaps else row

    @property
    def scored(self) -> Metrics:
        """The metrics of the rows that have any."""
        return {row: found for row, found in self.metrics.items() if found["images"]}

    @property
    def unscored(self) -> list[str]:
        """The models, besides trivial rows, of which nothing could be scored."""
        return [row for row in self.measured if row not in self.scored and row not in self.trivial]

    @property
    def unanswered(self) -> dict[str, dict[int, str]]:
        """Row -> index -> why it has no depth for a sample with so few measured points."""
        return {row: found.unanswered for row, found in self.measured.items() if found.unanswered}

    def remarks(self) -> list[str]:
        """What has to be said about the metrics, besides how sure they are."""
        nothing = (
            "Nothing was scored here." if not self.scored else f"Not scored: {', '.join(self.unscored)}."
        )
        sentences = [nothing, *self.notes] if self.unscored else list(self.notes)
        if MetricSet.EDGES in self.task.benchmark.metrics and self.scored:
            sentences.append(PDBE_NOTE)
        if MetricSet.MATTE in self.task.benchmark.metrics and not self.task.fitted:
            sentences.append(RECALL_NOTE)
        for found in self.measured.values():
            sentences += [f"{MARK} not zero-shot: {overlap}" for overlap in found.overlaps]
        for what, samples in (
            ("could not be read", self.unreadable),
            ("had no valid truth", self.without_truth),
        ):
            if samples:
                first = next(iter(samples.values()))
                sentences.append(f"{_counted(len(samples))} {what}, the first: {first}.")
        ranges = {index: depths for m in self.measured.values() for index, depths in m.ranges.items()}
        if ranges:
            sentences.append(self._out_of_range(ranges))
        for row, why in self.unanswered.items():
            first = next(iter(why.values()))
            sentences.append(f"{row} has no depth for {_counted(len(why))}, the first {first}.")
        for faults in self.faults.values():
            sentences.append(f"{_counted(len(faults))} with a faulty prediction, the first: {faults[0]}.")
        sentences += [doubt for found in self.measured.values() for doubt in found.doubts]
        return sentences + [camera_sentence(name, known) for name, known in self.cameras.items() if known]

    def _out_of_range(self, ranges: Mapping[int, tuple[float, float]]) -> str:
        """Both ranges, of the truth and of the protocol, where they have no pixel in common."""
        low, high = min(a for a, _ in ranges.values()), max(b for _, b in ranges.values())
        protocol = self.task.protocol
        unit = " m" if self.task.truth_space == METRIC_DEPTH else ""
        first, last = protocol.min_depth or 0, protocol.max_depth
        end = "infinity" if last is None else f"{last:g}{unit}"
        return (
            f"The depths of {len(ranges)} of them are {low:g} to {high:g}{unit}, all outside of what "
            f"the protocol counts, {first:g} to {end}: is the unit of the truth right?"
        )


def camera_sentence(name: str, known: list[bool]) -> str:
    """Whether a model that takes cameras was given them, image by image."""
    if all(known):
        return f"{name} was given the camera of every image."
    if not any(known):
        return f"{name} takes cameras, but none is known of these images: it was given none."
    return (
        f"{name} was given the cameras of {sum(known)} of {len(known)} images, and no camera for the others."
    )


def _counted(number: int) -> str:
    return "1 sample" if number == 1 else f"{number} samples"
