"""All benchmarks side by side: a table like the papers' with their rows, what they reproduce, and plots."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from depthkd.benchmarks.public_benchmark import PublicBenchmark
from depthkd.evaluation.result import BenchmarkResult, Metrics
from depthkd.metrics.catalogue import MetricSet
from depthkd.report.layout import papers_own_layout, papers_table
from depthkd.report.published import PublishedMetric, paper_table, published, reproduced, rows_of
from depthkd.report.scatter import Point, scatter
from depthkd.report.table import metrics_table

MAIN_TABLES = (  # of each paper, those that compare with others without training on the benchmark
    ("Distill Any Depth", "Table 5"),
    ("FiffDepth", "Table 1"),
    ("FiffDepth", "Table 2"),
    ("SharpDepth", "Table 1"),
    ("SharpDepth", "Table 2"),
    ("Depth Anything V2", "Table 2"),
    ("Depth Anything V2", "Table 3"),
)
COMPLETED = "Completed depth"  # a title, of benchmarks of depth completion alone
TABLES = {
    "Accuracy": ("abs_rel", "delta1"),
    COMPLETED: ("rmse", "mae"),
    "Sharpness": ("pdbe_accuracy", "pdbe_completeness", "boundary_f1", "boundary_recall"),
    "Order of pairs": ("pair_accuracy",),
}
Rows = TypeVar("Rows", bound=Mapping[str, Mapping[str, float]])  # row -> metric -> mean over images
ACCURACY = "kitti"  # SharpDepth's Figure 2 takes accuracy from there


def _rows(result: BenchmarkResult) -> dict[str, Metrics]:
    return with_parts(result.task.benchmark.name, result.scored, result.groups)


def with_parts(name: str, scored: Rows, groups: Mapping[str, Rows]) -> dict[str, Rows]:
    """A benchmark, as the papers call it, and its parts that have metrics in papers too.

    Args:
        name: of the benchmark.
        scored: row -> metric -> mean over images.
        groups: part -> the same over its images.
    """
    parts = {f"{name}_{group}": metrics for group, metrics in groups.items()}
    renamed = {part.replace("indoors", "indoor"): metrics for part, metrics in parts.items()}
    return {name: scored} | {part: f for part, f in renamed.items() if published(part)}


def papers_name(result: BenchmarkResult) -> str | None:
    """What the papers call a benchmark that was scored on their samples; None: they have none like it."""
    return result.task.benchmark.name if _public(result) and not _part(result) else None


def _public(result: BenchmarkResult) -> bool:
    return result.task.benchmark.data_set is not None and bool(published(result.task.benchmark.name))


def _part(result: BenchmarkResult) -> str:
    """The sentence about a benchmark of which not all samples were scored, or others than the papers do."""
    benchmark = result.task.benchmark
    if not isinstance(benchmark, PublicBenchmark) or benchmark.papers_samples:
        return ""
    return (
        f"{result.task.title}: not the papers' samples but {len(benchmark)}, chosen by "
        f"split={benchmark.dataset.split} and limit={benchmark.limit}"
    )


def overview(results: Sequence[BenchmarkResult]) -> list[str]:
    """Markdown tables, one for each kind of metric and protocol: our rows, and under them the papers'."""
    tables = []
    for title, columns in TABLES.items():
        for protocol in dict.fromkeys(o.task.protocol.name for o in results):
            asked = [o for o in results if o.task.completion or title != COMPLETED]
            shown = [o for o in asked if o.task.protocol.name == protocol and _has(o, columns)]
            table = _overview(shown, columns)
            parts = [f"{sentence}." for o in shown if (sentence := _part(o))]
            if table:
                table = "\n\n".join([table, *parts])
                how = f" ({protocol})" if all(o.task.fitted for o in shown) else ""
                tables.append(f"## {title} on all benchmarks{how}\n\n{table}\n")
    return tables


def by_protocol(results: Sequence[BenchmarkResult]) -> list[str]:
    """A Markdown table for each benchmark that was scored under several protocols: the same predictions of
    each model under all of them."""
    tables = []
    for title in dict.fromkeys(result.task.title for result in results):
        shown = [result for result in results if result.task.title == title]
        metrics = {
            f"{shown[0].label(row)}, {result.task.protocol.name}": result.scored[row]
            for row in dict.fromkeys(row for result in shown for row in result.scored)
            for result in shown
            if row in result.scored and row not in result.trivial
        }
        if len(shown) > 1 and metrics:
            names = ", ".join(result.task.protocol.name for result in shown)
            samples = len(shown[0].task.benchmark)
            how = f"of each row as above: the same predictions under {names}"
            tables.append(metrics_table(f"{title} under each protocol", how, samples, metrics))
    return tables


