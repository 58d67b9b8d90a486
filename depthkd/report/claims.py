"""What a config says that its models should reach, checked against the figures that came out."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from depthkd.errors import UserError

Figures = Mapping[str, Mapping[str, Mapping[str, float]]]  # benchmark -> row -> figure


@dataclass(frozen=True)
class Claim:
    """One row's figure, as a multiple of another row's on the same benchmark.

    Attributes:
        row: whose figure it is, as the table names it.
        benchmark: on which benchmark.
        at_most: the largest multiple that meets the claim.
        of: the row that it is a multiple of.
        figure: which one; lower is better.
    """

    row: str
    benchmark: str
    at_most: float
    of: str
    figure: str = "abs_rel"

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

    def ratio(self, figures: Figures) -> float:
        """The multiple that came out.

        Raises:
            UserError: there is no such row or figure.
        """
        try:
            ours, theirs = (figures[self.benchmark][row][self.figure] for row in (self.row, self.of))
        except KeyError as error:
            raise UserError(
                f"a claim about '{self.row}' and '{self.of}' on '{self.benchmark}' needs {error}: test it too"
            ) from error
        return ours / theirs

    def met(self, figures: Figures) -> bool:
        """Whether it holds; a figure that is not a number meets nothing."""
        return self.ratio(figures) <= self.at_most

    def sentence(self, figures: Figures) -> str:
        """What was claimed, what came out, and whether that is enough."""
        verdict = "met" if self.met(figures) else "NOT MET"
        return (
            f"{verdict}: on {self.benchmark}, {self.figure} of {self.row} is {self.ratio(figures):.2f} times "
            f"that of {self.of} (at most {self.at_most:.2f})"
        )
