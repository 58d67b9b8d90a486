"""Boundary F1 and recall against their definitions, pair by pair."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from depthkd.metrics.boundary import BoundaryF1, BoundaryRecall, boundary_f1, boundary_recall, thinned
from tests.metrics.test_edges import steps

THRESHOLDS = np.linspace(1.05, 1.25, 10)
WEIGHTS = THRESHOLDS / THRESHOLDS.sum()


def relations(inverse: np.ndarray, threshold: float) -> list[np.ndarray]:
    left, right, top, bottom = inverse[:, :-1], inverse[:, 1:], inverse[:-1], inverse[1:]
    return [
        left / right > threshold,
        right / left > threshold,
        top / bottom > threshold,
        bottom / top > threshold,
    ]


def f1_oracle(prediction: np.ndarray, target: np.ndarray) -> float:
    p, t = (1 / np.clip(d.astype(np.float64), 1e-6, None) for d in (prediction, target))
    answer = 0.0
    for threshold, weight in zip(THRESHOLDS, WEIGHTS, strict=True):
        pairs = list(zip(relations(p, threshold), relations(t, threshold), strict=True))
        precision = np.mean([(a & b).sum() / max(a.sum(), 1) for a, b in pairs])
        recall = np.mean([(a & b).sum() / max(b.sum(), 1) for a, b in pairs])
        answer += weight * (2 * precision * recall / (precision + recall) if precision + recall else 0)
    return float(answer)


def thinned_oracle(ratios: np.ndarray, threshold: float) -> np.ndarray:
    kept = np.zeros(ratios.shape, dtype=bool)
    for i, row in enumerate(ratios):
        run: list[int] = []
        for j in range(len(row) + 1):
            if j < len(row) and row[j] > threshold:
                run.append(j)
            elif run:
                kept[i, max(run, key=lambda k: (row[k], -k))] = True
                run = []
    return kept


def recall_oracle(prediction: np.ndarray, matte: np.ndarray) -> float:
    inverse = 1 / np.clip(prediction.astype(np.float64), 1e-6, None)
    answer = 0.0
    for threshold, weight in zip(THRESHOLDS, WEIGHTS, strict=True):
        recalls = []
        for d, m in ((inverse, matte), (inverse.T, matte.T)):
            for ratios, true in (
                (d[:, :-1] / d[:, 1:], m[:, :-1] & ~m[:, 1:]),
                (d[:, 1:] / d[:, :-1], m[:, 1:] & ~m[:, :-1]),
            ):
                recalls.append((thinned_oracle(ratios, threshold) & true).sum() / max(true.sum(), 1))
        answer += weight * np.mean(recalls)
    return float(answer)


def random_depth(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(1, 1.6, (17, 23)).astype(np.float32)


@pytest.mark.parametrize("make", [steps, random_depth])
@pytest.mark.parametrize("seed", range(4))
def test_f1_equals_its_definition(make: Callable[[int], np.ndarray], seed: int) -> None:
    target, other = make(seed), make(seed + 9)
    noisy = target + np.random.default_rng(seed).normal(0, 0.05, target.shape).astype(np.float32)
    assert boundary_f1(noisy, target) == pytest.approx(f1_oracle(noisy, target), abs=1e-9)
    assert boundary_f1(other, target) == pytest.approx(f1_oracle(other, target), abs=1e-9)


def test_f1_of_nothing_and_of_everything() -> None:
    flat = np.ones((9, 9), np.float32)
    assert boundary_f1(flat, steps(0)[:9, :9] * 0 + 1) == 0
    assert boundary_f1(steps(0), steps(0)) == pytest.approx(1)
    assert boundary_f1(flat * 0, random_depth(0)[:9, :9]) == 0  # depth 0 is clipped, not divided by
    assert boundary_f1(3 * steps(0), steps(0)) == pytest.approx(1)  # scale does not matter


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("threshold", [1.05, 1.2, 9.0])
def test_runs_are_thinned_to_their_largest(seed: int, threshold: float) -> None:
    ratios = np.random.default_rng(seed).uniform(0.8, 1.4, (8, 12)).round(1)  # with ties
    np.testing.assert_array_equal(thinned(ratios, threshold), thinned_oracle(ratios, threshold))


@pytest.mark.parametrize("seed", range(3))
def test_recall_equals_its_definition(seed: int) -> None:
    matte = steps(seed) < 3
    for prediction in (steps(seed), steps(seed + 5), random_depth(0)[:1, :1].repeat(60, 0).repeat(80, 1)):
        assert boundary_recall(prediction, matte) == pytest.approx(recall_oracle(prediction, matte), abs=1e-9)
    assert boundary_recall(steps(seed), matte) > 0.9
    assert boundary_recall(steps(seed), np.zeros_like(matte)) == 0


def test_the_classes_are_means_over_images() -> None:
    predictions, targets = (torch.from_numpy(np.stack([steps(i), steps(i + 1)])) for i in (0, 1))
    metric = BoundaryF1()
    metric.update(predictions, targets)
    each = [boundary_f1(p.numpy(), t.numpy()) for p, t in zip(predictions, targets, strict=True)]
    assert metric.compute()["boundary_f1"] == pytest.approx(np.mean(each))
    recall = BoundaryRecall()
    recall.update(predictions, targets < 3)
    each = [boundary_recall(p.numpy(), (t < 3).numpy()) for p, t in zip(predictions, targets, strict=True)]
    assert recall.compute()["boundary_recall"] == pytest.approx(np.mean(each))
