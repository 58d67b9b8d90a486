"""What a config says that its models should reach, checked against the metrics that came out."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from depthkd.errors import UserError

Metrics = Mapping[str, Mapping[str, Mapping[str, float]]]  # benchmark -> row -> metric


@dataclass(frozen=True)
class Claim:
    """One row's metric, as a multiple of another row's on the same benchmark.

    Attributes:
        row: whose metric it is, as the table names it.
        benchmark: on which benchmark.
        at_most: the largest multiple that meets the claim.
        of: the row that it is a multiple of.
        metric: which one; lower is better.
    """

    row: str
    benchmark: str
    at_most: float
    of: str
    metric: str = "abs_rel"

    def check(self, benchmarks: Collection[str], rows: Collection[str]) -> None:
        """See that both rows will be there.

        Raises:
            UserError: one will not, or the benchmark will not.
        """
        for what, name, there in (
            ("benchmark", self.benchmark, benchmarks),
            ("row", self.row, rows),
            ("row", self.of, rows),
        ):
            if name not in there:
                raise UserError(
                    f"a claim names the {what} '{name}', which is not tested; it would be one of "
                    f"{', '.join(there)}"
                )

    def ratio(self, metrics: Metrics) -> float:
        """The multiple that came out.

        Raises:
            UserError: there is no such row or metric.
        """
        try:
            ours, theirs = (metrics[self.benchmark][row][self.metric] for row in (self.row, self.of))
        except KeyError as error:
            raise UserError(
                f"a claim about '{self.row}' and '{self.of}' on '{self.benchmark}' needs {error}: test it too"
            ) from error
        return ours / theirs

    def met(self, metrics: Metrics) -> bool:
        """Whether it holds; a metric that is not a number meets nothing."""
        return self.ratio(metrics) <= self.at_most

    def sentence(self, metrics: Metrics) -> str:
        """What was claimed, what came out, and whether that is enough."""
        verdict = "met" if self.met(metrics) else "NOT MET"
        return (
            f"{verdict}: on {self.benchmark}, {self.metric} of {self.row} is {self.ratio(metrics):.2f} times "
            f"that of {self.of} (at most {self.at_most:.2f})"
        )
