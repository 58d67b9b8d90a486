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
    ticks = [f"{_number(float(value))}{_unit(space)}" for value in _values(levels, space)]
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


def _number(value: float) -> str:
    """Three digits, without an exponent where that is short."""
    if 1e-3 <= abs(value) < 1e6:
        return np.format_float_positional(value, 3, fractional=False, trim="-")
    return f"{value:.3g}"


def _unit(space: DepthSpace) -> str:
    if space.ambiguity is not Ambiguity.METRIC:
        return ""
    return " m" if space.quantity is Quantity.DEPTH else " /m"


def _title(space: DepthSpace) -> list[str]:
    return [str(space.quantity), *([] if space.ambiguity is Ambiguity.METRIC else ["(relative)"])]
