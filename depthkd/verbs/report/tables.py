"""The tables and plots of a report: ours with their intervals, the papers' below them, accuracy against cost.

What was scored under another protocol, or on other data, never shares a column.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite, nan

from depthkd.cost.cost import digits, millions
from depthkd.evaluation.comparison import MAIN_TABLES, TABLES, with_parts
from depthkd.evaluation.provenance import MARK
from depthkd.evaluation.saved_results import SavedBenchmark, SavedCost, SavedResults
from depthkd.metrics.catalogue import CATALOGUE, heading, higher_is_better, phrase
from depthkd.report.document import Block, Cell, Drawing, Fold, Heading, Part, Table, Text, from_markdown
from depthkd.report.html import best_of, plot_html
from depthkd.report.layout import ends_text, papers_table
from depthkd.report.published import PublishedMetric, published
from depthkd.report.scatter import Point, scatter
from depthkd.report.table import number, shown_together

Ends = tuple[float, float]
MOST_PLOTS = 8
MILLION = 1e6
COST_ON_PAGE = "The page has plots of these; the tables above have the figures."


@dataclass
class Column:
    """One benchmark under one protocol and on the same data, with the rows of all tests that scored it.

    Args:
        first: the first test's; title, protocol and samples are those of all.
        rows, groups: label -> metric -> mean over images; of its parts too.
        intervals: label -> metric -> both ends.
        parameters: label -> how many, where that is known.
        costs: label -> what was measured.
        trivial: labels of the rows that are no models.
        notes: sentences.
        differences: rows of a table.
    """

    first: SavedBenchmark
    rows: dict[str, dict[str, float]] = field(default_factory=dict)
    groups: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    intervals: dict[str, dict[str, Ends]] = field(default_factory=dict)
    parameters: dict[str, int] = field(default_factory=dict)
    costs: dict[str, SavedCost] = field(default_factory=dict)
    trivial: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    differences: list[list[str]] = field(default_factory=list)

    def add(self, test: str, results: SavedResults, found: SavedBenchmark, several: Collection[str]) -> None:
        """Take a test's rows in.

        Args:
            test: its name.
            results, found: what it has on this benchmark.
            several: rows that tests have with several metrics: these carry the names of their tests.
        """
        for row, metrics in found.metrics.items():
            label = f"{row} {MARK}" if row in found.not_zero_shot else row
            if row in several:
                label = f"{label} ({test})"
            self.rows[label] = dict(metrics)
            self.intervals.setdefault(label, dict(found.intervals.get(row, {})))
            for group, rows in found.groups.items():
                if row in rows:
                    self.groups.setdefault(group, {})[label] = dict(rows[row])
            if row in found.trivial:
                self.trivial.append(label)
                continue
            parameters = results.models.get(row, {}).get("parameters")
            if isinstance(parameters, int) and parameters > 0:
                self.parameters[label] = parameters
            if row in found.costs:
                self.costs[label] = found.costs[row]
            self.notes += [f"{MARK} not zero-shot: {why}" for why in found.not_zero_shot.get(row, ())]
        self.notes += [note for note in found.notes if note not in self.notes]
        for pair, several in found.differences.items():
            for metric, (mean, low, high, decided) in several.items():
                verdict = "decided" if decided else "undecided"
                self.differences.append([pair, phrase(metric), number(mean), ends_text((low, high)), verdict])

    @property
    def heading(self) -> str:
        """Benchmark, protocol, samples."""
        samples = "1 sample" if self.first.samples == 1 else f"{self.first.samples} samples"
        return f"{self.first.title}, {self.first.protocol} ({samples})"


def columns_of(tests: Sequence[tuple[str, SavedResults]]) -> list[Column]:
    """The benchmarks of all tests; those that share title, protocol and data as one."""
    found: dict[tuple[str, str, str], list[tuple[str, SavedResults, SavedBenchmark]]] = {}
    for name, results in tests:
        for benchmark in results.benchmarks:
            if benchmark.metrics:
                found.setdefault(benchmark.column, []).append((name, results, benchmark))
    columns = []
    for parts in found.values():
        columns.append(column := Column(parts[0][2]))
        rows = {row for _, _, one in parts for row in one.metrics}
        several = {row for row in rows if not _same([one.metrics.get(row) for _, _, one in parts])}
        for name, results, benchmark in parts:
            column.add(name, results, benchmark, several)
    return columns


def _same(metrics: Sequence[Mapping[str, float] | None]) -> bool:
    """Whether all tests that have a row have it with the same metrics; NaN is like NaN."""
    return len({str(sorted(found.items())) for found in metrics if found is not None}) == 1


def metrics_part(columns: Sequence[Column]) -> Part:
    """A section for each column, with a table of all its metrics."""
    blocks: list[Block] = []
    for column in columns:
        blocks += [Heading(column.heading), Text(f"Protocol {column.first.description}.", "protocol")]
        blocks += _tables(column)
        if column.differences:
            header = ["difference", "metric", "mean", "95 % interval", "is there one?"]
            caption = f"{column.heading}: differences, image by image"
            blocks.append(Fold("Differences between models", [Table(caption, header, column.differences)]))
        blocks += [Text(note, "note") for note in column.notes]
    if blocks:
        blocks.insert(0, Text("Small figures are 95 % intervals over the images; bold is best.", "note"))
    return Part("Metrics", blocks)


def _tables(column: Column) -> list[Table]:
    tables = []
    extra = _cost_columns(column)
    ordered = sorted(column.rows, key=lambda row: row in column.trivial)  # models first
    for number_of, names in enumerate(shown_together(column.rows)):
        best = best_of(column.rows, names, column.trivial)
        rows: list[list[str | Cell]] = []
        for row in ordered:
            found = column.rows[row]
            cells: list[str | Cell] = [row]
            for name in names:
                value, ends = found.get(name, nan), column.intervals.get(row, {}).get(name)
                small = "" if ends is None else ends_text(ends).strip("()")
                is_best = row not in column.trivial and value == best.get(name)
                cells.append(Cell(number(value), small, is_best))
            cells += [texts.get(row, "-") for texts in extra.values()] if number_of == 0 else []
            rows.append([*cells, str(int(found["images"]))])
        header = ["model", *map(heading, names), *(extra if number_of == 0 else []), "images"]
        trivial = [i for i, row in enumerate(ordered) if row in column.trivial]
        tables.append(Table(column.heading, header, rows, trivial))
    return tables


def _cost_columns(column: Column) -> dict[str, dict[str, str]]:
    texts = {"parameters (M)": {row: millions(count) for row, count in column.parameters.items()}}
    for row, cost in column.costs.items():
        if cost.seconds is not None:
            texts.setdefault("latency (ms)", {})[row] = digits(1e3 * cost.seconds)
    return {title: found for title, found in texts.items() if found}


def papers_part(columns: Sequence[Column]) -> Part:
    """All benchmarks of a protocol side by side as in the papers, whose rows stand under ours."""
    blocks: list[Block] = []
    for protocol in dict.fromkeys(column.first.protocol for column in columns):
        for together in _apart([c for c in columns if c.first.protocol == protocol]):
            for title, metrics in TABLES.items():
                table = _papers_table(together, metrics)
                if table:
                    blocks += from_markdown(f"### {title} ({protocol})\n\n{table}")
    return Part("Beside the papers", blocks)


def _apart(columns: Sequence[Column]) -> list[list[Column]]:
    """Columns in as many tables as it takes for none to have two of one title."""
    tables: list[list[Column]] = []
    for column in columns:
        free = (t for t in tables if all(c.first.title != column.first.title for c in t))
        table = next(free, None)
        if table is None:
            tables.append(table := [])
        table.append(column)
    return tables


def _papers_table(columns: Sequence[Column], metrics: Sequence[str]) -> str:
    """Empty where a column's own table says as much."""
    rows, protocols, cells = {}, {}, list[PublishedMetric]()
    intervals = {}
    for column in columns:
        name = column.first.public
        parts = with_parts(name, column.rows, column.groups) if name else {column.first.title: column.rows}
        for part, found in parts.items():
            rows[part], protocols[part] = found, column.first.description
            intervals[part] = column.intervals if found is column.rows else {}
            if name:
                cells += [c for c in published(part) if (c.paper, c.table) in MAIN_TABLES]
    ours = any(metric in found for part in rows.values() for found in part.values() for metric in metrics)
    beside = any(cell.metric in metrics for cell in cells)
    if not ours or not (len(rows) > 1 or beside):
        return ""
    return papers_table(rows, protocols, cells, metrics, intervals)


