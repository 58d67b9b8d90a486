"""Protocols against a plain re-telling of Marigold's and MiDaS's evaluation in float64."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from depthkd.alignment import Fit
from depthkd.batch import (
    AFFINE_DEPTH,
    AFFINE_DISPARITY,
    METRIC_DEPTH,
    METRIC_DISPARITY,
    SCALE_DISPARITY,
    DepthSpace,
    Quantity,
)
from depthkd.benchmarks import Motorcycle, Protocol
from depthkd.benchmarks.protocol import PROTOCOLS

fast = settings(deadline=None, derandomize=True, max_examples=25)
seeds = st.integers(0, 2**31)
MARIGOLD = Protocol.named("marigold", min_depth=1.0, max_depth=20.0)


def sample(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A noisy affine disparity, depths from inside and outside the range (and 0), a mask."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0.2, 30, (1, 9, 11))
    prediction = 5 / truth + 2 + rng.normal(0, 0.3, truth.shape)
    truth[0, 0, :3] = 0.0
    mask = rng.random(truth.shape) < 0.7
    mask[0, 0, :5] = mask[0, -1, :4] = True
    truth[0, -1, :4] = [2.0, 5.0, 9.0, 14.0]
    prediction[0, -1, 3] = 0.0  # the sky of a network that ends in a ReLU
    return torch.tensor(prediction).float(), torch.tensor(truth).float(), torch.tensor(mask)


def lstsq(p: np.ndarray, t: np.ndarray) -> tuple[float, float]:
    scale, shift = np.linalg.lstsq(np.stack([p, np.ones_like(p)], 1), t, rcond=None)[0]
    return scale, shift


def marigold(p: torch.Tensor, t: torch.Tensor, m: torch.Tensor, low: float, high: float) -> np.ndarray:
    """least_square_disparity of Marigold's evaluation, as it is told in its code."""
    p, t, m = (x[0].double().numpy() for x in (p, t, m))
    valid = (m > 0) & (t > low) & (t < high)
    scale, shift = lstsq(p[valid & (p > 0)], 1 / t[valid & (p > 0)])
    depth = 1 / np.clip(p * scale + shift, 1e-3, None)
    depth = np.clip(np.clip(depth, low, high), 1e-6, None)
    return np.abs(depth - t)[valid] / t[valid], depth


@fast
@given(seeds)
def test_marigold_fits_disparity_models_in_disparity(seed: int) -> None:
    p, t, m = sample(seed)
    p = p.clamp(min=0)
    errors, depth = marigold(p, t, m, 1.0, 20.0)
    scores = MARIGOLD.score(p, AFFINE_DISPARITY, t, METRIC_DEPTH, m)
    assert scores["abs_rel"].item() == pytest.approx(errors.mean(), rel=1e-3)
    aligned = MARIGOLD.aligned(p, AFFINE_DISPARITY, t, METRIC_DEPTH, m)
    np.testing.assert_allclose(aligned[0], depth, rtol=2e-3)
    assert MARIGOLD.compare(aligned, t, METRIC_DEPTH, m) == scores


@fast
@given(seeds)
def test_marigold_fits_depth_models_in_depth(seed: int) -> None:
    p, t, m = sample(seed)
    scores = MARIGOLD.score(p, AFFINE_DEPTH, t, METRIC_DEPTH, m)
    x, y, valid = p[0].double().numpy(), t[0].double().numpy(), m[0].numpy()
    valid = valid & (y > 1) & (y < 20)
    scale, shift = lstsq(x[valid], y[valid])
    depth = np.clip(x * scale + shift, 1, 20)
    assert scores["rmse"].item() == pytest.approx(np.sqrt(np.mean((depth - y)[valid] ** 2)), rel=1e-4)


