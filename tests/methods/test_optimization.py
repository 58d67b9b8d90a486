import copy
import math

import pytest
import torch
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from depthkd.methods.optimization import (
    GroupSettings,
    Optimization,
    averaged_copy,
    configure_again,
    update_average,
)
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


def optimizer_of(settings: Optimization) -> AdamW:
    return settings.optimizer(DepthAnything("tiny"), [])


@pytest.mark.parametrize(
    ("steps", "pct", "div", "final", "momentum"),
    [(40, 0.7, 1.0, 1e4, (0.85, 0.95)), (23, 0.3, 25.0, 1e4, (0.8, 0.9)), (9, 0.0, 2.0, 10.0, None)],
)
def test_one_cycle_is_torchs(
    steps: int, pct: float, div: float, final: float, momentum: tuple[float, float] | None
) -> None:
    settings = Optimization(
        1e-3, 0.02, schedule="one_cycle", pct_start=pct, div_factor=div, final_div_factor=final,
        cycle_momentum=momentum,
    )  # fmt: skip
    ours, theirs = optimizer_of(settings), optimizer_of(settings)
    schedule = settings.scheduler(ours, steps)
    low, high = momentum or (0.85, 0.95)
    reference = OneCycleLR(
        theirs, [g["lr"] for g in theirs.param_groups], total_steps=steps, pct_start=pct, div_factor=div,
        final_div_factor=final, cycle_momentum=momentum is not None, base_momentum=low, max_momentum=high,
    )  # fmt: skip
    for step in range(steps):
        for mine, other in zip(ours.param_groups, theirs.param_groups, strict=True):
            assert mine["lr"] == pytest.approx(other["lr"], rel=1e-9), step
            assert mine["betas"] == pytest.approx(other["betas"], rel=1e-9), step
        for optimizer, scheduler in ((ours, schedule), (theirs, reference)):
            optimizer.step()
            if step < steps - 1:
                scheduler.step()


def test_a_resumed_cycle_goes_on_where_it_was() -> None:
    settings = Optimization(schedule="one_cycle", cycle_momentum=(0.85, 0.95))
    first = optimizer_of(settings)
    schedule = settings.scheduler(first, 50)
    for _ in range(20):
        first.step()
        schedule.step()
    state = schedule.state_dict()
    assert not any(callable(value) for value in state.values())
    other = optimizer_of(settings)
    resumed = settings.scheduler(other, 50)
    wanted = GroupSettings.of(other)
    other.load_state_dict(first.state_dict())
    resumed.load_state_dict(state)
    assert configure_again(other, resumed, wanted) == []
    assert other.param_groups[0]["betas"] == first.param_groups[0]["betas"] != (0.9, 0.999)
    longer = settings.scheduler(optimizer := optimizer_of(settings), 400)
    wanted = GroupSettings.of(optimizer)
    optimizer.load_state_dict(first.state_dict())
    longer.load_state_dict(state)
    assert "betas were" in " ".join(configure_again(optimizer, longer, wanted))


def test_vectors_decay_where_they_are_told_to() -> None:
    settings = Optimization(weight_decay=0.05, decay_vectors=True)
    assert {group["weight_decay"] for group in optimizer_of(settings).param_groups} == {0.05}


def test_what_does_not_go_with_a_schedule_is_refused() -> None:
    with pytest.raises(ValueError, match="warmup_steps does not go with the schedule 'one_cycle'"):
        Optimization(schedule="one_cycle", warmup_steps=3)
    with pytest.raises(ValueError, match="cycle_momentum does not go with the schedule 'polynomial'"):
        Optimization(cycle_momentum=(0.85, 0.95))
    with pytest.raises(ValueError, match=r"pct_start must be from 0 to 1, not 1\.5"):
        Optimization(schedule="one_cycle", pct_start=1.5)


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
