"""Closed-form alignment of a prediction to a target: batched, masked, without iteration.

Maps are `[batch, height, width]`; `mask` is true where both are valid. Sums run in float64, results
come back in the input's dtype, and nothing here makes the host wait for the device. On a CPU the
batch is gone through piece by piece (`chunks`): passes over whole maps would wait for memory.
"""

from collections.abc import Callable
from enum import StrEnum
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from depthkd.batch import Ambiguity, DepthSpace, Quantity
from depthkd.errors import UserError
from depthkd.pixels import (
    Pixels,
    chunks,
    clamp_,
    every_bit,
    exp_,
    is_array,
    keep,
    kth_largest,
    narrowed,
    natural_log_,
    reciprocal_,
    row_counts,
    row_dots,
    row_sums,
    total,
    widened,
)
from depthkd.shapes import Map, Mask, PerImage

ITERATIONS = 30  # of reweighted least squares
SMALLEST = 1e-6  # what is not above it has the logarithm of it

Values = Float[Tensor, "batch *pixels"]
Moment = Float[Tensor, "batch *sets"]

Step = Callable[[Any], Any]  # of pixels, one by one


class Fit(StrEnum):
    """What is fitted, per image, before two maps are compared."""

    SCALE_AND_SHIFT = "scale_and_shift"  # least squares
    SCALE = "scale"  # least squares through the origin
    MEDIAN = "median"  # median to median, and mean absolute deviation to mean absolute deviation
    MEDIAN_SCALE = "median_scale"  # median to median by a factor alone
    LOG_SCALE_AND_SHIFT = "log_scale_and_shift"  # least squares of logarithms: a power and a factor
    NONE = "none"


WITHOUT_OFFSET = {
    Fit.SCALE: "a scale alone",
    Fit.MEDIAN_SCALE: "a scale alone",
    Fit.LOG_SCALE_AND_SHIFT: "a power and a factor",
}

Select = Callable[[Any, Any], Any]  # of the target's pixels and the mask, which of them count


def unchanged(values: Any) -> Any:
    """The values themselves."""
    return values


def as_given(target: Any, mask: Any) -> Any:
    """The mask itself."""
    return mask


def without_zeros(prediction: Map, mask: Mask) -> Mask:
    """The mask without pixels that are predicted as exactly 0; as it is for images that have no others."""
    nonzero = mask & (prediction != 0)
    return torch.where(nonzero.flatten(1).any(1)[:, None, None], nonzero, mask)


def masked_mean(values: Map, mask: Mask) -> PerImage:
    """Mean over the valid pixels of each image; 0 where an image has none."""
    total = torch.where(mask, values, 0).flatten(1).sum(1, dtype=torch.float64)
    return (total / mask.flatten(1).sum(1).clamp(min=1)).to(values.dtype)


