"""Whether a model's predictions agree with the truth as its `space` says: with that sign, in that quantity.

Least squares takes any sign, and an affine fit forgives much of a wrong quantity, so that a model whose
`space` is wrong can have good metrics. So each image's prediction is also fitted, by scale and shift at a few
thousand pixels, in both quantities.

Where the limits are from: 58 measured frames (7-Scenes, KITTI, NYUv2, ICL-NUIM, Middlebury) and 72 scenes,
with predictions of a real teacher and made of the truth, with errors of 5 to 100 %, blurred or cut off. Of
right models at most an eighth of an image set had negative scales, and the other quantity left at least .57
of both the error and the unexplained variance (depth cut off at its 60th percentile; .74 of the others). With
a wrong sign or quantity more than nine tenths of the scales were negative; a wrong quantity with errors of
5 % left at most .43, and with a real teacher .85.
"""

from collections.abc import Iterable, Mapping

import numpy as np
from jaxtyping import Bool, Float64
from torch import Tensor

from depthkd.alignment import Fit, thin_out
from depthkd.batch import DepthSpace, Quantity
from depthkd.benchmarks.protocol import Protocol
from depthkd.shapes import OneMap

Values = Float64[np.ndarray, " pixels"]

SIDE = 128  # px: as many rows and columns are looked at
FEWEST = 256  # pixels: where the thinned map has fewer, the whole one is looked at
FACTS = ("correlation", "correlation_otherwise", "fit_abs_rel", "fit_abs_rel_otherwise")
MUCH_BETTER = 0.5  # of the error and of the variance that is not explained
BETTER = 0.9  # of both, where the sign is wrong anyhow
NOTHING = 1e-3  # an error, or a share of the variance, that says nothing
AGAINST = -0.1  # a mean correlation above it is none
CLEARLY_AGAINST = -0.5  # of one image; of right models, few images in a set have that


def fit_facts(
    raw: OneMap,
    space: DepthSpace,
    truth: OneMap,
    truth_space: DepthSpace,
    mask: Bool[Tensor, "1 height width"],
    protocol: Protocol,
) -> dict[str, float]:
    """Of the prediction for one image: its correlation with the truth, whose sign is the fitted scale's, and
    AbsRel after the fit, in the model's quantity and in the other one ("otherwise").

    Empty where nothing can be fitted: the prediction is constant or not finite, or there are too few pixels.

    Args:
        raw, space: the model's raw prediction.
        truth, truth_space, mask: the sample's.
        protocol: says which pixels count, and clips what is fitted.
    """
    for side in (SIDE, None):
        predictions, truths, known = (thin_out(x, side) for x in (raw, truth, mask))
        valid = protocol.valid(truths, truth_space, known)
        prediction, target = (x[valid].double().cpu().numpy() for x in (predictions, truths))
        if prediction.size >= FEWEST:
            break
    if (
        prediction.size < 3
        or not np.isfinite(prediction).all()
        or np.ptp(prediction) == 0
        or np.ptp(target) == 0
    ):
        return {}
    depth = target if truth_space.quantity is Quantity.DEPTH else 1.0 / target
    own, otherwise = (
        _fitted(prediction, depth, q, protocol) for q in (space.quantity, _other(space.quantity))
    )
    return dict(zip(FACTS, (own[0], otherwise[0], own[1], otherwise[1]), strict=True))


def _fitted(prediction: Values, depth: Values, quantity: Quantity, protocol: Protocol) -> tuple[float, float]:
    """Correlation with the truth in a quantity, and AbsRel of depth after the fit there."""
    truth = depth if quantity is Quantity.DEPTH else 1.0 / depth
    centered, deviation = prediction - prediction.mean(), truth - truth.mean()
    product, variance = (centered * deviation).sum(), (centered**2).sum()  # BLAS would start threads
    fitted = centered * (product / variance) + truth.mean()
    if quantity is Quantity.DISPARITY:
        fitted = 1.0 / np.maximum(fitted, protocol.min_disparity)
    fitted = np.clip(fitted, protocol.min_depth, protocol.max_depth)
    correlation = product / np.sqrt(variance * (deviation**2).sum())
    return float(correlation), float(np.mean(np.abs(fitted - depth) / depth))


def doubts(
    name: str, rows: Iterable[Mapping[str, float]], space: DepthSpace, protocol: Protocol
) -> list[str]:
    """What has to be said of a model's sign and quantity; nothing, if both seem right.

    Args:
        name: the model's.
        rows: `fit_facts` of all images.
        space: of its predictions.
        protocol: under which it was scored.
    """
    known = np.array([[row[fact] for fact in FACTS] for row in rows if FACTS[0] in row])
    if not len(known):
        return []
    correlation, otherwise, error, error_otherwise = known.T
    negative, images = int((correlation < 0).sum()), len(known)
    clearly = int((correlation < CLEARLY_AGAINST).sum())
    against = (2 * negative > images and correlation.mean() < AGAINST) or 4 * clearly > images
    left = max(_ratio(error_otherwise, error), _ratio(1 - otherwise**2, 1 - correlation**2))
    found = []
    if against:
        scale = "fitted scale" if protocol.fit is Fit.SCALE_AND_SHIFT else "scale of a least-squares fit"
        found.append(f"{name}: the {scale} is negative in {negative} of {images} images: is `space` right?")
    if left < (BETTER if against else MUCH_BETTER):
        quantity = _other(space.quantity)
        found.append(
            f"{name}: its predictions go with {quantity} better than with {space.quantity}, the quantity of "
            f"its `space`: AbsRel after a fit of scale and shift is {error_otherwise.mean():.3f} in "
            f"{quantity}, and {error.mean():.3f} in {space.quantity}."
        )
    return found


def _ratio(one: Float64[np.ndarray, " images"], other: Float64[np.ndarray, " images"]) -> float:
    """Of their means, so that 1 comes of two that are both next to nothing."""
    return float((one.mean() + NOTHING) / (other.mean() + NOTHING))


def _other(quantity: Quantity) -> Quantity:
    return Quantity.DISPARITY if quantity is Quantity.DEPTH else Quantity.DEPTH
