"""Tables that read well in a terminal and in a README, with the protocol beside the metrics."""

from collections.abc import Mapping, Sequence
from math import isnan, nan

from depthkd.metrics.catalogue import columns, heading


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns are also aligned as plain text: the first left, the others right."""
    widths = [max(len(cells[i]) for cells in (header, *rows)) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = [cells[0].ljust(widths[0])]
        padded += [c.rjust(w) for c, w in zip(cells[1:], widths[1:], strict=True)]
        return f"| {' | '.join(padded)} |"

    rule = "|".join(["-" * (widths[0] + 2)] + ["-" * (w + 1) + ":" for w in widths[1:]])
    return "\n".join([line(header), f"|{rule}|", *map(line, rows)])


def number(value: float) -> str:
    """Four significant decimals or so; a dash for what is not known."""
    if isnan(value):
        return "-"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.2f}"


def shown_together(metrics: Mapping[str, Mapping[str, float]]) -> list[list[str]]:
    """The metrics that there are, those per pixel and the others apart: one table would be too wide."""
    shown = columns(name for row in metrics.values() for name in row)
    per_pixel, others = [e.name for e in shown if e.formula], [e.name for e in shown if not e.formula]
    return [part for part in (per_pixel, others) if part]


def metrics_table(
    title: str,
    protocol: str,
    images: int,
    metrics: Mapping[str, Mapping[str, float]],
    notes: Sequence[str] = (),
    run_at: Mapping[str, str] | None = None,
    columns: Mapping[str, Mapping[str, str]] | None = None,
) -> str:
    """One benchmark's section: title, protocol, a row a model, and notes.

    Args:
        title: the benchmark's name.
        protocol: its one-line description.
        images: how many samples it has.
        metrics: model -> metric -> mean over images, and "images": over how many.
        notes: sentences under the table, such as which rows are missing and why.
        run_at: model -> the sizes at which it ran, in words; None: no such column.
        columns: heading -> model -> text, of more columns of the first table.
    """
    tables = []
    others = columns or {}
    for names in shown_together(metrics):
        rows = [
            [
                row,
                *(number(f.get(n, nan)) for n in names),
                *(column.get(row, "-") for column in others.values()),
                *([run_at[row]] if run_at else []),
                str(int(f["images"])),
            ]
            for row, f in metrics.items()
        ]
        last = [*(["run at"] if run_at else []), "images"]
        tables.append(markdown_table(["model", *(heading(n) for n in names), *others, *last], rows))
        others = {}
    samples = "sample" if images == 1 else "samples"
    parts = [f"## {title} ({images} {samples})", f"Protocol {protocol}.", *tables, *notes]
    return "\n\n".join(parts) + "\n"
