"""The rows that look at nothing."""

import numpy as np
import pytest
import torch

from depthkd.batch import AFFINE_DEPTH, AFFINE_DISPARITY, METRIC_DEPTH, SCALE_DISPARITY, DepthSpace
from depthkd.benchmarks import Motorcycle
from depthkd.benchmarks.trivial import BestConstant, MeanMap, TrivialModel, VerticalRamp, mean_disparity_map
from depthkd.evaluation.reading import truth_space
from depthkd.evaluation.scoring import Fitted, fitted
from depthkd.formats.sample import Sample
from depthkd.models.inference import image_tensor
from depthkd.models.model import DepthModel

CPU = torch.device("cpu")


def on_motorcycle(model: DepthModel) -> Fitted:
    benchmark = Motorcycle()
    sample = benchmark.sample(0)
    raw = model.predict(image_tensor(sample.image, CPU))
    return fitted(raw, model.space, sample, benchmark.protocol)


def flat(key: str, values: list[list[float]], space: DepthSpace, hidden: float | None = None) -> Sample:
    depth = np.array(values, np.float32)
    mask = np.ones(depth.shape, bool) if hidden is None else depth != hidden
    return Sample(key, np.zeros((*depth.shape, 3), np.uint8), depth, mask, None, space)


def test_mean_map_normalizes_each_disparity_by_its_median() -> None:
    disparity = np.array([[1.0, 2.0], [4.0, 8.0], [3.0, 3.0]])
    samples = [
        flat("metric", (1 / disparity).tolist(), METRIC_DEPTH),
        flat("far", (1 / (disparity / 50)).tolist(), METRIC_DEPTH),
        flat("pixels", (disparity * 7).tolist(), SCALE_DISPARITY),
    ]
    np.testing.assert_allclose(mean_disparity_map(samples, 3, 2), disparity / 3.0, rtol=1e-5)


def test_mean_map_leaves_out_what_is_not_known() -> None:
    first = flat("a", [[2.0, 2.0, -1.0]], SCALE_DISPARITY, hidden=-1.0)
    second = flat("b", [[3.0, 6.0, -1.0]], SCALE_DISPARITY, hidden=-1.0)
    median = 4.5  # numpy's, of two
    expected = [(1 + 3 / median) / 2, (1 + 6 / median) / 2]
    made = mean_disparity_map([first, second], 1, 3)
    np.testing.assert_allclose(made[0], [*expected, np.mean(expected)], rtol=1e-5)


def test_mean_map_removes_an_unknown_offset() -> None:
    base = np.array([[1.0, 2.0, 3.0, 10.0]])
    once = mean_disparity_map([flat("a", base.tolist(), AFFINE_DISPARITY)], 1, 4)
    again = mean_disparity_map([flat("b", (5 * base - 80).tolist(), AFFINE_DISPARITY)], 1, 4)
    np.testing.assert_allclose(once, again, rtol=1e-5)


def test_mean_map_refuses() -> None:
    with pytest.raises(ValueError, match="none has a valid pixel"):
        mean_disparity_map([flat("a", [[0.0]], SCALE_DISPARITY, hidden=0.0)])
    with pytest.raises(ValueError, match="'affine depth' cannot be inverted"):
        mean_disparity_map([flat("a", [[1.0, 2.0]], AFFINE_DEPTH)])
    nameless = flat("a", [[1.0]], SCALE_DISPARITY)
    nameless.space = None
    with pytest.raises(ValueError, match="sample 'a' has a depth map, but no space"):
        mean_disparity_map([nameless])


@pytest.mark.parametrize("model", [BestConstant(), VerticalRamp(), MeanMap(np.eye(3, 4, dtype=np.float32))])
def test_they_are_models_without_parameters(model: TrivialModel) -> None:
    depth = model.predict(torch.rand(2, 3, 10, 14), resolution=7)
    assert depth.shape == (2, 10, 14)
    assert list(model.parameters()) == list(model.encoder_parameters()) == []
    assert torch.equal(depth[0], depth[1])


def test_ramp_is_nearer_towards_the_bottom() -> None:
    depth = VerticalRamp()(torch.zeros(1, 3, 4, 2)).depth
    assert depth[0, :, 0].tolist() == [0.25, 0.5, 0.75, 1.0]


def test_best_constant_is_the_mean_disparity() -> None:
    benchmark = Motorcycle()
    one = on_motorcycle(BestConstant())
    sample = benchmark.sample(0)
    assert sample.depth is not None and sample.mask is not None
    truth = sample.depth[sample.mask].astype(np.float64)
    constant = 1 / np.mean(1 / truth)
    assert one.metrics(benchmark.protocol)["abs_rel"] == pytest.approx(
        np.mean(np.abs(constant - truth) / truth), rel=1e-4
    )
    assert one.aligned.mean().item() == pytest.approx(constant, rel=1e-4)


def test_each_row_says_more_than_the_one_before() -> None:
    benchmark = Motorcycle()
    assert truth_space(benchmark) == METRIC_DEPTH
    models = (BestConstant(), VerticalRamp())
    errors = [on_motorcycle(model).metrics(benchmark.protocol)["abs_rel"] for model in models]
    assert errors[0] == pytest.approx(0.229, abs=2e-3)
    assert errors[1] == pytest.approx(0.141, abs=2e-3)
