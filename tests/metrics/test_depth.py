"""Depth metrics against naive float64, in one process and in two."""

import multiprocessing
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics import Metric

from depthkd.metrics import depth as metrics
from depthkd.metrics.mean import MeanOverImages

fast = settings(deadline=None, derandomize=True, max_examples=30)
seeds = st.integers(0, 2**31)

NAIVE: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "abs_rel": lambda p, t: np.mean(np.abs(p - t) / t),
    "sq_rel": lambda p, t: np.mean((p - t) ** 2 / t),
    "rmse": lambda p, t: np.sqrt(np.mean((p - t) ** 2)),
    "rmse_log": lambda p, t: np.sqrt(np.mean((np.log(p) - np.log(t)) ** 2)),
    "log10": lambda p, t: np.mean(np.abs(np.log10(p) - np.log10(t))),
    "silog": lambda p, t: 100 * np.sqrt(np.mean(np.log(p / t) ** 2) - np.mean(np.log(p / t)) ** 2),
    "irmse": lambda p, t: np.sqrt(np.mean((1 / p - 1 / t) ** 2)),
    "delta1": lambda p, t: np.mean(np.maximum(p / t, t / p) < 1.25),
    "delta2": lambda p, t: np.mean(np.maximum(p / t, t / p) < 1.25**2),
    "delta3": lambda p, t: np.mean(np.maximum(p / t, t / p) < 1.25**3),
}
FUNCTIONS = {
    "abs_rel": metrics.absolute_relative_error,
    "sq_rel": metrics.squared_relative_error,
    "rmse": metrics.root_mean_squared_error,
    "rmse_log": metrics.root_mean_squared_log_error,
    "log10": metrics.log10_error,
    "silog": metrics.scale_invariant_log_error,
    "irmse": metrics.inverse_root_mean_squared_error,
    "delta1": metrics.delta_accuracy,
    "delta2": lambda p, t, m: metrics.delta_accuracy(p, t, m, power=2),
    "delta3": lambda p, t, m: metrics.delta_accuracy(p, t, m, power=3),
}
CLASSES: dict[str, type[Metric]] = {
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
}


def maps(seed: int, batch: int = 3, unit: float = 1.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    shape = (batch, 6, 5)
    target = rng.uniform(0.5, 10, shape)
    prediction = target * np.exp(rng.normal(0, 0.4, shape))
    mask = rng.random(shape) < rng.choice([0.1, 0.6, 1.0])
    mask[:, 0, 0] = True
    return torch.tensor(prediction * unit).float(), torch.tensor(target * unit).float(), torch.tensor(mask)


def naive(name: str, p: torch.Tensor, t: torch.Tensor, m: torch.Tensor) -> list[float]:
    return [NAIVE[name](p[i][m[i]].double().numpy(), t[i][m[i]].double().numpy()) for i in range(len(p))]


@fast
@given(seeds, st.sampled_from([1e-3, 1.0, 1e3]))
def test_each_metric_is_its_formula(seed: int, unit: float) -> None:
    p, t, m = maps(seed, unit=unit)
    together = metrics.depth_metrics(p, t, m)
    assert list(together) == list(NAIVE)
    for name, function in FUNCTIONS.items():
        expected = naive(name, p, t, m)
        # One valid pixel has no deviation: there the naive silog is the root of a rounding error.
        np.testing.assert_allclose(function(p, t, m), expected, rtol=1e-4, atol=1e-4)
        assert torch.equal(together[name], function(p, t, m)), name


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
    figures, flipped = metrics.depth_metrics(p, t, m), metrics.depth_metrics(p.flip(2), t.flip(2), m.flip(2))
    scaled, swapped = metrics.depth_metrics(4 * p, 4 * t, m), metrics.depth_metrics(t, p, m)
    double = metrics.depth_metrics(2 * p, t, m)
    for name in figures:
        torch.testing.assert_close(flipped[name], figures[name])
    for name in ("abs_rel", "rmse_log", "log10", "silog", "delta1", "delta2", "delta3"):
        torch.testing.assert_close(scaled[name], figures[name], rtol=1e-4, atol=1e-4)
    for name in ("rmse", "rmse_log", "log10", "silog", "irmse", "delta1"):
        torch.testing.assert_close(swapped[name], figures[name])
    torch.testing.assert_close(double["silog"], figures["silog"], rtol=1e-3, atol=1e-3)


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
        assert all(values[n][1] == torch.inf for n in NAIVE if not n.startswith("delta"))
    p[1, 0, 0] = t[1, 0, 0]
    repaired = metrics.depth_metrics(p, t, m)
    for name in ("delta1", "delta2", "delta3"):  # that pixel is a miss
        assert values[name][1] == pytest.approx(float(repaired[name][1] - 1 / m[1].sum()), abs=1e-6)


def test_images_without_a_valid_pixel_are_skipped_and_counted() -> None:
    p, t, m = maps(2)
    m[1] = False
    values = metrics.depth_metrics(p, t, m)
    assert all(torch.isnan(v).tolist() == [False, True, False] for v in values.values())
    collection, single = metrics.DepthMetrics(), metrics.AbsoluteRelativeError()
    collection.update(p, t, m)
    single.update(p, t, m)
    figures = collection.compute()
    assert (figures["images"], figures["skipped"]) == (2, 1)
    assert figures["abs_rel"] == single.compute() == values["abs_rel"].double()[[0, 2]].mean()
    single.reset()
    single.update(p[1:2], t[1:2], m[1:2])
    assert torch.isnan(single.compute())


@pytest.mark.parametrize("name", NAIVE)
def test_classes_are_means_over_images_whatever_the_batches(name: str) -> None:
    p, t, m = maps(3, batch=7)
    single, collection = CLASSES[name](), metrics.DepthMetrics()
    from_scores = MeanOverImages([name])
    for part in (slice(0, 3), slice(3, 6), slice(6, 7)):  # the last is smaller
        single.update(p[part], t[part], m[part])
        collection.update(p[part], t[part], m[part])
        from_scores.update(metrics.depth_metrics(p[part], t[part], m[part]))
    expected = np.mean(naive(name, p, t, m))
    for value in (single.compute(), collection.compute()[name], from_scores.compute()[name]):
        assert value.item() == pytest.approx(expected, rel=1e-4)


def test_a_missing_score_is_an_error() -> None:
    with pytest.raises(KeyError, match="boundary_f1"):
        MeanOverImages(["abs_rel", "boundary_f1"]).update({"abs_rel": torch.ones(1)})


def _rank(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    p, t, m = maps(4, batch=5)
    m[4] = False
    mine = [slice(0, 3)] if rank == 0 else [slice(3, 4), slice(4, 5)]  # uneven, one of them empty
    collection, single = metrics.DepthMetrics(), metrics.ScaleInvariantLogError()
    for part in mine:
        collection.update(p[part], t[part], m[part])
        single.update(p[part], t[part], m[part])
    torch.save({**collection.compute(), "single": single.compute()}, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_equal_one(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    ranks = [fork.Process(target=_rank, args=(rank, tmp_path)) for rank in range(2)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        for rank in ranks:
            rank.start()
    for rank in ranks:
        rank.join(60)
        assert rank.exitcode == 0
    p, t, m = maps(4, batch=5)
    m[4] = False
    alone = metrics.DepthMetrics()
    alone.update(p, t, m)
    expected = alone.compute()
    for rank in range(2):
        together = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        single = together.pop("single")
        torch.testing.assert_close(together, expected, rtol=1e-12, atol=0)
        torch.testing.assert_close(single, expected["silog"], rtol=1e-12, atol=0)
