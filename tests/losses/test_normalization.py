import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from depthkd.losses.contexts import context_statistics, order_within_segments, segment_sizes
from depthkd.losses.normalization import (
    Normalization,
    depth_range_partition,
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


def test_segments_tile_the_range_and_the_last_is_closed() -> None:
    teacher = torch.tensor([[[0.0, 0.24, 0.25, 0.5, 0.75, 1.0, -5.0]]])
    mask = torch.tensor([[[True] * 6 + [False]]])
    assert depth_range_partition(teacher, mask, 1).tolist() == [[0] * 6 + [1]]
    assert depth_range_partition(teacher, mask, 2).tolist() == [[0, 0, 0, 1, 1, 1, 2]]
    assert depth_range_partition(teacher, mask, 4).tolist() == [[0, 0, 1, 2, 3, 3, 4]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normalized_contexts_have_median_zero_and_unit_deviation(dtype: torch.dtype) -> None:
    _, teacher, mask = maps("masked")
    values, partition = teacher.to(dtype).flatten(1), depth_range_partition(teacher, mask, 4)
    statistics = context_statistics(
        values, order_within_segments(values, partition), partition, segment_sizes(partition, 4), 4
    )
    for image, segments in enumerate(partition):
        for segment in range(4):
            inside = values[image, segments == segment]
            normalized = (inside - statistics.median[image, segment]) * statistics.inverse[image, segment]
            assert values[image, statistics.pixel[image, segment]] == statistics.median[image, segment]
            assert lower_median(normalized.numpy()) == 0
            assert len(inside) < 2 or float(normalized.abs().mean()) == pytest.approx(1, rel=1e-5)
    normalized = global_normalization(teacher, mask)
    assert all(lower_median(normalized[i][mask[i]].numpy()) == 0 for i in range(3))


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=40), st.integers(0, 99))
def test_order_is_by_segment_then_value_then_place(values: list[float], seed: int) -> None:
    pixels = torch.tensor([values]) + 0.0  # -0.0 has a place of its own in the keys, but not in `sorted`
    partition = torch.from_numpy(np.random.default_rng(seed).integers(0, 3, (1, len(values))))
    order = order_within_segments(pixels, partition)[0].tolist()
    assert order == sorted(range(len(values)), key=lambda i: (int(partition[0, i]), float(pixels[0, i]), i))
    assert order_within_segments(pixels.double(), partition)[0].tolist() == order
