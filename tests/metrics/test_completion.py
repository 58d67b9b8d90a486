"""The metrics of depth completion against the formulas of its papers, and the columns of its tables."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from depthkd import metrics
from depthkd.batch import METRIC_DEPTH, METRIC_DISPARITY
from depthkd.benchmarks import Protocol
from depthkd.evaluation.scoring import Fitted
from depthkd.metrics.catalogue import COMPLETION_COLUMNS, FORMULAS, MetricSet, columns, names_of
from depthkd.metrics.depth import (
    completion_metrics,
    inverse_mean_absolute_error,
    mean_absolute_error,
)
from depthkd.report.table import metrics_table
from tests.metrics.written_out import numpy_completion, numpy_metrics


def maps(seed: int, size: tuple[int, int] = (37, 53)) -> tuple[Tensor, Tensor, Tensor]:
    """Prediction, truth and mask of two images."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0.5, 60, (2, *size)) if seed % 2 else np.exp(rng.normal(1, 0.5, (2, *size)))
    prediction = truth * np.exp(rng.normal(0, 0.03 + 0.1 * (seed % 3), truth.shape))
    mask = torch.from_numpy(rng.random(truth.shape) > 0.4)
    return torch.tensor(prediction).float(), torch.tensor(truth).float(), mask


@pytest.mark.parametrize("seed", range(6))
def test_each_metric_is_its_formula(seed: int) -> None:
    p, t, m = maps(seed, (400, 500) if seed == 5 else (37, 53))
    found = completion_metrics(p, t, m)
    assert list(found) == names_of([MetricSet.COMPLETION])
    for i in range(2):
        expected = numpy_completion(p[i][m[i]].double().numpy(), t[i][m[i]].double().numpy())
        assert {n: float(v[i]) for n, v in found.items()} == pytest.approx(expected, rel=1e-6, abs=1e-7)
    functions: dict[str, Callable[..., Tensor]] = {
        "mae": mean_absolute_error, "imae": inverse_mean_absolute_error,
    }  # fmt: skip
    for name, function in functions.items():
        assert torch.equal(function(p, t, m), found[name])
    gpu_like = completion_metrics(p.requires_grad_(), t, m)  # stays tensors, as on a device
    for name, values in found.items():
        torch.testing.assert_close(gpu_like[name].detach(), values, rtol=1e-5, atol=1e-6)


def test_images_without_a_pixel_and_broken_predictions() -> None:
    p, t, m = maps(1)
    m[0] = False
    p[1, m[1].nonzero()[0, 0], m[1].nonzero()[0, 1]] = torch.nan
    for name, values in completion_metrics(p, t, m).items():
        assert values[0].isnan(), name
        assert float(values[1]) == (0.0 if name.startswith("delta") else float("inf")), name
    mean = metrics.MeanAbsoluteError()
    mean.update(*maps(1))
    assert float(mean.compute()) == pytest.approx(float(mean_absolute_error(*maps(1)).mean()))


def test_the_units_of_a_benchmark_are_those_of_its_errors() -> None:
    p, t, m = maps(3)
    protocol = Protocol.named("completion", max_depth=50.0)
    one = Fitted(t[:1], METRIC_DEPTH, m[:1], p[:1])
    meters, millimeters = (one.completion_metrics(protocol, unit) for unit in ("m", "mm"))  # type: ignore[arg-type]
    valid = m[0] & (t[0] < 50) & (t[0] > 1e-3)
    a, b = (x[0][valid].double().numpy() for x in (p, t))
    expected = numpy_metrics(a, b) | numpy_completion(a, b)
    assert set(meters) == {*FORMULAS, *names_of([MetricSet.COMPLETION])}
    for name, value in meters.items():
        factor = 1000 if name in ("rmse", "mae", "irmse", "imae") else 1
        assert value == pytest.approx(expected[name], rel=1e-5, abs=1e-6), name
        assert millimeters[name] == pytest.approx(factor * value), name
    disparity = Fitted(1 / t[:1], METRIC_DISPARITY, m[:1], p[:1]).completion_metrics(protocol, "m")
    assert disparity["mae"] == pytest.approx(meters["mae"], rel=1e-4)


def test_tables_of_completion_have_its_columns_and_others_are_no_wider() -> None:
    depth = dict.fromkeys(FORMULAS, 0.5)
    plain = [entry.name for entry in columns(depth)]
    assert plain == [
        "abs_rel", "sq_rel", "rmse", "rmse_log", "log10", "silog", "irmse", "delta1", "delta2", "delta3",
    ]  # fmt: skip
    completion = depth | dict.fromkeys(names_of([MetricSet.COMPLETION]), 0.5)
    assert [entry.name for entry in columns(completion)] == list(COMPLETION_COLUMNS)
    header = metrics_table("b", "p", 1, {"m": completion | {"images": 1.0}}).splitlines()[4]
    assert [cell.strip() for cell in header.split("|")[2:-2]] == [
        "RMSE ↓", "MAE ↓", "iRMSE ↓", "iMAE ↓", "AbsRel ↓", "δ1 ↑", "δ2 ↑", "δ3 ↑", "δ1.02 ↑", "δ1.05 ↑",
        "δ1.10 ↑",
    ]  # fmt: skip
