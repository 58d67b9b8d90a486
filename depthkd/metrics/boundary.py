"""Sharpness of occlusion boundaries as Depth Pro measures it (arXiv 2410.02073, section 3.2 and appendix).

NumPy on one image at a time. Inputs are depth: the ratios of neighbors mean nothing for an affine
map, so a protocol says what stands in for depth. A pair of neighbors is a boundary at threshold t
where the ratio of their depths exceeds t; each of the four directions of "farther" counts alone.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from depthkd.metrics.mean import MeanByName
from depthkd.shapes import ArrayMap

Values = Shaped[np.ndarray, "_ _"]
Pairs = Float[np.ndarray, " pairs"]
Matte = Bool[np.ndarray, "height width"]
Maps = Float[Tensor, "batch height width"]

SMALLEST_DEPTH = 1e-6
THRESHOLDS = np.linspace(1.05, 1.25, 10)
LOWEST = np.float32(1.05 * (1 - 1e-5))  # a pair with a smaller ratio of float32 cannot exceed 1.05
WEIGHTS = THRESHOLDS / THRESHOLDS.sum()


def inverse_depth(depth: ArrayMap) -> ArrayMap:
    """1 / depth, depth clipped at 1e-6, in float64: what the ratios are of."""
    inverse: ArrayMap = 1.0 / np.clip(depth.astype(np.float64), SMALLEST_DEPTH, None)
    return inverse


def neighbors(values: Values) -> list[tuple[Values, Values]]:
    """Each pixel and its right, left, lower and upper neighbor."""
    return [
        (values[:, :-1], values[:, 1:]),
        (values[:, 1:], values[:, :-1]),
        (values[:-1], values[1:]),
        (values[1:], values[:-1]),
    ]


def exceeding(ratios: Pairs) -> Float[np.ndarray, " thresholds"]:
    """How many of the ratios are above each threshold."""
    return ratios.size - np.searchsorted(np.sort(ratios), THRESHOLDS, side="right").astype(np.float64)


def boundary_f1(prediction: ArrayMap, target: ArrayMap) -> float:
    """Boundary F1: precision and recall of the relations, each the mean over the four directions, per
    threshold, weighted towards high thresholds.

    A product finds the few pairs that can exceed the lowest threshold, and only their ratios are
    computed. A pair counts in both maps at t where the smaller of its two ratios does, so that three
    sorts serve all thresholds.
    """
    precision, recall = np.zeros(len(THRESHOLDS)), np.zeros(len(THRESHOLDS))
    maps = [np.clip(depth, SMALLEST_DEPTH, None) for depth in (prediction, target)]
    for pairs in zip(*(neighbors(depth) for depth in maps), strict=True):
        masks = [far > near * LOWEST for near, far in pairs]
        ours, theirs = (ratios(near[m], far[m]) for (near, far), m in zip(pairs, masks, strict=True))
        both = masks[0] & masks[1]
        agree = exceeding(np.minimum(*(ratios(near[both], far[both]) for near, far in pairs)))
        precision += agree / np.maximum(exceeding(ours), 1) / 4
        recall += agree / np.maximum(exceeding(theirs), 1) / 4
    total = precision + recall
    f1 = np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)
    return float((WEIGHTS * f1).sum())


def ratios(near: Pairs, far: Pairs) -> Pairs:
    """Of the inverse depths, in float64."""
    return (1.0 / near.astype(np.float64)) / (1.0 / far.astype(np.float64))


def thinned(exceed: Float[np.ndarray, "rows pairs"], threshold: float) -> Bool[np.ndarray, "rows pairs"]:
    """Of each run of ratios above the threshold in a row, only the largest (of equals, the first)."""
    above = exceed > threshold
    kept = np.zeros(above.shape, dtype=bool)
    if not above.any():
        return kept
    starts = above.copy()
    starts[:, 1:] &= ~above[:, :-1]
    values, run = exceed[above], np.cumsum(starts[above]) - 1
    largest = np.maximum.reduceat(values, np.flatnonzero(starts[above]))
    places = np.flatnonzero(values == largest[run])
    first = np.unique(run[places], return_index=True)[1]
    kept.ravel()[np.flatnonzero(above)[places[first]]] = True
    return kept


def boundary_recall(prediction: ArrayMap, foreground: Matte) -> float:
    """Boundary recall against a matte (foreground where alpha > 0.1): the share of its transitions, in
    the four directions, at which the thinned prediction has one too; weighted over thresholds.
    """
    recall = np.zeros(len(THRESHOLDS))
    pairs = zip(neighbors(inverse_depth(prediction)), neighbors(foreground), strict=True)
    for direction, ((near, far), (near_matte, far_matte)) in enumerate(pairs):
        exceed, true = near / far, near_matte & ~far_matte
        if direction >= 2:  # runs go along the direction
            exceed, true = exceed.T, true.T
        found = [int((thinned(exceed, t) & true).sum()) for t in THRESHOLDS]
        recall += np.array(found) / max(int(true.sum()), 1) / 4
    return float((WEIGHTS * recall).sum())


class BoundaryF1(MeanByName):
    """The mean of `boundary_f1` over images."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(("boundary_f1",), **settings)

    def update(self, prediction: Maps, target: Maps) -> None:
        """Add a batch of depth maps."""
        pairs = zip(prediction.cpu().numpy(), target.cpu().numpy(), strict=True)
        self.add({"boundary_f1": torch.tensor([boundary_f1(p, t) for p, t in pairs], dtype=torch.float64)})


class BoundaryRecall(MeanByName):
    """The mean of `boundary_recall` over images."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(("boundary_recall",), **settings)

    def update(self, prediction: Maps, foreground: Bool[Tensor, "batch height width"]) -> None:
        """Add a batch of depth maps with their mattes."""
        pairs = zip(prediction.cpu().numpy(), foreground.cpu().numpy(), strict=True)
        values = [boundary_recall(p, f) for p, f in pairs]
        self.add({"boundary_recall": torch.tensor(values, dtype=torch.float64)})
