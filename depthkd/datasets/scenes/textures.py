"""Procedural textures of fixed size in meters, faded out before a pixel grows too large for them."""

import colorsys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float, Float32, Int32

from depthkd.datasets.scenes.shapes import Coordinates

Values = Float[np.ndarray, " points"]
Color = Float32[np.ndarray, " 3"]

_LATTICE_SIZE = 256


@dataclass(frozen=True, eq=False)
class Material:
    """A surface's look: a pattern from `color` to `other`, and a fractal grain over it.

    Colors are linear RGB. `period` is the pattern's size and `grain_period` that of the grain's
    coarsest octave, in meters; `grain` is its strength, and `offset` shifts both. It gives off `glow` times
    its color, and mirrors the lamp with the strength `gloss`.
    """

    pattern: str
    period: float
    color: Color
    other: Color
    grain: float
    grain_period: float
    offset: Float32[np.ndarray, " 2"]
    glow: float = 0.0
    gloss: float = 0.0

    def albedo(self, coordinates: Coordinates, footprint: Values) -> Float32[np.ndarray, "3 points"]:
        """Linear RGB at coordinates in meters; `footprint` is the width of a pixel there, in meters."""
        u, v = coordinates.astype(np.float32) + self.offset[:, None]
        share = PATTERNS[self.pattern](u, v, footprint, self.period)
        grain = 1 + self.grain * fractal_noise(u, v, footprint, self.grain_period)
        color = self.color[:, None] + (self.other - self.color)[:, None] * share
        return np.asarray(np.maximum(color * grain, 0), np.float32)


def linear(hue: float, saturation: float, value: float) -> Color:
    """Linear RGB of a color of HSV."""
    return np.array(colorsys.hsv_to_rgb(hue % 1, min(saturation, 1), value), np.float32) ** np.float32(2.2)


def fade(footprint: Values, period: float) -> Values:
    """1 where a pixel resolves a pattern of this period, 0 where it would alias."""
    return np.clip(2 - 4 / period * footprint, 0, 1)


@cache
def _lattice() -> Float32[np.ndarray, "size size"]:
    return np.random.default_rng(0).random((_LATTICE_SIZE, _LATTICE_SIZE), dtype=np.float32)


def cell_noise(i: Values, j: Values) -> Values:
    """A fixed random number in [0, 1) for each cell (i, j) of a grid."""
    return np.asarray(_lattice()[_whole(j) % _LATTICE_SIZE, _whole(i) % _LATTICE_SIZE])


def _whole(values: Values) -> Int32[np.ndarray, "..."]:
    """Whole numbers of 32 bits; any where it is larger, near the horizon, where noise has faded out."""
    with np.errstate(invalid="ignore"):
        return np.asarray(values, np.int32)


def value_noise(u: Values, v: Values) -> Values:
    """Random numbers in [0, 1) at the integers, bilinear between them."""
    i, j = np.floor(u), np.floor(v)
    du, dv = u - i, v - j
    lattice = _lattice().ravel()
    last = _LATTICE_SIZE - 1  # all ones, as its size is a power of two
    column, row = _whole(i) & last, (_whole(j) & last) * _LATTICE_SIZE
    next_column, next_row = (column + 1) & last, (row + _LATTICE_SIZE) & (_LATTICE_SIZE**2 - 1)
    rest = 1 - du
    top = lattice.take(row + column) * rest + lattice.take(row + next_column) * du
    bottom = lattice.take(next_row + column) * rest + lattice.take(next_row + next_column) * du
    noise: Values = top * (1 - dv) + bottom * dv
    return noise


def fractal_noise(u: Values, v: Values, footprint: Values, period: float, octaves: int = 4) -> Values:
    """Value noise of halving size and strength, roughly in [-1, 1]."""
    total = np.zeros_like(u)
    for octave in range(octaves):
        frequency = 2**octave / period
        share = fade(footprint, 1 / frequency)
        at = np.flatnonzero(share)
        if not len(at):  # nor of the finer octaves
            break
        noise = value_noise(u[at] * frequency + 17 * octave, v[at] * frequency + 5 * octave) - 0.5
        total[at] += share[at] * noise * 0.5 ** (octave - 1)
    return total


def _plain(u: Values, v: Values, footprint: Values, period: float) -> Values:
    return np.zeros_like(u)


def _checker(u: Values, v: Values, footprint: Values, period: float) -> Values:
    odd = (np.floor(u / period) + np.floor(v / period)) % 2
    share: Values = 0.5 + (odd - 0.5) * fade(footprint, 2 * period)
    return share


def _stripes(u: Values, v: Values, footprint: Values, period: float) -> Values:
    share: Values = 0.5 + (np.floor(u / period) % 2 - 0.5) * fade(footprint, 2 * period)
    return share


def _dots(u: Values, v: Values, footprint: Values, period: float) -> Values:
    x, y = np.mod(u, period) / period - 0.5, np.mod(v, period) / period - 0.5
    share: Values = 0.2 + ((x * x + y * y < 0.065) - 0.2) * fade(footprint, period)
    return share


def _laid(
    u: Values, v: Values, footprint: Values, size: tuple[float, float], shift: float, joint: float
) -> Values:
    """Courses of bricks of `size`, each course moved by `shift` of a brick, with joints of that width."""
    course = np.floor(v / size[1])
    along = u / size[0] + course * shift
    brick = np.floor(along)
    seam = ((along - brick) * size[0] < joint) | (v - course * size[1] < joint)
    seam_share = joint / size[0] + joint / size[1]
    tone = 0.25 + (cell_noise(brick, course) - 0.5) * 0.5 * fade(footprint, 2 * min(size))
    share: Values = tone + (1 - tone) * (seam_share + (seam - seam_share) * fade(footprint, min(size)))
    return share


def _tiles(u: Values, v: Values, footprint: Values, period: float) -> Values:
    return _laid(u, v, footprint, (period, period), 0.0, 0.04 * period)


def _bricks(u: Values, v: Values, footprint: Values, period: float) -> Values:
    return _laid(u, v, footprint, (period, 0.35 * period), 0.5, 0.05 * period)


def _planks(u: Values, v: Values, footprint: Values, period: float) -> Values:
    return _laid(u, v, footprint, (8 * period, period), 0.37, 0.05 * period)


def _windows(u: Values, v: Values, footprint: Values, period: float) -> Values:
    x, y = np.mod(u, period) / period, np.mod(v, period) / period
    pane = (np.abs(x - 0.5) < 0.22) & (np.abs(y - 0.55) < 0.27)
    share: Values = 0.24 + (pane - 0.24) * fade(footprint, period)
    return share


PATTERNS: dict[str, Callable[[Values, Values, Values, float], Values]] = {
    "plain": _plain,
    "checker": _checker,
    "stripes": _stripes,
    "dots": _dots,
    "tiles": _tiles,
    "bricks": _bricks,
    "planks": _planks,
    "windows": _windows,
}
