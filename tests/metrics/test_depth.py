"""Depth metrics against naive float64."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics import Metric

from depthkd.metrics import depth as metrics
from depthkd.metrics.mean import MeanOverImages
from tests.metrics.written_out import THRESHOLDS, numpy_metrics

fast = settings(deadline=None, derandomize=True, max_examples=30)
seeds = st.integers(0, 2**31)

FUNCTIONS = {
    "abs_rel": metrics.absolute_relative_error,
    "sq_rel": metrics.squared_relative_error,
    "rmse": metrics.root_mean_squared_error,
    "rmse_log": metrics.root_mean_squared_log_error,
    "log10": metrics.log10_error,
    "silog": metrics.scale_invariant_log_error,
    "irmse": metrics.inverse_root_mean_squared_error,
    "delta1": metrics.delta_accuracy,
    "delta2": lambda p, t, m: metrics.delta_accuracy(p, t, m, 1.25**2),
    "delta3": lambda p, t, m: metrics.delta_accuracy(p, t, m, 1.25**3),
    "delta_1_05": lambda p, t, m: metrics.delta_accuracy(p, t, m, 1.05),
    "delta_1_10": lambda p, t, m: metrics.delta_accuracy(p, t, m, 1.10),
    "delta_1_15": lambda p, t, m: metrics.delta_accuracy(p, t, m, 1.15),
    "delta_1_20": lambda p, t, m: metrics.delta_accuracy(p, t, m, 1.20),
}
CLASSES: dict[str, Callable[[], Metric]] = {
    "abs_rel": metrics.AbsoluteRelativeError,
    "sq_rel": metrics.SquaredRelativeError,
    "rmse": metrics.RootMeanSquaredError,
    "rmse_log": metrics.RootMeanSquaredLogError,
    "log10": metrics.Log10Error,
    "silog": metrics.ScaleInvariantLogError,
    "irmse": metrics.InverseRootMeanSquaredError,
    "delta1": metrics.Delta1,
    "delta2": metrics.Delta2,
    "delta3": metrics.Delta3,
    "delta_1_05": lambda: metrics.DeltaAccuracy(1.05),
    "delta_1_10": lambda: metrics.DeltaAccuracy(1.10),
    "delta_1_15": lambda: metrics.DeltaAccuracy(1.15),
    "delta_1_20": lambda: metrics.DeltaAccuracy(1.20),
}


def maps(seed: int, batch: int = 3, unit: float = 1.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    shape = (batch, 6, 5)
    target = rng.uniform(0.5, 10, shape)
    prediction = target * np.exp(rng.normal(0, 0.4, shape))
    mask = rng.random(shape) < rng.choice([0.1, 0.6, 1.0])
    mask[:, 0, 0] = True
    return torch.tensor(prediction * unit).float(), torch.tensor(target * unit).float(), torch.tensor(mask)


def naive(p: torch.Tensor, t: torch.Tensor, m: torch.Tensor) -> list[dict[str, float]]:
    return [numpy_metrics(p[i][m[i]].double().numpy(), t[i][m[i]].double().numpy()) for i in range(len(p))]


def agree(name: str, found: torch.Tensor, p: torch.Tensor, t: torch.Tensor, m: torch.Tensor) -> None:
    """To 1e-6, relative or absolute (of silog's unit, 1 %); accuracies but for pixels at the threshold.

    A pixel is there where rounding its ratio to float32 could move it over the threshold.
    """
    for i, expected in enumerate(naive(p, t, m)):
        tolerance = 1e-4 if name == "silog" else 1e-6
        if name in THRESHOLDS:
            distance = (p[i][m[i]].double() / t[i][m[i]].double()).log().abs()
            close = (distance - np.log(THRESHOLDS[name])).abs() < 5e-7 * (1 + distance)
            tolerance += float(close.double().mean())
        assert found[i].item() == pytest.approx(expected[name], rel=1e-6, abs=tolerance), name


@fast
@given(seeds, st.sampled_from([1e-3, 1.0, 1e3]))
def test_each_metric_is_its_formula(seed: int, unit: float) -> None:
    p, t, m = maps(seed, unit=unit)
    together = metrics.depth_metrics(p, t, m)
    assert list(together) == list(FUNCTIONS) == list(CLASSES) == list(metrics.FORMULAS)
    for name, function in FUNCTIONS.items():
        agree(name, function(p, t, m), p, t, m)
        assert torch.equal(together[name], function(p, t, m)), name


CASES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "exact": lambda p, t: t,
    "doubled": lambda p, t: 2 * t,
    "a thousandth off": lambda p, t: 1.001 * t,
    "constant": lambda p, t: torch.full_like(t, 0.7),
    "at a threshold": lambda p, t: 1.25 * t,
    "far too small": lambda p, t: 1e-3 * t,
    "far too large": lambda p, t: 1e4 * t,
}


@pytest.mark.parametrize("pixels", [1, 2, 30, 9000])
@pytest.mark.parametrize("case", CASES)
def test_degenerate_predictions_have_the_metrics_of_their_formulas(case: str, pixels: int) -> None:
    rng = np.random.default_rng(pixels)
    t = torch.tensor(rng.uniform(0.5, 10, (2, 100, 120))).float()
    p = CASES[case](t * 1.1, t)
    m = torch.zeros_like(t, dtype=torch.bool)
    m.view(2, -1)[:, rng.permutation(12000)[:pixels]] = True
    for name, values in metrics.depth_metrics(p, t, m).items():
        agree(name, values, p, t, m)


@pytest.mark.parametrize("threads", [1, 2])
def test_large_maps_in_chunks_have_them_too(threads: int) -> None:
    rng = np.random.default_rng(0)
    t = torch.tensor(rng.uniform(0.5, 60, (3, 240, 321))).float()
    p = t * torch.tensor(np.exp(rng.normal(0.1, 0.2, t.shape))).float()
    m = torch.tensor(rng.random(t.shape) > 0.2)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = metrics.depth_metrics(p, t, m)
        turned = metrics.depth_metrics(*(x.transpose(1, 2) for x in (p, t, m)))  # not contiguous
    finally:
        torch.set_num_threads(before)
    for name, values in found.items():
        agree(name, values, p, t, m)
        agree(name, turned[name], p, t, m)


@fast
@given(seeds)
def test_invalid_pixels_do_not_matter(seed: int) -> None:
    p, t, m = maps(seed)
    clean = metrics.depth_metrics(p, t, m)
    for junk in (torch.nan, torch.inf, 0.0, -5.0):
        dirty = metrics.depth_metrics(torch.where(m, p, junk), torch.where(m, t, junk), m)
        assert all(torch.equal(dirty[name], clean[name]) for name in clean)


@fast
@given(seeds)
def test_invariances(seed: int) -> None:
    p, t, m = maps(seed)
    found, flipped = metrics.depth_metrics(p, t, m), metrics.depth_metrics(p.flip(2), t.flip(2), m.flip(2))
    scaled, swapped = metrics.depth_metrics(4 * p, 4 * t, m), metrics.depth_metrics(t, p, m)
    double = metrics.depth_metrics(2 * p, t, m)
    for name in found:
        torch.testing.assert_close(flipped[name], found[name])
    for name in ("abs_rel", "rmse_log", "log10", "silog", "delta1", "delta2", "delta3"):
        torch.testing.assert_close(scaled[name], found[name], rtol=1e-4, atol=1e-4)
    for name in ("rmse", "rmse_log", "log10", "silog", "irmse", "delta1"):
        torch.testing.assert_close(swapped[name], found[name])
    torch.testing.assert_close(double["silog"], found["silog"], rtol=1e-3, atol=1e-3)


def test_a_perfect_prediction() -> None:
    _, t, m = maps(0)
    for name, values in metrics.depth_metrics(t, t, m).items():
        assert values.tolist() == [1.0 if name.startswith("delta") else 0.0] * 3


def test_silog_of_nearly_constant_ratios_does_not_cancel() -> None:
    t = torch.linspace(1, 9, 64).view(1, 8, 8)
    noise = 1e-4 * torch.tensor([1.0, -1.0]).repeat(32).view(1, 8, 8)
    silog = metrics.scale_invariant_log_error(1000 * t * noise.exp(), t, t > 0)
    assert silog.item() == pytest.approx(100 * 1e-4, rel=0.01)


@pytest.mark.parametrize("broken", [torch.nan, -1.0, 0.0])
def test_a_broken_prediction_is_not_a_missing_truth(broken: float) -> None:
    p, t, m = maps(1)
    p[1, 0, 0] = broken
    values = metrics.depth_metrics(p, t, m)
    for name in ("rmse_log", "log10", "silog"):
        assert values[name][1] == torch.inf
    if broken != broken:
        assert all(values[n][1] == torch.inf for n in values if not n.startswith("delta"))
    p[1, 0, 0] = t[1, 0, 0]
    repaired = metrics.depth_metrics(p, t, m)
    for name in THRESHOLDS:  # a NaN breaks the image, and another number that is no depth is a miss
        expected = 0.0 if broken != broken else float(repaired[name][1] - 1 / m[1].sum())
        assert values[name][1] == pytest.approx(expected, abs=1e-6)
        assert values[name][0] == repaired[name][0]


KINDS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "arrays": lambda x: x,
    "tensors": lambda x: x.clone().requires_grad_(),  # what a GPU would do
    "float64": lambda x: x.double(),
}


@pytest.mark.parametrize("kind", KINDS)
@fast
@given(seeds, st.sampled_from([1.0, 1e-3, 3.0, 512.0]))
def test_accuracies_are_those_of_float64_at_exact_ties_too(kind: str, seed: int, unit: float) -> None:
    """Whole numbers and dyadic factors meet thresholds exactly; neighbors of theirs nearly do."""
    rng = np.random.default_rng(seed)
    t = rng.integers(1, 60, (2, 24, 30)).astype(np.float32)
    ratios = rng.choice([1.25, 0.8, 1.25**2, 1.25**-2, 1.25**3, 1.05, 1.1, 1 / 1.1, 1.15, 1.2, 1.0], t.shape)
    p = (t * ratios).astype(np.float32)
    p = np.where(rng.random(t.shape) < 0.3, np.nextafter(p, np.float32(rng.choice([0, 99]))), p)
    p = np.where(rng.random(t.shape) < 0.1, -p, p)
    m = torch.from_numpy(rng.random(t.shape) < 0.8)
    p, t = (KINDS[kind](torch.from_numpy(x * np.float32(unit))) for x in (p, t))
    found = metrics.depth_metrics(p, t, m)
    for i in range(2):
        one, other = (x[i][m[i]].detach().double().numpy() for x in (p, t))
        ratio = np.where(one > 0, np.maximum(one / other, other / one), np.inf)
        for name, threshold in THRESHOLDS.items():
            assert found[name][i].item() == pytest.approx(np.mean(ratio < threshold), abs=1e-7), name


def test_a_ratio_of_the_threshold_is_no_hit() -> None:
    t = torch.tensor([[[10.0, 8.0, 10.0, 16.0, 64.0, 21.0, 20.0, 1.0, 4.0]]])
    p = torch.tensor([[[8.0, 10.0, 12.5, 25.0, 125.0, 20.0, 21.0, -1.0, 5.0]]])
    everywhere = torch.ones_like(t, dtype=torch.bool)
    hits = {"delta1": 2, "delta2": 6, "delta3": 7, "delta_1_05": 0, "delta_1_10": 2}
    for inverse in (False, True):
        found = metrics.depth_metrics(p, t, everywhere, inverse=inverse)
        assert {n: round(9 * float(found[n])) for n in hits} == hits
    assert metrics.delta_accuracy(p[..., :1], t[..., :1], everywhere[..., :1]) == 0
    with pytest.raises(ValueError, match="must be above 1, not 0"):
        metrics.delta_accuracy(p, t, everywhere, 0.8)


@fast
@given(seeds)
def test_metrics_of_the_inverse_are_those_of_inverted_maps(seed: int) -> None:
    p, t, m = maps(seed)
    found = metrics.depth_metrics(p, t, m, inverse=True)
    for name, values in metrics.depth_metrics(1 / p, 1 / t, m).items():
        if name not in THRESHOLDS:
            torch.testing.assert_close(found[name], values, rtol=1e-5, atol=1e-5)


def test_images_without_a_valid_pixel_are_skipped_and_counted() -> None:
    p, t, m = maps(2)
    m[1] = False
    values = metrics.depth_metrics(p, t, m)
    assert all(torch.isnan(v).tolist() == [False, True, False] for v in values.values())
    collection, single = metrics.DepthMetrics(), metrics.AbsoluteRelativeError()
    collection.update(p, t, m)
    single.update(p, t, m)
    means = collection.compute()
    assert (means["images"], means["skipped"]) == (2, 1)
    assert means["abs_rel"] == single.compute() == values["abs_rel"].double()[[0, 2]].mean()
    single.reset()
    single.update(p[1:2], t[1:2], m[1:2])
    assert torch.isnan(single.compute())


@pytest.mark.parametrize("name", CLASSES)
def test_classes_are_means_over_images_whatever_the_batches(name: str) -> None:
    p, t, m = maps(3, batch=7)
    single, collection = CLASSES[name](), metrics.DepthMetrics()
    from_scores = MeanOverImages([name])
    for part in (slice(0, 3), slice(3, 6), slice(6, 7)):  # the last is smaller
        single.update(p[part], t[part], m[part])
        collection.update(p[part], t[part], m[part])
        from_scores.update(metrics.depth_metrics(p[part], t[part], m[part]))
    expected = np.mean([metrics[name] for metrics in naive(p, t, m)])
    for value in (single.compute(), collection.compute()[name], from_scores.compute()[name]):
        assert value.item() == pytest.approx(expected, rel=1e-6)


def test_a_missing_score_is_an_error() -> None:
    with pytest.raises(KeyError, match="boundary_f1"):
        MeanOverImages(["abs_rel", "boundary_f1"]).update({"abs_rel": torch.ones(1)})
