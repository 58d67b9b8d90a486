import numpy as np
import pytest
import torch

from depthkd.losses.gradient import gradient_matching, normalized_gradient_matching
from depthkd.losses.normalization import global_normalization


def maps(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    student, teacher = (torch.from_numpy(rng.normal(size=(2, 13, 10))) for _ in range(2))
    return student, teacher, torch.from_numpy(rng.random((2, 13, 10)) < 0.8)


def oracle(student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor, scales: int) -> float:
    residual, valid = (student - teacher).numpy(), mask.numpy()
    total = 0.0
    for k in range(scales):
        rows, columns = range(0, residual.shape[0], 2**k), range(0, residual.shape[1], 2**k)
        sum_, count = 0.0, 0
        for i in rows:
            for j in columns:
                if not valid[i, j]:
                    continue
                count += 1
                for ni, nj in ((i + 2**k, j), (i, j + 2**k)):
                    if ni in rows and nj in columns and valid[ni, nj]:
                        sum_ += abs(residual[ni, nj] - residual[i, j])
        total += sum_ / max(count, 1)
    return total


@pytest.mark.parametrize("scales", [1, 4])
def test_equals_the_written_out_sum(scales: int) -> None:
    student, teacher, mask = maps()
    loss = gradient_matching(student, teacher, mask, scales)
    expected = [oracle(student[i], teacher[i], mask[i], scales) for i in range(2)]
    np.testing.assert_allclose(loss.numpy(), expected, rtol=1e-10)


def test_the_normalized_form_compares_globally_normalized_maps() -> None:
    student, teacher, mask = maps()
    pair = [global_normalization(x, mask) for x in (student, teacher)]
    torch.testing.assert_close(
        normalized_gradient_matching(student * 3 - 7, teacher, mask),
        gradient_matching(pair[0], pair[1], mask),
    )


def test_gradient_check_and_empty_mask() -> None:
    student, teacher, mask = maps()
    student = student[:, :6, :5].clone().requires_grad_()
    teacher, mask = teacher[:, :6, :5], mask[:, :6, :5].clone()
    assert torch.autograd.gradcheck(lambda s: gradient_matching(s, teacher, mask), (student,))
    mask[0] = False
    teacher = torch.where(mask, teacher, torch.nan)
    loss = normalized_gradient_matching(student, teacher, mask)
    assert loss[0] == 0
    loss.sum().backward()
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()


def test_a_constant_offset_costs_nothing_and_a_blurred_edge_does() -> None:
    teacher = torch.zeros(1, 8, 8)
    teacher[:, :, 4:] = 1.0
    mask = torch.ones_like(teacher, dtype=torch.bool)
    assert gradient_matching(teacher + 5, teacher, mask) == 0
    blurred = teacher.clone()
    blurred[:, :, 3:5] = 0.5
    assert gradient_matching(blurred, teacher, mask) > 0.1
