"""Which pairs of points are worth an annotator's look (Depth Anything V2, sections 6.2 and C.3: DA-2K)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int8, Int64
from torch import Tensor

from depthkd.alignment import Fit, align, convert
from depthkd.batch import DepthSpace, Quantity
from depthkd.datasets.da2k import POINTS
from depthkd.errors import UserError
from depthkd.metrics.ordinal import Points, closer_is_first
from depthkd.report.pictures import limits

FLOOR = 1e-6  # of disparities before they are divided
RATIOS: dict[str, Callable[..., Any]] = {"median": np.median, "largest": np.max, "smallest": np.min}

Plane = Float[Tensor, "height width"]
PerPair = Float[Tensor, " pairs"]
KeyPoints = Int64[np.ndarray, "points 2"]


class Prediction(NamedTuple):
    """One model's prediction for an image, at the image's size, and the space that it is in."""

    values: Plane
    space: DepthSpace


@dataclass(frozen=True)
class PairRules:
    """Which pairs are proposed, besides that the models disagree on them.

    Args:
        ratio: how many times as far as the nearer point the other one has to be, at least.
        ratio_of: whose depth ratio counts: the "median" of all models' (geometric), the "largest", the
            "smallest", or that of one model, by its name.
        span: how many times as far as its nearest pixels an image's farthest ones are taken to be, where a
            model's offset is unknown.
        reference: the name of a model of known offset, to which the models of unknown offset are fitted
            instead; None: none is.
        apart: how far all points that are proposed in one image are from each other, at least, as a part of
            the image's diagonal.
        limit: pairs of one image, at most.

    Raises:
        UserError: one of them is outside of its range.
    """

    ratio: float = 3.0
    ratio_of: str = "median"
    span: float = 20.0
    reference: str | None = None
    apart: float = 0.1
    limit: int = 2

    def __post_init__(self) -> None:
        if not 1 <= self.ratio < np.inf:
            raise UserError(f"ratio would be 1 or more, not {self.ratio:g}")
        if not self.ratio < self.span < np.inf:
            raise UserError(f"span would be above the ratio of {self.ratio:g}, not {self.span:g}")
        if not 0 <= self.apart < 1:
            raise UserError(f"apart would be a part of the diagonal, 0 to 1, not {self.apart:g}")
        if self.limit < 1:
            raise UserError(f"limit would be 1 pair an image or more, not {self.limit}")

    def check(self, spaces: Mapping[str, DepthSpace]) -> None:
        """Whether these models can be asked.

        Raises:
            UserError: they are fewer than two, or a name is none of theirs, or the reference has no ratios.
        """
        names = ", ".join(spaces) or "none"
        if len(spaces) < 2:
            raise UserError(
                f"pairs are proposed where models disagree, which takes two or more; given: {names}"
            )
        if self.ratio_of not in {*RATIOS, *spaces}:
            raise UserError(f"ratio_of '{self.ratio_of}' would be one of {', '.join(RATIOS)}, {names}")
        if self.reference is not None and self.reference not in spaces:
            raise UserError(f"reference '{self.reference}' would be one of the models: {names}")
        if self.reference is not None and not spaces[self.reference].invertible:
            raise UserError(
                f"the reference '{self.reference}' predicts {spaces[self.reference]}, whose offset is "
                "unknown: it would be a model of metric depth, or of depth up to a scale"
            )


@dataclass(frozen=True)
class ProposedPair:
    """Two points on which models disagree.

    Args:
        points: as (row, column), in an order that says nothing.
        votes: model -> the point that it takes for the closer one; None: neither.
        ratios: model -> its depth ratio, 1 or more.
        ratio: the one by which the pair was chosen.
    """

    points: tuple[tuple[int, int], tuple[int, int]]
    votes: dict[str, str | None]
    ratios: dict[str, float]
    ratio: float


def grid_points(height: int, width: int, side: int, random: np.random.Generator) -> KeyPoints:
    """One pixel as (row, column), drawn evenly from each cell of a grid of `side` x `side` on the image."""
    cells = np.stack(np.meshgrid(np.arange(side), np.arange(side), indexing="ij"), -1).reshape(-1, 2)
    drawn = (cells + random.random(cells.shape)) * (height, width) / side
    return np.unique(drawn.astype(np.int64), axis=0)  # an image may have fewer pixels than cells


def votes(prediction: Prediction, first: Points, second: Points) -> Int8[Tensor, " pairs"]:
    """1 where a model takes the first point for the closer one, -1 for the second, 0 for neither.

    A model votes in its own space: larger is nearer in disparity, and farther in depth.
    """
    values, quantity = prediction.values, prediction.space.quantity
    for_first, for_second = (
        closer_is_first(values, a, b, quantity) for a, b in ((first, second), (second, first))
    )
    return for_first.to(torch.int8) - for_second.to(torch.int8)


def disagreed(votes: Int8[Tensor, "models pairs"]) -> Bool[Tensor, " pairs"]:
    """Where at least one model takes the first point for the closer one, and at least one the second."""
    return (votes > 0).any(0) & (votes < 0).any(0)


def spanned_disparity(prediction: Prediction, span: float) -> Plane:
    """Disparity of which ratios can be taken, of a model of unknown offset.

    An affine map has no ratios before its offset is known, and min-max normalization alone sets it so that
    the farthest pixel is infinitely far: noise in the sky then has any ratio. Instead the 2nd and 98th
    percentile of an image (as in pictures) are taken to be `span` apart in depth: u in [0, 1] between them
    becomes 1 / span + (1 - 1 / span) u. A span of infinity is min-max normalization.
    """
    low, high = limits(prediction.values.numpy())
    unit = ((prediction.values - low) / max(high - low, 1e-12)).clamp(0, 1)
    spanned = 1 / span + (1 - 1 / span) * unit
    return spanned if prediction.space.quantity is Quantity.DISPARITY else 1 / spanned


def fitted_disparity(prediction: Prediction, reference: Prediction) -> Plane:
    """The same of a model that is fitted to another one's depth, by scale and shift in its own quantity.

    What the fit puts beyond the reference's farthest pixel (or, of affine depth, before its nearest one) is
    drawn in to that.
    """
    quantity = prediction.space.quantity
    target = convert(reference.values.clone(), reference.space, quantity)
    maps = prediction.values[None], prediction.space, reference.values[None], reference.space
    everywhere = torch.ones_like(target, dtype=torch.bool)[None]
    fitted = align(*maps, everywhere, Fit.SCALE_AND_SHIFT, quantity)[0].clamp(
        min=max(float(target.min()), FLOOR)
    )
    return fitted if quantity is Quantity.DISPARITY else 1 / fitted


def ratio_disparity(prediction: Prediction, reference: Prediction | None, span: float) -> Plane:
    """Disparity of which ratios can be taken, of any model; as it is, where its offset is known."""
    if prediction.space.invertible:
        known: Plane = convert(prediction.values.clone(), prediction.space, Quantity.DISPARITY)
        return known.clamp(min=FLOOR)
    return (
        spanned_disparity(prediction, span) if reference is None else fitted_disparity(prediction, reference)
    )


def depth_ratio(disparity: Plane, first: Points, second: Points) -> PerPair:
    """How many times as far as the nearer point the other one is: the larger disparity over the smaller."""
    a, b = (disparity[points[:, 0], points[:, 1]] for points in (first, second))
    return torch.maximum(a, b) / torch.minimum(a, b)


def deciding_ratio(ratios: Mapping[str, PerPair], ratio_of: str) -> PerPair:
    """The depth ratio that counts: one model's, or one over all models; the median is geometric."""
    if ratio_of not in RATIOS:
        return ratios[ratio_of]
    logs = np.stack([ratio.log().numpy() for ratio in ratios.values()])
    return torch.from_numpy(np.exp(RATIOS[ratio_of](logs, axis=0)))


