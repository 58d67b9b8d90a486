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
from depthkd.report.pictures import LARGEST_ERROR, Cell, Picture, SheetRow, row_cells
from depthkd.report.table import number, shown_together

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 1500px;
  padding: 0 1rem; color: #141414 }
table { border-collapse: collapse; margin: .8rem 0 }
th, td { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap }
th:first-child, td:first-child { text-align: left }
.trivial td { color: #777 }
.best { font-weight: 600 }
.protocol, .note { color: #555; max-width: 60rem }
.row { display: flex; gap: 6px; flex-wrap: wrap; margin: .2rem 0 1rem }
figure { margin: 0; flex: none; width: 230px }
figure img { width: 230px; display: block }
figure.plot { width: auto; margin: 1rem 0 }
figcaption { font-size: 12px; color: #555 }
.scale { height: 12px; width: 230px; display: block }
"""
LARGEST_SIDE = 460  # px of a picture: twice as many as are shown, for sharp screens


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
    parts += [f"<style>{STYLE}</style><h1>{escape(title)}</h1>"]
    for section in [s for s in sections if s.metrics or s.notes]:
        parts.append(f"<h2>{escape(section.title)}</h2>")
        parts.append(f"<p class=protocol>Protocol {escape(section.protocol)}.")
        parts.append(_table(section, section.metrics))
        for group, metrics in section.groups.items():
            parts.append(f"<details><summary>{escape(group)}</summary>{_table(section, metrics)}</details>")
        parts += [f"<p class=note>{escape(text)}" for text in (*section.comparisons, *section.notes)]
    parts += [_from_markdown(text) for text in overview]
    parts += [f"<figure class=plot>{plot}</figure>" for plot in plots]
    parts.append("<h1>Pictures</h1>" + _legend())
    for label, row in [pair for section in sections for pair in section.pictures]:
        parts.append(f"<h3>{escape(row.title)} ({escape(label)})</h3>{_pictures(row)}")
    parts.append("<h1>What was tested</h1><table>")
    parts += [f"<tr><td>{escape(name)}<td>{escape(value)}" for name, value in facts.items()]
    parts.append("</table>")
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
            parts.append("<table><tr>" + "<tr>".join([head, *cells]) + "</table>")
        elif lines[0].startswith("## "):
            parts.append(f"<h2>{escape(lines[0][3:])}</h2>")
        else:
            parts += [f"<p class=note>{escape(line)}" for line in lines]
    return "\n".join(parts)


def _table(section: Section, metrics: Mapping[str, Mapping[str, float]]) -> str:
    return "".join(_part(section, metrics, names) for names in shown_together(metrics))


def _part(section: Section, metrics: Mapping[str, Mapping[str, float]], names: Sequence[str]) -> str:
    models = [row for row in metrics if row not in section.trivial]
    best = {}
    for name in names:
        values = [metrics[row].get(name, np.nan) for row in models]
        known = [v for v in values if not np.isnan(v)]
        if known:
            best[name] = max(known) if higher_is_better(name) else min(known)
    titles = [*(heading(n) for n in names), "run at", "images"]
    lines = ["<table><tr><th>model" + "".join(f"<th>{escape(title)}" for title in titles)]
    for row, found in metrics.items():
        cells = []
        for name in names:
            value = found.get(name, np.nan)
            mark = " class=best" if row in models and value == best.get(name) else ""
            hint = section.intervals.get(row, {}).get(name) if metrics is section.metrics else None
            tip = f' title="95 % interval {escape(hint)}"' if hint else ""
            cells.append(f"<td{mark}{tip}>{number(value)}")
        kind = " class=trivial" if row in section.trivial else ""
        cells += [f"<td>{escape(section.run_at.get(row, '-'))}", f"<td>{int(found['images'])}"]
        lines.append(f"<tr{kind}><td>{escape(section.labels.get(row, row))}{''.join(cells)}")
    return "\n".join([*lines, "</table>"])


def _legend() -> str:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None], 12, axis=0)
    turbo = cv2.cvtColor(cv2.applyColorMap(ramp, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
    return (
        "<p class=note>Depth: bright is near; gray: no truth. Error, |prediction - truth| / truth, from 0 to "
        f"{LARGEST_ERROR:g} and more: <img class=scale alt='blue to red' src='{_source(turbo)}'>"
        "Edges: Canny edges of depth and of its inverse, those of the truth in green, of the model in red, "
        "shared ones in yellow."
    )


def _pictures(row: SheetRow) -> str:
    names = list(row.predictions)
    cells: list[tuple[str, Cell]] = []
    shown = row_cells(row, names, row.truth is not None, edges=row.truth is not None)
    titles = ["image", *(["truth"] if row.truth is not None else [])]
    for name in names:
        titles += [name, f"{name}: error", f"{name}: edges"] if row.truth is not None else [name]
    cells = list(zip(titles, shown, strict=True))
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
    done, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    assert done
    return f"data:image/png;base64,{base64.b64encode(data.tobytes()).decode()}"
