"""Closed-form alignment of a prediction to a target: batched, masked, without iteration.

Maps are `[batch, height, width]`; `mask` is true where both are valid. Sums run in float64, results
come back in the input's dtype, and nothing here makes the host wait for the device. On a CPU the
batch is gone through piece by piece (`chunks`): passes over whole maps would wait for memory.
"""

from collections.abc import Callable, Iterator
from enum import StrEnum
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from depthkd.batch import Ambiguity, DepthSpace, Quantity

Map = Float[Tensor, "batch height width"]
Mask = Bool[Tensor, "batch height width"]
PerImage = Float[Tensor, " batch"]
Values = Float[Tensor, "batch *pixels"]
Pixels = Shaped[Tensor, "_ _"]
Moment = Float[Tensor, "batch *sets"]

ONE = 0x3F800000  # the bits of 1.0 in float32
CHUNK = 1 << 16  # pixels a thread, whose temporaries stay in its core's cache


Step = Callable[[Any], Any]  # of pixels, one by one


class Fit(StrEnum):
    """What is fitted, per image, before two maps are compared."""

    SCALE_AND_SHIFT = "scale_and_shift"  # least squares
    SCALE = "scale"  # least squares through the origin
    MEDIAN = "median"  # median to median, and mean absolute deviation to mean absolute deviation
    MEDIAN_SCALE = "median_scale"  # median to median by a factor alone
    NONE = "none"


def unchanged(values: Values) -> Values:
    """The values themselves."""
    return values


def chunks(*maps: Shaped[Tensor, "batch height width"]) -> Iterator[tuple[Pixels, ...]]:
    """The maps as `[batch, pixels]`: on a CPU in pieces of the whole batch, elsewhere all at once."""
    flat = [m.flatten(1) for m in maps]
    batch, pixels = flat[0].shape
    size = max(CHUNK * torch.get_num_threads() // max(batch, 1), 1) if flat[0].is_cpu else max(pixels, 1)
    return zip(*(torch.split(f, size, 1) for f in flat), strict=True)


def every_bit(mask: Pixels) -> Int[Tensor, "rows pixels"]:
    """All bits where the mask is true, none elsewhere: for `keep`."""
    return mask.to(torch.int32).neg_()


def keep(values: Pixels, bits: Int[Tensor, "rows pixels"]) -> Pixels:
    """The float32 `values` where `bits` are set, 0 elsewhere, whatever stands there.

    torch.where branches at every pixel on a CPU, and takes several times as long. No gradient passes.
    """
    return values.view(torch.int32).bitwise_and(bits).view(torch.float32)


def keep_or_1(values: Pixels, bits: Int[Tensor, "rows pixels"]) -> Pixels:
    """As `keep`, but 1 elsewhere."""
    return (values.view(torch.int32) - ONE).bitwise_and_(bits).add_(ONE).view(torch.float32)


def count_true(mask: Pixels) -> Int[Tensor, " rows"]:
    """How many are true in each row."""
    return mask.view(torch.int8).sum(1, dtype=torch.int32)


def masked_mean(values: Map, mask: Mask) -> PerImage:
    """Mean over the valid pixels of each image; 0 where an image has none."""
    total = torch.where(mask, values, 0).flatten(1).sum(1, dtype=torch.float64)
    return (total / mask.flatten(1).sum(1).clamp(min=1)).to(values.dtype)


def masked_median(
    values: Float[Tensor, "*rows pixels"], mask: Bool[Tensor, "*rows pixels"]
) -> Float[Tensor, "*rows"]:
    """True median over the valid pixels of each row; the lower one of two middles; 0 where none is valid."""
    median = torch.where(mask, values, torch.nan).nanmedian(dim=-1).values
    return torch.where(mask.any(dim=-1), median, 0)


def median_and_deviation(values: Map, mask: Mask) -> tuple[PerImage, PerImage]:
    """Median and mean absolute deviation from it over the valid pixels: the shift and scale of SSI losses."""
    median = masked_median(values.flatten(1), mask.flatten(1))
    return median, masked_mean((values - median[:, None, None]).abs(), mask)


def _moments(
    prediction: Map, target: Map, mask: Mask, of_prediction: Step = unchanged, of_target: Step = unchanged
) -> tuple[PerImage, ...]:
    """Over the mask: the count, and the sums of p, t, p^2 and p t; in float64."""
    quick = prediction.dtype is target.dtype is torch.float32 and not prediction.requires_grad
    sums = []
    for p, t, m in chunks(prediction, target, mask):
        p, t = of_prediction(p), of_target(t)
        if quick:
            bits = every_bit(m)
            p, t = keep(p, bits).double(), keep(t, bits).double()
        else:
            p, t = torch.where(m, p, 0.0).double(), torch.where(m, t, 0.0).double()
        vecdot = torch.linalg.vecdot
        sums.append(torch.stack([count_true(m).double(), p.sum(1), t.sum(1), vecdot(p, p), vecdot(p, t)]))
    return torch.stack(sums).sum(0).unbind()


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
    """Scale s and shift t that minimise the sum of (s * prediction + t - target)^2 over the mask.

    A constant prediction gets scale 0 and the target's mean; an empty mask gets 0 and 0.
    """
    scale, shift = solve_scale_and_shift(*_moments(prediction, target, mask))
    return scale.to(prediction.dtype), shift.to(prediction.dtype)


def fit_scale(prediction: Map, target: Map, mask: Mask) -> PerImage:
    """Scale s that minimises the sum of (s * prediction - target)^2 over the mask; 0 if that is all zeros."""
    return _solve_scale(*_moments(prediction, target, mask))[0].to(prediction.dtype)


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
) -> tuple[PerImage, PerImage]:
    """Scale and shift of the named fit, in float64; `of_prediction` and `of_target` bring both maps into
    one quantity, pixel by pixel, if they are not yet in one.
    """
    match fit:
        case Fit.SCALE_AND_SHIFT:
            return solve_scale_and_shift(*_moments(prediction, target, mask, of_prediction, of_target))
        case Fit.SCALE:
            return _solve_scale(*_moments(prediction, target, mask, of_prediction, of_target))
        case Fit.MEDIAN:
            scale, shift = fit_median(of_prediction(prediction), of_target(target), mask)
            return scale.double(), shift.double()
        case Fit.MEDIAN_SCALE:
            scale = fit_median_scale(of_prediction(prediction), of_target(target), mask).double()
            return scale, torch.zeros_like(scale)
        case Fit.NONE:
            one = torch.ones(len(prediction), dtype=torch.float64, device=prediction.device)
            return one, torch.zeros_like(one)


