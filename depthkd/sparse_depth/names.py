"""Patterns by their names, as tables print them and users write them."""

import re
from collections.abc import Callable
from typing import NamedTuple

from depthkd.errors import UserError
from depthkd.sparse_depth.areas import DepthRange, Holes, MissingBorders, NearestShare
from depthkd.sparse_depth.patterns import LowResolution, Outliers, Points, Several, SparsePattern
from depthkd.sparse_depth.sensors import Corners, LidarLines

NUMBER = r"\d+(?:\.\d+)?"
WHOLE = r"\d{1,3}(?:,\d{3})+|\d+"
MOST_DIGITS = 9


class Kind(NamedTuple):
    """How a kind of pattern is written, an example, and how it is made of what its name says."""

    written: str
    example: str
    made: Callable[..., SparsePattern]


def _whole(digits: str) -> int:
    return int(digits.replace(",", "")[:MOST_DIGITS])


def _share(digits: str) -> float:
    return float(digits) / 100


KINDS = (
    Kind(rf"({WHOLE}) points?", "500 points", lambda n: Points(_whole(n))),
    Kind(rf"({WHOLE}) to ({WHOLE}) points", "10 to 2000 points", lambda a, b: Points(_whole(a), _whole(b))),
    Kind(
        rf"lidar ({WHOLE})(?: of ({NUMBER}) degrees)?",
        "lidar 64",
        lambda n, fov: LidarLines(_whole(n), None if fov is None else float(fov)),
    ),
    Kind(rf"orb(?: ({WHOLE}))?", "orb 300", lambda n: Corners("orb", n and _whole(n))),
    Kind(rf"sift(?: ({WHOLE}))?", "sift", lambda n: Corners("sift", n and _whole(n))),
    Kind(rf"1/({WHOLE}) resolution", "1/8 resolution", lambda n: LowResolution(_whole(n))),
    Kind(
        rf"({WHOLE}) holes?(?: of ({NUMBER}) ?%)?",
        "1 hole",
        lambda n, share: Holes(_whole(n)) if share is None else Holes(_whole(n), _share(share)),
    ),
    Kind(
        rf"missing borders(?: of ({NUMBER}) ?%)?",
        "missing borders of 10 %",
        lambda share: MissingBorders() if share is None else MissingBorders(_share(share)),
    ),
    Kind(rf"nearer than ({NUMBER}) ?m", "nearer than 5 m", lambda far: DepthRange(float(far))),
    Kind(
        rf"({NUMBER}) to ({NUMBER}) ?m",
        "3 to 10 m",
        lambda near, far: DepthRange(float(far), float(near)),
    ),
    Kind(rf"nearest ({NUMBER}) ?%", "nearest 70 %", lambda share: NearestShare(_share(share))),
    Kind(rf"({NUMBER}) ?% outliers", "5 % outliers", lambda share: Outliers(_share(share))),
)


def parse_pattern(text: str | SparsePattern) -> SparsePattern:
    """The pattern of that name; several names stand between commas.

    Args:
        text: such as "500 points", "lidar 64" or "5 % outliers, 500 points"; or a pattern, which is returned.

    Raises:
        UserError: it is no name of a pattern; the sentence lists those that are.
    """
    if isinstance(text, SparsePattern):
        return text
    names = [name.strip() for name in re.split(r"(?<!\d),|,(?!\d)", str(text))]
    parts = tuple(_parsed(name, str(text)) for name in names)
    return parts[0] if len(parts) == 1 else Several(parts)


def _parsed(name: str, text: str) -> SparsePattern:
    for kind in KINDS:
        if match := re.fullmatch(kind.written, " ".join(name.lower().split())):
            return kind.made(*match.groups())
    known = ", ".join(f"'{kind.example}'" for kind in KINDS)
    where = "" if name == text.strip() else f" in '{text}'"
    raise UserError(
        f"'{name}'{where} is not a pattern of sparse depth; it would be like one of {known}, or several of "
        "these between commas"
    )
