"""Windows of an image: where they lie, and one map of their predictions.

Each window's prediction has a scale and a shift of its own: those are fitted to the prediction of the whole
image, and windows that overlap are averaged with weights that fall smoothly to their borders.
"""

import math
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from depthkd.alignment import fit_scale_and_shift
from depthkd.shapes import Map, Mask

ALL = 0.999  # share of a square's pixels

Weights = Float[Tensor, "window_height window_width"]
Smaller = Float[Tensor, "batch _ _"]
SmallerMask = Bool[Tensor, "batch _ _"]
Box = tuple[int, int]
"""Top and left of a window, in pixels of the whole map."""


def starts(window: int, length: int, overlap: float | int) -> list[int]:
    """Where windows begin along a side of `length` pixels: evenly spaced, from border to border.

    Args:
        window: of a window, in pixels.
        length: of the side, no shorter.
        overlap: the least share of a window that the next one covers as well.
    """
    count = 1 + math.ceil((length - window) / max(1.0, window * (1 - overlap)))
    return [round(i * (length - window) / max(1, count - 1)) for i in range(count)]


def blend(whole: Map, windows: Iterable[Map], boxes: Sequence[Box], coarseness: int = 1) -> Map:
    """The mean of windows' predictions, each fitted by scale and shift to that of the whole image.

    A window whose fit would turn near and far around says nothing of its part, nor does one where it is not
    finite. Where no window says anything, the whole's prediction stands.

    Args:
        whole: the prediction of the whole image, at the size of the result.
        windows: predictions of parts, of one size, in the order of `boxes`.
        boxes: where each begins.
        coarseness: the fit compares means over squares with sides of so many pixels: of as many as one pixel
            of the whole's prediction had before it was enlarged. What a window shows and the whole cannot
            would make the scale too small otherwise.
    """
    total, weights = torch.zeros_like(whole), torch.zeros_like(whole)
    for window, (top, left) in zip(windows, boxes, strict=True):
        height, width = window.shape[-2:]
        place = (slice(None), slice(top, top + height), slice(left, left + width))
        guide = whole[place]
        usable = torch.isfinite(window) & torch.isfinite(guide)
        compared = (window, guide, usable) if coarseness == 1 else _means(window, guide, usable, coarseness)
        scale, shift = (x[:, None, None] for x in fit_scale_and_shift(*compared))
        fitted = torch.where(scale > 0, scale * window + shift, guide)
        says = torch.isfinite(fitted)
        weight = says * smooth_weights(height, width).to(whole.device)
        total[place] += weight * torch.where(says, fitted, 0.0)
        weights[place] += weight
    return torch.where(weights > 0, total / weights, whole)


def _means(window: Map, guide: Map, usable: Mask, side: int) -> tuple[Smaller, Smaller, SmallerMask]:
    """Both maps' means over squares, and which squares are usable in whole."""
    side = min(side, window.shape[-2], window.shape[-1])
    maps = (torch.where(usable, x, 0.0) for x in (window, guide))
    p, t, m = (F.avg_pool2d(x[:, None], side)[:, 0] for x in (*maps, usable.to(window.dtype)))
    return p, t, m > ALL


def smooth_weights(height: int, width: int) -> Weights:
    """Of a window's pixels: sin^2 along both sides, 1 in the middle and near 0 at the borders."""
    sides = (torch.sin(torch.pi * (torch.arange(n) + 0.5) / n) ** 2 for n in (height, width))
    rows, columns = sides
    return rows[:, None] * columns + 1e-6