@fast
@given(seeds)
def test_depth_anything_fits_and_scores_in_disparity(seed: int) -> None:
    p, t, m = sample(seed)
    protocol = Protocol.named("depth_anything", min_depth=1.0, max_depth=20.0)
    scores = protocol.score(p, AFFINE_DISPARITY, t, METRIC_DEPTH, m)
    x, y, valid = p[0].double().numpy(), t[0].double().numpy(), m[0].numpy()
    valid = valid & (y > 1) & (y < 20)
    disparity = 1 / np.where(valid, y, 1)
    scale, shift = lstsq(x[valid], disparity[valid])
    fitted = np.clip(x * scale + shift, 1 / 20, 1)
    expected = np.mean((np.abs(fitted - disparity) / disparity)[valid])
    assert scores["abs_rel"].item() == pytest.approx(expected, rel=1e-3)


@fast
@given(seeds, st.floats(0.1, 10), st.floats(-3, 3))
def test_scores_do_not_see_scale_and_shift_of_an_affine_prediction(seed: int, a: float, b: float) -> None:
    p, t, m = sample(seed)
    p = p.abs() + 1  # without zeros, which are left out of the fit
    for name in ("marigold", "depth_anything"):
        protocol = Protocol.named(name)
        once = protocol.score(p, AFFINE_DISPARITY, t, METRIC_DEPTH, m)
        again = protocol.score(a * p + b, AFFINE_DISPARITY, t, METRIC_DEPTH, m)
        torch.testing.assert_close(again["abs_rel"], once["abs_rel"], rtol=1e-2, atol=1e-3)


@fast
@given(seeds, st.floats(1, 50))
def test_truth_up_to_scale_gives_the_same_relative_metrics(seed: int, factor: float) -> None:
    p, t, m = sample(seed)
    m = m & (t > 1)
    free = replace(MARIGOLD, min_depth=None, max_depth=None, min_disparity=1e-2)
    metric = free.score(p, AFFINE_DISPARITY, t, METRIC_DEPTH, m)
    scaled = replace(free, min_disparity=1e-2 * factor)
    disparity = torch.where(t > 0, factor / t, torch.inf)  # Middlebury: infinite where unknown
    relative = scaled.score(p, AFFINE_DISPARITY, disparity, SCALE_DISPARITY, m)
    for name in ("abs_rel", "log10", "silog", "delta1"):
        torch.testing.assert_close(relative[name], metric[name], rtol=1e-3, atol=1e-3)


def test_valid_is_strictly_inside_the_range() -> None:
    truth = torch.tensor([[[1.0, 1.001, 19.9, 20.0, 0.0, torch.nan, torch.inf, 5.0]]])
    mask = torch.tensor([[[True] * 7 + [False]]])
    expected = [False, True, True, False, False, False, False, False]
    assert MARIGOLD.valid(truth, METRIC_DEPTH, mask).tolist() == [[expected]]
    assert MARIGOLD.valid(1 / truth, METRIC_DISPARITY, mask).tolist() == [[expected]]
    unbounded = replace(MARIGOLD, min_depth=None, max_depth=None)
    assert unbounded.valid(truth, METRIC_DEPTH, mask).sum() == 4


def test_signed_disparities_keep_all_their_pixels() -> None:
    p, t, m = sample(3)
    p = torch.where(p == 0, 0.1, p)
    centered = p - p.median()
    once = MARIGOLD.score(p, AFFINE_DISPARITY, t, METRIC_DEPTH, m)
    again = MARIGOLD.score(centered, AFFINE_DISPARITY, t, METRIC_DEPTH, m)
    assert again["abs_rel"].item() == pytest.approx(once["abs_rel"].item(), rel=0.02)


def test_all_zeros_is_scored_as_the_best_constant() -> None:
    _, t, m = sample(4)
    zeros = MARIGOLD.score(torch.zeros_like(t), AFFINE_DISPARITY, t, METRIC_DEPTH, m)
    ones = MARIGOLD.score(torch.ones_like(t), AFFINE_DISPARITY, t, METRIC_DEPTH, m)
    assert zeros == ones


def test_without_valid_pixels_scores_are_nan_and_aligned_is_finite() -> None:
    p, t, m = sample(5)
    nothing = torch.zeros_like(m)
    scores = MARIGOLD.score(p, AFFINE_DISPARITY, t, METRIC_DEPTH, nothing)
    assert all(torch.isnan(v).all() for v in scores.values())
    assert torch.isfinite(MARIGOLD.aligned(p, AFFINE_DISPARITY, t, METRIC_DEPTH, nothing)).all()


