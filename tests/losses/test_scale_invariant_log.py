"""The scale-invariant logarithmic loss against a slow oracle, and at its edges."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from depthkd.losses import scale_invariant_log_loss, zoedepth_log_loss
from depthkd.losses.scale_invariant_log import LOG_LOSSES, as_one_image


def maps(batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    one, two = (0.5 + 9 * torch.rand(batch, 5, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    return one, two, torch.rand(batch, 5, 6, generator=generator) > 0.3


@pytest.mark.parametrize("focus", [0.0, 0.5, 1.0])
def test_it_is_what_its_formula_says(focus: float) -> None:
    prediction, target, mask = maps()
    for i, value in enumerate(scale_invariant_log_loss(prediction, target, mask, focus)):
        logs = [
            math.log(float(target[i, y, x])) - math.log(float(prediction[i, y, x]))
            for y, x in np.ndindex(5, 6)
            if mask[i, y, x]
        ]
        mean = sum(logs) / len(logs)
        expected = math.sqrt(sum(g * g for g in logs) / len(logs) - focus * mean * mean)
        assert float(value) == pytest.approx(expected, rel=1e-9)


def logs_of(prediction: Tensor, target: Tensor, mask: Tensor) -> list[float]:
    """log(target) - log(prediction) at every valid pixel, one after another."""
    return [
        math.log(float(target[place])) - math.log(float(prediction[place]))
        for place in np.ndindex(*target.shape)
        if mask[place]
    ]


def slow_zoedepth(logs: list[float], focus: float) -> float:
    mean = sum(logs) / len(logs)
    variance = sum((g - mean) ** 2 for g in logs) / (len(logs) - 1)
    return 10 * math.sqrt(variance + (1 - focus) * mean * mean)


@pytest.mark.parametrize("focus", [0.0, 0.85, 1.0])
def test_zoedepths_form_has_the_unbiased_variance(focus: float) -> None:
    prediction, target, mask = maps()
    for i, value in enumerate(zoedepth_log_loss(prediction, target, mask, focus)):
        expected = slow_zoedepth(logs_of(prediction[i], target[i], mask[i]), focus)
        assert float(value) == pytest.approx(expected, rel=1e-9)


def test_per_batch_is_over_all_pixels_of_all_sources() -> None:
    one, other = maps(2), maps(3)
    logs = logs_of(*one) + logs_of(*other)
    mean = sum(logs) / len(logs)
    square = sum(g * g for g in logs) / len(logs)
    joined = [as_one_image([a, b]) for a, b in zip(one, other, strict=True)]
    assert scale_invariant_log_loss(*joined).tolist() == pytest.approx([math.sqrt(square - 0.5 * mean**2)])
    assert zoedepth_log_loss(*joined).tolist() == pytest.approx([slow_zoedepth(logs, 0.85)])


@pytest.mark.parametrize("name", list(LOG_LOSSES))
def test_both_forms_have_right_gradients_per_image_and_per_batch(name: str) -> None:
    loss = LOG_LOSSES[name]  # type: ignore[index]
    prediction, target, mask = maps()
    mask[1] = False
    mask[1, 2, 3] = True  # a single pixel has no variance
    prediction.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda p: loss(p, target, mask, 0.85), (prediction,))
    assert torch.autograd.gradcheck(
        lambda p: loss(as_one_image([p]), as_one_image([target]), as_one_image([mask]), 0.85), (prediction,)
    )
    none = torch.zeros_like(mask)
    empty = loss(prediction, target, none, 0.85)
    empty.sum().backward()
    assert float(empty.detach().abs().max()) < 1e-4
    assert prediction.grad is not None and not bool(prediction.grad.any())


def test_a_wrong_scale_is_free_at_full_focus_and_costs_at_none() -> None:
    _, target, mask = maps()
    assert float(scale_invariant_log_loss(3 * target, target, mask, 1.0).max()) < 1e-5
    costs = scale_invariant_log_loss(3 * target, target, mask, 0.0)
    torch.testing.assert_close(costs, torch.full_like(costs, math.log(3)))


def test_gradients_are_right_and_finite_where_nothing_is_left_to_learn() -> None:
    prediction, target, mask = maps()
    prediction.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda p: scale_invariant_log_loss(p, target, mask), (prediction,))
    perfect = target.clone().requires_grad_(True)
    mask[1] = False
    scale_invariant_log_loss(perfect, target, mask).sum().backward()  # type: ignore[no-untyped-call]
    assert perfect.grad is not None and bool(torch.isfinite(perfect.grad).all())
    broken = torch.where(mask, target, torch.nan)
    assert bool(torch.isfinite(scale_invariant_log_loss(target, broken, mask)).all())
    assert bool(torch.isfinite(scale_invariant_log_loss(torch.zeros_like(target), target, mask)).all())