def _has(result: BenchmarkResult, columns: Sequence[str]) -> bool:
    return any(column in metrics for metrics in result.scored.values() for column in columns)


def _overview(results: Sequence[BenchmarkResult], columns: Sequence[str]) -> str:
    """Empty where a benchmark's own table says as much."""
    metrics: dict[str, Metrics] = {}
    described: dict[str, str] = {}
    cells: list[PublishedMetric] = []
    for result in results:
        public = _public(result)
        for name, rows in (_rows(result) if public else {result.task.title: result.scored}).items():
            metrics[name] = {result.label(row): values for row, values in rows.items()}
            described[name] = result.task.description
            if public:
                cells += [c for c in published(name) if (c.paper, c.table) in MAIN_TABLES]
    beside = any(cell.metric in columns for cell in cells)
    return papers_table(metrics, described, cells, columns) if len(metrics) > 1 or beside else ""


def papers_own(wanted: Sequence[str], results: Sequence[BenchmarkResult]) -> list[str]:
    """Tables of papers, each laid out as there, with our rows on the benchmarks that were tested.

    Args:
        wanted: such as "SharpDepth, Table 1".
        results: of all benchmarks; of one under several protocols, that counts which the paper's
            cells are thought to be measured under.

    Raises:
        UserError: there is no such table.
    """
    tables = []
    for name in wanted:
        cells = paper_table(name)
        known = {cell.protocol for cell in cells}
        metrics: dict[str, Metrics] = {}
        described: dict[str, str] = {}
        for result in sorted(results, key=lambda o: o.task.protocol.name in known):
            for benchmark, rows in _rows(result).items() if _public(result) and result.scored else ():
                metrics[benchmark] = {result.label(row): values for row, values in rows.items()}
                described[benchmark] = result.task.description
        parts = [f"{sentence}." for o in results if (sentence := _part(o))]
        if metrics:
            table = "\n\n".join([papers_own_layout(metrics, described, cells), *parts])
            tables.append(f"## {name}, and ours\n\n{table}\n")
    return tables


def reproductions(results: Sequence[BenchmarkResult]) -> list[str]:
    """For each tested model that a paper prints: under which protocol its metrics come out."""
    sentences = []
    public = [o for o in results if o.task.fitted and _public(o) and not _part(o)]
    for name in dict.fromkeys(name for o in public for name in _rows(o)):
        for model in public[0].models:
            found = {o.task.protocol.name: _rows(o).get(name, {}) for o in public}
            ours = {protocol: rows[model.name] for protocol, rows in found.items() if model.name in rows}
            for paper, row in rows_of(str(model.about["source"])) if ours else []:
                if any((c.paper, c.row) == (paper, row) for c in published(name)):
                    sentences.append(reproduced(ours, name, paper, row) + ".")
    return sentences


def scatters(results: Sequence[BenchmarkResult]) -> list[str]:
    """Accuracy against sharpness, one inline SVG for each benchmark with edges (SharpDepth, Figure 2)."""
    first: dict[str, BenchmarkResult] = {}
    for result in results:
        first.setdefault(result.task.title, result)
    fitted = [o for o in first.values() if o.task.fitted and o.scored]
    sharp = [o for o in fitted if MetricSet.EDGES in o.task.benchmark.metrics]
    flat = [o for o in fitted if o not in sharp]
    plots = []
    for result in sharp:
        accurate = next((o for o in flat if o.task.benchmark.name == ACCURACY), (flat or [result])[0])
        rows = [row for row, found in result.scored.items() if "pdbe_completeness" in found]
        rows = [row for row in rows if "delta1" in accurate.scored.get(row, {})]
        points = [_point(row, accurate, result) for row in rows]
        plots.append(
            scatter(
                points,
                f"δ1 on {accurate.name}",
                f"PDBE completeness on {result.name}, px",
                f"Accuracy on {accurate.name}, sharpness on {result.name}",
            )
        )
    return plots


def _point(row: str, accurate: BenchmarkResult, sharp: BenchmarkResult) -> Point:
    interval = accurate.certainty.intervals.get(row, {}).get("delta1")
    return Point(
        row,
        accurate.metrics[row]["delta1"],
        sharp.metrics[row]["pdbe_completeness"],
        None if interval is None else (interval.low, interval.high),
        trivial=row in sharp.trivial,
    )
