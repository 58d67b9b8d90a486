"""Axes of plots: from values to pixels, and the ticks on the way."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html import escape
from math import ceil, floor, inf, log10

MARGIN = 0.08  # of the range, on either side
FEW_DECADES = 3.0  # over fewer, a logarithmic axis has ticks at twice and five times powers of ten too


@dataclass(frozen=True)
class Axis:
    """From values to pixels: `low` lies at `start`, `high` at `end`.

    Args:
        low, high: values; above 0 where the axis is logarithmic.
        start, end: pixels.
        logarithmic: whether equal factors, and not equal differences, are equally long.
    """

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    @classmethod
    def around(cls, values: Iterable[float], start: float, end: float, logarithmic: bool = False) -> "Axis":
        """One on which all of the values lie, with a margin on both sides.

        Args:
            values: finite; not above 0, they are left out of a logarithmic axis.
            start, end, logarithmic: as above.
        """
        found = [v for v in values if v > 0 or not logarithmic] or [1.0, 2.0] * logarithmic or [0.0, 1.0]
        low, high = min(found), max(found)
        if logarithmic:
            factor = max((high / low) ** MARGIN, 1.25)
            return cls(low / factor, high * factor, start, end, True)
        spread = high - low
        if spread <= 1e-9 * max(abs(low), abs(high)):  # all the same: show it in the middle of something
            spread = max(abs(high), 1e-3)
        return cls(low - MARGIN * spread, high + MARGIN * spread, start, end)

    def place(self, value: float) -> float:
        """The pixel of a value."""
        if self.logarithmic:
            share = log10(value / self.low) / log10(self.high / self.low) if value > 0 else -inf
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, count: int = 6) -> list[tuple[float, str]]:
        """Values at which it is labeled, about so many, and their labels; a logarithmic axis of a short range
        is labeled like any other."""
        if self.logarithmic:
            found = _log_ticks(self.low, self.high)
            if len(found) > 2:
                return [(value, f"{value:g}") for value in found]
        return named(ticks(self.low, self.high, count))


def ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten that lie in the range, about so many."""
    rough = (high - low) / count
    power = 10.0 ** floor(log10(rough))
    step = next(s for s in (power, 2 * power, 5 * power, 10 * power) if s >= rough * (1 - 1e-9))
    return [i * step for i in range(ceil(low / step - 1e-9), floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten in the range; over few of them twice and five times these too."""
    factors = (1, 2, 5) if log10(high / low) < FEW_DECADES else (1,)
    powers = range(floor(log10(low)), ceil(log10(high)) + 1)
    return [f * 10.0**p for p in powers for f in factors if low <= f * 10.0**p <= high]


def named(values: list[float]) -> list[tuple[float, str]]:
    """Ticks with as many decimals as tell them apart."""
    step = values[1] - values[0] if len(values) > 1 else max(abs(values[0]), 1e-3) if values else 1.0
    decimals = max(0, -floor(log10(step) + 1e-9))
    return [(v, f"{v:.{decimals}f}" if decimals < 6 and abs(v) < 1e6 else f"{v:g}") for v in values]


def svg_text(text: str) -> str:
    """Escaped, without the control characters that XML does not allow."""
    return escape("".join(c if c >= " " else " " for c in text))


def grid(x: Axis, y: Axis, counts: tuple[int, int], line: str, frame: str) -> Iterator[str]:
    """Lines and labels at the ticks of a plot, and its frame.

    Args:
        x, y: the axes; y begins at the bottom.
        counts: about how many ticks they have.
        line, frame: colors.
    """
    for value, name in x.ticks(counts[0]):
        at = f"{x.place(value):.1f}"
        yield f'<line x1="{at}" y1="{y.end}" x2="{at}" y2="{y.start}" stroke="{line}"/>'
        yield f'<text class="x" x="{at}" y="{y.start + 17}" text-anchor="middle">{name}</text>'
    for value, name in y.ticks(counts[1]):
        at = f"{y.place(value):.1f}"
        yield f'<line x1="{x.start}" y1="{at}" x2="{x.end}" y2="{at}" stroke="{line}"/>'
        yield f'<text class="y" x="{x.start - 8}" y="{at}" dy=".35em" text-anchor="end">{name}</text>'
    yield (
        f'<rect x="{x.start}" y="{y.end}" width="{x.end - x.start}" '
        f'height="{y.start - y.end}" fill="none" stroke="{frame}"/>'
    )