def proposed_pairs(
    predictions: Mapping[str, Prediction], points: KeyPoints, rules: PairRules, random: np.random.Generator
) -> list[ProposedPair]:
    """Pairs of key points of one image, drawn at random among those on which the models disagree and whose
    depth ratio is large enough.

    Args:
        predictions: model -> its prediction.
        points: key points as (row, column).
        rules: see `PairRules`.
        random: what pairs, and the order of their points, are drawn from.
    """
    first, second = np.triu_indices(len(points), k=1)
    turned = random.random(len(first)) < 0.5
    first, second = np.where(turned, second, first), np.where(turned, first, second)
    shape = next(iter(predictions.values())).values.shape
    least = max(1.0, rules.apart * float(np.hypot(*shape)))  # a point stands in one pair
    far = np.hypot(*(points[first] - points[second]).T) >= least
    first, second = first[far], second[far]
    if not len(first):
        return []
    one, other = (torch.from_numpy(points[chosen]) for chosen in (first, second))
    ballots = {name: votes(p, one, other) for name, p in predictions.items()}
    reference = None if rules.reference is None else predictions[rules.reference]
    ratios = {
        name: depth_ratio(ratio_disparity(p, reference, rules.span), one, other)
        for name, p in predictions.items()
    }
    deciding = deciding_ratio(ratios, rules.ratio_of)
    wanted = disagreed(torch.stack(list(ballots.values()))) & (deciding > rules.ratio)
    found: list[ProposedPair] = []
    taken = np.empty((0, 2))
    for index in random.permutation(np.flatnonzero(wanted.numpy())):
        pair = points[[first[index], second[index]]]
        if len(found) == rules.limit:
            break
        if _nearest(pair, taken) < least:
            continue
        taken = np.concatenate([taken, pair])
        (a, b), (c, d) = pair.tolist()
        found.append(
            ProposedPair(
                ((a, b), (c, d)),
                {name: _point(int(ballot[index])) for name, ballot in ballots.items()},
                {name: round(float(ratio[index]), 3) for name, ratio in ratios.items()},
                round(float(deciding[index]), 3),
            )
        )
    return found


def _nearest(pair: Int[np.ndarray, "2 2"], taken: Float[np.ndarray, "points 2"]) -> float:
    """The least distance of a pair's points from those that stand in other pairs."""
    distances = np.hypot(*(pair[:, None] - taken[None]).transpose(2, 0, 1))
    return float(distances.min(initial=np.inf))


def _point(vote: int) -> str | None:
    return None if vote == 0 else POINTS[vote < 0]
