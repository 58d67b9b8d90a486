"""Tables that read well in a terminal and in a README, with the protocol beside the figures."""

from collections.abc import Mapping, Sequence
from math import isnan

COLUMNS = {
    "abs_rel": "AbsRel ↓",
    "sq_rel": "SqRel ↓",
    "rmse": "RMSE ↓",
    "rmse_log": "RMSElog ↓",
    "log10": "log10 ↓",
    "silog": "SIlog ↓",
    "irmse": "iRMSE ↓",
    "delta1": "δ1 ↑",
    "delta2": "δ2 ↑",
    "delta3": "δ3 ↑",
}


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


def figures_table(
    title: str,
    protocol: str,
    images: int,
    figures: Mapping[str, Mapping[str, float]],
    notes: Sequence[str] = (),
) -> str:
    """One benchmark's section: title, protocol, a row a model, and notes.

    Args:
        title: the benchmark's name.
        protocol: its one-line description.
        images: how many samples it has.
        figures: model -> metric -> mean over images, and "images": over how many.
        notes: sentences under the table, such as which rows are missing and why.
    """
    names = [n for n in COLUMNS if any(n in f for f in figures.values())]
    rows = [[model, *(number(f[n]) for n in names), str(int(f["images"]))] for model, f in figures.items()]
    table = markdown_table(["model", *(COLUMNS[n] for n in names), "images"], rows)
    samples = "sample" if images == 1 else "samples"
    parts = [f"## {title} ({images} {samples})", f"Protocol {protocol}.", table, *notes]
    return "\n\n".join(parts) + "\n"
