"""Alignment against slow float64 oracles, and the promises of its docstrings."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from depthkd.alignment import (
    Fit,
    align,
    convert,
    fit_least_absolute,
    fit_maps,
    fit_median,
    fit_median_scale,
    fit_scale_and_shift,
    masked_mean,
    masked_median,
    median_and_deviation,
)
from depthkd.batch import (
    AFFINE_DEPTH,
    AFFINE_DISPARITY,
    METRIC_DEPTH,
    METRIC_DISPARITY,
    SCALE_DISPARITY,
    DepthSpace,
    Quantity,
)

fast = settings(deadline=None, derandomize=True, max_examples=30)
seeds = st.integers(0, 2**31)


def maps(seed: int, batch: int = 3, height: int = 5, width: int = 7) -> tuple[torch.Tensor, ...]:
    """Prediction, target and a mask that leaves at least two pixels an image."""
    rng = np.random.default_rng(seed)
    shape = (batch, height, width)
    mask = rng.random(shape) < rng.choice([0.1, 0.5, 1.0])
    mask[:, 0, :2] = True
    prediction, target = rng.normal(3, 2, shape), rng.uniform(0.5, 9, shape)
    return torch.tensor(prediction).float(), torch.tensor(target).float(), torch.tensor(mask)


def least_squares(p: np.ndarray, t: np.ndarray, shift: bool) -> np.ndarray:
    columns = [p, np.ones_like(p)] if shift else [p]
    return np.linalg.lstsq(np.stack(columns, 1), t, rcond=None)[0]


def valid(tensor: torch.Tensor, mask: torch.Tensor, i: int) -> np.ndarray:
    return tensor[i][mask[i]].double().numpy()


@fast
@given(seeds)
def test_least_squares_fits_match_lstsq(seed: int) -> None:
    p, t, m = maps(seed)
    scale, shift = fit_scale_and_shift(p, t, m)
    factor, _ = fit_maps(p, t, m, Fit.SCALE)
    for i in range(len(p)):
        expected = least_squares(valid(p, m, i), valid(t, m, i), shift=True)
        np.testing.assert_allclose([scale[i], shift[i]], expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(
            factor[i], least_squares(valid(p, m, i), valid(t, m, i), shift=False)[0], rtol=1e-5
        )


@pytest.mark.parametrize("magnitude", [1e-18, 1e-6, 1e6, 1e18])
@pytest.mark.parametrize("fit", [Fit.SCALE_AND_SHIFT, Fit.SCALE, Fit.MEDIAN, Fit.MEDIAN_SCALE])
def test_magnitude_of_the_prediction_does_not_matter(magnitude: float, fit: Fit) -> None:
    p, t, m = maps(1)
    scale, shift = fit_maps(p, t, m, fit)
    scaled, shift_of_scaled = fit_maps(p * magnitude, t, m, fit)
    torch.testing.assert_close(scaled.double() * magnitude, scale.double(), rtol=1e-4, atol=0)
    torch.testing.assert_close(shift_of_scaled, shift, rtol=1e-4, atol=1e-5)


@fast
@given(seeds)
def test_a_fit_of_logarithms_finds_the_power_and_the_factor(seed: int) -> None:
    p, t, m = (x.clamp(min=0.2) if x.is_floating_point() else x for x in maps(seed))
    fitted = align(p, METRIC_DEPTH, t, METRIC_DEPTH, m, Fit.LOG_SCALE_AND_SHIFT, Quantity.DEPTH)
    for i in range(len(p)):
        logs = [np.log(valid(x, m, i)) for x in (p, t)]
        power, factor = least_squares(*logs, shift=True)
        expected = np.exp(power * np.log(p[i].double().numpy()) + factor)
        np.testing.assert_allclose(fitted[i].numpy(), expected, rtol=1e-4)
    again = align(3 * t**0.5, METRIC_DEPTH, t, METRIC_DEPTH, m, Fit.LOG_SCALE_AND_SHIFT, Quantity.DEPTH)
    disparity = align(t**-0.5, METRIC_DISPARITY, t, METRIC_DEPTH, m, Fit.LOG_SCALE_AND_SHIFT, Quantity.DEPTH)
    for found in (again, disparity):
        torch.testing.assert_close(found[m], t[m], rtol=1e-3, atol=0)


def test_a_small_signal_on_a_large_offset_is_found() -> None:
    t = torch.linspace(1, 2, 64).view(1, 8, 8)
    p = 1000 + t  # float32 holds it to 6e-5
    scale, shift = fit_scale_and_shift(p, t, torch.ones_like(t, dtype=torch.bool))
    torch.testing.assert_close(scale[:, None, None] * p + shift[:, None, None], t, rtol=0, atol=3e-4)


@fast
@given(seeds, st.floats(0.01, 100), st.floats(-50, 50))
def test_fit_does_not_see_scale_and_shift_of_the_prediction(seed: int, a: float, b: float) -> None:
    p, t, m = maps(seed)
    everywhere = m | True
    for fit in (Fit.SCALE_AND_SHIFT, Fit.MEDIAN):
        once = align(p, AFFINE_DEPTH, t, METRIC_DEPTH, everywhere, fit, Quantity.DEPTH)
        again = align(a * p + b, AFFINE_DEPTH, t, METRIC_DEPTH, everywhere, fit, Quantity.DEPTH)
        tolerance = 1e-4 * (1 + abs(b) / a)  # what float32 keeps of p beside the shift
        torch.testing.assert_close(again, once, rtol=tolerance, atol=tolerance)


@fast
@given(seeds)
def test_invalid_pixels_and_other_images_do_not_matter(seed: int) -> None:
    p, t, m = maps(seed)
    hidden_p = torch.where(m, p, torch.nan)
    hidden_t = torch.where(m, t, torch.inf)
    order = torch.tensor([2, 0, 1])
    for fit in Fit:
        scale, shift = fit_maps(p, t, m, fit)
        hidden = fit_maps(hidden_p, hidden_t, m, fit)
        assert torch.equal(torch.stack(hidden), torch.stack([scale, shift]))
        permuted = fit_maps(p[order], t[order], m[order], fit)
        torch.testing.assert_close(torch.stack(permuted), torch.stack([scale, shift])[:, order])


@pytest.mark.parametrize("value", [0.0, 0.1, -7.3, 1e10, 1e-10])
def test_constant_prediction_gets_the_best_constant(value: float) -> None:
    _, t, m = maps(2)
    scale, shift = fit_scale_and_shift(torch.full_like(t, value), t, m)
    assert torch.equal(scale, torch.zeros(3))
    torch.testing.assert_close(shift, masked_mean(t, m))
    scale, shift = fit_median(torch.full_like(t, value), t, m)
    assert torch.equal(scale, torch.zeros(3))
    torch.testing.assert_close(shift, median_and_deviation(t, m)[0])


def test_a_constant_with_rounding_noise_counts_as_constant() -> None:
    _, t, m = maps(3)
    noisy = torch.full_like(t, 0.7)
    noisy[:, ::2] = torch.nextafter(noisy[:, ::2], torch.tensor(1.0))
    scale, shift = fit_scale_and_shift(noisy, t, m)
    assert torch.equal(scale, torch.zeros(3))
    torch.testing.assert_close(shift, masked_mean(t, m))


def test_empty_masks_give_zeros_and_finite_gradients() -> None:
    p, t, _ = maps(4)
    p = p.requires_grad_()
    for fit in (Fit.SCALE_AND_SHIFT, Fit.SCALE, Fit.MEDIAN, Fit.MEDIAN_SCALE):
        scale, shift = fit_maps(p, t, torch.zeros_like(t, dtype=torch.bool), fit)
        assert torch.equal(torch.stack([scale, shift]), torch.zeros(2, 3))
        (gradient,) = torch.autograd.grad((scale + shift).sum(), p)
        assert torch.isfinite(gradient).all()


@fast
@given(seeds)
def test_medians_are_the_lower_of_two_middles(seed: int) -> None:
    p, t, m = maps(seed)
    median, deviation = median_and_deviation(p, m)
    scale, shift = fit_median(p, t, m)
    factor = fit_median_scale(p, t, m)
    for i in range(len(p)):
        x, y = np.sort(valid(p, m, i)), np.sort(valid(t, m, i))
        middle_x, middle_y = x[(len(x) - 1) // 2], y[(len(y) - 1) // 2]
        spread_x, spread_y = np.abs(x - middle_x).mean(), np.abs(y - middle_y).mean()
        np.testing.assert_allclose(median[i], middle_x)
        np.testing.assert_allclose(deviation[i], spread_x, rtol=1e-5)
        np.testing.assert_allclose(scale[i], spread_y / spread_x, rtol=1e-4)
        np.testing.assert_allclose(shift[i], middle_y - spread_y / spread_x * middle_x, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(factor[i], middle_y / middle_x, rtol=1e-5)


def test_masked_median_of_few_pixels() -> None:
    values = torch.tensor([[4.0, 1.0, 3.0, 2.0], [4.0, 1.0, 3.0, 2.0], [4.0, 1.0, 3.0, 2.0]])
    mask = torch.tensor([[True] * 4, [True, False, True, True], [False] * 4])
    assert masked_median(values, mask).tolist() == [2.0, 3.0, 0.0]


def test_the_first_of_equal_middles_gets_the_gradient_of_a_median() -> None:
    values = torch.tensor([[3.0, 1.0, 2.0, 2.0, 2.0, 0.0, torch.nan]], requires_grad=True)
    mask = torch.tensor([[True, True, False, True, True, True, True]])
    median = masked_median(values, mask)
    assert median.tolist() == [2.0]
    median.sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [[0, 0, 0, 1, 0, 0, 0]]


def test_masked_mean_sums_in_float64() -> None:
    values = torch.full((1, 2048, 2048), 0.1)
    values[0, 0, 0] = 1e9
    expected = (1e9 + (2048**2 - 1) * float(torch.tensor(0.1))) / 2048**2
    assert masked_mean(values, values > 0).item() == pytest.approx(expected, rel=1e-7)


def test_convert_inverts_and_raises_to_the_floor() -> None:
    depth = torch.tensor([[[0.5, 0.0, -1.0]]])
    assert convert(depth, METRIC_DEPTH, Quantity.DISPARITY, floor=0.25).tolist() == [[[2.0, 4.0, 4.0]]]
    assert convert(depth, AFFINE_DEPTH, Quantity.DEPTH) is depth
    with pytest.raises(ValueError, match="'affine depth' cannot be inverted"):
        convert(depth, AFFINE_DEPTH, Quantity.DISPARITY)


def test_align_inverts_the_target_before_the_fit() -> None:
    _, t, m = maps(5)
    disparity = 3 / t - 1  # an affine disparity that is exactly right
    aligned = align(disparity, AFFINE_DISPARITY, t, METRIC_DEPTH, m, Fit.SCALE_AND_SHIFT, Quantity.DISPARITY)
    torch.testing.assert_close(aligned, 1 / t, rtol=1e-4, atol=1e-5)


def test_align_without_a_fit_only_converts() -> None:
    p, t, m = maps(6)
    p = p.abs() + 0.1
    assert torch.equal(align(p, METRIC_DEPTH, t, METRIC_DEPTH, m, Fit.NONE, Quantity.DEPTH), p)
    disparity = align(p, METRIC_DEPTH, t, METRIC_DISPARITY, m, Fit.NONE, Quantity.DISPARITY)
    torch.testing.assert_close(disparity, 1 / p)


@pytest.mark.parametrize(
    ("prediction", "target", "fit", "quantity", "sentence"),
    [
        (
            AFFINE_DEPTH,
            METRIC_DEPTH,
            Fit.SCALE_AND_SHIFT,
            Quantity.DISPARITY,
            "needs the prediction as disparity, but it is 'affine depth'.*target 'metric depth'",
        ),
        (
            METRIC_DEPTH,
            AFFINE_DISPARITY,
            Fit.SCALE_AND_SHIFT,
            Quantity.DEPTH,
            "needs the target as depth, but it is 'affine disparity'.*prediction 'metric depth'",
        ),
        (AFFINE_DEPTH, METRIC_DEPTH, Fit.NONE, Quantity.DEPTH, "the prediction is 'affine depth'"),
        (METRIC_DEPTH, SCALE_DISPARITY, Fit.NONE, Quantity.DEPTH, "the target is 'scale disparity'"),
        (AFFINE_DEPTH, METRIC_DEPTH, Fit.SCALE, Quantity.DEPTH, "'scale' finds a scale alone.*prediction"),
        (METRIC_DEPTH, AFFINE_DEPTH, Fit.MEDIAN_SCALE, Quantity.DEPTH, "scale alone, but the target"),
    ],
)
def test_align_refuses_what_the_fit_cannot_mend(
    prediction: DepthSpace, target: DepthSpace, fit: Fit, quantity: Quantity, sentence: str
) -> None:
    p, t, m = maps(7)
    with pytest.raises(ValueError, match=sentence):
        align(p, prediction, t, target, m, fit, quantity)


def least_absolute(prediction: np.ndarray, target: np.ndarray) -> tuple[float, float, float]:
    """Scale, shift and sum of |s p + t - y|, as a linear program in (s, t, u): u >= |s p + t - y|."""
    n = len(prediction)
    columns = np.stack([prediction, np.ones(n)], axis=1)
    above = np.block([[columns, -np.eye(n)], [-columns, -np.eye(n)]])
    found = linprog(
        np.concatenate([[0.0, 0.0], np.ones(n)]), above, np.concatenate([target, -target]),
        bounds=[(None, None)] * 2 + [(0, None)] * n,
    )  # fmt: skip
    return float(found.x[0]), float(found.x[1]), float(found.fun)


@pytest.mark.parametrize("noise", [0.0, 0.05, 1.0])
@pytest.mark.parametrize("outliers", [0, 25])
def test_least_absolute_deviations_are_those_of_a_linear_program(noise: float, outliers: int) -> None:
    rng = np.random.default_rng(outliers)
    p = rng.random((3, 8, 10)) * 5 - 1
    y = p * np.array([2.0, 0.01, 40.0])[:, None, None] - 3
    y += noise * y.std((1, 2), keepdims=True) * rng.standard_normal(p.shape)
    mask = rng.random(p.shape) > 0.1
    for i in range(3):
        places = rng.permutation(np.flatnonzero(mask[i]))[:outliers]
        y[i].ravel()[places] += rng.standard_exponential(outliers) * 50 * y[i].std()
    scale, shift = fit_least_absolute(*map(torch.from_numpy, (p, y, mask)))
    for i in range(3):
        s, t, least = least_absolute(p[i][mask[i]], y[i][mask[i]])
        reached = np.abs(scale[i].item() * p[i] + shift[i].item() - y[i])[mask[i]].sum()
        assert reached <= least * (1 + 1e-3) + 1e-6 * np.abs(y[i]).max()
        difference = np.abs((scale[i].item() - s) * p[i] + shift[i].item() - t)
        assert noise == 1 or difference.max() <= 0.01 * np.ptp(s * p[i])  # the minimum is flat
        if not noise:
            np.testing.assert_allclose([scale[i].item(), shift[i].item()], [s, t], rtol=1e-4)


def test_least_absolute_deviations_of_next_to_nothing() -> None:
    p = torch.tensor([[[1.0, 1.0, 1.0]], [[1.0, 2.0, 3.0]], [[1.0, 2.0, 3.0]]])
    t = torch.tensor([[[1.0, 5.0, 6.0]], [[7.0, 7.0, 7.0]], [[0.0, 0.0, 9.0]]])
    mask = torch.tensor([[[True] * 3], [[False] * 3], [[True, True, False]]])
    scale, shift = fit_least_absolute(p, t, mask)
    assert scale.tolist() == [0, 0, 0] and shift[1:].tolist() == [0, 0]
    assert shift[0].item() == pytest.approx(5, abs=1e-3)
    moved, _ = fit_least_absolute(1e6 * p, 1e-6 * t, mask)
    assert torch.isfinite(moved).all()
