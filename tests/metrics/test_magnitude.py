"""The raw output's median and deviation against their definitions."""

import numpy as np
import pytest
import torch

from depthkd.metrics.magnitude import OutputMagnitude, output_magnitude


def magnitude_oracle(prediction: np.ndarray) -> tuple[float, float]:
    values = np.sort(prediction.astype(np.float64).ravel())
    middle = values[(values.size - 1) // 2]
    return middle, float(np.mean([abs(v - middle) for v in values]))


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
@pytest.mark.parametrize("shape", [(3, 1, 1), (2, 5, 7), (2, 6, 8)])
def test_they_equal_their_definitions(shape: tuple[int, int, int], scale: float) -> None:
    raw = torch.tensor(np.random.default_rng(0).normal(2, 3, shape) * scale).float()
    found = output_magnitude(raw)
    for i, image in enumerate(raw.numpy()):
        expected = magnitude_oracle(image)
        assert found["output_median"][i].item() == pytest.approx(expected[0], rel=1e-6)
        assert found["output_deviation"][i].item() == pytest.approx(expected[1], rel=1e-6)


def test_constant_outputs_have_no_deviation() -> None:
    found = output_magnitude(torch.full((1, 4, 4), -7.5))
    assert (found["output_median"].item(), found["output_deviation"].item()) == (-7.5, 0.0)


@pytest.mark.parametrize("broken", [torch.nan, torch.inf])
def test_a_broken_output_is_infinite_and_alone(broken: float) -> None:
    raw = torch.ones(2, 4, 4)
    raw[0, 1, 1] = broken
    found = output_magnitude(raw)
    assert found["output_deviation"].tolist() == [torch.inf, 0.0]
    assert found["output_median"][1] == 1


def test_float16_is_measured_in_float32() -> None:
    raw = torch.full((1, 300, 300), 6e4, dtype=torch.float16)
    raw[0, :100] = -6e4
    found = output_magnitude(raw)
    assert found["output_deviation"].item() == pytest.approx(magnitude_oracle(raw[0].numpy())[1], rel=1e-6)


def test_the_class_is_the_mean_over_images() -> None:
    raw = torch.tensor(np.random.default_rng(1).normal(2, 3, (5, 6, 7))).float()
    metric = OutputMagnitude()
    metric.update(raw[:3])
    metric.update(raw[3:])
    expected = np.mean([magnitude_oracle(image) for image in raw.numpy()], axis=0)
    metrics = metric.compute()
    assert metrics["output_median"].item() == pytest.approx(expected[0], rel=1e-6)
    assert metrics["output_deviation"].item() == pytest.approx(expected[1], rel=1e-6)
    assert (metrics["images"], metrics["skipped"]) == (5, 0)
