"""report.html: one file that shows everything: tables, how sure they are, and pictures to look at."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import cv2
import numpy as np

from depthkd.formats.whole_files import write_whole
from depthkd.metrics.catalogue import heading, higher_is_better
from depthkd.report.document import (
    Block,
    Cell,
    Fold,
    Table,
    Text,
    blocks_html,
    from_markdown,
    page,
    table_html,
)
from depthkd.report.pictures import LARGEST_ERROR, Picture, SheetRow, image_cell, row_cells, within
from depthkd.report.pictures import Cell as Captioned
from depthkd.report.side_view import side_view
from depthkd.report.table import number, shown_together
from depthkd.shapes import ArrayMap

LARGEST_SIDE = 480  # px of a picture
QUALITY = 84  # of its JPEG: a report of some dozen pictures stays under 3 MB
LOOK_FOR = (  # what a column of pictures is called, and what to look for in it
    ("depth", "bright is near, gray has no truth. Thin things (spokes, poles, legs) should stand out whole."),
    (
        "error",
        f"|prediction - truth| / truth, from 0 to {LARGEST_ERROR:g} and more. A red area is a wrong layout, "
        "a thin red line an edge that is blurred or in the wrong place.",
    ),
    (
        "edges",
        "of depth and of its inverse. Yellow: in both; green: in the truth alone, missed; red: in the "
        "prediction alone, invented.",
    ),
    (
        "from the side",
        "the same depth as colored points, seen by a second camera. Flat walls should be flat, and nothing "
        "should hang between a thing and what is behind it.",
    ),
)


@dataclass
class Section:
    """One benchmark of the report.

    Args:
        title, protocol: as in the tables.
        metrics: row -> metric -> mean over images.
        trivial: the rows that are no models.
        intervals: model -> metric -> text of its interval.
        comparisons: sentences about pairs of models.
        notes: sentences.
        pictures: what each shows -> the row of pictures.
        labels: row -> what it is called, where that is not its name.
        groups: part of the benchmark -> row -> metric -> mean over its images.
        run_at: row -> the sizes at which it ran, in words.
        columns: heading -> row -> text, of more columns of the first table.
    """

    title: str
    protocol: str
    metrics: Mapping[str, Mapping[str, float]]
    trivial: Sequence[str] = ()
    intervals: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    comparisons: Sequence[str] = ()
    notes: Sequence[str] = ()
    pictures: Sequence[tuple[str, SheetRow]] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    run_at: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def write_report(
    path: Path,
    title: str,
    facts: Mapping[str, str],
    sections: Sequence[Section],
    overview: Sequence[str] = (),
    plots: Sequence[str] = (),
) -> None:
    """Write one self-contained page.

    Args:
        path: of the file.
        title: of the page.
        facts: what stands under the title: versions, device, models and their licenses.
        sections: one for each benchmark.
        overview: Markdown of tables, headings and sentences about all benchmarks together.
        plots: inline SVGs.
    """
    parts = [f"<h1>{escape(title)}</h1>"]
    for section in [s for s in sections if s.metrics or s.notes]:
        blocks: list[Block] = [Text(f"Protocol {section.protocol}.", "protocol")]
        blocks += _tables(section, section.title, section.metrics, section.columns)
        for group, metrics in section.groups.items():
            blocks.append(Fold(group, _tables(section, f"{section.title}, {group}", metrics)))
        blocks += [*_how_sure(section), *(Text(text, "note") for text in section.notes)]
        parts.append(f"<h2>{escape(section.title)}</h2>{blocks_html(blocks)}")
    parts += [blocks_html(from_markdown(text)) for text in overview]
    parts += [plot_html(plot) for plot in plots]
    parts.append(f"<h2>Pictures</h2>{_legend()}")
    for label, row in [pair for section in sections for pair in section.pictures]:
        heading = f"{row.title} ({label})"
        parts.append(f"<h3>{escape(heading)}</h3>{_pictures(row, heading)}")
    about = [list(fact) for fact in facts.items()]
    parts.append(f"<h2>What was tested</h2>{table_html(Table(title, ['what', 'which'], about, words=True))}")
    write_whole(path, page(title, "\n".join(parts), ["pictures.css"]))


def plot_html(plot: str) -> str:
    """An inline SVG, which is scrolled by itself where a screen is narrower, by the keyboard too."""
    return f'<figure class="plot" role="group" aria-label="plot" tabindex="0">{plot}</figure>'


def _tables(
    section: Section,
    caption: str,
    metrics: Mapping[str, Mapping[str, float]],
    columns: Mapping[str, Mapping[str, str]] | None = None,
) -> list[Block]:
    parts = enumerate(shown_together(metrics))
    return [_part(section, caption, metrics, names, {} if i else columns or {}) for i, names in parts]


def _part(
    section: Section,
    caption: str,
    metrics: Mapping[str, Mapping[str, float]],
    names: Sequence[str],
    columns: Mapping[str, Mapping[str, str]],
) -> Table:
    best = best_of(metrics, names, section.trivial)
    rows = []
    for row, found in metrics.items():
        cells: list[str | Cell] = [section.labels.get(row, row)]
        for name in names:
            value = found.get(name, np.nan)
            cells.append(Cell(number(value), best=row not in section.trivial and value == best.get(name)))
        cells += [column.get(row, "-") for column in columns.values()]
        rows.append([*cells, section.run_at.get(row, "-"), str(int(found["images"]))])
    trivial = [i for i, row in enumerate(metrics) if row in section.trivial]
    header = ["model", *(heading(n) for n in names), *columns, "run at", "images"]
    return Table(caption, header, rows, trivial)


def best_of(
    metrics: Mapping[str, Mapping[str, float]], names: Sequence[str], trivial: Sequence[str]
) -> dict[str, float]:
    """The best value of each metric among the rows that are models."""
    best = {}
    for name in names:
        values = [found.get(name, np.nan) for row, found in metrics.items() if row not in trivial]
        known = [v for v in values if not np.isnan(v)]
        if known:
            best[name] = max(known) if higher_is_better(name) else min(known)
    return best


def _how_sure(section: Section) -> list[Block]:
    """The intervals of the metrics, and comparisons of pairs, folded."""
    found = section.intervals
    if not found and not section.comparisons:
        return []
    names = list(dict.fromkeys(n for row in found.values() for n in row))
    rows = [
        [section.labels.get(row, row), *(known.get(name, "-") for name in names)]
        for row, known in found.items()
    ]
    caption = f"{section.title}: 95 % intervals"
    tables = [Table(caption, ["model", *map(heading, names)], rows)] if found else []
    sentences = [Text(text, "note") for text in section.comparisons]
    return [Fold("How sure: 95 % intervals over the images", [*tables, *sentences])]


def _legend() -> str:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None], 12, axis=0)
    turbo = cv2.cvtColor(cv2.applyColorMap(ramp, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
    scale = f'<img class="scale" alt="blue to red" src="{jpeg_source(turbo)}">'
    lines = [
        f"<li><b>{name}</b>: {escape(text)}{scale if name == 'error' else ''}" for name, text in LOOK_FOR
    ]
    return f'<ul class="note">{"".join(lines)}</ul>'


def _pictures(row: SheetRow, heading: str) -> str:
    """The image and its truth, and a row of pictures for each model below them; without a truth, one row."""
    if row.truth is None:
        names = list(row.predictions)
        shown = zip(["image", *names], row_cells(row, names, errors=False), strict=True)
        return _figures(heading, [(title, cell) for title, cell in shown])
    _, truth = row_cells(row, [], errors=True)
    first: list[tuple[str, Captioned]] = [("image", image_cell(row)), ("truth", truth)]
    rows = [first + _from_the_side(row, "truth", row.truth)]
    for name, prediction in row.predictions.items():
        cells = row_cells(row, [name], errors=True, edges=True)[2:]
        titles = [name, f"{name}: error", f"{name}: edges"]
        rows.append(list(zip(titles, cells, strict=True)) + _from_the_side(row, name, prediction))
    return "".join(_figures(f"{heading}: {cells[0][0]}", cells) for cells in rows)


def _from_the_side(row: SheetRow, name: str, depth: ArrayMap) -> list[tuple[str, Captioned]]:
    if row.camera is None:
        return []
    return [(f"{name}, from the side", (side_view(row.image, depth, row.camera), ""))]


def _figures(heading: str, cells: Sequence[tuple[str, Captioned]]) -> str:
    figures = []
    for title, cell in cells:
        if cell is None:
            continue
        picture, caption = cell
        text = escape(title) + (f"<br>{escape(caption)}" if caption else "")
        image = f'<img alt="{escape(title)}" src="{jpeg_source(picture)}">'
        figures.append(f"<figure>{image}<figcaption>{text}</figcaption></figure>")
    label = escape(heading)
    return f'<div class="row" role="group" aria-label="{label}" tabindex="0">{"".join(figures)}</div>'


def jpeg_source(picture: Picture, largest_side: int = LARGEST_SIDE) -> str:
    """A picture as the address of an image that is written into the page, at most so many pixels large."""
    pixels = cv2.cvtColor(within(picture, largest_side), cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    assert done
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"
