import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from depthkd.losses.normalization import (
    Normalization,
    context_normalization,
    depth_range_contexts,
    distillation_loss,
    global_normalization,
)

LEVELS = {Normalization.GLOBAL: (1,), Normalization.LOCAL: (4,), Normalization.HYBRID: (1, 2, 4)}
CASES = ["random", "constant teacher", "masked", "tiny", "huge", "one pixel", "ties"]


def maps(case: str, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    student, teacher = rng.normal(size=(2, 3, 9, 11))
    mask = np.ones((3, 9, 11), dtype=bool)
    if case == "constant teacher":
        teacher = np.full_like(teacher, 2.0)
    if case in ("masked", "one pixel"):
        mask = rng.random(mask.shape) < 0.6
    if case == "one pixel":
        mask[1] = False
        mask[1, 4, 5] = True
    if case == "tiny":
        teacher, student = teacher * 1e-3, student * 1e-3
    if case == "huge":
        teacher, student = teacher * 1e6, student * 1e6
    if case == "ties":
        teacher = np.round(teacher * 2) / 2
    to = torch.from_numpy
    return to(student).float(), to(teacher).float(), to(mask)


def lower_median(values: np.ndarray) -> float:
    return float(np.sort(values)[(len(values) - 1) // 2])


def oracle(
    student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor, levels: tuple[int, ...]
) -> float:
    """Eqs. 1 to 5 for one image, pixel by pixel, in float64."""
    s, t = (x[mask].double().numpy() for x in (student, teacher))
    # The segment of a value near a boundary is decided in float32, as in the code under test.
    low, high = teacher[mask].min(), teacher[mask].max()
    fraction = ((teacher[mask] - low) / (high - low if high > low else 1.0)).numpy()
    total = 0.0
    for i in range(len(t)):
        for level in levels:
            segment = np.minimum((fraction * np.float32(level)).astype(int), level - 1)
            same = segment == segment[i]
            normalized = []
            for values in (s, t):
                median = lower_median(values[same])
                deviation = np.abs(values[same] - median).mean()
                normalized.append((values[i] - median) / max(deviation, 1e-6))
            total += abs(normalized[0] - normalized[1]) / len(levels)
    return total / len(t)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("normalization", [Normalization.GLOBAL, Normalization.LOCAL, Normalization.HYBRID])
def test_equals_the_written_out_equations(case: str, normalization: Normalization) -> None:
    student, teacher, mask = maps(case)
    loss = distillation_loss(student, teacher, mask, normalization)
    expected = [oracle(student[i], teacher[i], mask[i], LEVELS[normalization]) for i in range(3)]
    np.testing.assert_allclose(loss.numpy(), expected, rtol=2e-5, atol=1e-6)


def test_no_normalization_is_the_mean_absolute_difference() -> None:
    student, teacher, mask = maps("masked")
    loss = distillation_loss(student, teacher, mask, Normalization.NONE)
    expected = [(student[i] - teacher[i]).double()[mask[i]].abs().mean() for i in range(3)]
    torch.testing.assert_close(loss.double(), torch.stack(expected), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("normalization", list(Normalization))
def test_empty_mask_gives_zero_and_a_finite_gradient(normalization: Normalization) -> None:
    student, teacher, mask = maps("random")
    mask[1] = False
    teacher[~mask] = torch.nan  # what stands at invalid pixels must not matter
    student.requires_grad_()
    loss = distillation_loss(student, teacher, mask, normalization)
    assert loss[1] == 0
    loss.sum().backward()
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()
    assert (student.grad[1] == 0).all()
    assert (student.grad[0] != 0).any()


@pytest.mark.parametrize("normalization", list(Normalization))
def test_gradient_check(normalization: Normalization) -> None:
    rng = np.random.default_rng(3)
    student = torch.from_numpy(rng.permutation(40).reshape(2, 4, 5) * 0.37).requires_grad_()
    teacher = torch.from_numpy(rng.permutation(40).reshape(2, 4, 5) * 1.3)
    mask = torch.from_numpy(rng.random((2, 4, 5)) < 0.8)
    assert torch.autograd.gradcheck(lambda s: distillation_loss(s, teacher, mask, normalization), (student,))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 1000), st.floats(0.01, 100.0), st.floats(-10.0, 10.0))
def test_scale_and_shift_of_either_map_do_not_matter(seed: int, scale: float, shift: float) -> None:
    student, teacher, mask = (x.double() if x.is_floating_point() else x for x in maps("masked", seed))
    # Segments are cut by comparison, so stay away from their boundaries by using few distinct depths.
    teacher = (teacher * 3).round()
    for normalization in (Normalization.GLOBAL, Normalization.LOCAL, Normalization.HYBRID):
        plain = distillation_loss(student, teacher, mask, normalization)
        moved = distillation_loss(student * scale + shift, teacher, mask, normalization)
        torch.testing.assert_close(moved, plain, rtol=1e-6, atol=1e-6)
    plain = distillation_loss(student, teacher, mask, Normalization.GLOBAL)
    moved = distillation_loss(student, teacher * scale + shift, mask, Normalization.GLOBAL)
    torch.testing.assert_close(moved, plain, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("normalization", list(Normalization))
def test_flips_and_the_order_of_images_do_not_matter(normalization: Normalization) -> None:
    student, teacher, mask = maps("masked")
    plain = distillation_loss(student, teacher, mask, normalization)
    flipped = distillation_loss(student.flip(-1), teacher.flip(-1), mask.flip(-1), normalization)
    permuted = distillation_loss(student[[2, 0, 1]], teacher[[2, 0, 1]], mask[[2, 0, 1]], normalization)
    torch.testing.assert_close(flipped, plain)
    torch.testing.assert_close(permuted, plain[[2, 0, 1]])


def test_contexts_tile_the_range_once_a_level_and_the_last_is_closed() -> None:
    teacher = torch.tensor([[[0.0, 0.24, 0.25, 0.5, 0.75, 1.0]]])
    mask = torch.ones(1, 1, 6, dtype=torch.bool)
    contexts = depth_range_contexts(teacher, mask, (1, 2, 4))
    assert contexts.shape == (1, 7, 6)
    assert contexts[0, 0].all()
    assert contexts[0, 1].tolist() == [True, True, True, False, False, False]
    assert contexts[0, 3:].int().argmax(0).tolist() == [0, 0, 1, 2, 3, 3]
    assert (contexts.sum(1) == 3).all()


def test_normalized_contexts_have_median_zero_and_unit_deviation() -> None:
    _, teacher, mask = maps("random")
    contexts = depth_range_contexts(teacher, mask, (1, 2, 4))
    normalized = context_normalization(teacher.flatten(1), contexts)
    inside = contexts.sum(-1)
    deviation = normalized.abs().sum(-1) / inside
    torch.testing.assert_close(deviation[inside > 1], torch.ones_like(deviation[inside > 1]))
    normalized = global_normalization(teacher, mask)
    assert normalized.flatten(1).median(1).values.abs().max() == 0
