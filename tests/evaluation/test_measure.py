"""What is measured of a model on a benchmark, and what is said of it, through `evaluate`."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from depthkd.batch import AFFINE_DISPARITY, METRIC_DEPTH
from depthkd.benchmarks import Benchmark
from depthkd.errors import UserError
from depthkd.evaluation.evaluate import evaluate
from depthkd.metrics.boundary import boundary_f1, boundary_recall
from depthkd.metrics.catalogue import MetricSet
from depthkd.metrics.edges import boundary_errors, pseudo_boundary_errors
from depthkd.metrics.planarity import planarity_errors
from depthkd.models.model import DepthModel, DepthOutput
from tests.evaluation.subjects import SIZE, Boxes, Seer


def results_of(
    model: DepthModel, out: Path, benchmark: Benchmark | None = None, **options: Any
) -> dict[str, Any]:
    """Results of the one benchmark."""
    settings: dict[str, Any] = {"photographs": False, "pictures": 0, "workers": 0} | options
    return evaluate({"seer": model}, {"boxes": benchmark or Boxes()}, out=out, **settings)


def test_every_set_of_metrics_is_the_metric_of_the_fitted_depth(tmp_path: Path) -> None:
    benchmark, model = Boxes(), Seer(blur=3)
    metrics = results_of(model, tmp_path)["benchmarks"]["boxes"]["metrics"]["seer"]
    expected: dict[str, list[float]] = {}
    for i in range(len(benchmark)):
        sample: Any = benchmark.sample(i)
        image = torch.from_numpy(sample.image).permute(2, 0, 1)[None] / 255.0
        raw = model(image).depth[0].double().numpy()
        target = 1 / sample.depth.astype(np.float64)
        scale, shift = np.linalg.lstsq(
            np.stack([raw.ravel(), np.ones(raw.size)], 1), target.ravel(), rcond=None
        )[0]
        depth = (1 / np.clip(raw * scale + shift, 1e-3, None)).clip(1e-3, 20.0).astype(np.float32)
        valid = np.ones(SIZE, bool)
        found = pseudo_boundary_errors(depth, sample.depth)
        found |= {"boundary_f1": boundary_f1(depth, sample.depth)}
        found |= {"boundary_recall": boundary_recall(depth, sample.matte)}
        found |= boundary_errors(depth, sample.edges)
        paper = boundary_errors(depth, sample.edges, "paper")
        found |= {f"dbe_paper_{end}": paper[f"dbe_{end}"] for end in ("accuracy", "completeness")}
        found |= planarity_errors(
            depth, sample.depth, valid, sample.planes, sample.normals, sample.intrinsics
        )
        found["abs_rel"] = float((np.abs(depth - sample.depth) / sample.depth).mean())
        for name, value in found.items():
            expected.setdefault(name, []).append(value)
    assert len(expected) == 11
    for name, values in expected.items():
        assert metrics[name] == pytest.approx(np.mean(values), rel=1e-4), name
    assert metrics["pair_accuracy"] == 1.0 and metrics["pairs"] == 3 * 6
    assert metrics["images"] == 6


def test_worker_processes_change_nothing(tmp_path: Path) -> None:
    benchmarks: dict[str, Benchmark] = {"boxes": Boxes(), "mattes": Boxes(metrics=(MetricSet.MATTE,))}
    for count in (0, 1):
        evaluate({"seer": Seer()}, benchmarks, out=tmp_path / str(count), photographs=False, workers=count)
    here, there = ((tmp_path / str(count) / "per_sample.csv").read_text() for count in (0, 1))
    assert here == there and "mattes,seer," in here


def test_sharp_beats_blurred_and_a_constant_has_no_edges(tmp_path: Path) -> None:
    models: dict[str, str | DepthModel] = {"sharp": Seer(), "blurred": Seer(blur=7)}
    results = evaluate(models, {"boxes": Boxes()}, out=tmp_path, photographs=False, workers=0)
    rows = results["benchmarks"]["boxes"]["metrics"]
    assert rows["sharp"]["boundary_f1"] > 2 * rows["blurred"]["boundary_f1"]
    assert rows["sharp"]["pdbe_accuracy"] < rows["blurred"]["pdbe_accuracy"]
    assert rows["best constant per image"]["boundary_f1"] == 0.0
    assert rows["best constant per image"]["pdbe_completeness"] == 10.0
    assert rows["best constant per image"]["pair_accuracy"] == 0.0  # ties are wrong


def test_the_raw_prediction_can_stand_in_for_depth(tmp_path: Path) -> None:
    class Offset(Seer):
        def forward(self, image: Any) -> DepthOutput:
            return DepthOutput(super().forward(image).depth + 20.0)

    metrics = {}
    for stand_in in ("aligned", "raw"):
        found = results_of(Offset(), tmp_path / stand_in, stand_in=stand_in)["benchmarks"]["boxes"]
        metrics[stand_in] = found["metrics"]["seer"]
        words = {"aligned": "boundary F1 of the fitted depth", "raw": "boundary F1 of the raw prediction"}
        assert words[stand_in] in found["protocol"]
    # the offset of a raw affine disparity flattens its ratios
    assert metrics["raw"]["boundary_f1"] < 0.1 < metrics["aligned"]["boundary_f1"]
    assert metrics["raw"]["pdbe_accuracy"] == metrics["aligned"]["pdbe_accuracy"]


def test_parts_of_a_benchmark_have_metrics_of_their_own(tmp_path: Path) -> None:
    found = results_of(Seer(blur=5), tmp_path)["benchmarks"]["boxes"]
    parts = [found["groups"][group]["seer"] for group in ("even", "odd")]
    assert [part["images"] for part in parts] == [3, 3]
    mean = np.mean([part["abs_rel"] for part in parts])
    assert mean == pytest.approx(found["metrics"]["seer"]["abs_rel"])
    table = (tmp_path / "table.md").read_text()
    assert "even (3) AbsRel ↓" in table and "odd (3) pairs in order ↑" in table


def test_pairs_alone_need_no_truth_and_no_fit(tmp_path: Path) -> None:
    found = results_of(Seer(), tmp_path, Boxes(metrics=(MetricSet.PAIRS,)), pictures=2)["benchmarks"]["boxes"]
    assert set(found["metrics"]["seer"]) == {"pair_accuracy", "pairs", "images"}
    assert found["metrics"]["seer"]["pair_accuracy"] == 1.0
    assert found["metrics"]["vertical ramp"]["pair_accuracy"] == pytest.approx(1 / 3)
    assert found["protocol"].startswith("pairs: the raw prediction at two points, no fit")
    assert "pairs in order ↑" in (tmp_path / "table.md").read_text()
    assert "AbsRel" not in (tmp_path / "table.md").read_text()
    page = (tmp_path / "report.html").read_text()
    assert page.count("<figure>") == 2 * page.count("<h3>") > 4  # image and answer


@pytest.mark.parametrize("broken", ["nan", "inf", "-inf"])
def test_a_prediction_that_is_not_finite_is_named_and_counts_as_wrong(broken: str, tmp_path: Path) -> None:
    model = Seer(broken=float(broken))
    results = results_of(model, tmp_path, pictures=1)
    found = results["benchmarks"]["boxes"]
    metrics = found["metrics"]["seer"]
    assert metrics["abs_rel"] == "inf" and metrics["pdbe_accuracy"] == "inf"
    assert metrics["delta1"] == 0.0 and metrics["boundary_f1"] == 0.0
    assert len(found["faults"]["seer"]) == 6
    sentence = "seer answers 'box0' with 3 numbers that are not finite, of 2240, which count as an infinite"
    assert sentence in (tmp_path / "table.md").read_text()
    again = results_of(model, tmp_path)["benchmarks"]["boxes"]
    assert again["faults"] == found["faults"] and again["metrics"] == found["metrics"]


def test_a_model_that_refuses_an_image_has_no_row_and_the_others_have(tmp_path: Path) -> None:
    class Narrow(Seer):
        def infer(self, image: Any, *options: Any) -> Any:
            raise UserError("40 rows are too few")

    models: dict[str, str | DepthModel] = {"narrow": Narrow(), "seer": Seer()}
    silent: dict[str, Any] = {"photographs": False, "pictures": 0, "workers": 0}
    results = evaluate(models, {"boxes": Boxes(2, (MetricSet.DEPTH,))}, out=tmp_path, **silent)
    found = results["benchmarks"]["boxes"]
    assert found["faults"]["narrow"] == ["narrow was not scored, because of 'box0': 40 rows are too few"]
    assert found["metrics"]["seer"]["images"] == 2


def test_a_constant_prediction_is_named(tmp_path: Path) -> None:
    class Flat(Seer):
        def forward(self, image: Any) -> DepthOutput:
            return DepthOutput(torch.full_like(image[:, 0], 0.25))

    found = results_of(Flat(), tmp_path)["benchmarks"]["boxes"]
    assert found["faults"]["seer"][0].startswith("seer answers 'box0' with 0.25 everywhere")
    constant = found["metrics"]["best constant per image"]
    assert found["metrics"]["seer"]["abs_rel"] == pytest.approx(constant["abs_rel"], rel=1e-6)


def test_a_model_that_answers_with_no_map_is_named_and_the_others_are_scored(tmp_path: Path) -> None:
    class Channels(Seer):
        def infer(self, image: Any, *how: Any) -> Any:
            return torch.zeros(1, 1, *image.shape[-2:])

    results = results_of(Channels(), tmp_path)
    found = results["benchmarks"]["boxes"]
    (sentence,) = found["faults"]["seer"]
    assert "Channels answers an image of 40 x 56 pixels with [1, 1, 40, 56]" in sentence
    assert found["metrics"]["vertical ramp"]["images"] == 6


def test_a_model_that_answers_with_no_map_has_no_pictures_and_the_others_have(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Small(Seer):
        def infer(self, image: Any, *how: Any) -> Any:
            return torch.zeros(1, 1, *image.shape[-2:])

    results = evaluate(
        {"seer": Seer(blur=3), "small": Small()}, {"boxes": Boxes()}, out=tmp_path, workers=0, pictures=2,
        protocol=["marigold", "midas"],
    )  # fmt: skip
    assert "no photographs by small: Small answers an image of 512 x 512" in capsys.readouterr().out
    for found in results["benchmarks"].values():
        assert found["metrics"]["seer"]["images"] == 6 and found["metrics"]["small"] == {"images": 0}
    report = (tmp_path / "report.html").read_text()
    assert "Not comparable with" in report and "seer: AbsRel" in report
    assert "small: AbsRel" not in report


def test_photographs_are_shown_as_the_benchmark_is_run(tmp_path: Path) -> None:
    sizes: list[tuple[int, ...]] = []

    class Watcher(Seer):
        def forward(self, image: Any) -> DepthOutput:
            sizes.append(tuple(image.shape[-2:]))
            return super().forward(image)

    results_of(Watcher(), tmp_path, Boxes(1), photographs=True, resolution=20, flip=True)
    assert sizes[:2] == [(20, 28)] * 2
    assert sizes[2:4] == [(20, 20)] * 2 and len(sizes) == 2 * (1 + 4)


def test_samples_that_cannot_be_scored_are_named(tmp_path: Path) -> None:
    benchmark = Boxes(unreadable=(1,), without_truth=(3,), metrics=(MetricSet.DEPTH,))
    found = results_of(Seer(blur=3), tmp_path, benchmark)["benchmarks"]["boxes"]
    assert found["unreadable"] == ["box1.png is cut off"] and found["without_truth"] == ["box3"]
    assert found["metrics"]["seer"]["images"] == 4
    table = (tmp_path / "table.md").read_text()
    assert "1 sample could not be read, the first: box1.png is cut off." in table
    assert "1 sample had no valid truth, the first: box3." in table


def test_a_metric_model_needs_no_fit(tmp_path: Path) -> None:
    found = results_of(Seer(space=METRIC_DEPTH), tmp_path, protocol="metric")["benchmarks"]["boxes"]
    assert found["metrics"]["seer"]["abs_rel"] < 0.02
    assert found["protocol"].startswith("metric: no fit, scored in depth")
    with pytest.raises(ValueError, match="model 'seer' on benchmark 'boxes': protocol 'metric'"):
        results_of(Seer(space=AFFINE_DISPARITY), tmp_path, protocol="metric")


def test_per_sample_metrics_say_part_and_model(tmp_path: Path) -> None:
    results_of(Seer(), tmp_path, Boxes(3))
    with (tmp_path / "per_sample.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["model"] == "seer"]
    assert [(row["sample"], row["group"]) for row in rows] == [
        ("box0", "even"),
        ("box1", "odd"),
        ("box2", "even"),
    ]
    results = json.loads((tmp_path / "results.json").read_text())
    mean = np.mean([float(row["abs_rel"]) for row in rows])
    assert results["benchmarks"]["boxes"]["metrics"]["seer"]["abs_rel"] == pytest.approx(mean, rel=1e-12)


def test_studies_are_made_on_request(tmp_path: Path) -> None:
    class Bent(Seer):
        """Right inside each half of the image, wrong between them."""

        def forward(self, image: Any) -> DepthOutput:
            depth = super().forward(image).depth.clone()
            depth[..., depth.shape[-1] // 2 :] *= 2.0
            return DepthOutput(depth)

    plain = results_of(Bent(), tmp_path, Boxes(metrics=(MetricSet.DEPTH,)))["benchmarks"]["boxes"]["metrics"]
    assert "output_median" not in plain["seer"] and "global_abs_rel_2" not in plain["seer"]
    benchmark = Boxes(metrics=(MetricSet.DEPTH,))
    found = results_of(Bent(), tmp_path, benchmark, studies=["windows", "output"])["benchmarks"]["boxes"]
    metrics = found["metrics"]["seer"]
    assert metrics["local_abs_rel_2"] < 0.3 * metrics["global_abs_rel_2"]
    assert metrics["abs_rel_change_2"] < -0.7
    raws = [
        Bent()(torch.from_numpy(benchmark.sample(i).image).permute(2, 0, 1)[None] / 255.0).depth
        for i in range(6)
    ]
    assert metrics["output_median"] == pytest.approx(np.mean([raw.median().item() for raw in raws]))
    table = (tmp_path / "table.md").read_text()
    assert "2x2 windows, one fit: AbsRel ↓" in table and "output's median" in table
    alone = results_of(
        Seer(), tmp_path / "p", Boxes(metrics=(MetricSet.PAIRS,)), studies=["windows", "output"]
    )
    assert {"output_median"} <= set(alone["benchmarks"]["boxes"]["metrics"]["seer"])
