"""A report as blocks, which become one self-contained page, and Markdown."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from itertools import groupby
from re import sub

from depthkd.report.table import markdown_table

Kind = str  # "", "note", "protocol" or "warn": a class of page.css


@dataclass(frozen=True)
class Cell:
    """What stands in a table: a text, what stands small below it, and whether it is its column's best."""

    text: str
    small: str = ""
    best: bool = False


@dataclass(frozen=True)
class Table:
    """A table whose first column names its rows.

    Args:
        caption: what it shows; pages hold it, Markdown has it above.
        header: of all columns.
        rows: of as many cells.
        trivial: numbers of the rows that are no models, which are gray.
        words: whether its cells are text, which is wrapped and stands at the left.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]
    trivial: Collection[int] = ()
    words: bool = False


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str
    kind: Kind = ""


@dataclass(frozen=True)
class Drawing:
    """Something that only a page can show, and what Markdown has in its place, if anything."""

    html: str
    markdown: str = ""


@dataclass(frozen=True)
class Fold:
    """Blocks that a page shows on request, under a heading; Markdown has them in whole."""

    summary: str
    blocks: Sequence["Block"]


@dataclass(frozen=True)
class Heading:
    """Of what follows, inside a part."""

    text: str


Block = Table | Text | Drawing | Fold | Heading


@dataclass(frozen=True)
class Part:
    """A section with its title."""

    title: str
    blocks: Sequence[Block]

    @property
    def anchor(self) -> str:
        """Its address within the page."""
        return sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


@dataclass(frozen=True)
class Document:
    """A report: what stands below its title, and its sections."""

    title: str
    lead: Sequence[Block]
    parts: Sequence[Part]

    def html(self, styles: Sequence[str] = (), scripts: Sequence[str] = ()) -> str:
        """The page, with links to its sections.

        Args:
            styles, scripts: files of this package that it needs besides page.css.
        """
        links = "".join(f'<li><a href="#{p.anchor}">{escape(p.title)}</a></li>' for p in self.parts)
        parts = [f"<h1>{escape(self.title)}</h1>", blocks_html(self.lead)]
        parts.append(f'<nav aria-label="sections"><ul>{links}</ul></nav>')
        for part in self.parts:
            heading = f'<h2 id="{part.anchor}">{escape(part.title)}</h2>'
            parts.append(f"<section>{heading}{blocks_html(part.blocks)}</section>")
        return page(self.title, "\n".join(parts), styles, scripts)

    def markdown(self) -> str:
        """The same, without what only a page can show."""
        texts = [f"# {self.title}", *_markdown(self.lead)]
        for part in self.parts:
            found = list(_markdown(part.blocks))
            texts += [f"## {part.title}", *found] if found else []
        return "\n\n".join(texts) + "\n"


@cache
def shipped(name: str) -> str:
    """A style or a script of this package."""
    return (files("depthkd.report") / name).read_text(encoding="utf-8")


def page(title: str, body: str, styles: Sequence[str] = (), scripts: Sequence[str] = ()) -> str:
    """A page that loads nothing: everything that it needs stands in it.

    Args:
        title: of the window.
        body: what is in it, from its `<h1>` on.
        styles, scripts: files of this package that it needs besides page.css.
    """
    style = "\n".join(shipped(name) for name in ("page.css", *styles))
    script = "".join(f"<script>\n{shipped(name)}</script>\n" for name in scripts)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n"
        f'<link rel="icon" href="data:,">\n<style>\n{style}</style>\n</head>\n'
        '<body>\n<a class="skip" href="#content">Skip to the content</a>\n'
        f'<main id="content">\n{body}\n</main>\n{script}</body>\n</html>\n'
    )


def blocks_html(blocks: Sequence[Block]) -> str:
    """Blocks as a page has them."""
    return "\n".join(_html(block) for block in blocks)


def _html(block: Block) -> str:
    match block:
        case Table():
            return table_html(block)
        case Text():
            kind = f' class="{block.kind}"' if block.kind else ""
            return f"<p{kind}>{escape(block.text)}</p>"
        case Drawing():
            return block.html
        case Heading():
            return f"<h3>{escape(block.text)}</h3>"
    return f"<details><summary>{escape(block.summary)}</summary>{blocks_html(block.blocks)}</details>"


def table_html(table: Table) -> str:
    """A table that is scrolled by itself where a screen is narrower, by the keyboard too."""
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in table.header)
    lines = []
    for number, cells in enumerate(table.rows):
        kind = ' class="trivial"' if number in table.trivial else ""
        first, *others = (cell if isinstance(cell, Cell) else Cell(cell) for cell in cells)
        row = f'<th scope="row">{_cell(first, table.words)}</th>'
        for cell in others:
            best = ' class="best"' if cell.best else ""
            row += f"<td{best}>{_cell(cell, table.words)}</td>"
        lines.append(f"<tr{kind}>{row}</tr>")
    words = ' class="words"' if table.words else ""
    caption, body = escape(table.caption), "\n".join(lines)
    return (
        f'<div class="wide" role="group" aria-label="{caption}" tabindex="0"><table{words}>'
        f"<caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cell(cell: Cell, wrapped: bool) -> str:
    """Long names that are wrapped break at their marks, not in the middle of a word."""
    text = escape(cell.text)
    if wrapped:
        text = sub(r"([._/])(?=[A-Za-z])|(?<=[a-z])(?=[A-Z])", r"\1<wbr>", text)
    return text + (f"<small>{escape(cell.small)}</small>" if cell.small else "")


def _markdown(blocks: Sequence[Block]) -> Iterator[str]:
    for block in blocks:
        match block:
            case Table():
                yield block.caption
                yield markdown_table(_escaped(block.header), [_escaped(_texts(row)) for row in block.rows])
            case Heading():
                yield f"### {block.text}"
            case Text():
                yield block.text
            case Fold():
                yield from _markdown(block.blocks)
            case Drawing() if block.markdown:
                yield block.markdown


def _texts(row: Sequence[str | Cell]) -> Iterator[str]:
    for cell in row:
        if isinstance(cell, str):
            yield cell
        else:
            text = f"**{cell.text}**" if cell.best else cell.text
            yield f"{text} ({cell.small})" if cell.small else text


def _escaped(cells: Sequence[str] | Iterator[str]) -> list[str]:
    """Without what would end a cell."""
    return [" ".join(cell.split()).replace("|", "\\|") for cell in cells]


def from_markdown(text: str) -> list[Block]:
    """The few things of Markdown that our own tables use."""
    blocks: list[Block] = []
    title = ""
    for part in text.strip().split("\n\n"):
        lines = part.splitlines()
        for table, found in groupby(lines, key=lambda line: line.startswith("|")):
            if table:
                header, _, *rows = ([c.strip() for c in line.strip("|").split("|")] for line in found)
                blocks.append(Table(title, header, rows))
                continue
            for line in found:
                if line.startswith("#"):
                    title = line.lstrip("# ")
                    blocks.append(Heading(title))
                else:
                    blocks.append(Text(line, "note"))
    return blocks
