import math

import numpy as np
import pytest
import torch

from depthkd.alignment import median_and_deviation
from depthkd.losses.anchor import magnitude_anchor
from depthkd.losses.normalization import Normalization, distillation_loss


def maps(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    student = rng.normal(size=(3, 5, 6)) * np.array([1e-3, 1, 1e4])[:, None, None] + 40
    return torch.from_numpy(student), torch.from_numpy(rng.random((3, 5, 6)) < 0.8)


def oracle(student: torch.Tensor, mask: torch.Tensor, target: float) -> float:
    values = sorted(student[mask].tolist())
    median = values[(len(values) - 1) // 2]
    deviation = sum(abs(v - median) for v in values) / len(values)
    return math.log(max(deviation, 1e-6) / target) ** 2


@pytest.mark.parametrize("target", [1.0, 0.02])
def test_equals_the_written_out_formula(target: float) -> None:
    student, mask = maps()
    student[~mask] = torch.nan
    expected = [oracle(student[i], mask[i], target) for i in range(3)]
    loss = magnitude_anchor(student, mask, target)
    torch.testing.assert_close(loss, torch.tensor(expected, dtype=torch.float64))


def test_gradient_check() -> None:
    student, mask = maps()
    student.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: magnitude_anchor(s, mask, 3.0), (student,), eps=1e-7)


def test_constant_and_empty_maps_stay_finite_with_no_gradient() -> None:
    student, mask = maps()
    student[0], mask[1] = 7.0, False
    student[1] = torch.nan
    student.requires_grad_()
    loss = magnitude_anchor(student, mask)
    assert loss[0].item() == pytest.approx(math.log(1e-6) ** 2)
    assert loss[1] == 0
    loss.sum().backward()
    assert student.grad is not None
    assert (student.grad[:2] == 0).all()
    assert (student.grad[2][mask[2]] != 0).any()


def test_the_median_is_free_and_the_target_costs_nothing() -> None:
    student, mask = maps()
    torch.testing.assert_close(magnitude_anchor(student + 9, mask), magnitude_anchor(student, mask))
    deviation = (magnitude_anchor(student, mask)[2].sqrt().exp()).item()
    assert magnitude_anchor(student[2:], mask[2:], deviation).item() == pytest.approx(0, abs=1e-12)
    with pytest.raises(ValueError, match=r"deviation of 0\.0 cannot be held"):
        magnitude_anchor(student, mask, 0.0)


def descend(weight: float) -> tuple[list[float], float]:
    """Plain gradient descent of a small network: the deviation of its output by step, and the last loss."""
    generator = torch.Generator().manual_seed(0)
    image, noise = (torch.randn(4, n, 24, 24, generator=generator) for n in (3, 1))
    teacher = image[:, 0].tanh() + 0.5 * noise[:, 0]
    mask = torch.ones_like(teacher, dtype=torch.bool)
    layers = [torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.Tanh(), torch.nn.Conv2d(8, 1, 1)]
    network = torch.nn.Sequential(*layers)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.15)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.2)
    deviations = []
    for _ in range(200):
        depth = network(image)[:, 0]
        loss = distillation_loss(depth, teacher, mask, Normalization.HYBRID).mean()
        anchor = magnitude_anchor(depth, mask, 0.2).mean()
        optimizer.zero_grad()
        (loss + weight * anchor).backward()
        optimizer.step()
        deviations.append(median_and_deviation(depth.detach(), mask)[1].mean().item())
    return deviations, loss.item()


def test_it_holds_a_network_that_drifts_without_it() -> None:
    drifting, loss = descend(0.0)
    assert drifting[-1] > 1.7 * drifting[0]
    assert drifting[-1] > drifting[100] > drifting[50]
    held, held_loss = descend(0.1)
    assert held[100:] == pytest.approx([0.2] * 100, rel=0.25)
    assert held_loss == pytest.approx(loss, rel=0.03)  # and learns as much