def test_midas_floors_disparities_at_one_over_the_cap() -> None:
    p, t, m = sample(7)
    midas = Protocol.named("midas", min_depth=1.0, max_depth=20.0)
    valid = midas.valid(t, METRIC_DEPTH, m)[0]
    inverse = (1 / t[0][valid]).double().numpy()
    columns = np.stack([p[0][valid].double().numpy(), np.ones(len(inverse))], 1)
    (scale, shift), *_ = np.linalg.lstsq(columns, inverse, rcond=None)
    expected = 1 / np.clip(scale * p[0].double().numpy() + shift, 1 / 20.0, 1 / 1.0)
    aligned = midas.aligned(p, AFFINE_DISPARITY, t, METRIC_DEPTH, m)[0]
    np.testing.assert_allclose(aligned.numpy(), expected, rtol=1e-4)


def test_metric_and_median_protocols() -> None:
    _, t, m = sample(6)
    valid = MARIGOLD.valid(t, METRIC_DEPTH, m)
    metric, median = (Protocol.named(n, min_depth=1.0, max_depth=50.0) for n in ("metric", "median"))
    wrong = 1.1 * t.clamp(min=1.5)
    assert metric.score(wrong, METRIC_DEPTH, t, METRIC_DEPTH, valid & (t > 1.5))["abs_rel"] == pytest.approx(
        0.1
    )
    assert median.score(wrong, METRIC_DEPTH, t, METRIC_DEPTH, valid & (t > 1.5))["abs_rel"] == pytest.approx(
        0.0, abs=1e-6
    )