def masked_median(
    values: Float[Tensor, "*rows pixels"], mask: Bool[Tensor, "*rows pixels"]
) -> Float[Tensor, "*rows"]:
    """True median over the valid pixels of each row; the lower one of two middles; 0 where none is valid.

    NaN does not count either. Of equal values, the first gets the gradient, on every device.
    """
    rows, valid = values.flatten(0, -2), (mask & ~values.isnan()).flatten(0, -2)
    with torch.no_grad():
        count = valid.sum(1)
        known = torch.where(valid, rows, -torch.inf)
        median = kth_largest(known, (count // 2 + 1).minimum(count.clamp(min=1)))
        place = ((known == median[:, None]) & valid).to(torch.uint8).argmax(1, keepdim=True)
    found = torch.where(count > 0, torch.where(valid, rows, 0).gather(1, place)[:, 0], 0)
    return found.view(mask.shape[:-1])


def median_and_deviation(values: Map, mask: Mask) -> tuple[PerImage, PerImage]:
    """Median and mean absolute deviation from it over the valid pixels: the shift and scale of SSI losses."""
    median = masked_median(values.flatten(1), mask.flatten(1))
    return median, masked_mean((values - median[:, None, None]).abs(), mask)


def _moments(
    prediction: Map,
    target: Map,
    mask: Mask,
    of_prediction: Step = unchanged,
    of_target: Step = unchanged,
    select: Select = as_given,
    skip_zeros: bool = False,
) -> tuple[PerImage, ...]:
    """Over the mask: the count, and the sums of p, t, p^2 and p t; in float64."""
    parts = []
    with np.errstate(all="ignore"):  # infinite predictions overflow; their metrics become infinite
        for p, t, m in chunks(prediction, target, mask):
            chosen = select(t, m)
            if skip_zeros:
                chosen = chosen & (p != 0)
            p, t = of_prediction(p), of_target(t)
            if is_array(p):
                bits = every_bit(chosen)
                p, t = widened(keep(p, bits)), widened(keep(t, bits))
            else:
                p, t = (torch.where(chosen, x, 0.0).double() for x in (p, t))
            parts.append([row_counts(chosen), row_sums(p), row_sums(t), row_dots(p, p), row_dots(p, t)])
    sums = total(parts, prediction.device)
    empty = sums[0] == 0
    if skip_zeros and (not empty.is_cpu or bool(empty.any())):
        everything = _moments(prediction, target, mask, of_prediction, of_target, select)
        sums = torch.where(empty, torch.stack(everything), sums)
    return sums.unbind()


def solve_scale_and_shift(
    count: Moment, p: Moment, t: Moment, p_square: Moment, product: Moment
) -> tuple[Moment, Moment]:
    """What `fit_scale_and_shift` finds, from the count and the float64 sums of p, t, p^2 and p t."""
    mean_p, mean_t = p / count.clamp(min=1), t / count.clamp(min=1)
    variance = p_square - mean_p * p
    # Below the rounding of float32 input, a variance is noise: the prediction is constant there.
    floor = mean_p * p * torch.finfo(torch.float32).eps ** 2
    decided = variance > floor
    scale = torch.where(decided, (product - mean_p * t) / torch.where(decided, variance, 1), 0)
    return scale, mean_t - scale * mean_p


def _solve_scale(
    count: Moment, p: Moment, t: Moment, p_square: Moment, product: Moment
) -> tuple[Moment, Moment]:
    scale = torch.where(p_square > 0, product / torch.where(p_square > 0, p_square, 1), 0)
    return scale, torch.zeros_like(scale)


def fit_scale_and_shift(prediction: Map, target: Map, mask: Mask) -> tuple[PerImage, PerImage]:
    """Scale s and shift t that minimize the sum of (s * prediction + t - target)^2 over the mask.

    A constant prediction gets scale 0 and the target's mean; an empty mask gets 0 and 0.
    """
    scale, shift = solve_scale_and_shift(*_moments(prediction, target, mask))
    return scale.to(prediction.dtype), shift.to(prediction.dtype)


def fit_least_absolute(prediction: Map, target: Map, mask: Mask) -> tuple[PerImage, PerImage]:
    """Scale s and shift t that minimize the sum of |s * prediction + t - target| over the mask.

    By iteratively reweighted least squares: each pixel's weight is the inverse of its residual in the
    solution before, which starts at least squares. A residual counts as at least a 1e-6th of the median one,
    so that the sum comes within about 1e-3 of its minimum. The fit is where most pixels agree, whatever
    the others say. A constant prediction gets scale 0; an empty mask gets 0 and 0.
    """
    valid = mask.flatten(1)
    count, weight = valid.sum(1).double(), valid.double()
    p, t = (torch.where(valid, x.flatten(1), 0).double() for x in (prediction, target))
    scale = shift = p.new_zeros(len(p))
    for _ in range(ITERATIONS):
        scale, shift = solve_scale_and_shift(count, *(row_dots(weight, x) for x in (p, t, p * p, p * t)))
        residual = (scale[:, None] * p + shift[:, None] - t).abs()
        middle = masked_median(residual, valid)[:, None]
        floor = torch.maximum(middle * 1e-6, t.abs().amax(1, keepdim=True) * 1e-12).clamp(min=1e-300)
        weight = torch.where(valid, 1 / torch.maximum(residual, floor), 0)
        weight *= (count / weight.sum(1).clamp(min=1e-300))[:, None]  # 1 in the mean
    return scale.to(prediction.dtype), shift.to(prediction.dtype)


def fit_median(prediction: Map, target: Map, mask: Mask) -> tuple[PerImage, PerImage]:
    """Scale and shift that carry the prediction's median and mean absolute deviation to the target's."""
    median_p, deviation_p = median_and_deviation(prediction, mask)
    median_t, deviation_t = median_and_deviation(target, mask)
    scale = torch.where(deviation_p > 0, deviation_t / torch.where(deviation_p > 0, deviation_p, 1), 0)
    return scale, median_t - scale * median_p


def fit_median_scale(prediction: Map, target: Map, mask: Mask) -> PerImage:
    """Scale that carries the prediction's median to the target's."""
    median_p = masked_median(prediction.flatten(1), mask.flatten(1))
    median_t = masked_median(target.flatten(1), mask.flatten(1))
    return torch.where(median_p != 0, median_t / torch.where(median_p != 0, median_p, 1), 0)


def fit_maps(
    prediction: Map,
    target: Map,
    mask: Mask,
    fit: Fit,
    of_prediction: Step = unchanged,
    of_target: Step = unchanged,
    select: Select = as_given,
    skip_zeros: bool = False,
) -> tuple[PerImage, PerImage]:
    """Scale and shift of the named fit, in float64.

    Args:
        prediction, target: the maps.
        mask: where both are valid.
        fit: what is fitted.
        of_prediction, of_target: bring both maps into one quantity, pixel by pixel, if they are not in one;
            to its logarithm, for a fit of logarithms.
        select: leaves out more of the mask's pixels, by the target's values.
        skip_zeros: leave out pixels whose prediction is exactly 0, in images that have others.
    """
    maps = (prediction, target, mask)
    match fit:
        case Fit.SCALE_AND_SHIFT | Fit.LOG_SCALE_AND_SHIFT:
            return solve_scale_and_shift(*_moments(*maps, of_prediction, of_target, select, skip_zeros))
        case Fit.SCALE:
            return _solve_scale(*_moments(*maps, of_prediction, of_target, select, skip_zeros))
        case Fit.MEDIAN | Fit.MEDIAN_SCALE:
            chosen = select(target, mask)
            chosen = without_zeros(prediction, chosen) if skip_zeros else chosen
            p, t = of_prediction(prediction), of_target(target)
            if fit is Fit.MEDIAN_SCALE:
                scale = fit_median_scale(p, t, chosen).double()
                return scale, torch.zeros_like(scale)
            scale, shift = fit_median(p, t, chosen)
            return scale.double(), shift.double()
        case Fit.NONE:
            one = torch.ones(len(prediction), dtype=torch.float64, device=prediction.device)
            return one, torch.zeros_like(one)


def convert(values: Any, space: DepthSpace, quantity: Quantity, floor: float = 1e-6) -> Any:
    """The same surface as depth or as disparity; values under `floor` are raised to it before the division.

    Raises:
        UserError: `space` has an unknown offset, so that 1/x means nothing.
    """
    if space.quantity is quantity:
        return values
    space.inverse()
    if is_array(values):
        return reciprocal_(np.clip(values, floor, np.inf))
    return values.clamp(min=floor).reciprocal_()


def check_alignment(
    prediction_space: DepthSpace, target_space: DepthSpace, fit: Fit, quantity: Quantity
) -> None:
    """Whether a prediction in one space can be compared with a target in the other after `fit` in `quantity`.

    Raises:
        UserError: a map cannot be brought into `quantity`, or the fit does not remove what is
            unknown; the sentence names both spaces.
    """
    spaces = f"(prediction '{prediction_space}', target '{target_space}')"
    for what, space in (("prediction", prediction_space), ("target", target_space)):
        if space.quantity is not quantity and not space.invertible:
            raise UserError(
                f"a fit in {quantity} needs the {what} as {quantity}, but it is '{space}', which "
                f"cannot be inverted before its offset is known {spaces}"
            )
        if fit is Fit.NONE and space.ambiguity is not Ambiguity.METRIC:
            raise UserError(
                f"without a fit only 'metric' maps can be compared, but the {what} is '{space}' {spaces}"
            )
        if fit in WITHOUT_OFFSET and space.ambiguity is Ambiguity.AFFINE:
            raise UserError(
                f"the fit '{fit}' finds {WITHOUT_OFFSET[fit]}, but the {what} is '{space}', whose offset is "
                f"unknown too {spaces}"
            )


def thin_out(values: Shaped[Tensor, "batch height width"], side: int | None) -> Shaped[Tensor, "batch _ _"]:
    """Nearest rows and columns (as torch's "nearest" interpolation picks them), at most `side` of each."""
    height, width = values.shape[1:]
    if side is None or max(height, width) <= side:
        return values
    factor = side / max(height, width)
    rows, columns = (
        (torch.arange(int(n * factor), device=values.device) / factor).long() for n in (height, width)
    )
    return values[:, rows[:, None], columns]


def find_alignment(
    prediction: Map,
    prediction_space: DepthSpace,
    target: Map,
    target_space: DepthSpace,
    mask: Mask,
    fit: Fit,
    quantity: Quantity,
    fit_side: int | None = None,
    select: Select = as_given,
    skip_zeros: bool = False,
) -> Step:
    """What `align` does to predicted pixels, `[batch, pixels]`; what it returns are new tensors.

    `select` and `skip_zeros` are those of `fit_maps`.

    Raises:
        UserError: see `check_alignment`.
    """
    check_alignment(prediction_space, target_space, fit, quantity)
    of_prediction, of_target = (
        partial(convert, space=space, quantity=quantity) for space in (prediction_space, target_space)
    )
    if fit is Fit.LOG_SCALE_AND_SHIFT:
        of_prediction, of_target = (partial(_log_of, step) for step in (of_prediction, of_target))
    p, t, m = (thin_out(x, fit_side) for x in (prediction, target, mask))
    scale, shift = fit_maps(p, t, m, fit, of_prediction, of_target, select, skip_zeros)

    def aligned(pixels: Pixels) -> Pixels:
        values = of_prediction(widened(pixels))
        values *= _like(values, scale)
        values += _like(values, shift)
        if fit is Fit.LOG_SCALE_AND_SHIFT:
            values = exp_(values)
        return narrowed(values) if pixels.dtype in (np.float32, torch.float32) else values

    return aligned


def _log_of(step: Step, pixels: Pixels) -> Pixels:
    values = natural_log_(clamp_(widened(step(pixels)), SMALLEST))
    return narrowed(values) if pixels.dtype in (np.float32, torch.float32) else values


def _like(values: Pixels, of_images: PerImage) -> Pixels:
    column = of_images[:, None]
    return column.numpy() if is_array(values) else column


def map_pixels(step: Step, values: Map) -> Map:
    """`step` at every pixel, in the input's dtype."""
    result = values.new_empty(values.shape)
    with np.errstate(all="ignore"):
        for pixels, out in chunks(values, result):
            out[:] = step(pixels)
    return result


def align(
    prediction: Map,
    prediction_space: DepthSpace,
    target: Map,
    target_space: DepthSpace,
    mask: Mask,
    fit: Fit,
    quantity: Quantity,
    fit_side: int | None = None,
) -> Map:
    """The prediction after the fit, as `quantity`, in the target's unit.

    The fit happens in `quantity`, and both maps are brought there first: a target of depth is
    inverted for a fit in disparity, a metric prediction too. An affine prediction of the other
    quantity cannot be. With `fit_side` the fit sees maps whose sides are at most that long.

    Raises:
        UserError: see `check_alignment`.
    """
    step = find_alignment(prediction, prediction_space, target, target_space, mask, fit, quantity, fit_side)
    return map_pixels(step, prediction)
