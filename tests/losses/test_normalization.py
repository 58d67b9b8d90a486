import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from depthkd.losses.contexts import (
    context_statistics,
    joined_cells,
    joined_ranges,
    segment_bounds,
    sort_within_segments,
)
from depthkd.losses.normalization import (
    Normalization,
    depth_range_partition,
    distillation_loss,
    global_normalization,
    percentile_partition,
    spatial_partition,
)

LEVELS = {Normalization.GLOBAL: (1,), Normalization.LOCAL: (4,)}  # the others: 1, 2 and 4
NORMALIZED = [n for n in Normalization if n is not Normalization.NONE]
CASES = [
    "random",
    "constant teacher",
    "constant student",
    "masked",
    "tiny",
    "huge",
    "one pixel",
    "ties",
    "offset",
]


def maps(case: str, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    student, teacher = rng.normal(size=(2, 3, 9, 11))
    mask = np.ones((3, 9, 11), dtype=bool)
    if case == "constant teacher":
        teacher = np.full_like(teacher, 2.0)
    if case == "constant student":
        student = np.full_like(student, -3e4)
    if case in ("masked", "one pixel"):
        mask = rng.random(mask.shape) < 0.6
    if case == "one pixel":
        mask[1] = False
        mask[1, 4, 5] = True
    if case == "tiny":
        teacher, student = teacher * 1e-3, student * 1e-3
    if case == "huge":
        teacher, student = teacher * 1e6, student * 1e6
    if case == "offset":  # nearly constant, as a teacher of few steps is
        student, teacher = np.round(student) * 1e-4 + 50, np.round(teacher * 2) * 1e-4 + 50
    if case == "ties":
        student, teacher = np.round(student * 2) / 2, np.round(teacher * 2) / 2
    to = torch.from_numpy
    return to(student).float(), to(teacher).float(), to(mask)


def lower_median(values: np.ndarray) -> float:
    return float(np.sort(values)[(len(values) - 1) // 2])


def context(teacher: np.ndarray, mask: np.ndarray, normalization: Normalization, level: int) -> np.ndarray:
    """Which of a level's contexts each pixel of one image is in, written as the papers say it."""
    inside = np.full(mask.shape, -1)
    for i, j in zip(*np.nonzero(mask), strict=True):
        if normalization is Normalization.SPATIAL:
            row, column = (
                max(k for k in range(level) if k * n // level <= at)
                for at, n in ((i, mask.shape[0]), (j, mask.shape[1]))
            )
            inside[i, j] = row * level + column
        elif normalization is Normalization.PERCENTILE:
            valid = teacher[mask].astype(np.float64)
            lows = [np.nanquantile(valid, k / level) for k in range(level)]
            inside[i, j] = max(k for k in range(level) if lows[k] <= teacher[i, j])
        else:  # the segment of a value near a boundary is decided in float32, as in the code under test
            low, high = teacher[mask].min(), teacher[mask].max()
            fraction = (teacher[i, j] - low) / (high - low if high > low else np.float32(1))
            inside[i, j] = min(int(fraction * np.float32(level)), level - 1)
    return inside


def oracle(
    student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor, normalization: Normalization
) -> float:
    """Eqs. 1 to 5 for one image, pixel by pixel, in float64."""
    levels = LEVELS.get(normalization, (1, 2, 4))
    inside = [context(teacher.numpy(), mask.numpy(), normalization, level) for level in levels]
    maps = [x.double().numpy() for x in (student, teacher)]
    total = 0.0
    for i, j in zip(*np.nonzero(mask.numpy()), strict=True):
        for contexts in inside:
            same = contexts == contexts[i, j]
            normalized = []
            for values in maps:
                median = lower_median(values[same])
                deviation = np.abs(values[same] - median).mean()
                normalized.append((values[i, j] - median) / max(deviation, 1e-6))
            total += abs(normalized[0] - normalized[1]) / len(levels)
    return total / max(int(mask.sum()), 1)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("normalization", NORMALIZED)
def test_equals_the_written_out_equations(case: str, normalization: Normalization) -> None:
    student, teacher, mask = maps(case)
    expected = [oracle(student[i], teacher[i], mask[i], normalization) for i in range(3)]
    loss = distillation_loss(student, teacher, mask, normalization)
    np.testing.assert_allclose(loss.numpy(), expected, rtol=2e-5, atol=1e-6)
    loss = distillation_loss(student.double(), teacher, mask, normalization)  # ordered another way
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
    mask[2, 3:, :5] = False
    student[~mask] = teacher[~mask] = torch.nan  # what stands at invalid pixels must not matter
    student.requires_grad_()
    loss = distillation_loss(student, teacher, mask, normalization)
    assert loss[1] == 0
    loss.sum().backward()
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()
    assert (student.grad[1] == 0).all()
    assert (student.grad[0] != 0).any()


@pytest.mark.parametrize("normalization", list(Normalization))
def test_nothing_waits_for_the_device(normalization: Normalization) -> None:
    student = torch.rand(2, 9, 11, device="meta").requires_grad_()  # which has no value to ask for
    mask = torch.ones(2, 9, 11, dtype=torch.bool, device="meta")
    distillation_loss(student, torch.rand_like(student.detach()), mask, normalization).sum().backward()
    assert student.grad is not None


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
    for normalization in NORMALIZED:
        plain = distillation_loss(student, teacher, mask, normalization)
        moved = distillation_loss(student * scale + shift, teacher, mask, normalization)
        torch.testing.assert_close(moved, plain, rtol=1e-6, atol=1e-6)
    for normalization in (Normalization.GLOBAL, Normalization.PERCENTILE, Normalization.SPATIAL):
        plain = distillation_loss(student, teacher, mask, normalization)
        moved = distillation_loss(student, teacher * scale + shift, mask, normalization)
        torch.testing.assert_close(moved, plain, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("normalization", list(Normalization))
def test_flips_and_the_order_of_images_do_not_matter(normalization: Normalization) -> None:
    student, teacher, mask = (x[:, :8, :8] for x in maps("masked"))  # a flip carries cells to cells
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


def test_bins_hold_as_many_pixels_and_equal_values_share_one() -> None:
    teacher = torch.tensor([[[5.0, 1.0, 8.0, 2.0, 7.0, 3.0, 6.0, 4.0, -9.0]]] * 3)
    mask = torch.tensor([[[True] * 8 + [False]]] * 3)
    teacher[1] = torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 9.0, 0.0])
    mask[2] = False
    assert percentile_partition(teacher, mask, 4).tolist() == [
        [2, 0, 3, 0, 3, 1, 2, 1, 4],
        [2, 2, 2, 2, 2, 3, 3, 3, 4],
        [4] * 9,
    ]


def test_cells_tile_the_image_and_join() -> None:
    mask = torch.ones(1, 5, 6, dtype=torch.bool)
    mask[0, 0, 0] = False
    cells = spatial_partition(mask, 4).view(5, 6)
    assert cells[:, 3].tolist() == [2, 6, 10, 14, 14]
    assert cells[4].tolist() == [12, 13, 13, 14, 15, 15]
    assert cells[0, 0] == 16
    cells = cells.clamp(max=15)
    quarters = spatial_partition(torch.ones_like(mask), 2).view(-1)
    joined = joined_cells(4, (1, 2, 4), torch.device("cpu"))[:, cells.view(-1)][:, :, cells.view(-1)]
    assert joined[0].all()
    other = quarters[1:, None] == quarters[None, 1:]
    assert torch.equal(joined[1, 1:, 1:], other)


@pytest.mark.parametrize("normalization", NORMALIZED)
def test_the_gradient_is_that_of_the_loss_written_in_autograd(normalization: Normalization) -> None:
    student, teacher, mask = maps("masked")
    levels = LEVELS.get(normalization, (1, 2, 4))
    inside = [
        [context(t.numpy(), m.numpy(), normalization, level) for level in levels]
        for t, m in zip(teacher, mask, strict=True)
    ]
    student = student.double().requires_grad_()
    losses = []
    for s, t, m, contexts in zip(student, teacher.double(), mask, inside, strict=True):
        total = s.new_zeros(())
        for level in contexts:
            for number in range(level.max() + 1):
                chosen = torch.from_numpy(level == number)
                pair = []
                for values in (s[chosen], t[chosen]):
                    if not len(values):
                        continue
                    centered = values - values.median()
                    pair.append(centered / centered.abs().mean().clamp(min=1e-6))
                if pair:
                    total = total + (pair[0] - pair[1]).abs().sum()
        losses.append(total / len(levels) / m.sum())
    (expected,) = torch.autograd.grad(torch.stack(losses).sum(), student)
    single = student.detach().float().requires_grad_()
    distillation_loss(single, teacher, mask, normalization).sum().backward()
    assert single.grad is not None
    torch.testing.assert_close(single.grad.double(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normalized_contexts_have_median_zero_and_unit_deviation(dtype: torch.dtype) -> None:
    _, teacher, mask = maps("masked")
    values, partition = teacher.to(dtype).flatten(1), depth_range_partition(teacher, mask, 4)
    order = sort_within_segments(values, partition)
    start, stop = segment_bounds(order, 4)
    joined = joined_ranges(4, (1, 2, 4), torch.device("cpu"))
    statistics = context_statistics(values, order, start, stop, joined)
    for image in range(3):
        for level, count in enumerate((1, 2, 4)):
            contexts = depth_range_partition(teacher, mask, count)[image]
            for segment in range(4):
                context = segment * count // 4
                chosen = contexts == context
                inside = values[image, chosen]
                at = image, level, segment
                normalized = (inside - statistics.median[at]) * statistics.inverse[at]
                assert chosen[statistics.pixel[at]]
                assert values[image, statistics.pixel[at]] == statistics.median[at]
                assert statistics.side[at] == (inside - statistics.median[at]).sign().sum()
                assert lower_median(normalized.numpy()) == 0
                assert len(inside) < 2 or float(normalized.abs().mean()) == pytest.approx(1, rel=1e-5)
    normalized = global_normalization(teacher, mask)
    assert all(lower_median(normalized[i][mask[i]].numpy()) == 0 for i in range(3))


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=40), st.integers(0, 99))
def test_pixels_are_sorted_by_segment_then_value_then_place(values: list[float], seed: int) -> None:
    pixels = torch.tensor([values])
    partition = torch.from_numpy(np.random.default_rng(seed).integers(0, 3, (1, len(values))))
    expected = sorted(range(len(values)), key=lambda i: (int(partition[0, i]), values[i], i))
    everywhere = torch.arange(len(values))[None]
    for order in (sort_within_segments(x, partition) for x in (pixels, pixels.double())):
        assert order.pixel(everywhere)[0].tolist() == expected
        start, stop = segment_bounds(order, 3)
        counts = [int((partition == k).sum()) for k in range(3)]
        assert (stop - start)[0].tolist() == counts
        assert start[0].tolist() == [0, counts[0], counts[0] + counts[1]]
        finite = torch.tensor([[values[i] for i in expected]], dtype=torch.float64).cumsum(1)
        torch.testing.assert_close(order.sums[:, 1:], finite, equal_nan=True)
