"""What is said of metrics that stand on a wrong sign, quantity or unit, and not of right ones."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from depthkd.batch import (
    AFFINE_DEPTH,
    AFFINE_DISPARITY,
    METRIC_DEPTH,
    METRIC_DISPARITY,
    SCALE_DISPARITY,
    DepthSpace,
    Quantity,
)
from depthkd.benchmarks.protocol import Protocol
from depthkd.datasets.scenes import Style, scenes
from depthkd.errors import UserError
from depthkd.evaluation.doubts import doubts, fit_facts
from depthkd.evaluation.evaluate import evaluate
from depthkd.formats.sample import Sample
from depthkd.metrics.catalogue import MetricSet
from depthkd.models.model import DepthModel, DepthOutput
from depthkd.report.claims import Claim
from tests.conftest import CommandLine
from tests.evaluation.subjects import Boxes, Seer

DEPTH = (MetricSet.DEPTH,)
MARIGOLD = Protocol.named("marigold")
OPTIONS: dict[str, Any] = {"photographs": False, "pictures": 0, "workers": 0, "untrained": False}


def lstsq(p: np.ndarray, t: np.ndarray) -> tuple[float, float]:
    scale, shift = np.linalg.lstsq(np.stack([p, np.ones_like(p)], 1), t, rcond=None)[0]
    return scale, shift


@settings(deadline=None, derandomize=True, max_examples=20)
@given(st.integers(0, 2**31), st.sampled_from([AFFINE_DEPTH, AFFINE_DISPARITY]), st.booleans())
def test_facts_are_those_of_a_fit_in_each_quantity(seed: int, space: DepthSpace, disparity: bool) -> None:
    rng = np.random.default_rng(seed)
    depth = rng.uniform(0.5, 30, (1, 40, 50)).astype(np.float32)
    raw = (rng.choice([-1, 1]) * depth ** rng.choice([-1.0, 1.0]) + rng.normal(0, 0.1, depth.shape)).astype(
        "f"
    )
    mask = torch.from_numpy(rng.random(depth.shape) < 0.8)
    protocol = Protocol.named("marigold", min_depth=1.0, max_depth=20.0)
    truth, truth_space = (1 / depth, METRIC_DISPARITY) if disparity else (depth, METRIC_DEPTH)
    found = fit_facts(torch.from_numpy(raw), space, torch.from_numpy(truth), truth_space, mask, protocol)
    valid = mask.numpy() & (depth > 1) & (depth < 20)
    p, t = raw[valid].astype(np.float64), depth[valid].astype(np.float64)
    for quantity in Quantity:
        target = t if quantity is Quantity.DEPTH else 1 / t
        scale, shift = lstsq(p, target)
        fitted = p * scale + shift
        aligned = (fitted if quantity is Quantity.DEPTH else 1 / np.maximum(fitted, 1e-3)).clip(1, 20)
        end = "" if quantity is space.quantity else "_otherwise"
        correlation = np.corrcoef(p, target)[0, 1]
        assert found[f"correlation{end}"] == pytest.approx(correlation, abs=1e-5)
        assert np.sign(correlation) == np.sign(scale)
        assert found[f"fit_abs_rel{end}"] == pytest.approx(np.mean(np.abs(aligned - t) / t), rel=1e-4)


def test_nothing_can_be_said_of_answers_that_say_nothing() -> None:
    depth = torch.linspace(1, 9, 2000).view(1, 40, 50)
    everywhere = torch.ones_like(depth, dtype=torch.bool)
    for raw in (torch.ones_like(depth), torch.where(depth > 5, torch.nan, depth)):
        assert fit_facts(raw, AFFINE_DEPTH, depth, METRIC_DEPTH, everywhere, MARIGOLD) == {}
    assert fit_facts(depth, AFFINE_DEPTH, depth, METRIC_DEPTH, ~everywhere, MARIGOLD) == {}
    few = torch.arange(2000).view(1, 40, 50) % 400 == 7  # as LiDAR leaves few
    large = (x.repeat(1, 20, 20) for x in (depth, depth, few))
    assert fit_facts(next(large), AFFINE_DEPTH, next(large), METRIC_DEPTH, next(large), MARIGOLD)


def noisy(depth: np.ndarray, error: float, seed: int) -> np.ndarray:
    return depth * np.exp(np.random.default_rng(seed).normal(0, error, depth.shape))


MADE = {  # how answers come from depth, in which space they are, and of what there is doubt
    "disparity": (lambda d: 1 / d, AFFINE_DISPARITY, ""),
    "depth": (lambda d: d, AFFINE_DEPTH, ""),
    "square root of depth": (np.sqrt, AFFINE_DEPTH, ""),
    "disparity, cut off": (lambda d: np.minimum(1 / d, np.percentile(1 / d, 80)), AFFINE_DISPARITY, ""),
    "turned disparity": (lambda d: -1 / d, AFFINE_DISPARITY, "sign"),
    "turned depth": (lambda d: -d, AFFINE_DEPTH, "sign"),
    "disparity as depth": (lambda d: 1 / d, AFFINE_DEPTH, "sign and quantity"),
    "depth as disparity": (lambda d: d, AFFINE_DISPARITY, "sign and quantity"),
    "turned depth as disparity": (lambda d: -d, AFFINE_DISPARITY, "quantity"),
}


@pytest.mark.parametrize("error", [0.0, 0.05])
@pytest.mark.parametrize("made", MADE)
def test_wrong_models_are_told_and_right_ones_are_not(made: str, error: float) -> None:
    answer, space, doubt = MADE[made]
    rows = []
    for i, scene in enumerate(scenes(5, 12, Style.STUDIO, height=48, width=64)):
        assert scene.sample.depth is not None and scene.sample.mask is not None
        depth, mask = (torch.from_numpy(x)[None] for x in (scene.sample.depth, scene.sample.mask))
        filled = torch.where(mask, depth, depth[mask].median())
        raw = torch.from_numpy(answer(noisy(filled.numpy(), error, i))).float()
        rows.append(fit_facts(raw, space, depth, METRIC_DEPTH, mask, MARIGOLD))
    said = doubts("m", rows, space, MARIGOLD)
    sign = [s for s in said if s == "m: the fitted scale is negative in 12 of 12 images: is `space` right?"]
    other = "depth" if space.quantity == "disparity" else "disparity"
    quantity = [
        s
        for s in said
        if s.startswith(f"m: its predictions go with {other} better than with {space.quantity}")
    ]
    assert (len(sign), len(quantity)) == ("sign" in doubt, "quantity" in doubt), said
    assert len(said) == len(sign) + len(quantity)


def test_answers_that_fit_both_ways_or_not_at_all_raise_no_doubt() -> None:
    row = {
        "correlation": 1.0,
        "correlation_otherwise": -1.0,
        "fit_abs_rel": 3e-7,
        "fit_abs_rel_otherwise": 1e-7,
    }
    assert doubts("m", [row] * 4, AFFINE_DISPARITY, MARIGOLD) == []  # two depths alone: any fit is perfect
    chance = [{**row, "correlation": c} for c in (-0.2, 0.1, -0.05, 0.02, -0.03)]
    assert doubts("m", [r | {"fit_abs_rel": 0.4, "fit_abs_rel_otherwise": 0.4} for r in chance], AFFINE_DEPTH,
                  MARIGOLD) == []  # fmt: skip
    assert doubts("m", [{}, {}], AFFINE_DEPTH, MARIGOLD) == []


class Sloped(Boxes):
    """Boxes before a slope, so that depth and disparity are not the same up to a fit."""

    def sample(self, index: int) -> Sample:
        sample = super().sample(index)
        assert sample.depth is not None
        depth = sample.depth + np.linspace(0, 6, len(sample.depth), dtype=np.float32)[:, None] ** 1.2
        return replace(sample, depth=depth, image=np.repeat((depth * 10).astype(np.uint8)[..., None], 3, 2))


class Wrong(DepthModel):
    """Reads depth off the image, and says another thing than its space does."""

    def __init__(self, space: DepthSpace, sign: float, power: float) -> None:
        super().__init__()
        self.space, self.sign, self.power = space, sign, power
        self.source, self.license = f"wrong {sign} {power}", "MIT"

    def forward(self, image: Tensor) -> DepthOutput:
        return DepthOutput(self.sign * (image.mean(1) * 25.5).clamp(min=1.0) ** self.power)

    def encoder_parameters(self) -> Any:
        return iter(())


def test_it_is_said_under_the_table_and_after_an_interruption(tmp_path: Path) -> None:
    models: dict[str, str | DepthModel] = {
        "right": Wrong(AFFINE_DISPARITY, 1.0, -1.0),
        "turned": Wrong(AFFINE_DISPARITY, -1.0, -1.0),
        "depth": Wrong(AFFINE_DISPARITY, 1.0, 1.0),
        "metric": Wrong(METRIC_DEPTH, 1.0, -1.0),
    }
    turned = "turned: the fitted scale is negative in 6 of 6 images: is `space` right?"
    tables = []
    for again in (False, True):
        if again:  # killed in the middle of a model
            table = tmp_path / "per_sample.csv"
            lines = table.read_text().splitlines(keepends=True)
            table.write_text("".join(lines[: 1 + 4 + 6 + 6]))
        results = evaluate(models, {"b": Sloped(metrics=DEPTH)}, out=tmp_path, **OPTIONS)
        found = results["benchmarks"]["b"]
        assert found["metrics"]["turned"]["abs_rel"] < 0.02  # the metric is kept
        assert set(found["doubts"]) == {"turned", "depth", "metric"}
        assert found["doubts"]["turned"] == [turned]
        assert [s.split(":")[1][:26] for s in found["doubts"]["depth"]] == [
            " the fitted scale is negat", " its predictions go with d"
        ]  # fmt: skip
        tables.append((tmp_path / "table.md").read_text())
    assert tables[0] == tables[1] and turned in tables[0] and "vertical ramp:" not in tables[0]


def test_without_a_fit_a_least_squares_fit_tells(tmp_path: Path) -> None:
    models: dict[str, str | DepthModel] = {"metric": Wrong(METRIC_DEPTH, 1.0, -1.0)}
    results = evaluate(models, {"b": Sloped(metrics=DEPTH)}, out=tmp_path, protocol="metric", **OPTIONS)
    first, second = results["benchmarks"]["b"]["doubts"]["metric"]
    assert first.startswith("metric: the scale of a least-squares fit is negative in 6 of 6 images")
    assert "go with disparity better than with depth" in second


class Millimeters(Boxes):
    """Boxes whose depth was taken for meters."""

    def sample(self, index: int) -> Sample:
        sample = super().sample(index)
        assert sample.depth is not None
        return replace(sample, depth=sample.depth * 1000 if index >= self.first else sample.depth)

    def __init__(self, first: int = 0, metrics: tuple[MetricSet, ...] = DEPTH) -> None:
        super().__init__(metrics=metrics)
        self.first = first


SEER = [
    "--models.seer.class_path",
    "tests.evaluation.subjects.Seer",
    "--photographs",
    "false",
    "--workers",
    "0",
]
RANGES = "The depths of 6 of them are 3000 to 10000 m, all outside of what the protocol counts, 0.001 to 20 m"


def test_nothing_scored_is_no_success(command_line: CommandLine, tmp_path: Path) -> None:
    boxes = f"{__name__}.Millimeters"
    fine = [*SEER, "--benchmarks.fine", boxes, "--benchmarks.fine.first", "6"]
    words = [*fine, "--benchmarks.wrong", boxes]
    status, out, _ = command_line("test", *words, "--out", "o")
    assert status == 1
    section = out[out.index("## wrong") :]
    assert "Nothing was scored here." in section and RANGES in section
    assert "is the unit of the truth right?" in section and "|" not in section
    for table in (tmp_path / "o/table.md").read_text(), (tmp_path / "o/report.html").read_text():
        assert RANGES in table
    again, out, _ = command_line("test", *words, "--out", "o")
    assert again == 1 and RANGES in out  # nothing was measured anew, and it is still known
    assert command_line("test", *fine, "--out", "p")[0] == 0


@pytest.mark.parametrize("metrics", [DEPTH, (MetricSet.DEPTH, MetricSet.EDGES)])
def test_a_part_without_valid_truth_is_told_with_both_ranges(
    metrics: tuple[MetricSet, ...], tmp_path: Path
) -> None:
    results = evaluate({"s": Seer()}, {"b": Millimeters(2, metrics)}, out=tmp_path, **OPTIONS)
    found = results["benchmarks"]["b"]
    assert found["metrics"]["s"]["images"] == (2 if len(metrics) == 1 else 6) and not found["unscored"]
    assert len(found["without_truth"]) == 4
    assert RANGES.replace("6 of them", "4 of them") in (tmp_path / "table.md").read_text()


def test_a_truth_without_a_measured_pixel_and_one_in_other_units(tmp_path: Path) -> None:
    empty = Boxes(without_truth=tuple(range(6)), metrics=DEPTH)
    results = evaluate({"s": Seer()}, {"b": empty}, out=tmp_path, **OPTIONS)
    table = (tmp_path / "table.md").read_text()
    assert results["benchmarks"]["b"]["unscored"] == ["s"]
    assert "Nothing was scored here." in table and "is the unit" not in table

    class Relative(Boxes):
        def sample(self, index: int) -> Sample:
            sample = super().sample(index)
            assert sample.depth is not None
            return replace(sample, depth=1e-3 / sample.depth, space=SCALE_DISPARITY)

    evaluate({"s": Seer()}, {"b": Relative(metrics=DEPTH)}, out=tmp_path / "r", **OPTIONS)
    assert (
        "are 3000 to 10000, all outside of what the protocol counts, 0.001 to 20:"
        in (tmp_path / "r/table.md").read_text()
    )


def test_a_sign_that_is_clearly_wrong_in_some_images_is_told() -> None:
    row = {
        "correlation": 0.99,
        "correlation_otherwise": -0.9,
        "fit_abs_rel": 0.01,
        "fit_abs_rel_otherwise": 0.2,
    }
    turned = row | {"correlation": -0.99, "correlation_otherwise": 0.9}
    (said,) = doubts("m", [row] * 6 + [turned] * 6, AFFINE_DISPARITY, MARIGOLD)
    assert said == "m: the fitted scale is negative in 6 of 12 images: is `space` right?"
    assert doubts("m", [row] * 11 + [turned], AFFINE_DISPARITY, MARIGOLD) == []


def test_what_is_said_of_an_answer_is_true_of_the_protocol(tmp_path: Path) -> None:
    class Constant(Seer):
        def forward(self, image: Any) -> DepthOutput:
            return DepthOutput(torch.full_like(image[:, 0], 0.25))

    for protocol, end in (("marigold", ", so that its fit is the best constant"), ("metric", "")):
        model = Constant()
        model.space = METRIC_DEPTH
        results = evaluate(
            {"s": model}, {"b": Boxes(2, DEPTH)}, out=tmp_path / protocol, protocol=protocol, **OPTIONS
        )
        faults = results["benchmarks"]["b"]["faults"]["s"]
        assert faults[0] == f"s answers 'box0' with 0.25 everywhere{end}"


def test_a_claim_about_what_is_not_tested_is_told_before_anything_is(tmp_path: Path) -> None:
    for claim, said in (
        (
            Claim("s", "c", 1.0, "vertical ramp"),
            "a claim names the benchmark 'c', which is not tested; it would be",
        ),
        (
            Claim("s", "b", 1.0, "ramp"),
            "the row 'ramp', which is not tested; it would be one of s, best constant",
        ),
    ):
        with pytest.raises(UserError, match=said):
            evaluate({"s": Seer()}, {"b": Boxes(2, DEPTH)}, out=tmp_path / "o", claims=[claim], **OPTIONS)
        assert not (tmp_path / "o").exists()
