"""Boundary errors against the owners' scripts, told in short: scikit-image's edges, SciPy's distances."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
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


def near_distances(estimated: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    """`dbe_acc` and `dbe_compl` of edges: both 10 where no estimated edge lies within 10 px of a true one."""
    to_true = distance_transform_edt(~true) if true.any() else np.full(true.shape, np.inf)
    near = estimated & (to_true < 10)
    if near.sum() == 0:
        return 10.0, 10.0
    return float(to_true[near].sum() / near.sum()), float(
        (distance_transform_edt(~estimated) * true).sum() / true.sum()
    )


def pdbe_oracle(prediction: np.ndarray, target: np.ndarray) -> tuple[float, float]:
    """SharpDepth's evaluation/metric.py: everything in float32, as predictions and truth are there."""

    def edges(depth: np.ndarray) -> np.ndarray:
        depth = depth.astype(np.float32)
        both = [min_max(depth), min_max(1.0 / depth.clip(min=1e-6))]
        found = [canny(m, sigma=np.sqrt(2), low_threshold=0.1, high_threshold=0.2) for m in both]
        return found[0] | found[1]

    return near_distances(edges(prediction), edges(target))


def dbe_oracle(prediction: np.ndarray, edges: np.ndarray, version: Toolbox) -> tuple[float, float]:
    """iBims-1's evaluate_ibims_error_metrics.py, of today and the older one."""
    depth = prediction.astype("f")
    depth[depth == 0] = np.nan
    low, high = (0.15, 0.3) if version == "current" else (0.1, 0.2)
    estimated = canny(min_max(depth), sigma=np.sqrt(2), low_threshold=low, high_threshold=high)
    accuracy, completeness = near_distances(estimated, edges)
    if version == "paper" or (accuracy, completeness) == (10.0, 10.0):
        return accuracy, completeness
    there = np.minimum(distance_transform_edt(~edges) * estimated, 10)
    back = np.minimum(distance_transform_edt(~estimated) * edges, 10)
    return accuracy, float((there + back).sum() / (estimated.sum() + edges.sum()))


def step(column: int, height: int = 40, width: int = 160) -> np.ndarray:
    return np.where(np.arange(width) < column, 1.0, 2.0)[None].repeat(height, 0).astype(np.float32)


CASES: dict[str, Callable[[], tuple[np.ndarray, np.ndarray]]] = {
    "alike": lambda: (steps(0), steps(0)),
    "moved": lambda: (np.roll(steps(1), 3, 1), steps(1)),
    "other": lambda: (steps(2), steps(3)),
    "blurred": lambda: (np.linspace(1, 9, 4800, dtype=np.float32).reshape(60, 80), steps(4)),
    "constant prediction": lambda: (np.ones((60, 80), np.float32), steps(5)),
    "constant truth": lambda: (steps(6), np.ones((60, 80), np.float32)),
    "far": lambda: (step(140), step(80)),
    "nine pixels off": lambda: (step(89), step(80)),
    "twelve pixels off": lambda: (step(92), step(80)),
}


@pytest.mark.parametrize("case", CASES)
def test_pseudo_boundary_errors_equal_their_definition(case: str) -> None:
    prediction, target = CASES[case]()
    ours = pseudo_boundary_errors(prediction, target)
    expected = pdbe_oracle(prediction, target)
    np.testing.assert_allclose([ours["pdbe_accuracy"], ours["pdbe_completeness"]], expected, atol=1e-9)


@settings(deadline=None, derandomize=True, max_examples=25)
@given(st.integers(0, 2**31), st.integers(5, 155), st.integers(5, 155), st.floats(0, 0.02))
def test_pseudo_boundary_errors_equal_the_script_on_generated_steps(
    seed: int, ours: int, theirs: int, noise: float
) -> None:
    rng = np.random.default_rng(seed)
    prediction, target = (
        (step(c) + rng.normal(0, noise, (40, 160))).astype(np.float32) for c in (ours, theirs)
    )
    found = pseudo_boundary_errors(prediction, target)
    expected = pdbe_oracle(prediction, target)
    np.testing.assert_allclose([found["pdbe_accuracy"], found["pdbe_completeness"]], expected, atol=1e-9)


def test_what_the_cases_measure() -> None:
    assert pseudo_boundary_errors(*CASES["alike"]()) == {"pdbe_accuracy": 0.0, "pdbe_completeness": 0.0}
    moved = pseudo_boundary_errors(*CASES["moved"]())
    assert 0 < moved["pdbe_accuracy"] < 3.5
    assert 0 < moved["pdbe_completeness"] < 3.5
    none_near = {"pdbe_accuracy": 10.0, "pdbe_completeness": 10.0}
    for case in ("far", "twelve pixels off", "constant prediction", "constant truth"):
        assert pseudo_boundary_errors(*CASES[case]()) == none_near, case
    assert pseudo_boundary_errors(*CASES["nine pixels off"]()) == {
        "pdbe_accuracy": 8.5,  # edges are two pixels wide
        "pdbe_completeness": 8.5,
    }
    two = np.maximum(step(30, width=400), 3 * (step(390, width=400) - 1))
    assert pseudo_boundary_errors(step(31, width=400), two)["pdbe_completeness"] > 100  # not truncated


@pytest.mark.parametrize("version", ["current", "paper"])
@pytest.mark.parametrize("case", [c for c in CASES if c != "constant truth"])
def test_boundary_errors_equal_both_scripts(case: str, version: Toolbox) -> None:
    prediction, target = CASES[case]()
    edges = canny(min_max(target), np.sqrt(2), 0.1, 0.2)
    for hole in (0, 2):  # rows without an estimate
        prediction = prediction.copy()
        prediction[:hole] = 0
        ours = boundary_errors(prediction, edges, version)
        expected = dbe_oracle(prediction, edges, version)
        assert list(ours.values()) == pytest.approx(expected, abs=1e-9)
    if case == "far":
        assert expected == (10.0, 10.0)


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
