import numpy as np
import pytest
import torch

from depthkd.alignment import Fit
from depthkd.losses.disagreement import (
    agreement_weighted_mean,
    aligned_difference,
    relative_disagreement,
)
from depthkd.losses.normalization import global_normalization


def maps(seed: int = 0, count: int = 3) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Noisy views of one surface, each with a scale and a shift of its own; NaN where invalid."""
    rng = np.random.default_rng(seed)
    surface, mask = rng.random((3, 6, 7)), torch.from_numpy(rng.random((3, 6, 7)) < 0.8)
    views = [
        torch.from_numpy((surface + 0.2 * rng.random((3, 6, 7))) * (2 + 3 * k) - k) for k in range(count)
    ]
    for view in views:
        view[~mask] = torch.nan
    return views, mask


def fit(prediction: np.ndarray, reference: np.ndarray, name: Fit) -> np.ndarray:
    """The fit of one image's valid values."""
    if name is Fit.SCALE_AND_SHIFT:
        return np.polyval(np.polyfit(prediction, reference, 1), prediction)
    if name is Fit.SCALE:
        return prediction * np.linalg.lstsq(prediction[:, None], reference, rcond=None)[0]
    if name is Fit.NONE:
        return prediction
    if name is Fit.LOG_SCALE_AND_SHIFT:
        logs = [np.log(np.maximum(v, 1e-6)) for v in (prediction, reference)]
        return np.exp(np.polyval(np.polyfit(*logs, 1), logs[0]))
    middle = [float(np.sort(v)[(len(v) - 1) // 2]) for v in (prediction, reference)]
    if name is Fit.MEDIAN_SCALE:
        return prediction * middle[1] / middle[0]
    spread = [np.abs(v - m).mean() for v, m in zip((prediction, reference), middle, strict=True)]
    return (prediction - middle[0]) / spread[0] * spread[1] + middle[1]


@pytest.mark.parametrize("name", list(Fit))
def test_differences_equal_those_of_each_image_alone(name: Fit) -> None:
    (reference, prediction), mask = maps(count=2)
    difference = aligned_difference(prediction, reference, mask, name)
    relative = relative_disagreement(prediction, reference, mask, name)
    for i in range(3):
        p, r = prediction[i][mask[i]].numpy(), reference[i][mask[i]].numpy()
        expected = np.abs(fit(p, r, name) - r)
        np.testing.assert_allclose(difference[i][mask[i]].numpy(), expected, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(relative[i][mask[i]].numpy(), expected / expected.max(), rtol=1e-9)
    assert (difference[~mask] == 0).all()
    assert (relative[~mask] == 0).all()


def test_equal_constant_and_empty_maps() -> None:
    (reference, prediction), mask = maps(count=2)
    prediction[0] = reference[0]
    prediction[1] = 4.0
    mask[2] = False
    for name in Fit:
        difference = aligned_difference(prediction, reference, mask, name)
        relative = relative_disagreement(prediction, reference, mask, name)
        assert torch.isfinite(difference).all()
        assert float(difference[0].max()) < 1e-12
        assert (difference[2] == 0).all()
        assert torch.isfinite(relative).all()
        assert 0 <= float(relative.min()) <= float(relative.max()) <= 1
    assert (relative_disagreement(prediction, reference, mask, Fit.NONE)[0] == 0).all()
    assert relative_disagreement(prediction, reference, mask, Fit.NONE)[1].max() == 1


def test_least_squares_does_not_see_the_scale_and_shift_of_the_prediction() -> None:
    (reference, prediction), mask = maps(count=2)
    plain = relative_disagreement(prediction, reference, mask, Fit.SCALE_AND_SHIFT)
    for moved in ((-3 * prediction + 8, reference), (prediction, 0.01 * reference - 5)):
        again = relative_disagreement(*moved, mask, Fit.SCALE_AND_SHIFT)
        torch.testing.assert_close(again, plain, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("weights", [None, [0.3, 0.6]])
def test_the_mean_of_teachers_equals_the_formula_in_normalized_maps(weights: list[float] | None) -> None:
    teachers, mask = maps()
    mean = agreement_weighted_mean(teachers, mask, weights)
    filled = [torch.where(mask, t, 0) for t in teachers]
    normalized = [global_normalization(t, mask) for t in filled]
    for i in range(3):
        first, *others = (n[i][mask[i]].numpy() for n in normalized)
        expected, left = np.zeros_like(first), np.ones_like(first)
        for other, largest in zip(others, weights or [1 / 3, 1 / 3], strict=True):
            moved = fit(other, first, Fit.SCALE_AND_SHIFT)
            difference = np.abs(moved - first)
            weight = largest * (1 - difference / difference.max())
            expected, left = expected + weight * moved, left - weight
        expected = expected + left * first
        values = filled[0][i][mask[i]].numpy()
        middle = np.sort(values)[(len(values) - 1) // 2]
        expected = expected * np.abs(values - middle).mean() + middle
        np.testing.assert_allclose(mean[i][mask[i]].numpy(), expected, rtol=1e-9)
    assert (mean[~mask] == 0).all()


def test_two_teachers_are_equals_where_they_agree_and_the_primary_rules_where_they_differ() -> None:
    (primary, assistant), mask = maps(count=2)
    mean = agreement_weighted_mean([primary, assistant], mask)
    worst = relative_disagreement(assistant, primary, mask, Fit.SCALE_AND_SHIFT) == 1
    assert worst.sum() == 3
    torch.testing.assert_close(mean[worst], primary[worst])
    same = agreement_weighted_mean([primary, 7 * primary - 3], mask)
    torch.testing.assert_close(same[mask], primary[mask])
    flat = agreement_weighted_mean([primary, torch.full_like(primary, 2.0)], mask)
    assert torch.isfinite(flat).all()
    mask[0] = False
    assert (agreement_weighted_mean([primary, assistant], mask)[0] == 0).all()


@pytest.mark.parametrize(
    ("count", "weights", "sentence"),
    [
        (1, None, "two maps or more, not 1"),
        (2, [0.2, 0.2], r"\[0.2, 0.2\] do not suit 1 assistant"),
        (3, [0.8, 0.4], "no more than 1 in sum"),
        (2, [-0.1], "0 or more"),
    ],
)
def test_other_weights_are_refused(count: int, weights: list[float] | None, sentence: str) -> None:
    teachers, mask = maps(count=count)
    with pytest.raises(ValueError, match=sentence):
        agreement_weighted_mean(teachers, mask, weights)


def test_a_floor_keeps_rounding_from_being_taken_for_disagreement() -> None:
    (reference, prediction), mask = maps(count=2)
    noise = 1e-9 * torch.rand(reference.shape, generator=torch.Generator().manual_seed(0)).double()
    assert float(relative_disagreement(reference + noise, reference, mask, Fit.NONE).max()) == 1.0
    small = relative_disagreement(reference + noise, reference, mask, Fit.NONE, floor=0.01)
    torch.testing.assert_close(small[mask], noise[mask] / 0.01, rtol=1e-6, atol=1e-14)
    for fit_name in (Fit.NONE, Fit.SCALE_AND_SHIFT):  # and nothing else changes
        plain, floored = (
            relative_disagreement(prediction, reference, mask, fit_name, f) for f in (0.0, 0.01)
        )
        assert torch.equal(plain, floored)
