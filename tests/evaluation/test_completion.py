"""Depth completion through `evaluate` and `depthkd test`: rows, what is said, and what is kept."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor, nn

from depthkd.batch import AFFINE_DEPTH, METRIC_DEPTH
from depthkd.benchmarks import CompletionBenchmark
from depthkd.errors import UserError
from depthkd.evaluation.evaluate import evaluate
from depthkd.evaluation.honest_rows import FITS, INTERPOLATIONS, STAGES, Remembered, relative_stage
from depthkd.metrics.catalogue import MetricSet
from depthkd.models.completion.points import AlignedToPoints
from depthkd.models.model import DepthModel, DepthOutput
from depthkd.report.claims import Claim
from depthkd.report.pictures import SheetRow, image_cell
from depthkd.resolution import Resolution
from depthkd.verbs.test import together
from tests.conftest import CommandLine
from tests.evaluation.subjects import Boxes, Seer

COUNT = 2


class Curved(Seer):
    """A seer whose disparity is bent, so that no single scale and shift fits it."""

    def forward(self, image: Tensor) -> DepthOutput:
        disparity = super().forward(image).depth
        columns = torch.linspace(1, 2, disparity.shape[-1])
        return DepthOutput(disparity * columns)


class Completed(DepthModel):
    """The points, and so many meters elsewhere; it wants a few points."""

    space, takes_sparse_depth, license, source = METRIC_DEPTH, True, "MIT", "completed"

    def __init__(self, meters: float = 6.0, fewest: int = 1) -> None:
        super().__init__()
        self.meters, self.fewest = meters, fewest

    def forward(self, image: Tensor) -> DepthOutput:
        raise UserError("Completed needs points")

    def predict_raw_with_sparse_depth(
        self, image: Tensor, sparse: Tensor, intrinsics: Tensor | None = None
    ) -> Tensor:
        if (sparse > 0).sum() < self.fewest:
            raise UserError(f"Completed needs {self.fewest} points, not {int((sparse > 0).sum())}")
        return torch.where(sparse > 0, sparse, self.meters)

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        return iter(())


def results_of(models: dict[str, DepthModel], out: Path, *patterns: str, **more: Any) -> dict[str, Any]:
    benchmarks = {p: CompletionBenchmark(Boxes(COUNT), p) for p in patterns}
    settings: dict[str, Any] = {"photographs": False, "pictures": 0, "workers": 0} | more
    return evaluate(dict(models), dict(benchmarks), out=out, **settings)["benchmarks"]


def test_a_relative_model_has_the_rows_of_its_fits_to_the_points(tmp_path: Path) -> None:
    found = results_of({"seer": Curved()}, tmp_path, "200 points", pictures=1)["200 points"]
    page = (tmp_path / "report.html").read_text()
    for name in (*FITS, *INTERPOLATIONS):
        drawn = name in ("local fit", "linear interpolation")
        assert (f"{name}: error" in page) is drawn, name
    assert (tmp_path / "sheet.png").is_file()
    fits = [f"seer, {fit}" for fit in FITS]
    assert list(found["metrics"]) == [*fits, *INTERPOLATIONS] == found["trivial"]
    rmse = {row: metrics["rmse"] for row, metrics in found["metrics"].items()}
    assert rmse["seer, local fit"] < 0.5 * rmse["seer, global fit"]
    assert found["notes"] == [
        "No row for seer, which predicts affine disparity: nothing is fitted here but to the points."
    ]
    assert found["sparse_depth"] == {"pattern": "200 points", "seed": 0, "units": "m"}
    assert found["protocol"].endswith("models are given 200 points, RMSE and MAE in m, iRMSE and iMAE in 1/m")
    table = (tmp_path / "table.md").read_text()
    header, row = (
        next(line for line in table.splitlines() if f"| {w} " in line) for w in ("model", "nearest point")
    )
    assert [cell.strip() for cell in header.split("|")[2:4]] == ["RMSE ↓", "MAE ↓"]
    assert f"{rmse['nearest point']:.4f}" == row.split("|")[2].strip()
    for name in ("mae", "imae", "delta_1_02", "delta_1_05"):
        assert np.isfinite(found["metrics"]["nearest point"][name])


def test_metric_models_are_scored_too_and_those_without_a_relative_stage_have_no_fits(
    tmp_path: Path,
) -> None:
    models: dict[str, DepthModel] = {
        "relative": Seer(), "metric": Seer(space=METRIC_DEPTH), "completed": Completed(),
    }  # fmt: skip
    found = results_of(models, tmp_path, "50 points")["50 points"]["metrics"]
    assert found["relative, global fit"]["abs_rel"] < 0.03 and "relative" not in found
    assert found["metric"]["mae"] < 0.1 and "metric, robust fit" in found
    assert not any(row.startswith("completed,") for row in found)
    expected = []
    for i in range(COUNT):
        sample = CompletionBenchmark(Boxes(COUNT), "50 points").sample(i)
        assert sample.sparse is not None and sample.depth is not None
        expected.append(np.abs(np.where(sample.sparse > 0, 0, 6 - sample.depth)).mean())
    assert found["completed"]["mae"] == pytest.approx(np.mean(expected), rel=1e-5)


def test_an_image_is_predicted_once_for_all_rows_and_patterns(tmp_path: Path) -> None:
    Seer.asked = 0
    model = AlignedToPoints(Curved())
    assert relative_stage(model) == (model.relative, None)
    found = results_of({"student": model}, tmp_path, "200 points", "9 points")
    assert Seer.asked == 2 * COUNT + COUNT  # for the tested model itself, and once for its four fits
    for pattern, result in found.items():
        both = (result["metrics"][row]["rmse"] for row in ("student", "student, local fit"))
        assert len(set(both)) == 1, pattern
    assert not (tmp_path / STAGES).exists()
    again = results_of({"student": model}, tmp_path, "9 points")
    assert Seer.asked == 3 * COUNT
    assert again["9 points"]["metrics"] == found["9 points"]["metrics"]


def test_what_is_remembered_is_the_prediction_of_one_image_at_one_size(tmp_path: Path) -> None:
    model = Seer()
    kept = Remembered(model, resolution=20)
    kept.folder = tmp_path / "kept"
    images = torch.rand(2, 1, 3, 24, 32)
    for image in images:
        for resolution in (None, "native", 48):
            how = 20 if resolution is None else resolution
            expected = model.predict(image, how)
            for _ in range(2):
                assert torch.equal(kept.predict(image, resolution), expected)
    assert len(list((tmp_path / "kept").glob("*.npy"))) == 6
    assert kept.identity() == Remembered(model, resolution=20).identity()
    assert kept.identity() != Remembered(model).identity()
    assert kept.runs_at(24, 32) == (20, 27) and kept.runs_at(24, 32, Resolution("longer", 64)) == (48, 64)
    for path in (tmp_path / "kept").glob("*.npy"):
        path.write_bytes(path.read_bytes()[:90])  # cut off
    assert torch.equal(kept.predict(images[0]), model.predict(images[0], 20))


@pytest.mark.parametrize("pattern", ["0 points", "1 point"])
def test_few_points_give_sentences_and_never_nan(tmp_path: Path, pattern: str) -> None:
    models: dict[str, DepthModel] = {"seer": Seer(space=AFFINE_DEPTH), "completed": Completed(fewest=2)}
    found = results_of(models, tmp_path, pattern)[pattern]
    for row, metrics in found["metrics"].items():
        assert metrics["images"] in (0.0, COUNT), row
        assert not any(isinstance(value, str) for value in metrics.values()), row
    assert found["unscored"] == ["completed"]
    count = int(pattern.split()[0])
    assert found["unanswered"]["completed"][0] == f"'box0': Completed needs 2 points, not {count}"
    text = (tmp_path / "table.md").read_text()
    assert (
        f"completed has no depth for 2 samples, the first 'box0': Completed needs 2 points, not {count}."
        in text
    )
    if count == 0:
        assert set(found["unanswered"]) == {*INTERPOLATIONS, *(f"seer, {fit}" for fit in FITS), "completed"}
        assert "nearest point has no depth for 2 samples, the first 'box0': no pixel has a measured" in text
    else:
        assert set(found["unanswered"]) == {"completed"}


def test_claims_may_name_the_rows_of_fits(tmp_path: Path) -> None:
    claims = [Claim("c, local fit", "200 points", 0.5, "c, global fit", "rmse")]
    benchmarks = {"200 points": CompletionBenchmark(Boxes(COUNT), "200 points")}
    settings: dict[str, Any] = {"photographs": False, "pictures": 0, "workers": 0, "out": tmp_path}
    met = evaluate({"c": Curved()}, dict(benchmarks), claims=claims, **settings)["claims"]
    assert list(met.values()) == [True]
    with pytest.raises(UserError, match="a claim names the row 'c, local', which is not tested"):
        wrong = [Claim("c, local", "200 points", 0.5, "c, global fit")]
        evaluate({"c": Curved()}, dict(benchmarks), claims=wrong, **settings)


def test_patterns_for_all_benchmarks_of_metric_depth(tmp_path: Path) -> None:
    benchmarks = {"boxes": Boxes(COUNT), "pairs": Boxes(COUNT, metrics=(MetricSet.PAIRS,))}
    settings: dict[str, Any] = {"photographs": False, "pictures": 1, "workers": 0, "out": tmp_path}
    patterns = ["20 points", "measured borders"]
    with pytest.raises(UserError, match="'measured borders' is not a pattern"):
        evaluate({"c": Completed()}, dict(benchmarks), completion=patterns, **settings)
    patterns[1] = "missing  borders of 20 %"
    found = evaluate({"c": Completed()}, dict(benchmarks), completion=patterns, **settings)
    assert list(found["benchmarks"]) == ["boxes, 20 points", "boxes, missing borders of 20 %"]
    assert found["left_out"] == ["benchmark 'pairs' has no metric depth, of which points could be given"]
    text = (tmp_path / "table.md").read_text()
    assert "## Completed depth on all benchmarks (completion)" in text
    page = (tmp_path / "report.html").read_text()
    assert "boxes, 20 points" in page and "20 measured points at this size" in page
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 5 * 320  # image, truth, and depth and error of the model and of interpolation
    with pytest.raises(
        UserError, match="there is nothing to complete: benchmark 'pairs' has no metric depth"
    ):
        only = {"pairs": benchmarks["pairs"]}
        evaluate({"c": Completed()}, dict(only), completion=patterns, **settings)


def test_points_are_drawn_in_the_colors_of_the_truth() -> None:
    image, truth = np.full((60, 80, 3), 255, np.uint8), np.full((60, 80), 4.0)
    truth[:, 40:] = 2.0
    points = np.zeros((60, 80))
    points[10, 20], points[10, 60], points[0, 0] = 4, 2, 3
    picture, caption = image_cell(SheetRow("one", image, truth, points=points)) or (None, "")
    assert caption == "3 measured points at this size" and picture is not None
    drawn = (picture != 255).any(2)
    assert drawn.sum() == 25 + 25 + 9 and drawn[8:13, 18:23].all() and drawn[:3, :3].all()
    assert picture[10, 60].sum() > picture[10, 20].sum()  # near is bright
    assert image.min() == 255 and image_cell(SheetRow("two", image, truth)) == (image, "")


def test_the_option_may_be_given_several_times() -> None:
    words = ["--completion", "5 % outliers, 500 points", "--seed", "1", "--completion=lidar 16"]
    assert together(words, "--completion") == [
        "--seed", "1", '--completion=["5 % outliers, 500 points", "lidar 16"]',
    ]  # fmt: skip
    assert together(["--completion", '["a", "b"]', "--completion", "c"], "--completion") == [
        '--completion=["a", "b", "c"]'
    ]
    assert together(["--completions", "a"], "--completion") == ["--completions", "a"]


def test_the_command(command_line: CommandLine, tmp_path: Path) -> None:
    words = ["test", "--models.c.class_path", "depthkd.models.InterpolatedPoints", "--pictures", "1"]
    words += ["--benchmarks.m", "depthkd.benchmarks.Motorcycle", "--out", str(tmp_path)]
    words += ["--photographs", "false"]
    status, out, err = command_line(*words, "--completion", "100 points", "--completion", "1 point")
    assert status == 0, err
    found = json.loads((tmp_path / "results.json").read_text())["benchmarks"]
    assert list(found) == ["m, 100 points", "m, 1 point"] and "## m, 100 points (1 sample)" in out
    assert found["m, 100 points"]["metrics"]["c"]["rmse"] < found["m, 1 point"]["metrics"]["c"]["rmse"]
    config = tmp_path / "config.yaml"
    complete = {
        "benchmark": {"class_path": "depthkd.benchmarks.Motorcycle"},
        "pattern": "0 points",
        "units": "mm",
    }
    benchmark = {"class_path": "depthkd.benchmarks.CompletionBenchmark", "init_args": complete}
    models = {"c": {"class_path": "depthkd.models.InterpolatedPoints"}}
    config.write_text(yaml.safe_dump({"models": models, "benchmarks": {"none": benchmark}}))
    others = ("--photographs", "false", "--out", str(tmp_path / "0"))
    status, out, err = command_line("test", "--config", config, *others)
    assert status == 1 and "c has no depth for 1 sample, the first 'motorcycle'" in out, out + err
    assert "RMSE and MAE in mm, iRMSE and iMAE in 1/km" in out
    status, _, err = command_line(*words, "--completion", "1000 dots")
    assert status == 2 and "'1000 dots' is not a pattern of sparse depth; it would be like one of" in err
    status, _, err = command_line(*words, "--completion", "[200 points")
    assert status == 2 and "depthkd test: --completion is not valid YAML" in err
