"""Accuracy against sharpness, as in SharpDepth's Figure 2: one inline SVG, with nothing to load."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import cos, isfinite, pi, sin, sqrt

from depthkd.report.axes import Axis, grid, svg_text

WIDTH, HEIGHT = 720, 460
LEFT, RIGHT, TOP, BOTTOM = 78.0, 20.0, 40.0, 62.0  # px around the box
RADIUS, LARGEST = 4.5, 20.0
FONT = 12
LETTER = 6.8  # px: the mean width of one at that size, rather more than less
LONGEST = 60  # letters of a name; the whole of it shows when the pointer rests on the point
MODEL, TRIVIAL, INK, GRID = "#1f5fa8", "#6b6b6b", "#141414", "#e4e4e4"


@dataclass(frozen=True)
class Point:
    """One row of a table, in two of its metrics.

    Args:
        label: its name.
        x, y: the metrics.
        x_interval, y_interval: low and high ends of their 95 % intervals.
        trivial: it is no model, and is drawn in gray.
        size: what the area of its dot grows with, from 0 to 1 for the largest; None: dots of one size.
    """

    label: str
    x: float
    y: float
    x_interval: tuple[float, float] | None = None
    y_interval: tuple[float, float] | None = None
    trivial: bool = False
    size: float | None = None

    @property
    def radius(self) -> float:
        """Of its dot, px."""
        return RADIUS if self.size is None else RADIUS + (LARGEST - RADIUS) * sqrt(self.size)


@dataclass(frozen=True)
class Box:
    """A rectangle, in pixels from the top left."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: "Box") -> float:
        """Shared area, in square pixels."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(width, 0.0) * max(height, 0.0)

    @property
    def area(self) -> float:
        """In square pixels."""
        return (self.right - self.left) * (self.bottom - self.top)


PLOT = Box(LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM)


def scatter(
    points: Sequence[Point],
    x_label: str,
    y_label: str,
    title: str,
    x_higher_is_better: bool = True,
    y_higher_is_better: bool = False,
    x_logarithmic: bool = False,
) -> str:
    """Draw the points, with their names beside them and whiskers for their intervals.

    Args:
        points: rows of a table. Those with a metric that is not finite are named under the plot instead.
        x_label, y_label: what the axes show, such as "δ1 on kitti" and "PDBE completeness on sintel, px".
        title: stands above.
        x_higher_is_better, y_higher_is_better: where the axes' arrows point. The defaults are those of
            delta1 against a boundary error.
        x_logarithmic: whether equal factors are equally long on the x axis; its values are above 0.

    Returns:
        A self-contained `<svg>` of 720 x 460 pixels, without scripts.
    """
    shown = [p for p in points if isfinite(p.x) and isfinite(p.y)]
    left_out = [p.label for p in points if p not in shown]
    across = (v for p in shown for v in (p.x, *_ends(p.x_interval)))
    x = Axis.around(across, PLOT.left, PLOT.right, x_logarithmic)
    y = Axis.around((v for p in shown for v in (p.y, *_ends(p.y_interval))), PLOT.bottom, PLOT.top)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" role="img" font-family="system-ui, sans-serif" font-size="{FONT}" fill="{INK}">',
        f"<title>{svg_text(title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="24" font-size="15" font-weight="600">{svg_text(title)}</text>',
        *grid(x, y, (6, 6), GRID, TRIVIAL),
        *_axis_labels(x_label, y_label, x_higher_is_better, y_higher_is_better),
    ]
    drawn = sorted(shown, key=lambda p: not p.trivial)  # models lie on top
    parts += [mark for p in drawn for mark in _whiskers(p, x, y)]
    parts += [_dot(p, x, y) for p in drawn]
    parts += _labels(shown, x, y)
    if left_out:
        names = svg_text("not finite, so left out: " + ", ".join(left_out))
        parts.append(f'<text x="{LEFT}" y="{HEIGHT - 6}" font-size="11" fill="{TRIVIAL}">{names}</text>')
    return "\n".join([*parts, "</svg>"])


def _ends(interval: tuple[float, float] | None) -> tuple[float, ...]:
    return tuple(v for v in interval or () if isfinite(v))


def _axis_labels(x_label: str, y_label: str, x_higher: bool, y_higher: bool) -> Iterator[str]:
    center, middle = (PLOT.left + PLOT.right) / 2, (PLOT.top + PLOT.bottom) / 2
    named = [
        f"{svg_text(label)} ({'better →' if higher else '← better'})"
        for label, higher in ((x_label, x_higher), (y_label, y_higher))  # turned, → points up
    ]
    yield f'<text x="{center}" y="{PLOT.bottom + 38}" text-anchor="middle">{named[0]}</text>'
    yield f'<text transform="translate(20 {middle}) rotate(-90)" text-anchor="middle">{named[1]}</text>'


def _color(point: Point) -> str:
    return TRIVIAL if point.trivial else MODEL


def _dot(point: Point, x: Axis, y: Axis) -> str:
    told = svg_text(f"{point.label}: {point.x:.4g}, {point.y:.4g}")
    see_through = "" if point.size is None else ' fill-opacity=".6"'
    return (
        f'<circle cx="{x.place(point.x):.1f}" cy="{y.place(point.y):.1f}" r="{point.radius:.1f}" '
        f'fill="{_color(point)}"{see_through}><title>{told}</title></circle>'
    )


def _spans(point: Point, x: Axis, y: Axis) -> list[tuple[float, float, float, float]]:
    """Ends of its whiskers: x1, y1, x2, y2 in pixels."""
    u, v, spans = x.place(point.x), y.place(point.y), []
    if len(ends := _ends(point.x_interval)) == 2:
        spans.append((x.place(ends[0]), v, x.place(ends[1]), v))
    if len(ends := _ends(point.y_interval)) == 2:
        spans.append((u, y.place(ends[0]), u, y.place(ends[1])))
    return spans


def _whiskers(point: Point, x: Axis, y: Axis) -> Iterator[str]:
    for x1, y1, x2, y2 in _spans(point, x, y):
        yield (
            f'<line class="whisker" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
            f'stroke="{_color(point)}" stroke-opacity=".6"/>'
        )


def _labels(points: Sequence[Point], x: Axis, y: Axis) -> Iterator[str]:
    """Names beside their points: each at the place nearest by that covers least of what is there."""
    at = [(x.place(p.x), y.place(p.y)) for p in points]
    taken = [_box(u, v, 2 * p.radius, 2 * p.radius) for p, (u, v) in zip(points, at, strict=True)]
    spans = [span for p in points for span in _spans(p, x, y)]
    taken += [Box(min(a, c) - 1, min(b, d) - 1, max(a, c) + 1, max(b, d) + 1) for a, b, c, d in spans]
    for point, (u, v) in zip(points, at, strict=True):
        name = point.label if len(point.label) <= LONGEST else point.label[: LONGEST - 1] + "…"
        found = list(_places(u, v, LETTER * len(name), point.radius))
        place, reach = min(found, key=lambda c: _cost(c[0], taken) + 0.5 * c[1])
        taken.append(place)
        if reach > point.radius + 2 * RADIUS:
            near_u, near_v = min(max(u, place.left), place.right), min(max(v, place.top), place.bottom)
            yield (
                f'<line class="leader" x1="{u:.1f}" y1="{v:.1f}" x2="{near_u:.1f}" y2="{near_v:.1f}" '
                f'stroke="{TRIVIAL}" stroke-width=".7"/>'
            )
        edge, anchor = (place.right, "end") if place.right < u else (place.left, "start")
        yield (
            f'<text class="point" x="{edge:.1f}" y="{place.bottom - 3.5:.1f}" text-anchor="{anchor}" '
            f'fill="{TRIVIAL if point.trivial else INK}">{svg_text(name)}</text>'
        )


def _places(u: float, v: float, width: float, radius: float) -> Iterator[tuple[Box, float]]:
    """Where a label can stand around a point, and how far off: to the right and left first."""
    height = FONT + 2.0
    for reach in (radius + 3, *(radius + more for more in (15.5, 31.5, 49.5, 71.5, 95.5))):
        for eighths in (0, 4, 7, 1, 5, 3, 6, 2):
            right, down = cos(eighths * pi / 4), -sin(eighths * pi / 4)
            center_u = u + right * reach + (0.0 if abs(right) < 0.1 else width / 2 * (1 if right > 0 else -1))
            center_v = v + down * (reach + height / 2)
            yield _box(center_u, center_v, width, height), reach


def _box(center_u: float, center_v: float, width: float, height: float) -> Box:
    return Box(center_u - width / 2, center_v - height / 2, center_u + width / 2, center_v + height / 2)


def _cost(place: Box, taken: Sequence[Box]) -> float:
    """What a label would cover: other labels and points, and what lies outside of the plot, twice."""
    return sum(place.overlap(other) for other in taken) + 2 * (place.area - place.overlap(PLOT))
