"""Boundary errors against their definitions, written out with SciPy."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt
from skimage.feature import canny

from depthkd.metrics.edges import (
    BoundaryErrors,
    PseudoBoundaryErrors,
    Toolbox,
    boundary_errors,
    distance_to,
    pseudo_boundary_errors,
)


def steps(seed: int, height: int = 60, width: int = 80) -> np.ndarray:
    """A map of rectangles before each other, with a little noise."""
    rng = np.random.default_rng(seed)
    depth = np.full((height, width), 9.0) + rng.normal(0, 0.01, (height, width))
    for value in (6.0, 4.0, 2.0):
        top, left = rng.integers(5, height - 30), rng.integers(5, width - 30)
        depth[top : top + 22, left : left + 25] = value
    return depth.astype(np.float32)


def min_max(values: np.ndarray) -> np.ndarray:
    spread = np.nanmax(values) - np.nanmin(values)
    return (values - np.nanmin(values)) / (spread if spread > 0 else 1)


def pdbe_oracle(prediction: np.ndarray, target: np.ndarray) -> tuple[float, float]:
    def edges(depth: np.ndarray) -> np.ndarray:
        depth = depth.astype(np.float64)
        both = [min_max(depth), min_max(1 / np.clip(depth, 1e-6, None))]
        found = [canny(m, sigma=np.sqrt(2), low_threshold=0.1, high_threshold=0.2) for m in both]
        return found[0] | found[1]

    estimated, true = edges(prediction), edges(target)
    to_true = distance_transform_edt(~true) if true.any() else np.full(true.shape, np.inf)
    to_estimated = distance_transform_edt(~estimated)
    near = [d for d, e in zip(to_true.flat, estimated.flat, strict=True) if e and d < 10]
    accuracy = float(np.mean(near)) if near else 10.0
    if not estimated.any() or not true.any():
        return accuracy, 10.0
    return accuracy, float((to_estimated * true).sum() / true.sum())


CASES: dict[str, Callable[[], tuple[np.ndarray, np.ndarray]]] = {
    "alike": lambda: (steps(0), steps(0)),
    "moved": lambda: (np.roll(steps(1), 3, 1), steps(1)),
    "other": lambda: (steps(2), steps(3)),
    "blurred": lambda: (np.linspace(1, 9, 4800, dtype=np.float32).reshape(60, 80), steps(4)),
    "constant prediction": lambda: (np.ones((60, 80), np.float32), steps(5)),
    "constant truth": lambda: (steps(6), np.ones((60, 80), np.float32)),
    "far": lambda: (np.where(np.arange(300) < 4, 1.0, 2.0)[None].repeat(40, 0).astype(np.float32),
                    np.where(np.arange(300) < 290, 1.0, 2.0)[None].repeat(40, 0).astype(np.float32)),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_pseudo_boundary_errors_equal_their_definition(case: str) -> None:
    prediction, target = CASES[case]()
    ours = pseudo_boundary_errors(prediction, target)
    expected = pdbe_oracle(prediction, target)
    np.testing.assert_allclose([ours["pdbe_accuracy"], ours["pdbe_completeness"]], expected, atol=1e-9)


def test_what_the_cases_measure() -> None:
    assert pseudo_boundary_errors(*CASES["alike"]()) == {"pdbe_accuracy": 0.0, "pdbe_completeness": 0.0}
    moved = pseudo_boundary_errors(*CASES["moved"]())
    assert 0 < moved["pdbe_accuracy"] < 3.5
    assert 0 < moved["pdbe_completeness"] < 3.5
    far = pseudo_boundary_errors(*CASES["far"]())
    assert far["pdbe_accuracy"] == 10  # no estimated edge is near a true one,
    assert far["pdbe_completeness"] > 200  # and completeness is not truncated


@pytest.mark.parametrize("version", ["current", "paper"])
@pytest.mark.parametrize("case", ["moved", "other", "blurred", "alike"])
def test_boundary_errors_equal_both_scripts(case: str, version: Toolbox) -> None:
    prediction, target = CASES[case]()
    prediction = prediction.copy()
    prediction[:2] = 0  # no estimate there
    edges = canny(min_max(target.astype(np.float64)), np.sqrt(2), 0.1, 0.2)
    low, high = (0.15, 0.3) if version == "current" else (0.1, 0.2)
    depth = np.where(prediction == 0, np.nan, prediction).astype(np.float64)
    estimated = canny(min_max(depth), np.sqrt(2), low, high)
    ours = boundary_errors(prediction, edges, version)
    if not estimated.any():
        assert ours == {"dbe_accuracy": 10, "dbe_completeness": 10}
        return
    to_true, to_estimated = distance_transform_edt(~edges), distance_transform_edt(~estimated)
    near = to_true[estimated][to_true[estimated] < 10]
    assert ours["dbe_accuracy"] == pytest.approx(near.mean() if near.size else 10, abs=1e-9)
    if version == "paper":
        expected = (to_estimated * edges).sum() / edges.sum()
    else:
        total = np.minimum(to_true * estimated, 10).sum() + np.minimum(to_estimated * edges, 10).sum()
        expected = total / (edges.sum() + estimated.sum())
    assert ours["dbe_completeness"] == pytest.approx(expected, abs=1e-9)


def test_images_without_annotated_edges_do_not_count() -> None:
    none = np.zeros((60, 80), dtype=bool)
    assert all(np.isnan(v) for v in boundary_errors(steps(0), none).values())
    metric = BoundaryErrors()
    some = none.copy()
    some[30] = True
    metric.update(torch.from_numpy(np.stack([steps(0), steps(1)])), torch.from_numpy(np.stack([none, some])))
    result = metric.compute()
    assert (result["images"], result["skipped"]) == (1, 1)
    assert result["dbe_accuracy"] == pytest.approx(boundary_errors(steps(1), some)["dbe_accuracy"])


@pytest.mark.parametrize("seed", range(3))
def test_distances_are_exact(seed: int) -> None:
    edges = np.random.default_rng(seed).random((300, 700)) < 1e-4
    edges[0, 0] = True
    np.testing.assert_allclose(distance_to(edges), distance_transform_edt(~edges), rtol=1e-12)


def test_the_class_is_the_mean_over_images() -> None:
    predictions, targets = (
        np.stack(maps) for maps in zip(*(CASES[c]() for c in ("moved", "other")), strict=True)
    )
    metric = PseudoBoundaryErrors()
    metric.update(torch.from_numpy(predictions[:1]), torch.from_numpy(targets[:1]))
    metric.update(torch.from_numpy(predictions[1:]), torch.from_numpy(targets[1:]))
    each = [pseudo_boundary_errors(p, t) for p, t in zip(predictions, targets, strict=True)]
    for name in ("pdbe_accuracy", "pdbe_completeness"):
        assert metric.compute()[name] == pytest.approx(np.mean([e[name] for e in each]))
