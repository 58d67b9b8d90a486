"""Scale and shift of each pixel from the measured points around it.

The coarse step of Prior Depth Anything (Wang et al., arXiv 2505.10565): at each pixel, the scale and the
shift that carry a prediction to the k nearest measured points, which count by the inverse square of their
distances. Points at which the prediction is alike cannot tell a scale; so each pixel's scale is drawn towards
the image's (`shrinkage`), and such pixels keep that and find a shift alone.

On a CPU the pixels of a square block share a list of candidates, which a k-d tree finds for the block's
center: a query for each pixel takes several times as long. Elsewhere each pixel is compared to all points.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int
from scipy.spatial import KDTree
from torch import Tensor

from depthkd.shapes import ArrayMap, MaskArray, OneMap

NEIGHBORS = 5
LARGEST_ON_DEVICE = 1 << 14  # points; where there are more, the CPU's tree is faster than all pairs
PAIRS = 1 << 25  # of a pixel and a point, at once on a device
TIES = 16  # points as far away as the k-th, that a device looks at
SIDE = 0.45  # of a block, as a part of the mean distance between points
LARGEST_SIDE = 16
AT_ONCE = 1 << 13  # pixels, which stay in a processor's cache
ROUNDING = 1e-3  # pixels, of a tree's distances
FAR = 1e9  # pixels, of a point that there is not
SMALLEST_SHRINKAGE = 1e-6  # which rounding needs

Values = Float32[np.ndarray, " points"]
Places = Float32[np.ndarray, "points 2"]


def local_fit(
    prediction: OneMap,
    target: OneMap,
    measured: Bool[Tensor, "1 height width"],
    scale: float,
    shrinkage: float,
    neighbors: int = NEIGHBORS,
) -> OneMap:
    """The prediction of one image carried to the measured points around each pixel; on them, the target.

    At each other pixel it is s p + b with the s and b that minimize

        sum_i w_i (s p_i + b - t_i)^2 + shrinkage * v * sum_i w_i * (s - scale)^2,   w_i = 1 / d_i^2

    over its k nearest points i, at distances d_i in pixels, and all that are as far away as the k-th; v is
    the variance of the prediction over all points of the image. With a shrinkage of 0 it is Prior Depth
    Anything's fit; with an infinite one, and where v is 0, s is `scale`, and b is the inverse-distance
    weighted mean of what is left.

    Args:
        prediction: of unknown scale and shift.
        target: what was measured, in the prediction's quantity.
        measured: where it was; at one point or more.
        scale: towards which the scales are drawn.
        shrinkage: how strongly, 0 or more; at least 1e-6 is taken.
        neighbors: k.
    """
    p, t, where = prediction[0].double(), target[0].double(), measured[0]
    at_points = p[where]
    center, spread = at_points.mean(), at_points.std(correction=0)
    unit = torch.where(spread > at_points.abs().amax() * 1e-7, spread, torch.ones_like(spread))
    middle = t[where].mean()  # around which float32 is exact enough
    normalized, around = ((p - center) / unit).float(), torch.where(where, t - middle, 0).float()
    strength = max(shrinkage, SMALLEST_SHRINKAGE)
    how: tuple[float, float, int] = float(scale * unit), strength, min(neighbors, len(at_points))
    if p.is_cpu or len(at_points) > LARGEST_ON_DEVICE:
        own, theirs, known = (x.cpu().numpy() for x in (normalized, around, where))
        found = torch.from_numpy(fit_on_cpu(own, theirs, known, *how)).to(p.device)
    else:
        found = fit_on_device(normalized, around, where, *how)
    return torch.where(where, t, found.double() + middle).to(prediction.dtype)[None]


def fit_on_cpu(
    prediction: ArrayMap,
    target: ArrayMap,
    measured: MaskArray,
    scale: float,
    shrinkage: float,
    neighbors: int,
) -> ArrayMap:
    """What `local_fit` finds, for a prediction whose variance over the points is 1; 0 on the points."""
    places = np.argwhere(measured).astype(np.float32)
    at_points, targets = prediction[measured], target[measured]
    side = block_side(len(places), measured.size)
    blocks, found = in_blocks(prediction, side), in_blocks(np.zeros_like(prediction), side)
    corners = np.argwhere(~in_blocks(measured, side, True).all((2, 3)))
    for some in candidates(places, corners, side, neighbors):
        row, column = some.block.T
        distance = squared_distances(some, places, side)
        w = np.where(distance <= kth_smallest(distance, neighbors), 1 / distance.clip(0.25), 0)
        p, t = at_points[some.points], targets[some.points]
        first_p, first_t = p[:, :1], t[:, :1]
        p, t = p - first_p, t - first_t
        sums = np.stack([np.ones_like(p), p, t, p * p, p * t], 1) @ w.transpose(1, 0, 2)
        s, b = solved(sums.transpose(1, 0, 2), scale, shrinkage)
        own = blocks[row, column].reshape(len(row), -1)
        found[row, column] = (s * (own - first_p) + b + first_t).reshape(-1, side, side)
    height, width = measured.shape
    whole = found.transpose(0, 2, 1, 3).reshape(found.shape[0] * side, -1)[:height, :width]
    return np.where(measured, 0, whole).astype(np.float32)


def fit_on_device(
    prediction: Float[Tensor, "height width"],
    target: Float[Tensor, "height width"],
    measured: Bool[Tensor, "height width"],
    scale: float,
    shrinkage: float,
    neighbors: int,
) -> Float[Tensor, "height width"]:
    """`fit_on_cpu` by comparing all pixels with all points."""
    places, open_places = (where.nonzero().float() for where in (measured, ~measured))
    at_points, targets = prediction[measured], target[measured]
    near, at_once = min(neighbors + TIES, len(places)), PAIRS // len(places)
    parts = zip(*(torch.split(x, at_once) for x in (open_places, prediction[~measured])), strict=True)
    found = []
    for pixels, own in parts:
        difference = pixels[:, None] - places
        distance, point = difference.square().sum(-1).topk(near, largest=False)
        w = torch.where(distance <= distance[:, neighbors - 1 : neighbors], 1 / distance, 0)
        p, t = at_points[point], targets[point]
        first_p, first_t = p[:, :1], t[:, :1]
        p, t = p - first_p, t - first_t
        sums = [torch.linalg.vecdot(w, x) for x in (torch.ones_like(p), p, t, p * p, p * t)]
        s, b = solved(sums, scale, shrinkage)
        found.append(s * (own - first_p[:, 0]) + b + first_t[:, 0])
    whole = torch.zeros_like(prediction)
    whole[~measured] = torch.cat([*found, prediction.new_zeros(0)])
    return whole


def solved(sums: Any, scale: float, shrinkage: float) -> tuple[Any, Any]:
    """Scale and shift from the sums of w, w p, w t, w p^2 and w p t, where v is 1; see `local_fit`."""
    w, p, t, pp, pt = sums
    mean_p, mean_t = p / w, t / w
    if shrinkage == np.inf:
        return scale, mean_t - scale * mean_p
    variance, covariance = pp / w - mean_p * mean_p, pt / w - mean_p * mean_t
    s = (covariance + shrinkage * scale) / (variance.clip(0) + shrinkage)
    return s, mean_t - s * mean_p


class Candidates(NamedTuple):
    """Blocks, by row and column, and for each of them the points that may be near one of its pixels.

    `points` are numbers of points, the nearest to the block's center first; where `known` is false there is
    none.
    """

    block: Int[np.ndarray, "blocks 2"]
    points: Int[np.ndarray, "blocks points"]
    known: Bool[np.ndarray, "blocks points"]


def block_side(points: int, pixels: int) -> int:
    """Side of the blocks for so many points in so many pixels."""
    return int(np.clip(round(SIDE * (pixels / points) ** 0.5), 1, LARGEST_SIDE))


def in_blocks(values: Any, side: int, beyond: float | bool = 0.0) -> Any:
    """A map as [rows of blocks, columns of blocks, side, side], with `beyond` where blocks reach over it."""
    height, width = values.shape
    padded = np.pad(values, ((0, -height % side), (0, -width % side)), constant_values=beyond)
    return np.ascontiguousarray(padded.reshape(padded.shape[0] // side, side, -1, side).transpose(0, 2, 1, 3))


def candidates(
    places: Places, blocks: Int[np.ndarray, "blocks 2"], side: int, neighbors: int
) -> Iterator[Candidates]:
    """All points that can be among the k nearest of a pixel of a block, a few blocks at once.

    A pixel is at most a radius from its block's center. So its k nearest points are at most the distance of
    the center's k-th and that radius away from it, and one radius more from the center.
    """
    tree, radius = KDTree(places), 0.5**0.5 * (side - 1)
    left, wanted = blocks, min(4 * neighbors, len(places))
    while len(left):
        distance, points = tree.query(left * side + (side - 1) / 2, [*range(1, wanted + 1)])
        known = distance <= distance[:, neighbors - 1 : neighbors] + 2 * radius + ROUNDING
        whole = ~known[:, -1] | (wanted == len(places))
        counts = np.where(whole, known.sum(1), 0)
        order = np.argsort(counts, kind="stable")[np.count_nonzero(~whole) :]
        for some in np.split(order, range(0, len(order), max(1, AT_ONCE // side**2))):
            most = counts[some].max(initial=0)
            if most:
                there = known[some, :most]
                yield Candidates(left[some], np.where(there, points[some, :most], 0), there)
        left, wanted = left[~whole], min(2 * wanted, len(places))


def squared_distances(
    some: Candidates, places: Places, side: int
) -> Float32[np.ndarray, "candidates blocks pixels"]:
    """From each candidate to each pixel of its block, exact below 4096 pixels."""
    at = np.where(some.known[..., None], places[some.points], FAR) - (some.block * side)[:, None]
    y, x = np.square(at[..., None].transpose(2, 1, 0, 3) - np.arange(side)).astype(np.float32)
    squares: Float32[np.ndarray, "candidates blocks side side"] = y[..., None] + x[..., None, :]
    return squares.reshape(*y.shape[:2], side * side)


def kth_smallest(values: Float32[np.ndarray, "count *rest"], k: int) -> Float32[np.ndarray, "*rest"]:
    """The k-th smallest along the first axis, by insertion: few values of many pixels."""
    smallest: list[Float32[np.ndarray, "*rest"]] = []
    for value in values:
        for i, kept in enumerate(smallest):
            smallest[i] = np.minimum(kept, value)
            value = np.maximum(kept, value)
        if len(smallest) < k:
            smallest.append(value)
    return smallest[-1]
