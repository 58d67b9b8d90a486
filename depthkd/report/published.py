"""What the papers print, and whether our metrics come out the same.

`published.csv` holds one cell of a paper's table a line, with the protocol behind it as far as that
is known; `published_models.csv` says which rows are about which weights. Accuracies are fractions,
and lengths are meters or pixels, as in our own tables.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from math import isfinite

from depthkd.errors import UserError
from depthkd.metrics.catalogue import phrase

ABS_REL_TOLERANCE = 0.005
DELTA1_TOLERANCE = 0.01


@dataclass(frozen=True)
class PublishedMetric:
    """One cell of a paper's table.

    Args:
        paper: its short name, such as "Distill Any Depth".
        table: which of its tables, such as "Table 5".
        row: the model, as printed.
        benchmark: as `Benchmark.name` says; scenarios of DA-2K follow an underscore.
        metric: as the metrics name it: "abs_rel", "delta1", "pdbe_accuracy".
        value: a fraction for accuracies, however it is printed.
        decimals: how many of the value's decimals are printed.
        protocol: the name of the preset that it was measured under, "unknown", or "none" for metrics
            that need no fit.
        mark: "erratum" for a misprint, "doubt" for what another table contradicts or the paper leaves
            open; else empty.
        note: why.
    """

    paper: str
    table: str
    row: str
    benchmark: str
    metric: str
    value: float
    decimals: int
    protocol: str
    mark: str
    note: str

    @property
    def source(self) -> str:
        """Where it is printed: "Distill Any Depth, Table 5: Ours*"."""
        return f"{self.paper}, {self.table}: {self.row}"

    @property
    def printed(self) -> str:
        """The value with the decimals that were printed."""
        return f"{self.value:.{self.decimals}f}"


def published(benchmark: str, metric: str | None = None) -> list[PublishedMetric]:
    """All cells about one benchmark, in the papers' order; none for a benchmark that no paper prints.

    Args:
        benchmark: such as "nyuv2", "diode" (all of it) or "diode_indoor".
        metric: only these cells, such as "delta1".
    """
    return [f for f in _metrics() if f.benchmark == benchmark and metric in (None, f.metric)]


def paper_table(name: str) -> list[PublishedMetric]:
    """All cells of one table, such as "SharpDepth, Table 1", in its order.

    Raises:
        UserError: there is none of that name; the sentence lists those that exist.
    """
    cells = [f for f in _metrics() if f"{f.paper}, {f.table}" == name]
    if not cells:
        known = dict.fromkeys(f"'{f.paper}, {f.table}'" for f in _metrics())
        raise UserError(f"no paper's table is called '{name}'; it would be one of {', '.join(known)}")
    return cells


def rows_of(source: str) -> list[tuple[str, str]]:
    """The rows that print these weights, as (paper, row).

    Args:
        source: a model's `source`, such as "depth-anything/Depth-Anything-V2-Large-hf".
    """
    return [
        (line["paper"], line["row"]) for line in _lines("published_models.csv") if line["source"] == source
    ]


def reproduced(
    ours: Mapping[str, Mapping[str, float]],
    benchmark: str,
    paper: str,
    row: str,
    abs_rel_tolerance: float = ABS_REL_TOLERANCE,
    delta1_tolerance: float = DELTA1_TOLERANCE,
) -> str:
    """Which protocol brings our metrics nearest to a paper's row, and whether that is near enough.

    AbsRel and delta1 are compared, in units of their tolerances, and the worse of the two counts.
    Errata are not compared. Where a row stands in several tables, the one with most decimals counts.

    Args:
        ours: protocol -> metric -> our value, for the same weights.
        benchmark: such as "nyuv2".
        paper, row: which row, as `PublishedMetric` has them.
        abs_rel_tolerance, delta1_tolerance: the largest difference that still counts as the same, in
            the metrics' own units; one unit of the last printed decimal where that is more.

    Raises:
        ValueError: no paper prints that row on that benchmark.
    """
    row_cells = [f for f in published(benchmark) if (f.paper, f.row) == (paper, row)]
    if not row_cells:
        raise ValueError(
            f"'{row}' of {paper} is not printed for the benchmark '{benchmark}'; published('{benchmark}') "
            "lists the rows that are"
        )
    tolerances = {"abs_rel": abs_rel_tolerance, "delta1": delta1_tolerance}
    sound = [c for c in row_cells if c.metric in tolerances and c.mark != "erratum"]
    cells = {c.metric: c for c in sorted(sound, key=lambda c: c.decimals)}
    tolerances = {name: max(tolerances[name], 10.0**-cell.decimals) for name, cell in cells.items()}
    distances = {
        protocol: max(abs(values[n] - c.value) / tolerances[n] for n, c in cells.items())
        for protocol, values in ours.items()
        if cells and all(isfinite(values.get(name, float("nan"))) for name in cells)
    }
    title = f"{paper}'s {row} on {benchmark}"
    if not distances:
        return f"not compared: {title} has no AbsRel or δ1 that is also among our metrics"
    nearest = min(distances, key=lambda protocol: distances[protocol])
    met = distances[nearest] <= 1 + 1e-9
    beside = ", ".join(
        f"{phrase(n)} {ours[nearest][n]:.{max(c.decimals, 4)}f} beside {c.printed} "
        f"({c.table}; {tolerances[n]:.3f} allowed)"
        for n, c in sorted(cells.items())
    )
    sentence = (
        f"{'reproduced' if met else 'NOT REPRODUCED'}: {title} is nearest under {nearest}, with {beside}"
    )
    others = sorted({c.protocol for c in cells.values()} - {nearest, "unknown"})
    if others:
        sentence += f"; the paper's protocol is thought to be {' and '.join(others)}"
    doubts = sorted({c.note for c in cells.values() if c.mark})
    return sentence + "".join(f"; in doubt: {doubt}" for doubt in doubts)


@cache
def _metrics() -> tuple[PublishedMetric, ...]:
    return tuple(
        PublishedMetric(
            paper=line["paper"],
            table=line["table"],
            row=line["row"],
            benchmark=line["benchmark"],
            metric=line["metric"],
            value=float(line["value"]),
            decimals=len(line["value"].partition(".")[2]),
            protocol=line["protocol"],
            mark=line["mark"],
            note=line["note"],
        )
        for line in _lines("published.csv")
    )


@cache
def _lines(name: str) -> tuple[dict[str, str], ...]:
    text = (files("depthkd.report") / name).read_text(encoding="utf-8")
    return tuple(csv.DictReader(text.splitlines()))
