"""One benchmark under one protocol."""

from dataclasses import dataclass
from functools import cached_property

from depthkd.batch import DepthSpace
from depthkd.benchmarks.benchmark import Benchmark
from depthkd.benchmarks.protocol import Protocol
from depthkd.errors import UserError
from depthkd.evaluation.identity import benchmark_fingerprint
from depthkd.evaluation.reading import truth_space
from depthkd.evaluation.scoring import Fitted
from depthkd.metrics.boundary import SMALLEST_DEPTH
from depthkd.metrics.catalogue import MetricSet

RATIOS_OF = {
    "aligned": "the fitted depth",
    "raw": f"the raw prediction (of disparity its inverse, clipped at {SMALLEST_DEPTH:g})",
}


@dataclass(frozen=True)
class Task:
    """What a model is scored on, and how.

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

    @property
    def name(self) -> str:
        """What results and tables call it."""
        return self.title if self.alone else f"{self.title} ({self.protocol.name})"

    @cached_property
    def data(self) -> str:
        """The benchmark's fingerprint."""
        return benchmark_fingerprint(self.benchmark)

    @cached_property
    def truth_space(self) -> DepthSpace:
        """The space of the benchmark's truth.

        Raises:
            UserError: no sample can be read.
        """
        try:
            return truth_space(self.benchmark)
        except UserError as error:
            raise UserError(f"benchmark '{self.title}': {error}") from error

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
    def completion(self) -> bool:
        """Whether models are given sparse depth, and have to complete it."""
        return MetricSet.COMPLETION in self.benchmark.metrics

    @property
    def description(self) -> str:
        """What stands beside the metrics."""
        sets, ratios_of = self.benchmark.metrics, RATIOS_OF[self.protocol.stand_in]
        recall = f"boundary recall of {ratios_of}, foreground where alpha is above 0.1"
        if self.fitted:
            edges = {MetricSet.EDGES: f"boundary F1 of {ratios_of}", MetricSet.MATTE: recall}
            edges |= {MetricSet.COMPLETION: self._of_completion}
            return ", ".join([str(self.protocol), *(text for s, text in edges.items() if s in sets)])
        unfitted = {
            MetricSet.PAIRS: "pairs: the raw prediction at two points, no fit; a tie is wrong; the mean over "
            "all pairs",
            MetricSet.MATTE: f"mattes: {recall}, no fit",
        }
        return "; ".join([*(text for s, text in unfitted.items() if s in sets), self.protocol.run()])

    def metrics(self, one: Fitted) -> dict[str, float]:
        """The metrics per pixel of one fitted prediction."""
        if self.completion:
            return one.completion_metrics(self.protocol, self.benchmark.units)
        return one.metrics(self.protocol)

    @property
    def _of_completion(self) -> str:
        meters, inverse = {"m": ("m", "1/m"), "mm": ("mm", "1/km")}[self.benchmark.units]
        given = "no sparse depth" if self.benchmark.pattern is None else self.benchmark.pattern
        return f"models are given {given}, RMSE and MAE in {meters}, iRMSE and iMAE in {inverse}"

    def refusal(self, name: str, space: DepthSpace, optional: bool) -> str | None:
        """The note about a model that the protocol cannot score, where that is optional; None: it can.

        Raises:
            UserError: it cannot, and the model is not optional; or the benchmark cannot be read.
        """
        if not self.fitted:
            return None
        truth = self.truth_space
        try:
            self.protocol.check(space, truth)
        except UserError as error:
            if self.completion:
                return f"No row for {name}, which predicts {space}: nothing is fitted here but to the points."
            if not optional:
                raise UserError(f"model '{name}' on benchmark '{self.title}': {error}") from error
            return f"No row for {name}: {error}."
        return None

    def has_truth(self) -> bool:
        """Whether its samples have depth that can become any quantity."""
        return self.fitted and self.truth_space.invertible
