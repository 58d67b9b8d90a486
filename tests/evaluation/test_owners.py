"""Metrics of `depthkd test` that are the owners' in what they average, cut and clip."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

from depthkd.batch import METRIC_DEPTH
from depthkd.benchmarks import Benchmark
from depthkd.evaluation import certainty
from depthkd.evaluation.evaluate import evaluate
from depthkd.formats.sample import AnnotatedSample, Sample
from depthkd.metrics.catalogue import MetricSet
from depthkd.metrics.planarity import plane_errors
from depthkd.models.model import DepthModel, DepthOutput
from tests.benchmarks.test_public import SETS, dpt, opened
from tests.conftest import CommandLine
from tests.datasets.files import picture, write
from tests.evaluation.subjects import SIZE, Boxes, Seer
from tests.metrics.test_edges import pdbe_oracle

OPTIONS: dict[str, Any] = {"photographs": False, "pictures": 0, "workers": 0}
CONFIGS = Path(__file__).parents[2] / "configs/eval"


class Teller(DepthModel):
    """Says the metric depth that it was made with, whatever the image shows."""

    space, license, source = METRIC_DEPTH, "MIT", "teller"
    depth: Tensor

    def __init__(self, depth: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("depth", torch.from_numpy(depth))

    def forward(self, image: Tensor) -> DepthOutput:
        return DepthOutput(self.depth[None])

    def encoder_parameters(self) -> Any:
        return iter(())


def far_steps() -> np.ndarray:
    """A near wall, a hill at 150 m, and two steps of what is farther than 200 m."""
    depth = np.full((40, 120), 10.0, np.float32)
    for start, value in ((30, 150.0), (60, 260.0), (90, 900.0)):
        depth[:, start:] = value
    return depth


@pytest.mark.parametrize(("beyond", "clip"), [(True, False), (True, True), (False, False)])
def test_sintels_truth_is_not_cut_for_edges(beyond: bool, clip: bool, tmp_path: Path) -> None:
    truth = far_steps()
    files = {"final/alley_1/frame_0001.png": picture(40, 120), "depth/alley_1/frame_0001.dpt": dpt(truth)}
    benchmark = opened("sintel", write(tmp_path / "sintel", files), protocol="metric")
    assert benchmark.edges_beyond_range
    benchmark.edges_beyond_range = beyond
    answer = np.roll(far_steps(), 2, 1)
    models: Any = {"teller": Teller(answer)}
    results = evaluate(models, {"s": benchmark}, out=tmp_path, clip_predictions=clip, **OPTIONS)
    found = results["benchmarks"]["s"]["metrics"]["teller"]
    cut = truth.clip(max=200.0)
    prediction = answer.clip(1e-3, 200.0) if clip else answer
    expected = pdbe_oracle(prediction, truth if beyond else cut)
    assert (found["pdbe_accuracy"], found["pdbe_completeness"]) == pytest.approx(expected)
    assert expected != pytest.approx(pdbe_oracle(prediction, cut if beyond else truth))  # it matters here


@pytest.mark.parametrize("name", ["spring", "unrealstereo4k", "vkitti2", "hypersim"])
def test_what_sharpdepth_or_others_cut_stays_cut(name: str) -> None:
    assert not SETS[name][0].edges_beyond_range


def test_predictions_are_clipped_by_the_protocol_the_command_line_and_configs(
    tmp_path: Path, command_line: CommandLine
) -> None:
    class Half(Boxes):
        def sample(self, index: int) -> Sample:
            return replace(super().sample(index), depth=np.full(SIZE, 15.0, np.float32))

    answer = np.full(SIZE, 15.0, np.float32)
    answer[:, :28], answer[0] = 45.0, -30.0
    absolute = {True: answer.clip(1e-3, 20.0), False: answer}
    for clip in (None, True, False):
        benchmark = Half(1, (MetricSet.DEPTH, MetricSet.EDGES))
        results = evaluate({"t": Teller(answer)}, {"b": benchmark}, out=tmp_path, protocol="metric",
                           clip_predictions=clip, photographs=False, pictures=1, workers=0)  # fmt: skip
        found = results["benchmarks"]["b"]
        expected = absolute[clip is not False]
        assert found["metrics"]["t"]["abs_rel"] == pytest.approx(np.mean(np.abs(expected - 15) / 15))
        assert found["metrics"]["t"]["delta1"] == pytest.approx(np.mean(answer == 15.0))
        assert ("predictions not clipped" in found["protocol"]) == (clip is False)
        assert found["protocol_fields"]["clip_predictions"] is (clip is not False)
    for name in ("sharpdepth_accuracy", "sharpdepth_details"):
        status, out, err = command_line("test", "--config", CONFIGS / f"{name}.yaml", "--print_config")
        assert status == 0, err
        assert yaml.safe_load(out)["clip_predictions"] is False
    words = ["--models.s.class_path", "tests.evaluation.subjects.Seer", "--photographs", "false"]
    words += ["--benchmarks.m", "depthkd.benchmarks.Motorcycle", "--clip_predictions", "false"]
    status, out, err = command_line("test", *words, "--out", "o", "--pictures", "0")
    assert status == 0, err
    assert "valid depth 0.001 to 10, predictions not clipped, run at" in out


class Walls(Boxes):
    """As many planes as the image's number says, some of them under 5 % of the image."""

    def sample(self, index: int) -> AnnotatedSample:
        sample: Any = super().sample(index)
        planes = np.zeros((index, *SIZE), bool)
        for i, plane in enumerate(planes):
            plane[:1] = True
            if i < 3:
                plane[: 5 + 6 * i] = True
        return replace(sample, planes=planes, normals=np.tile([[0.0, 1.0, 0.0]], (index, 1)))


@pytest.mark.parametrize("broken", [None, float("nan")])
def test_planarity_is_the_mean_over_all_planes(
    tmp_path: Path, broken: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certainty, "FEWEST", 4)
    benchmark: Benchmark = Walls(5, (MetricSet.DEPTH, MetricSet.PLANES))
    models: dict[str, str | DepthModel] = {
        "seer": Seer(5, METRIC_DEPTH, broken),
        "other": Seer(7, METRIC_DEPTH),
    }
    results = evaluate(models, {"b": benchmark}, out=tmp_path, protocol="metric", **OPTIONS)
    found = results["benchmarks"]["b"]
    assert found["metrics"]["seer"]["planes"] == 0 + 1 + 2 + 3 + 3  # a fourth is too small
    if broken is not None:
        assert found["metrics"]["seer"]["planarity_flatness"] == "inf"
        return
    errors = []
    for i in range(5):
        sample: Any = benchmark.sample(i)
        image = torch.from_numpy(sample.image).permute(2, 0, 1)[None] / 255.0
        depth = Seer(5, METRIC_DEPTH)(image).depth[0].numpy()
        valid = np.ones(SIZE, bool)
        errors += plane_errors(depth, sample.depth, valid, sample.planes, sample.normals, sample.intrinsics)
    ours = found["metrics"]["seer"]
    assert len(errors) == 9
    means = np.mean(errors, axis=0)
    assert [ours["planarity_flatness"], ours["planarity_orientation"]] == pytest.approx(means, rel=1e-4)
    low, high = found["intervals"]["seer"]["planarity_flatness"]
    assert low < ours["planarity_flatness"] < high
    difference = found["differences"]["seer minus other"]["planarity_flatness"]["mean"]
    theirs = found["metrics"]["other"]["planarity_flatness"]
    assert difference == pytest.approx(ours["planarity_flatness"] - theirs)
