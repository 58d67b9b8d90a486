"""A report's blocks as a page and as Markdown: the same facts, with nothing to load."""

from html.parser import HTMLParser

from depthkd.report.document import Cell, Document, Drawing, Fold, Heading, Part, Table, Text, from_markdown

ROWS = [["x", Cell("0.1", "0.0 to 0.2", best=True)], ["y", "2"]]
TABLE = Table(
    "AbsRel of <two>", ["model", "a|b"], [["x", Cell("0.1", "0.0 to 0.2", best=True)], ["y", "2"]], [1]
)
DOCUMENT = Document(
    "A & B",
    [Text("lead", "note")],
    [
        Part("What came out", [TABLE, Fold("more", [Text("folded")]), Drawing("<b>drawn</b>")]),
        Part("Pictures only", [Drawing("<i>seen</i>")]),
        Part("Rest", [Heading("of it"), Drawing("<i>seen</i>", "see the page")]),
    ],
)


class Tags(HTMLParser):
    """Counts what is opened and not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img", "input", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_well_formed_names_its_rows_and_columns_and_links_its_parts() -> None:
    page = DOCUMENT.html()
    tags = Tags()
    tags.feed(page)
    assert not tags.open
    assert [attrs["scope"] for tag, attrs in tags.found if tag == "th"] == ["col", "col", "row", "row"]
    links = [attrs["href"] for tag, attrs in tags.found if tag == "a"]
    assert links == ["#content", "#what-came-out", "#pictures-only", "#rest"]
    ids = {attrs.get("id") for _, attrs in tags.found}
    assert {link[1:] for link in links if link} <= ids
    assert '<td class="best">0.1<small>0.0 to 0.2</small></td>' in page and '<tr class="trivial">' in page
    assert "AbsRel of &lt;two&gt;" in page and "http" not in page


def test_markdown_has_all_but_what_only_a_page_can_show() -> None:
    text = DOCUMENT.markdown()
    assert text.startswith("# A & B\n\nlead\n\n## What came out\n\nAbsRel of <two>\n\n| model |")
    assert "| **0.1** (0.0 to 0.2) |" in text and "a\\|b" in text and "folded" in text
    assert "Pictures only" not in text and "drawn" not in text
    assert text.endswith("## Rest\n\n### of it\n\nsee the page\n")


def test_our_own_markdown_becomes_blocks() -> None:
    found = from_markdown("## A title\n\n| m | x |\n|---|--:|\n| a | 1 |\n\nA remark.\n")
    assert found == [
        Heading("A title"), Table("A title", ["m", "x"], [["a", "1"]]), Text("A remark.", "note"),
    ]  # fmt: skip
