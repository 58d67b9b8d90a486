"""Values over steps as small plots, a line a run, side by side."""

from collections.abc import Mapping, Sequence
from html import escape
from math import isfinite

import numpy as np
from jaxtyping import Float64

from depthkd.report.axes import Axis, grid, svg_text
from depthkd.report.scatter import GRID, INK, TRIVIAL

Points = Sequence[tuple[int, float]]  # (step, value), in order of steps

WIDTH, HEIGHT = 400, 230
LEFT, RIGHT, TOP, BOTTOM = 58.0, 380.0, 10.0, 188.0  # px: of the box
MOST = 300  # points of a line; of more, the smallest and the largest of each part are kept
COLORS = 8  # s0 to s7 of interactive.css
DASHES = ("", "7 4", "2 3", "9 3 2 3")  # of the lines after each eight
WIDE = 30.0  # a ratio of the largest to the smallest value beyond which the axis is logarithmic


def thinned(points: Points, most: int = MOST) -> list[tuple[int, float]]:
    """At most about so many of the points, with every peak: the smallest and the largest of each part."""
    if len(points) <= most:
        return list(points)
    kept = {0, len(points) - 1}
    for part in np.array_split(np.arange(len(points)), max(1, most // 2)):
        values = [points[i][1] for i in part]
        kept |= {int(part[int(np.argmin(values))]), int(part[int(np.argmax(values))])}
    return [points[i] for i in sorted(kept)]


def curves(title: str, runs: Mapping[str, Points], better: str = "") -> str:
    """A figure with one value of several runs over their steps.

    Args:
        title: what the value is called.
        runs: run -> its points; the place of a run among all says its color, so that runs without points
            are here too.
        better: "lower" or "higher", where one is.
    """
    known = {run: [p for p in points if isfinite(p[1])] for run, points in runs.items()}
    values = [value for points in known.values() for _, value in points]
    log = bool(values) and min(values) > 0 and max(values) > WIDE * min(values)
    steps = [float(step) for points in known.values() for step, _ in points]
    x = Axis(0.0, max([*steps, 1.0]) * 1.02, LEFT, RIGHT)
    y = Axis.around(values, BOTTOM, TOP, log)
    lines = [mark for number, points in enumerate(known.values()) for mark in _line(number, points, x, y)]
    missing = [run for run, points in runs.items() if len(known[run]) < len(points)]
    last = "; ".join(f"{run} ends at {points[-1][1]:.4g}" for run, points in known.items() if points)
    said = svg_text(f"{title} over steps: {last}")
    arrow = {"lower": " ↓", "higher": " ↑"}.get(better, "")
    notes = f"<br><small>not finite at times: {escape(', '.join(missing))}</small>" if missing else ""
    label = f'<text x="{(LEFT + RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">step</text>'
    return (
        f"<figure><figcaption>{escape(title)}{arrow}{' (log scale)' * log}{notes}</figcaption>"
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="13" fill="{INK}"><title>{said}</title>'
        f"{''.join(grid(x, y, (5, 5), GRID, TRIVIAL))}{label}{''.join(lines)}</svg></figure>"
    )


def _line(number: int, points: Points, x: Axis, y: Axis) -> list[str]:
    """A run's line, and a dot at its end, or at the only value that there is."""
    if not points:
        return []
    color = f"s{number % COLORS}"
    shown: Float64[np.ndarray, "points 2"] = np.array(
        [(x.place(float(step)), y.place(value)) for step, value in thinned(points)]
    )
    path = " ".join(f"{u:.1f},{v:.1f}" for u, v in shown)
    line = f'<polyline class="curve {color}" {_dash(number)}points="{path}"/>' if len(points) > 1 else ""
    u, v = shown[-1]
    return [line, f'<circle class="{color}" cx="{u:.1f}" cy="{v:.1f}" r="3"/>']


def _dash(number: int) -> str:
    dashes = DASHES[number // COLORS % len(DASHES)]
    return f'stroke-dasharray="{dashes}" ' if dashes else ""


def keys(runs: Sequence[str]) -> str:
    """Which line is which run's."""
    items = []
    for number, run in enumerate(runs):
        line = f'<line class="curve s{number % COLORS}" {_dash(number)}x1="0" y1="5" x2="34" y2="5"/>'
        items.append(f'<li><svg viewBox="0 0 34 10" aria-hidden="true">{line}</svg>{escape(run)}</li>')
    return f'<ul class="keys">{"".join(items)}</ul>'