def convert(values: Values, space: DepthSpace, quantity: Quantity, floor: float = 1e-6) -> Values:
    """The same surface as depth or as disparity; values under `floor` are raised to it before the division.

    Raises:
        ValueError: `space` has an unknown offset, so that 1/x means nothing.
    """
    if space.quantity is quantity:
        return values
    space.inverse()
    return values.clamp(min=floor).reciprocal_()


def check_alignment(
    prediction_space: DepthSpace, target_space: DepthSpace, fit: Fit, quantity: Quantity
) -> None:
    """Whether a prediction in one space can be compared with a target in the other after `fit` in `quantity`.

    Raises:
        ValueError: a map cannot be brought into `quantity`, or the fit does not remove what is
            unknown; the sentence names both spaces.
    """
    spaces = f"(prediction '{prediction_space}', target '{target_space}')"
    for what, space in (("prediction", prediction_space), ("target", target_space)):
        if space.quantity is not quantity and not space.invertible:
            raise ValueError(
                f"a fit in {quantity} needs the {what} as {quantity}, but it is '{space}', which "
                f"cannot be inverted before its offset is known {spaces}"
            )
        if fit is Fit.NONE and space.ambiguity is not Ambiguity.METRIC:
            raise ValueError(
                f"without a fit only 'metric' maps can be compared, but the {what} is '{space}' {spaces}"
            )
        if fit in (Fit.SCALE, Fit.MEDIAN_SCALE) and space.ambiguity is Ambiguity.AFFINE:
            raise ValueError(
                f"the fit '{fit}' finds a scale alone, but the {what} is '{space}', whose offset is "
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
) -> Step:
    """What `align` does to predicted pixels, `[batch, pixels]`; what it returns are new tensors.

    Raises:
        ValueError: see `check_alignment`.
    """
    check_alignment(prediction_space, target_space, fit, quantity)
    of_prediction, of_target = (
        partial(convert, space=space, quantity=quantity) for space in (prediction_space, target_space)
    )
    p, t, m = (thin_out(x, fit_side) for x in (prediction, target, mask))
    scale, shift = fit_maps(p, t, m, fit, of_prediction, of_target)

    def aligned(pixels: Pixels) -> Pixels:
        values: Pixels = of_prediction(pixels.to(torch.float64, copy=True))
        return values.mul_(scale[:, None]).add_(shift[:, None]).to(pixels.dtype)

    return aligned


def map_pixels(step: Step, values: Map) -> Map:
    """`step` at every pixel, in the input's dtype."""
    result = values.new_empty(values.shape)
    for pixels, out in chunks(values, result):
        out.copy_(step(pixels))
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
        ValueError: see `check_alignment`.
    """
    step = find_alignment(prediction, prediction_space, target, target_space, mask, fit, quantity, fit_side)
    return map_pixels(step, prediction)
