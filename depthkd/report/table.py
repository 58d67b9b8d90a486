"""Tables that read well in a terminal and in a README, with the protocol beside the figures."""

from collections.abc import Mapping, Sequence
from math import isnan, nan

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
    "pdbe_accuracy": "PDBE acc ↓",
    "pdbe_completeness": "PDBE compl ↓",
    "boundary_f1": "F1 ↑",
    "dbe_accuracy": "DBE acc ↓",
    "dbe_completeness": "DBE compl ↓",
    "dbe_paper_accuracy": "DBE acc (paper) ↓",
    "dbe_paper_completeness": "DBE compl (paper) ↓",
    "planarity_flatness": "PE flat, cm ↓",
    "planarity_orientation": "PE ori, ° ↓",
    "pair_accuracy": "pairs in order ↑",
    "boundary_recall": "recall ↑",
    "global_abs_rel_2": "2x2 windows, one fit: AbsRel ↓",
    "local_abs_rel_2": "own fits ↓",
    "abs_rel_change_2": "change",
    "global_abs_rel_4": "4x4 windows, one fit: AbsRel ↓",
    "local_abs_rel_4": "own fits ↓",
    "abs_rel_change_4": "change",
    "output_median": "output's median",
    "output_deviation": "output's deviation",
}
BESIDE = list(COLUMNS)[list(COLUMNS).index("pdbe_accuracy") :]  # edges, planes, pairs and mattes


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


def shown_together(figures: Mapping[str, Mapping[str, float]]) -> list[list[str]]:
    """The figures that there are, those per pixel and the others apart: one table would be too wide."""
    names = [n for n in COLUMNS if any(n in f for f in figures.values())]
    parts = [n for n in names if n not in BESIDE], [n for n in names if n in BESIDE]
    return [part for part in parts if part]


def figures_table(
    title: str,
    protocol: str,
    images: int,
    figures: Mapping[str, Mapping[str, float]],
    notes: Sequence[str] = (),
    run_at: Mapping[str, str] | None = None,
) -> str:
    """One benchmark's section: title, protocol, a row a model, and notes.

    Args:
        title: the benchmark's name.
        protocol: its one-line description.
        images: how many samples it has.
        figures: model -> metric -> mean over images, and "images": over how many.
        notes: sentences under the table, such as which rows are missing and why.
        run_at: model -> the sizes at which it ran, in words; None: no such column.
    """
    tables = []
    for names in shown_together(figures):
        rows = [
            [
                row,
                *(number(f.get(n, nan)) for n in names),
                *([run_at[row]] if run_at else []),
                str(int(f["images"])),
            ]
            for row, f in figures.items()
        ]
        header = ["model", *(COLUMNS[n] for n in names), *(["run at"] if run_at else []), "images"]
        tables.append(markdown_table(header, rows))
    samples = "sample" if images == 1 else "samples"
    parts = [f"## {title} ({images} {samples})", f"Protocol {protocol}.", *tables, *notes]
    return "\n\n".join(parts) + "\n"
