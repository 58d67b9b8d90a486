import math
from decimal import Decimal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from depthkd.losses.normalization import Normalization, distillation_loss
from depthkd.losses.trimmed import trimmed_loss, without_largest

CASES = ["random", "masked", "ties", "constant teacher", "constant student", "few pixels", "tiny", "huge"]


def maps(case: str, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    student, teacher = rng.normal(size=(2, 3, 9, 11))
    mask = np.ones((3, 9, 11), dtype=bool)
    if case == "masked":
        mask = rng.random(mask.shape) < 0.6
    if case == "ties":
        student, teacher = np.round(student * 2) / 2, np.round(teacher * 2) / 2
    if case == "constant teacher":
        teacher = np.full_like(teacher, 2.0)
    if case == "constant student":
        student = np.full_like(student, -3e4)
    if case == "few pixels":
        mask[0, 1:] = mask[1] = mask[2] = False
        mask[1, 4, 5] = mask[2, 0, :9] = True
    if case in ("tiny", "huge"):
        student, teacher = (x * (1e-3 if case == "tiny" else 1e6) for x in (student, teacher))
    return tuple(torch.from_numpy(x) for x in (student, teacher, mask))  # type: ignore[return-value]


def normalized(values: np.ndarray) -> np.ndarray:
    median = np.sort(values)[(len(values) - 1) // 2]
    return (values - median) / max(np.abs(values - median).mean(), 1e-6)


def oracle(student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor, drop: str) -> float:
    """One image, pixel by pixel, as section 5.2 says it; the share is a decimal."""
    s, t, m = (x.numpy() for x in (student, teacher, mask))
    losses = np.abs(normalized(s[m]) - normalized(t[m])).tolist()
    for _ in range(math.floor(Decimal(drop) * len(losses))):
        losses.remove(max(losses))
    return sum(losses) / max(len(losses), 1)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("drop", ["0", "0.1", "0.37", "0.95"])
def test_equals_the_written_out_mean(case: str, drop: str) -> None:
    student, teacher, mask = maps(case)
    expected = [oracle(student[i], teacher[i], mask[i], drop) for i in range(3)]
    loss = trimmed_loss(student, teacher, mask, float(drop))
    np.testing.assert_allclose(loss.numpy(), expected, rtol=1e-9, atol=1e-12)
    single = trimmed_loss(student.float(), teacher.float(), mask, float(drop))
    np.testing.assert_allclose(single.numpy(), expected, rtol=2e-4, atol=1e-5)


def test_nothing_dropped_is_the_global_distillation_loss() -> None:
    student, teacher, mask = maps("masked")
    whole = distillation_loss(student.float(), teacher.float(), mask, Normalization.GLOBAL)
    torch.testing.assert_close(trimmed_loss(student.float(), teacher.float(), mask, 0.0), whole)


@settings(deadline=None, derandomize=True, max_examples=80)
@given(st.lists(st.integers(-1, 4), min_size=1, max_size=40), st.integers(0, 99))
def test_exactly_that_many_go_the_largest_and_of_equals_the_first(values: list[int], percent: int) -> None:
    losses = torch.tensor(values, dtype=torch.float32).view(1, 1, -1)
    mask = losses >= 0  # the others are invalid, and large
    kept = without_largest(torch.where(mask, losses, 9.0), mask, percent / 100)[0, 0].tolist()
    valid = [i for i, value in enumerate(values) if value >= 0]
    gone = sorted(valid, key=lambda i: (-values[i], i))[: percent * len(valid) // 100]
    assert [i for i in valid if not kept[i]] == sorted(gone)
    assert not any(kept[i] for i in range(len(values)) if values[i] < 0)


def test_nothing_waits_for_the_device() -> None:
    student = torch.rand(2, 9, 11, device="meta").requires_grad_()  # which has no value to ask for
    mask = torch.ones(2, 9, 11, dtype=torch.bool, device="meta")
    trimmed_loss(student, torch.rand_like(student.detach()), mask).sum().backward()
    assert student.grad is not None


@pytest.mark.parametrize("drop", [0.0, 0.1, 0.5])
def test_gradient_check(drop: float) -> None:
    student, teacher, mask = (x[:, :5, :6] for x in maps("masked"))
    student = student.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda s: trimmed_loss(s, teacher, mask, drop), (student,))


def test_empty_masks_and_what_stands_at_invalid_pixels() -> None:
    student, teacher, mask = maps("masked")
    mask[1] = False
    clean = trimmed_loss(student, teacher, mask)
    student[~mask] = teacher[~mask] = torch.nan
    student.requires_grad_()
    loss = trimmed_loss(student, teacher, mask)
    assert loss[1] == 0 and torch.equal(loss, clean)
    loss.sum().backward()
    assert student.grad is not None and torch.isfinite(student.grad).all()
    assert (student.grad[1] == 0).all() and (student.grad[0] != 0).any()


def test_no_image_knows_of_another_and_no_scale_or_shift_matters() -> None:
    student, teacher, mask = maps("masked")
    loss = trimmed_loss(student, teacher, mask)
    for i in range(3):
        torch.testing.assert_close(
            trimmed_loss(student[i : i + 1], teacher[i : i + 1], mask[i : i + 1])[0], loss[i]
        )
    torch.testing.assert_close(trimmed_loss(student * 7 - 3, teacher * 0.01 + 5, mask), loss)


def test_outliers_of_a_label_do_not_pull() -> None:
    teacher = torch.arange(100.0).view(1, 10, 10).clone()
    student = teacher.clone().requires_grad_()
    teacher[0, 0, :10] += 1000.0  # a tenth of the label is wrong
    mask = torch.ones_like(teacher, dtype=torch.bool)
    kept = without_largest((student.detach() - teacher).abs(), mask, 0.1)
    assert not kept[0, 0].any() and kept[0, 1:].all()


@pytest.mark.parametrize("drop", [-0.1, 1.0, float("nan")])
def test_a_share_that_is_none_gets_a_sentence(drop: float) -> None:
    _, teacher, mask = maps("random")
    with pytest.raises(ValueError, match="would be 0 to below 1"):
        without_largest(teacher.abs(), mask, drop)