@pytest.mark.parametrize("broken", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("space", [METRIC_DEPTH, METRIC_DISPARITY])
@pytest.mark.parametrize("name", PROTOCOLS)
def test_what_is_not_finite_costs_the_same_under_every_protocol(
    name: str, space: DepthSpace, clip: bool, broken: float
) -> None:
    p, t, m = (torch.cat([x, x]) for x in sample(9))
    p = p.clamp(min=0.1)
    protocol = Protocol.named(name, min_depth=1.0, max_depth=20.0, clip_predictions=clip)
    m[0, 0, 0] = False
    p[0, 0, 0] = broken  # where nothing counts
    whole = protocol.score(p, space, t, METRIC_DEPTH, m)
    assert 0 < whole["delta3"][0] == whole["delta3"][1]
    p[1, -1, 0] = broken
    found = protocol.score(p, space, t, METRIC_DEPTH, m)
    for metric, values in found.items():
        assert values[0] == whole[metric][0]
        assert values[1] == (0.0 if metric.startswith("delta") else torch.inf), metric
    again = protocol.compare(protocol.aligned(p, space, t, METRIC_DEPTH, m), t, METRIC_DEPTH, m)
    assert all(torch.equal(again[metric], values) for metric, values in found.items())


@fast
@given(seeds, st.sampled_from(["metric", "marigold", "midas", "median"]))
def test_predictions_are_clipped_unless_the_protocol_says_otherwise(seed: int, name: str) -> None:
    _, t, m = sample(seed)
    p = t * torch.from_numpy(np.random.default_rng(seed).uniform(0.1, 9, t.shape)).float() + 0.01
    whole = Protocol.named(name, min_depth=1.0, max_depth=20.0, clip_predictions=False)
    clipped = replace(whole, clip_predictions=True)
    valid = whole.valid(t, METRIC_DEPTH, m)
    x, y = (v[valid].double().numpy() for v in (p, t))
    depth = p[0].double().numpy()
    if name == "marigold":
        scale, shift = lstsq(x, y)
        depth = depth * scale + shift
    elif name == "midas":
        scale, shift = lstsq(1 / x, 1 / y)
        depth = 1 / np.clip(scale / depth + shift, 1e-3, None)
    elif name == "median":
        depth = depth * np.sort(y)[(len(y) - 1) // 2] / np.sort(x)[(len(x) - 1) // 2]
    for protocol, expected in ((whole, depth), (clipped, depth.clip(1.0, 20.0))):
        found = protocol.aligned(p, METRIC_DEPTH, t, METRIC_DEPTH, m)[0].numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
        error = np.mean(np.abs(expected[valid[0]] - y) / y)
        scores = protocol.score(p, METRIC_DEPTH, t, METRIC_DEPTH, m)
        assert scores["abs_rel"].item() == pytest.approx(error, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "prediction", "truth", "sentence"),
    [
        ("depth_anything", AFFINE_DEPTH, METRIC_DEPTH, "'depth_anything': .*prediction as disparity"),
        ("metric", AFFINE_DISPARITY, METRIC_DEPTH, "'metric': .*the prediction as depth, but"),
        ("metric", METRIC_DEPTH, SCALE_DISPARITY, "'metric': without a fit.*target is 'scale disparity'"),
        ("median", AFFINE_DEPTH, METRIC_DEPTH, "'median': .*a scale alone"),
        ("marigold", AFFINE_DISPARITY, AFFINE_DISPARITY, "'marigold': 'affine disparity' cannot be inverted"),
    ],
)
def test_wrong_spaces_are_refused(
    name: str, prediction: DepthSpace, truth: DepthSpace, sentence: str
) -> None:
    p, t, m = sample(7)
    with pytest.raises(ValueError, match=f"protocol {sentence}"):
        Protocol.named(name).score(p, prediction, t, truth, m)


def test_other_mistakes_are_refused() -> None:
    p, t, m = sample(8)
    with pytest.raises(ValueError, match=r"prediction is \[1, 9, 5\], but the truth is \[1, 9, 11\]"):
        MARIGOLD.score(p[..., :5], AFFINE_DISPARITY, t, METRIC_DEPTH, m)
    with pytest.raises(ValueError, match="'mydas' is not a protocol; it would be one of 'marigold'"):
        Protocol.named("mydas")
    with pytest.raises(ValueError, match=r"0 < min_depth < max_depth, not min_depth=5.0, max_depth=1.0"):
        Protocol.named("marigold", min_depth=5.0, max_depth=1.0)
    with pytest.raises(ValueError, match="min_disparity must be above 0"):
        Protocol.named("marigold", min_disparity=0.0)


def test_descriptions_tell_protocols_apart() -> None:
    assert str(MARIGOLD) == (
        "marigold: least-squares scale and shift in the quantity that the model predicts, scored in depth, "
        "valid depth 1 to 20, run at each model's own size"
    )
    assert str(Protocol.named("depth_anything", min_depth=None, max_depth=None, resolution=518)) == (
        "depth_anything: least-squares scale and shift in disparity, scored in disparity, "
        "valid depth 0 to infinity, run at 518 px (shorter side)"
    )
    runs = {"longer 756": "756 px (longer side)", "native": "native size", "518": "518 px (shorter side)"}
    for resolution, words in runs.items():
        assert Protocol.named("midas", resolution=resolution, scale=2.0).run() == f"run at {words} x 2"
    several = replace(MARIGOLD, scales=(0.75, 1.5), flip=True)
    assert several.run() == (
        "run at each model's own size, averaged over 0.75, 1.5 times that, averaged with the mirrored image"
    )
    unclipped = replace(MARIGOLD, clip_predictions=False)
    assert ", valid depth 1 to 20, predictions not clipped, run at" in str(unclipped)
    both = replace(unclipped, clip_only=True)
    assert ", scored in depth, no pixel left out, predictions not clipped, run at" in str(both)
    custom = Protocol("own", Fit.MEDIAN, Quantity.DISPARITY, Quantity.DEPTH)
    assert len({str(p) for p in (*PROTOCOLS.values(), custom)}) == len(PROTOCOLS) + 1


def test_motorcycle_is_metric() -> None:
    benchmark = Motorcycle()
    (one,) = benchmark.samples()
    assert one.depth is not None and one.mask is not None
    assert one.image.shape == (*one.depth.shape, 3) == (500, 741, 3)
    assert 0.9 < one.mask.mean() < 0.95
    known = one.depth[one.mask]
    assert 2.0 < known.min() < 2.2 and 4.9 < known.max() < 5.1
    assert (one.depth[~one.mask] == 0).all()
    with pytest.raises(IndexError, match="motorcycle has one sample"):
        benchmark.sample(1)
