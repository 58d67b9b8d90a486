import copy
import math

import pytest
import torch
from torch import nn

from depthkd.methods.optimization import Optimization, averaged_copy, update_average
from depthkd.models.dpt.depth_anything import DepthAnything


def test_the_encoder_learns_slower_and_vectors_do_not_decay() -> None:
    student = DepthAnything("tiny")
    extra = nn.Linear(2, 2)
    settings = Optimization(learning_rate=1e-3, encoder_factor=0.1, weight_decay=0.05)
    optimizer = settings.optimizer(student, list(extra.parameters()))
    rates = {id(p): (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    trainable = [p for p in student.parameters() if p.requires_grad]
    assert len(rates) == len(trainable) + 2
    for name, parameter in student.named_parameters():
        if parameter.requires_grad:
            rate, decay = rates[id(parameter)]
            assert rate == pytest.approx(1e-4 if ".backbone." in name else 1e-3), name
            assert decay == (0.05 if parameter.ndim > 1 else 0.0), name
    assert rates[id(extra.weight)] == (1e-3, 0.05)
    assert rates[id(extra.bias)] == (1e-3, 0.0)


@pytest.mark.parametrize(
    ("schedule", "at_half"),
    [("constant", 1.0), ("polynomial", 0.5**0.9), ("cosine", 0.5)],
)
def test_schedules(schedule: str, at_half: float) -> None:
    factor = Optimization(schedule=schedule, warmup_steps=10).factor(110)  # type: ignore[arg-type]
    assert [factor(i) for i in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])
    assert factor(10) == pytest.approx(1.0)
    assert factor(60) == pytest.approx(at_half)
    assert factor(110) == pytest.approx(1.0 if schedule == "constant" else 0.0, abs=1e-6)
    assert factor(1000) == pytest.approx(1.0 if schedule == "constant" else 0.0, abs=1e-6)
    assert math.isclose(Optimization().factor(100)(0), 1.0)


def test_the_average_follows_its_formula_and_takes_buffers_over() -> None:
    class Student(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(2, 2)
            self.norm = nn.BatchNorm1d(2)

    student = Student()
    average = copy.deepcopy(student).requires_grad_(False)
    expected = average.linear.weight.double()
    for step in range(3):
        with torch.no_grad():
            student.linear.weight.add_(step + 1.0)
            student.norm.running_mean.add_(1.0)
        update_average(average, student, 0.9)
        expected = 0.9 * expected + 0.1 * student.linear.weight.double()
    torch.testing.assert_close(average.linear.weight.double(), expected.detach(), rtol=1e-6, atol=1e-6)
    assert torch.equal(average.norm.running_mean, student.norm.running_mean)


def test_the_average_is_frozen_and_in_eval_mode() -> None:
    average = averaged_copy(DepthAnything("tiny").train())
    assert not average.training
    assert not any(p.requires_grad for p in average.parameters())
