"""How depth is distributed over many maps: quantiles, and a histogram in letters or as a picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log, log10

import numpy as np
from jaxtyping import Float64, Int64
from PIL import Image, ImageDraw, ImageFont

from depthkd.batch import DepthSpace
from depthkd.formats.shard_samples import unit_of
from depthkd.report.axes import ticks
from depthkd.report.pictures import CAPTION, FAINT, GAP, INK, PAPER, Picture
from depthkd.report.scatter import GRID, MODEL
from depthkd.shapes import DepthArray, MaskArray

PIXELS = 1 << 14  # of one map at most: a large one must not hide the others
QUANTILES = (0.01, 0.5, 0.99)
BARS, LETTERS = 120, 60  # of the picture, and of the line of letters
MOST_TICKS = 20
LEVELS = " ▁▂▃▄▅▆▇█"
HEIGHT, LEFT, TOP, BOTTOM = 220, 48, 26, 22  # of the picture, and around its bars, px


@dataclass(frozen=True)
class DepthHistogram:
    """What the valid pixels of some depth maps hold.

    Attributes:
        space: of all maps. A factor or an offset that it leaves open is each map's own.
        values: of some valid pixels, spread evenly over each map.
        maps: how many maps there are.
        valid: how many of their pixels are valid.
        pixels: how many they have.
    """

    space: DepthSpace
    values: Float64[np.ndarray, " values"]
    maps: int
    valid: int
    pixels: int

    @classmethod
    def of(cls, depth: DepthArray, mask: MaskArray, space: DepthSpace) -> "DepthHistogram":
        """That of one map, and where it is valid, which must be somewhere."""
        known = depth[mask].astype(np.float64)
        chosen = np.linspace(0, known.size - 1, min(PIXELS, known.size)).astype(np.int64)
        return cls(space, known[chosen], 1, known.size, mask.size)

    @classmethod
    def together(cls, histograms: Sequence["DepthHistogram"]) -> "DepthHistogram":
        """That of the maps of several, which have one space."""
        return cls(
            histograms[0].space,
            np.concatenate([one.values for one in histograms]),
            sum(one.maps for one in histograms),
            sum(one.valid for one in histograms),
            sum(one.pixels for one in histograms),
        )

    @property
    def logarithmic(self) -> bool:
        """Whether bars are equally wide in the logarithm: where all values are positive."""
        return self.space.invertible

    @property
    def limits(self) -> tuple[float, float]:
        """The smallest and the largest value; around a single one, something."""
        low, high = float(self.values.min()), float(self.values.max())
        if low < high:
            return low, high
        return (low / 1.1, low * 1.1) if self.logarithmic else (low - 1.0, low + 1.0)

    def counts(self, bars: int) -> Int64[np.ndarray, " bars"]:
        """How many of the values lie in each of some equally wide bars between the limits."""
        places = self._places(self.values)
        return np.asarray(np.histogram(places, bars, (0.0, 1.0))[0], np.int64)

    def sentence(self) -> str:
        """Quantiles, and the share of valid pixels."""
        found = zip(QUANTILES, np.quantile(self.values, QUANTILES), strict=True)
        quantiles = ", ".join(f"{100 * share:g} % below {value:.4g}" for share, value in found)
        unit = unit_of(self.space)
        known = "each on a scale of its own" if unit == "relative" else f"in {unit}"
        share = 100 * self.valid / self.pixels
        return f"{self.space} of {self.maps} maps, {known}: {quantiles}; {share:.1f} % of pixels are valid"

    def line(self) -> str:
        """The histogram in letters, between the smallest and the largest value."""
        counts = self.counts(LETTERS)
        heights = np.ceil(counts / counts.max() * (len(LEVELS) - 1)).astype(int)
        low, high = self.limits
        scale = " (log scale)" if self.logarithmic else ""
        return f"{low:.4g} {''.join(LEVELS[height] for height in heights)} {high:.4g}{scale}"

    def picture(self, width: int) -> Picture:
        """The histogram with its axes, its sentence above, and lines at its quantiles."""
        font = ImageFont.load_default(CAPTION)
        image = Image.new("RGB", (width, HEIGHT), PAPER)
        draw = ImageDraw.Draw(image)
        right, bottom = width - GAP, HEIGHT - BOTTOM
        draw.text((GAP, GAP), f"{self.sentence()}{'; log scale' * self.logarithmic}", INK, font)
        shares = 100 * self.counts(BARS) / len(self.values)
        for share in ticks(0.0, float(shares.max()), 3):
            y = bottom - share / shares.max() * (bottom - TOP)
            draw.line((LEFT, y, right, y), GRID)
            draw.text((LEFT - GAP, y), f"{share:g} %", FAINT, font, anchor="rm")
        for value, place in self._placed(self._ticks()):
            x = LEFT + place * (right - LEFT)
            draw.line((x, TOP, x, bottom + 3), GRID)
            draw.text((x, bottom + 5), f"{value:g}", FAINT, font, anchor="mt")
        step = (right - LEFT) / BARS
        for bar, share in enumerate(shares):
            if share:
                top = bottom - max(1.0, share / shares.max() * (bottom - TOP))
                draw.rectangle((LEFT + bar * step, top, LEFT + (bar + 1) * step - 1, bottom - 1), MODEL)
        for _, place in self._placed(np.quantile(self.values, QUANTILES).tolist()):
            x = LEFT + place * (right - LEFT)
            draw.line((x, TOP, x, bottom), INK)
        draw.line((LEFT, bottom, right, bottom), FAINT)
        return np.asarray(image)

    def _places(self, values: Float64[np.ndarray, " some"]) -> Float64[np.ndarray, " some"]:
        """Where values lie on the axis: 0 to 1."""
        low, high = self.limits
        if self.logarithmic:
            values, low, high = np.log(values), log(low), log(high)
        return np.asarray((values - low) / (high - low), np.float64).clip(0.0, 1.0)

    def _placed(self, values: Sequence[float]) -> list[tuple[float, float]]:
        """Each value with its place."""
        return list(zip(values, self._places(np.array(values, np.float64)).tolist(), strict=True))

    def _ticks(self) -> list[float]:
        """Round values on the axis."""
        low, high = self.limits
        if self.logarithmic:
            powers = range(floor(log10(low)), ceil(log10(high)) + 1)
            for digits in ((1, 2, 5), (1,)):
                found = [digit * 10.0**power for power in powers for digit in digits]
                found = [value for value in found if low <= value <= high]
                if 3 < len(found) <= MOST_TICKS:
                    return found
        return ticks(low, high, 8)
