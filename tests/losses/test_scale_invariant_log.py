"""The scale-invariant logarithmic loss against a slow oracle, and at its edges."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from depthkd.losses import scale_invariant_log_loss


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
