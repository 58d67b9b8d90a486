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
from depthkd.report.pictures import LARGEST_ERROR, Cell, Picture, SheetRow, image_cell, row_cells
from depthkd.report.side_view import side_view
from depthkd.report.table import number, shown_together
from depthkd.shapes import ArrayMap

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 1.2rem auto; max-width: 1560px;
  padding: 0 1rem; color: #141414 }
.wide { overflow-x: auto; margin: .8rem 0 }
table { border-collapse: collapse }
th, td { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: #fff }
.facts td { white-space: normal; overflow-wrap: anywhere; text-align: left; vertical-align: top }
.trivial td { color: #777 }
.best { font-weight: 600 }
.protocol, .note { color: #555; max-width: 60rem }
details { margin: .4rem 0 }
summary { cursor: pointer; color: #555 }
.row { display: grid; grid-auto-flow: column; grid-auto-columns: minmax(256px, 383px); gap: 8px;
  overflow-x: auto; margin: .3rem 0 }
figure { margin: 0 }
figure img { width: 100%; display: block }
figure.plot { margin: 1rem 0; overflow-x: auto }
figcaption { font-size: 13px; color: #555; min-height: 1.4em }
.scale { height: 12px; width: 230px; display: block }
"""
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
    parts = [f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title>"]
    parts += ["<meta name=viewport content='width=device-width, initial-scale=1'>"]
    parts += [f"<style>{STYLE}</style><h1>{escape(title)}</h1>"]
    for section in [s for s in sections if s.metrics or s.notes]:
        parts.append(f"<h2>{escape(section.title)}</h2>")
        parts.append(f"<p class=protocol>Protocol {escape(section.protocol)}.")
        parts.append(_table(section, section.metrics, section.columns))
        for group, metrics in section.groups.items():
            parts.append(f"<details><summary>{escape(group)}</summary>{_table(section, metrics)}</details>")
        parts.append(_how_sure(section))
        parts += [f"<p class=note>{escape(text)}" for text in section.notes]
    parts += [_from_markdown(text) for text in overview]
    parts += [f"<figure class=plot>{plot}</figure>" for plot in plots]
    parts.append("<h1>Pictures</h1>" + _legend())
    for label, row in [pair for section in sections for pair in section.pictures]:
        parts.append(f"<h3>{escape(row.title)} ({escape(label)})</h3>{_pictures(row)}")
    parts.append("<h1>What was tested</h1><div class=wide><table class=facts>")
    parts += [f"<tr><td>{escape(name)}<td>{escape(value)}" for name, value in facts.items()]
    parts.append("</table></div>")
    write_whole(path, "\n".join(parts))


def _from_markdown(text: str) -> str:
    """The few things of Markdown that our own tables use."""
    parts: list[str] = []
    for block in text.strip().split("\n\n"):
        lines = block.splitlines()
        if lines[0].startswith("|"):
            rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in (lines[0], *lines[2:])]
            cells = ["".join(f"<td>{escape(cell)}" for cell in row) for row in rows[1:]]
            head = "".join(f"<th>{escape(cell)}" for cell in rows[0])
            parts.append(_wide("<tr>" + "<tr>".join([head, *cells])))
        elif lines[0].startswith("## "):
            parts.append(f"<h2>{escape(lines[0][3:])}</h2>")
        else:
            parts += [f"<p class=note>{escape(line)}" for line in lines]
    return "\n".join(parts)


def _table(
    section: Section,
    metrics: Mapping[str, Mapping[str, float]],
    columns: Mapping[str, Mapping[str, str]] | None = None,
) -> str:
    parts = enumerate(shown_together(metrics))
    return "".join(_part(section, metrics, names, {} if i else columns or {}) for i, names in parts)


def _part(
    section: Section,
    metrics: Mapping[str, Mapping[str, float]],
    names: Sequence[str],
    columns: Mapping[str, Mapping[str, str]],
) -> str:
    models = [row for row in metrics if row not in section.trivial]
    best = {}
    for name in names:
        values = [metrics[row].get(name, np.nan) for row in models]
        known = [v for v in values if not np.isnan(v)]
        if known:
            best[name] = max(known) if higher_is_better(name) else min(known)
    titles = [*(heading(n) for n in names), *columns, "run at", "images"]
    lines = ["<tr><th>model" + "".join(f"<th>{escape(title)}" for title in titles)]
    for row, found in metrics.items():
        cells = []
        for name in names:
            value = found.get(name, np.nan)
            mark = " class=best" if row in models and value == best.get(name) else ""
            cells.append(f"<td{mark}>{number(value)}")
        cells += [f"<td>{escape(column.get(row, '-'))}" for column in columns.values()]
        kind = " class=trivial" if row in section.trivial else ""
        cells += [f"<td>{escape(section.run_at.get(row, '-'))}", f"<td>{int(found['images'])}"]
        lines.append(f"<tr{kind}><td>{escape(section.labels.get(row, row))}{''.join(cells)}")
    return _wide("\n".join(lines))


def _wide(rows: str) -> str:
    """A table that is scrolled by itself where a screen is narrower."""
    return f"<div class=wide><table>{rows}</table></div>"


def _how_sure(section: Section) -> str:
    """The intervals of the metrics, and comparisons of pairs, folded."""
    found = section.intervals
    if not found and not section.comparisons:
        return ""
    names = list(dict.fromkeys(n for row in found.values() for n in row))
    rows = ["<tr><th>model" + "".join(f"<th>{escape(heading(name))}" for name in names)]
    for row, known in found.items():
        cells = "".join(f"<td>{escape(known.get(name, '-'))}" for name in names)
        rows.append(f"<tr><td>{escape(section.labels.get(row, row))}{cells}")
    sentences = "".join(f"<p class=note>{escape(text)}" for text in section.comparisons)
    table = _wide("\n".join(rows)) if found else ""
    return f"<details><summary>How sure: 95 % intervals over the images</summary>{table}{sentences}</details>"


def _legend() -> str:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None], 12, axis=0)
    turbo = cv2.cvtColor(cv2.applyColorMap(ramp, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
    scale = f"<img class=scale alt='blue to red' src='{_source(turbo)}'>"
    lines = [
        f"<li><b>{name}</b>: {escape(text)}{scale if name == 'error' else ''}" for name, text in LOOK_FOR
    ]
    return f"<ul class=note>{''.join(lines)}</ul>"


def _pictures(row: SheetRow) -> str:
    """The image and its truth, and a row of pictures for each model below them; without a truth, one row."""
    if row.truth is None:
        names = list(row.predictions)
        shown = zip(["image", *names], row_cells(row, names, errors=False), strict=True)
        return _figures([(title, cell) for title, cell in shown])
    _, truth = row_cells(row, [], errors=True)
    first: list[tuple[str, Cell]] = [("image", image_cell(row)), ("truth", truth)]
    rows = [first + _from_the_side(row, "truth", row.truth)]
    for name, prediction in row.predictions.items():
        cells = row_cells(row, [name], errors=True, edges=True)[2:]
        titles = [name, f"{name}: error", f"{name}: edges"]
        rows.append(list(zip(titles, cells, strict=True)) + _from_the_side(row, name, prediction))
    return "".join(_figures(cells) for cells in rows)


def _from_the_side(row: SheetRow, name: str, depth: ArrayMap) -> list[tuple[str, Cell]]:
    if row.camera is None:
        return []
    return [(f"{name}, from the side", (side_view(row.image, depth, row.camera), ""))]


def _figures(cells: Sequence[tuple[str, Cell]]) -> str:
    figures = []
    for title, cell in cells:
        if cell is None:
            continue
        picture, caption = cell
        text = escape(title) + (f"<br>{escape(caption)}" if caption else "")
        image = f"<img alt='{escape(title)}' src='{_source(picture)}'>"
        figures.append(f"<figure>{image}<figcaption>{text}</figcaption></figure>")
    return f"<div class=row>{''.join(figures)}</div>"


def _source(picture: Picture) -> str:
    height, width = (int(n) for n in picture.shape[:2])
    scale = min(1.0, LARGEST_SIDE / max(height, width))
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    pixels = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    assert done
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"
