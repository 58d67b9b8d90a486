"""A page on which annotators say which of two points is closer: static, with the images beside it."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files

DATA = "@DATA@"  # where the page's data go


@dataclass(frozen=True)
class AnnotatedImage:
    """One image of the page.

    Args:
        path: of its file, from the page's folder, with slashes.
        scenario: what it is of.
        height, width: in pixels, turned as its EXIF orientation says, as browsers show it.
        pairs: its pairs, each {"point1": [row, column], "point2": [row, column]}.
    """

    path: str
    scenario: str
    height: int
    width: int
    pairs: Sequence[dict[str, list[int]]]


def annotation_page(images: Sequence[AnnotatedImage], made_by: str) -> str:
    """The page. It says nothing of the models' votes, and keeps the decisions in the browser until they are
    saved: {"annotator": name, "made_by": as here, "decisions": {path: its pairs}}, where each pair has a
    "closer_point" too, "point1", "point2" or "skip".

    Args:
        images: in the order in which they are shown.
        made_by: what tells these pairs from those that were proposed otherwise.
    """
    data = json.dumps({"made_by": made_by, "images": [asdict(image) for image in images]})
    page = (files("depthkd.report") / "annotate.html").read_text(encoding="utf-8")
    return page.replace(DATA, data.replace("<", "\\u003c"))  # a path cannot end the script
