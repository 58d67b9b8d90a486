"""Benchmarks with mattes and no depth: what is compared with them, and what is said of it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from depthkd.batch import AFFINE_DISPARITY, METRIC_DEPTH, DepthSpace
from depthkd.benchmarks.public import AM2k
from depthkd.evaluation.evaluate import evaluate
from depthkd.formats.images import encode_jpeg
from depthkd.metrics.boundary import boundary_recall
from depthkd.metrics.catalogue import MetricSet
from depthkd.models.model import DepthModel, DepthOutput
from tests.datasets.files import png, write
from tests.evaluation.subjects import SIZE, Boxes, Seer

MATTES = (MetricSet.MATTE,)
Models = dict[str, str | DepthModel]


def measured(models: Models, out: Path, benchmark: Any = None, **options: Any) -> dict[str, Any]:
    """Results of the one benchmark."""
    settings: dict[str, Any] = {"photographs": False, "pictures": 0, "workers": 0} | options
    results = evaluate(models, {"boxes": benchmark or Boxes(metrics=MATTES)}, out=out, **settings)
    found: dict[str, Any] = results["benchmarks"]["boxes"]
    return found


class Half(Seer):
    """Sharp in the left half, blurred in the right."""

    def forward(self, image: Any) -> DepthOutput:
        blurred, sharp = (Seer(blur, self.space).forward(image).depth for blur in (9, 1))
        return DepthOutput(torch.cat([sharp[..., : SIZE[1] // 2], blurred[..., SIZE[1] // 2 :]], -1))


def inverse(raw: np.ndarray) -> np.ndarray:
    return (1 / np.clip(raw, 1e-6, None)).astype(np.float32)


@pytest.mark.parametrize(
    ("space", "stand_in"),
    [(AFFINE_DISPARITY, inverse), (METRIC_DEPTH, np.asarray)],
    ids=["disparity", "depth"],
)
@pytest.mark.parametrize("asked", ["aligned", "raw"])
def test_recall_is_the_metric_of_the_raw_prediction_in_the_place_of_depth(
    space: DepthSpace, stand_in: Callable[[np.ndarray], np.ndarray], asked: str, tmp_path: Path
) -> None:
    benchmark, model = Boxes(metrics=MATTES), Half(space=space)
    found = measured({"seer": model}, tmp_path, benchmark, stand_in=asked, protocol="midas")
    expected = []
    for i in range(len(benchmark)):
        sample: Any = benchmark.sample(i)
        image = torch.from_numpy(sample.image).permute(2, 0, 1)[None] / 255.0
        expected.append(boundary_recall(stand_in(model(image).depth[0].numpy()), sample.matte))
    assert 0.2 < np.mean(expected) < 0.8
    assert found["metrics"]["seer"] == {"boundary_recall": pytest.approx(np.mean(expected)), "images": 6}
    assert found["protocol"] == (
        "mattes: boundary recall of the raw prediction (of disparity its inverse, clipped at 1e-06), "
        "foreground where alpha is above 0.1, no fit; run at each model's own size"
    )
    assert found["protocol_fields"]["stand_in"] == "raw"


def test_sharp_beats_blurred_and_a_constant_has_no_boundary(tmp_path: Path) -> None:
    found = measured({"sharp": Seer(), "blurred": Seer(blur=9)}, tmp_path, Boxes(8, MATTES), pictures=2)
    recall = {row: metrics["boundary_recall"] for row, metrics in found["metrics"].items()}
    assert recall["sharp"] == pytest.approx(1)
    assert recall["blurred"] < 0.5
    assert recall["best constant per image"] == 0
    decided = found["differences"]["sharp minus blurred"]["boundary_recall"]
    assert decided["mean"] == pytest.approx(recall["sharp"] - recall["blurred"]) and decided["decided"]
    table, page = (tmp_path / "table.md").read_text(), (tmp_path / "report.html").read_text()
    assert "recall ↑" in table and "AbsRel" not in table and "F1" not in table
    assert "Boundary recall counts no false edges" in table
    assert "odd (4) recall ↑" in table
    assert '<td class="best">1.0000' in page
    assert page.count("<h3>") > 2  # image and answers, for the best and the worst too


@pytest.mark.parametrize("broken", ["nan", "inf"])
def test_a_broken_prediction_recalls_nothing_and_is_named(broken: str, tmp_path: Path) -> None:
    found = measured({"seer": Seer(broken=float(broken))}, tmp_path)
    assert found["metrics"]["seer"] == {"boundary_recall": 0, "images": 6}
    assert len(found["faults"]["seer"]) == 6
    assert "seer answers 'box0' with 3 numbers that are not finite" in found["faults"]["seer"][0]


def test_a_constant_prediction_recalls_nothing_and_is_named(tmp_path: Path) -> None:
    class Flat(Seer):
        def forward(self, image: Any) -> DepthOutput:
            return DepthOutput(torch.full_like(image[:, 0], 0.25))

    found = measured({"seer": Flat()}, tmp_path)
    assert found["metrics"]["seer"] == {"boundary_recall": 0, "images": 6}
    assert "seer answers 'box0' with 0.25 everywhere" in found["faults"]["seer"][0]


def test_other_mattes_are_other_data(tmp_path: Path) -> None:
    class Shifted(Boxes):
        def sample(self, index: int) -> Any:
            sample: Any = super().sample(index)
            return replace(sample, matte=np.roll(sample.matte, 1))

    benchmarks = [kind(3, MATTES) for kind in (Boxes, Shifted)]
    first, again = (measured({"seer": Seer()}, tmp_path, benchmark) for benchmark in benchmarks)
    assert first["data"] != again["data"]
    assert first["metrics"]["seer"]["boundary_recall"] > again["metrics"]["seer"]["boundary_recall"]


def test_pairs_and_mattes_of_the_same_images_are_scored_together(tmp_path: Path) -> None:
    found = measured({"seer": Seer()}, tmp_path, Boxes(metrics=(MetricSet.PAIRS, MetricSet.MATTE)))
    assert found["metrics"]["seer"] == {
        "pair_accuracy": 1,
        "pairs": 18,
        "boundary_recall": pytest.approx(1),
        "images": 6,
    }
    assert "pairs: the raw prediction at two points, no fit" in found["protocol"]
    assert "mattes: boundary recall of the raw prediction" in found["protocol"]


def test_papers_rows_stand_under_files_in_the_owners_layout(tmp_path: Path) -> None:
    files = {}
    for i in range(2):
        sample: Any = Boxes().sample(i)
        files[f"validation/original/m_{i}.jpg"] = encode_jpeg(sample.image)
        files[f"validation/mask/m_{i}.png"] = png(sample.matte.astype(np.uint8) * 255)
    benchmark = AM2k(write(tmp_path / "AM-2k.zip", files, "zip"), resolution=40)
    found = measured({"seer": Seer()}, tmp_path / "out", benchmark)
    assert found["metrics"]["seer"]["boundary_recall"] > 0.9
    assert found["metrics"]["seer"]["images"] == 2 and found["unreadable"] == []
    table = (tmp_path / "out/table.md").read_text()
    beside = table[table.index("## Sharpness on all benchmarks") :]
    assert beside.splitlines()[2].replace(" ", "") == "|model|am2krecall↑|"
    (row,) = [line for line in beside.splitlines() if line.startswith("| FiffDepth, Table 2: Depth Pro ")]
    assert row.split("|")[2].split() == ["0.173", "p"]
