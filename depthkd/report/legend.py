"""A depth map in colors, beside a bar that says which color is how far, and which end is near."""

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont

from depthkd.batch import Ambiguity, DepthSpace, Quantity
from depthkd.report.pictures import INK, PAPER, Resized, colors, limits, nearness
from depthkd.shapes import ArrayMap

Levels = Float[np.ndarray, " levels"]

TICKS = 5
LEAST = 150  # px, of a picture's height: a smaller map stands at its top left
LETTERS, SMALLEST, LARGEST = 1 / 30, 12, 60  # of the height, and in px


def picture_with_legend(values: ArrayMap, space: DepthSpace) -> Resized:
    """A map, near things bright, with a bar whose top is near, whatever the space.

    Colors go by nearness, which is disparity, or 1 / depth, so that the numbers beside the bar are not evenly
    spaced where the map is depth. What is nearer or farther than 98 % of the pixels has the color of an
    end of the bar.
    """
    near = nearness(values, space)
    low, high = limits(near)
    picture = colors(near, (low, high))
    height = max(LEAST, len(picture))
    size = int(min(LARGEST, max(SMALLEST, height * LETTERS)))
    font = ImageFont.load_default(size)
    levels = np.linspace(high, low, TICKS)
    ticks = [f"{number}{_unit(space)}" for number in _numbers(_values(levels, space))]
    title = _title(space)
    words = ["near", *ticks, "far", *title]
    gap = size // 2
    wide = int(max(font.getlength(word) for word in words))
    left = picture.shape[1] + gap
    sheet = Image.new("RGB", (left + 2 * size + wide + gap, height), PAPER)
    sheet.paste(Image.fromarray(picture))
    draw = ImageDraw.Draw(sheet)
    line = size + size // 4
    for i, word in enumerate(title):
        draw.text((left, gap + i * line), word, INK, font)
    top, bottom = gap + (len(title) + 1) * line + gap, height - gap - 2 * line
    draw.text((left, gap + len(title) * line), "near", INK, font)
    draw.text((left, bottom + gap), "far", INK, font)
    bar = np.linspace(high, low, max(bottom - top, 1))[:, None].repeat(size, 1)
    sheet.paste(Image.fromarray(colors(bar, (low, high))), (left, top))
    for i, tick in enumerate(ticks):
        middle = top + round(i * (bottom - top - 1) / (TICKS - 1))
        draw.line([(left + size, middle), (left + size + size // 3, middle)], INK)
        draw.text((left + size + size // 2, middle), tick, INK, font, anchor="lm")
    return np.asarray(sheet)


def _values(levels: Levels, space: DepthSpace) -> Levels:
    """The map's values that have these levels of nearness: `nearness`, backward."""
    if space.quantity is Quantity.DISPARITY:
        return levels
    if not space.invertible:
        return -levels
    return np.asarray(1.0 / np.maximum(levels, np.finfo(np.float32).tiny))


def _numbers(values: Levels) -> list[str]:
    """In as many digits as tell them apart, three at least; without an exponent where that is short."""
    largest, step = float(np.abs(values).max()), float(np.abs(np.diff(values)).min())
    digits = 3 if not 0 < step < np.inf else int(np.clip(np.ceil(np.log10(largest / step)) + 1, 3, 7))
    if 1e-3 <= largest < 1e6:
        return [np.format_float_positional(v, digits, fractional=False, trim="-") for v in values]
    return [f"{value:.{digits}g}" for value in values]


def _unit(space: DepthSpace) -> str:
    if space.ambiguity is not Ambiguity.METRIC:
        return ""
    return " m" if space.quantity is Quantity.DEPTH else " /m"


def _title(space: DepthSpace) -> list[str]:
    return [str(space.quantity), *([] if space.ambiguity is Ambiguity.METRIC else ["(relative)"])]