def cost_part(columns: Sequence[Column]) -> Part:
    """Accuracy against latency, where that was measured, with parameters as the area of a dot; else against
    parameters."""
    plots: list[str] = []
    for column in columns:
        metric = next((e.name for e in CATALOGUE if e.main and _known(column, e.name)), None)
        if metric is None:
            continue
        machines = dict.fromkeys(c.machine for c in column.costs.values() if c.seconds is not None)
        plots += filter(None, (_latency_plot(column, metric, machine) for machine in machines))
        plots += filter(None, [_parameters_plot(column, metric)])
    shown = "".join(plot_html(plot) for plot in plots[:MOST_PLOTS])
    drawings = [Drawing(f'<div class="plots">{shown}</div>', COST_ON_PAGE)] if plots else []
    more = len(plots) - MOST_PLOTS
    said = (
        [Text(f"{more} more plots are left out; the tables have their figures.", "note")] if more > 0 else []
    )
    return Part("Accuracy against cost", [*drawings, *said])


def _known(column: Column, metric: str) -> bool:
    rows = (column.rows[row] for row in column.parameters)
    return any(isfinite(found.get(metric, nan)) for found in rows)


def _point(column: Column, row: str, metric: str, x: float, size: float | None = None) -> Point:
    ends = column.intervals.get(row, {}).get(metric)
    return Point(row, x, column.rows[row].get(metric, nan), None, ends, size=size)


def _parameters_plot(column: Column, metric: str) -> str:
    points = [_point(column, row, metric, count / MILLION) for row, count in column.parameters.items()]
    if len(points) < 2:
        return ""
    what = "parameters (M), log scale"
    title = f"{phrase(metric)} against parameters: {column.first.title}, {column.first.protocol}"
    return scatter(points, what, phrase(metric), title, False, higher_is_better(metric), True)


def _latency_plot(column: Column, metric: str, machine: str) -> str:
    """On one machine: latencies of several do not compare."""
    here = {r: c.seconds for r, c in column.costs.items() if c.machine == machine and c.seconds is not None}
    most = max((column.parameters.get(row, 0) for row in here), default=0)
    points = [
        _point(column, row, metric, 1e3 * seconds, column.parameters.get(row, 0) / most if most else None)
        for row, seconds in here.items()
    ]
    if len(points) < 2:
        return ""
    what = f"latency (ms) on {machine}, log scale"
    title = (
        f"{phrase(metric)} against latency (dots: parameters): {column.first.title}, {column.first.protocol}"
    )
    return scatter(points, what, phrase(metric), title, False, higher_is_better(metric), True)
