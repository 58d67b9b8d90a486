"""One table over all benchmarks, laid out like the papers' own, with their rows under ours."""

from collections.abc import Mapping, Sequence
from math import isfinite, nan

from depthkd.metrics.catalogue import heading, phrase
from depthkd.report.published import PublishedMetric
from depthkd.report.table import markdown_table, number

MOST_COLUMNS = 16
MARKS = {
    "p": "measured under another protocol than ours, or under one that the paper does not say",
    "d": "in doubt",
    "e": "an erratum",
}


def papers_table(
    metrics: Mapping[str, Mapping[str, Mapping[str, float]]],
    protocols: Mapping[str, str],
    published_rows: Sequence[PublishedMetric] = (),
    columns: Sequence[str] = ("abs_rel", "delta1"),
    intervals: Mapping[str, Mapping[str, Mapping[str, tuple[float, float]]]] | None = None,
) -> str:
    """Models down, benchmarks and their metrics across; the protocols and the marks stand under it.

    Args:
        metrics: benchmark -> row -> metric -> mean over images.
        protocols: benchmark -> the protocol's name, or its description with the name before a colon.
        published_rows: cells of papers; those on other benchmarks or of other metrics are left out.
        columns: the metrics of each benchmark; those that no row has there are left out.
        intervals: benchmark -> row -> metric -> both ends of its 95 % interval, which stand behind it.

    Returns:
        Markdown. Papers' cells keep the decimals that were printed, and carry a letter where they
        cannot be compared as they stand.

    Raises:
        ValueError: a benchmark has no protocol.
    """
    missing = [benchmark for benchmark in metrics if benchmark not in protocols]
    if missing:
        raise ValueError(
            f"the benchmark '{missing[0]}' has no protocol, and metrics mean nothing without one"
        )
    known = {(b, f) for b, rows in metrics.items() for row in rows.values() for f in row}
    known |= {(cell.benchmark, cell.metric) for cell in published_rows}
    places = [
        (benchmark, metric) for benchmark in metrics for metric in columns if (benchmark, metric) in known
    ]
    header = ["model", *(f"{b} {heading(f)}" for b, f in places)]
    models = dict.fromkeys(model for rows in metrics.values() for model in rows)
    rows = [[m, *(_ours(metrics, intervals or {}, (b, m, f)) for b, f in places)] for m in models]
    papers: dict[str, dict[tuple[str, str], PublishedMetric]] = {}
    for cell in published_rows:
        if (cell.benchmark, cell.metric) in places:
            papers.setdefault(cell.source, {})[cell.benchmark, cell.metric] = cell
    names = {benchmark: text.partition(":")[0] for benchmark, text in protocols.items()}
    for source, cells in papers.items():
        rows.append([source, *(_printed(cells.get(place), names) for place in places)])
    shown = [cell for cells in papers.values() for cell in cells.values()]
    return "\n\n".join(
        [markdown_table(header, rows), *_protocols(metrics, protocols), *_legend(shown, names)]
    )


def _ours(
    metrics: Mapping[str, Mapping[str, Mapping[str, float]]],
    intervals: Mapping[str, Mapping[str, Mapping[str, tuple[float, float]]]],
    place: tuple[str, str, str],
) -> str:
    """A cell of ours: benchmark, row and metric."""
    benchmark, row, metric = place
    text = number(metrics[benchmark].get(row, {}).get(metric, nan))
    ends = intervals.get(benchmark, {}).get(row, {}).get(metric)
    return text if ends is None else f"{text} {ends_text(ends)}".strip()


def ends_text(ends: tuple[float, float]) -> str:
    """Both ends of an interval; nothing where one image left it open."""
    return f"({number(ends[0])} to {number(ends[1])})" if all(map(isfinite, ends)) else ""


def papers_own_layout(
    metrics: Mapping[str, Mapping[str, Mapping[str, float]]],
    protocols: Mapping[str, str],
    cells: Sequence[PublishedMetric],
) -> str:
    """One table of a paper as it is laid out there, with our rows above the paper's.

    Benchmarks and metrics stand in the paper's order. Where that makes more than 16 columns, the
    benchmarks stand below each other.

    Args:
        metrics, protocols: as in `papers_table`; benchmarks that the paper's table lacks are left out.
        cells: of that table.
    """
    places = [p for p in dict.fromkeys((c.benchmark, c.metric) for c in cells) if p[0] in metrics]
    benchmarks = list(dict.fromkeys(benchmark for benchmark, _ in places))
    names = {benchmark: protocols[benchmark].partition(":")[0] for benchmark in benchmarks}
    rows: dict[str, dict[tuple[str, str], str]] = {}
    for benchmark, metric in places:
        for model, values in metrics[benchmark].items():
            rows.setdefault(model, {})[benchmark, metric] = number(values.get(metric, nan))
    for cell in cells:
        if cell.benchmark in names:
            rows.setdefault(cell.source, {})[cell.benchmark, cell.metric] = _printed(cell, names)
    absent = number(nan)
    if len(places) <= MOST_COLUMNS:
        header = ["model", *(f"{b} {heading(m)}" for b, m in places)]
        lines = [[row, *(printed.get(place, absent) for place in places)] for row, printed in rows.items()]
    else:
        columns = list(dict.fromkeys(metric for _, metric in places))
        header = ["benchmark", "model", *(heading(m) for m in columns)]
        lines = [
            [benchmark, row, *(printed.get((benchmark, m), absent) for m in columns)]
            for benchmark in benchmarks
            for row, printed in rows.items()
            if any((benchmark, m) in printed for m in columns)
        ]
    shown = [cell for cell in cells if cell.benchmark in names]
    described = {benchmark: protocols[benchmark] for benchmark in benchmarks}
    return "\n\n".join(
        [markdown_table(header, lines), *_protocols(described, described), *_legend(shown, names)]
    )


def _marks(cell: PublishedMetric, protocols: Mapping[str, str]) -> str:
    other = cell.protocol not in ("none", protocols[cell.benchmark])
    return ("p" if other else "") + {"doubt": "d", "erratum": "e"}.get(cell.mark, "")


def _printed(cell: PublishedMetric | None, protocols: Mapping[str, str]) -> str:
    if cell is None:
        return number(nan)
    return f"{cell.printed} {_marks(cell, protocols)}".strip()


def _protocols(benchmarks: Mapping[str, object], protocols: Mapping[str, str]) -> list[str]:
    """One sentence a protocol, with the benchmarks that share it."""
    texts = dict.fromkeys(protocols[benchmark] for benchmark in benchmarks)
    shared = {text: ", ".join(b for b in benchmarks if protocols[b] == text) for text in texts}
    return [f"Protocol on {names}: {text}." for text, names in shared.items()]


def _legend(cells: Sequence[PublishedMetric], protocols: Mapping[str, str]) -> list[str]:
    """What the letters mean that were used, and the note of each doubt and erratum."""
    used = {letter for cell in cells for letter in _marks(cell, protocols)}
    if not used:
        return []
    legend = ["; ".join(f"{letter}: {MARKS[letter]}" for letter in MARKS if letter in used) + "."]
    notes: dict[str, list[str]] = {}
    for cell in cells:
        if cell.mark:
            where = f"{cell.source} on {cell.benchmark}"
            notes.setdefault(f"{where}: {cell.note}", []).append(phrase(cell.metric))
    legend += [f"{text} ({', '.join(names)})." for text, names in notes.items()]
    return legend
