"""Benchmarks of metric depth as benchmarks of depth completion."""

from dataclasses import replace

import numpy as np
import pytest

from depthkd.alignment import Fit
from depthkd.batch import AFFINE_DISPARITY, METRIC_DISPARITY
from depthkd.benchmarks import Benchmark, CompletionBenchmark, Protocol
from depthkd.errors import UserError
from depthkd.evaluation.identity import benchmark_fingerprint
from depthkd.evaluation.protocols import chosen
from depthkd.evaluation.task import Task
from depthkd.formats.sample import Sample
from depthkd.metrics.catalogue import MetricSet
from tests.evaluation.subjects import Boxes


class Spoiled(Boxes):
    """Boxes of which only the left half counts, and part of that is out of the protocol's range."""

    def sample(self, index: int) -> Sample:
        sample = super().sample(index)
        assert sample.depth is not None and sample.mask is not None
        sample.mask[:, 28:] = False
        sample.depth[:4], sample.depth[4:8], sample.depth[8:9] = 0, 25, np.nan
        return sample


class Inverse(Boxes):
    """Boxes in disparity."""

    space = METRIC_DISPARITY

    def sample(self, index: int) -> Sample:
        sample = super().sample(index)
        assert sample.depth is not None
        return replace(sample, depth=1 / sample.depth, space=self.space)


class Bringing(Boxes):
    """Boxes with points that a sensor of their own has measured."""

    pattern = "lidar, 16 lines"
    units = "mm"

    def sample(self, index: int) -> Sample:
        sample = super().sample(index)
        assert sample.depth is not None
        return replace(sample, sparse=np.where(np.arange(40)[:, None] % 8 == 0, sample.depth, 0))


def test_points_are_of_the_truth_and_where_it_counts() -> None:
    benchmark = CompletionBenchmark(Spoiled(), "100 points")
    for index in range(len(benchmark)):
        sample = benchmark.sample(index)
        assert sample.sparse is not None and sample.depth is not None and sample.sparse.dtype == np.float32
        measured = sample.sparse > 0
        assert measured.sum() == 100 and not measured[:9].any() and not measured[:, 28:].any()
        assert np.array_equal(sample.sparse[measured], sample.depth[measured])


def test_what_is_drawn_depends_on_seed_and_sample_alone() -> None:
    sparse = {
        (seed, count): [CompletionBenchmark(Boxes(count), "50 points", seed).sample(i).sparse for i in (1, 2)]
        for seed in (0, 1)
        for count in (3, 6)
    }
    assert np.array_equal(sparse[0, 3], sparse[0, 6])
    assert not np.array_equal(sparse[0, 6], sparse[1, 6])
    first, second = ((one > 0) for one in sparse[0, 6])  # type: ignore[operator]
    assert not np.array_equal(first, second)


def test_it_is_the_other_benchmark_but_for_the_fit() -> None:
    other: Benchmark = Boxes(data_set="NYUv2")
    other.protocol = replace(other.protocol, resolution=518, fit_side=100)
    benchmark = CompletionBenchmark(other, "LiDAR 16")
    assert benchmark.name == "boxes, lidar 16" and benchmark.pattern == "lidar 16" and benchmark.units == "m"
    assert benchmark.metrics == (MetricSet.DEPTH, MetricSet.COMPLETION)
    assert (benchmark.guarded_as, benchmark.group(1), len(benchmark)) == ("NYUv2", "odd", 6)
    protocol = benchmark.protocol
    assert (protocol.name, protocol.fit, protocol.clip_predictions) == ("completion", Fit.NONE, False)
    assert (protocol.max_depth, protocol.resolution, protocol.fit_side) == (20.0, 518, None)
    task = Task("boxes", benchmark, protocol)
    assert task.completion and not Task("boxes", other, other.protocol).completion
    assert task.description == (
        "completion: no fit, scored in depth, valid depth 0.001 to 20, predictions not clipped, run at 518 "
        "px (shorter side), models are given lidar 16, RMSE and MAE in m, iRMSE and iMAE in 1/m"
    )


def test_points_that_a_data_set_measures_itself() -> None:
    benchmark = CompletionBenchmark(Bringing())
    assert benchmark.name == "boxes, lidar, 16 lines" and benchmark.units == "mm"
    sparse = benchmark.sample(0).sparse
    assert sparse is not None and np.array_equal(np.flatnonzero(sparse.any(1)), [0, 8, 16, 24, 32])
    drawn = CompletionBenchmark(Bringing(), "9 points", units="m")
    points = drawn.sample(0).sparse
    assert (
        drawn.pattern == "9 points" and drawn.units == "m" and points is not None and (points > 0).sum() == 9
    )
    with pytest.raises(UserError, match="'boxes' brings no sparse depth of its own; give a pattern"):
        CompletionBenchmark(Boxes()).sample(0)


def test_truth_in_disparity_becomes_depth_and_truth_without_meters_is_refused() -> None:
    one, other = (CompletionBenchmark(b, "40 points").sample(2) for b in (Inverse(), Boxes()))
    assert one.sparse is not None and one.space == other.space
    np.testing.assert_allclose(one.sparse, other.sparse, rtol=1e-6)
    relative = Inverse()
    relative.space = AFFINE_DISPARITY
    with pytest.raises(
        UserError, match="'boxes' has affine disparity, of which no point can be given in meters"
    ):
        CompletionBenchmark(relative, "40 points").sample(0)
    with pytest.raises(UserError, match="'boxes' has no depth, so that there is nothing to complete"):
        CompletionBenchmark(Boxes(metrics=(MetricSet.MATTE,)), "40 points")
    with pytest.raises(UserError, match="'forty points' is not a pattern"):
        CompletionBenchmark(Boxes(), "forty points")


def test_kept_predictions_and_metrics_are_those_of_one_pattern() -> None:
    benchmarks = [
        Boxes(),
        *(CompletionBenchmark(Boxes(), *how) for how in (("50 points",), ("51 points",), ("50 points", 1))),
        CompletionBenchmark(Boxes(5), "50 points"),
        CompletionBenchmark(Spoiled(), "50 points"),
        CompletionBenchmark(CompletionBenchmark(Boxes(), "50 points"), "50 points"),
    ]
    prints = [benchmark_fingerprint(benchmark) for benchmark in benchmarks]
    assert len(set(prints)) == len(prints)
    assert benchmark_fingerprint(CompletionBenchmark(Boxes(), "50 points")) == prints[1]


def test_its_preset_is_no_other_name_of_metric_where_all_are_asked_for() -> None:
    names = [p.name for p in chosen(Boxes(), ["all"], {})]
    assert "metric" in names and "completion" not in names
    assert "completion" in [p.name for p in chosen(CompletionBenchmark(Boxes(), "5 points"), ["all"], {})]
    assert [p.name for p in chosen(Boxes(), ["completion"], {})] == ["completion"]
    assert Protocol.named("completion").max_depth is None
