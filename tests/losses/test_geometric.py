import math

import numpy as np
import pytest
import torch
from torch import Tensor

from depthkd.batch import Quantity
from depthkd.losses.geometric import (
    Alignment,
    aligned_to_teacher,
    assumed_intrinsics,
    drawn_pixels,
    in_unit_ball,
    mean_square,
    points_at,
    position_maps,
    positive_depth,
    value_range,
)
from depthkd.models.pointnet import PointNet
from tests.losses.test_trimmed import maps, normalized

ALIGNMENTS: tuple[Alignment, ...] = ("median_deviation", "least_squares")
CAMERA = torch.tensor([[[4.0, 0.0, 1.0], [0.0, 5.0, 0.5], [0.0, 0.0, 1.0]]], dtype=torch.float64)


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_points_are_where_a_hand_computes_them_with_known_intrinsics() -> None:
    # values whose 2 % tails are the ends: 0 is ten times as far as 1, whose depth is 1
    teacher = torch.tensor([[[0.0, 0.5, 1.0, 1.0], [0.0, 1.0, 0.5, 0.0]]], dtype=torch.float64)
    mask = torch.ones_like(teacher, dtype=torch.bool)
    _, positions = position_maps(teacher, teacher, mask, CAMERA, Quantity.DISPARITY, ratio=10.0)
    middle = 1 / 0.55
    for (row, column), expected in {
        (0, 0): ((0 - 1) / 4 * 10, (0 - 0.5) / 5 * 10, 10.0),
        (0, 1): (0.0, -0.1 * middle, middle),
        (0, 3): (0.5, -0.1, 1.0),
        (1, 2): (0.25 * middle, 0.1 * middle, middle),
        (1, 3): (5.0, 1.0, 10.0),
    }.items():
        torch.testing.assert_close(positions[0, :, row, column].tolist(), list(expected))
    _, positions = position_maps(teacher, teacher, mask, CAMERA, Quantity.DEPTH, ratio=10.0)
    torch.testing.assert_close(positions[0, :, 0, 1].tolist(), [0.0, -0.55, 5.5])
    torch.testing.assert_close(positions[0, :, 0, 3].tolist(), [5.0, -1.0, 10.0])


def test_points_are_where_a_hand_computes_them_with_an_assumed_field_of_view() -> None:
    teacher = torch.tensor([[[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]])
    mask = torch.ones_like(teacher, dtype=torch.bool)
    camera = assumed_intrinsics(3, 3, 60.0, teacher)
    focal = 1.5 / math.tan(math.radians(30))
    torch.testing.assert_close(camera[0], torch.tensor([[focal, 0, 1], [0, focal, 1], [0, 0, 1]]))
    _, positions = position_maps(teacher, teacher, mask, camera, Quantity.DISPARITY, ratio=4.0)
    torch.testing.assert_close(positions[0, :, 0, 0], torch.tensor([-4 / focal, -4 / focal, 4.0]))
    torch.testing.assert_close(positions[0, :, 1, 1], torch.tensor([0.0, 0.0, 4.0]))  # through the middle
    torch.testing.assert_close(positions[0, :, 2, 1], torch.tensor([0.0, 1 / focal, 1.0]))


def oracle(student: Tensor, teacher: Tensor, mask: Tensor, alignment: Alignment, drawn: Tensor) -> float:
    """The input term of one image, pixel by pixel."""
    s, t, m = (x.double().numpy() for x in (student, teacher, mask.float()))
    valid = m > 0
    a = normalized(s[valid]) * np.abs(t[valid] - np.sort(t[valid])[(valid.sum() - 1) // 2]).mean()
    a = a + np.sort(t[valid])[(valid.sum() - 1) // 2]
    if alignment == "least_squares":
        scale, shift = np.polyfit(s[valid], t[valid], 1)
        a = scale * s[valid] + shift if scale > 0 else a
    ordered, tail = np.sort(t[valid]), int(0.02 * valid.sum())
    low, high = ordered[tail], ordered[len(ordered) - 1 - tail]

    def depth(value: float) -> float:
        disparity = 1 / 3 + 2 / 3 * (value - low) / (high - low)
        return 1 / disparity if disparity >= 1 / 3 else 3 + (1 / 3 - disparity) * 9

    places = [tuple(p) for p in np.argwhere(valid)]
    aligned = dict(zip(places, a, strict=True))
    clouds = []
    for values in (aligned, {p: t[p] for p in places}):
        points = []
        for number in drawn.tolist():
            row, column = divmod(number, s.shape[1])
            z = depth(values[row, column])
            points.append([(column - 1.0) / 4 * z, (row - 0.5) / 5 * z, z])
        clouds.append(np.array(points))
    center = clouds[1].mean(0)
    radius = np.linalg.norm(clouds[1] - center, axis=1).max()
    return float((((clouds[0] - clouds[1]) / radius) ** 2).mean())


def input_term(student: Tensor, teacher: Tensor, mask: Tensor, alignment: Alignment, drawn: Tensor) -> Tensor:
    camera = CAMERA.to(student).expand(len(student), 3, 3)
    positions = position_maps(student, teacher, mask, camera, Quantity.DISPARITY, alignment)
    return mean_square(*in_unit_ball(*(points_at(p, drawn) for p in positions)), mask)


@pytest.mark.parametrize("case", ["random", "masked", "ties", "tiny", "huge"])
@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_the_input_term_equals_the_written_out_mean(alignment: Alignment, case: str) -> None:
    student, teacher, mask = maps(case)
    student = student + 0.5 * teacher
    student[2] = -student[2]  # inside out
    drawn = drawn_pixels(mask, generators(1, 2, 3), 40)
    expected = [oracle(student[i], teacher[i], mask[i], alignment, drawn[i]) for i in range(3)]
    found = input_term(student, teacher, mask, alignment, drawn)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-8)
    single = input_term(student.float(), teacher.float(), mask, alignment, drawn)
    np.testing.assert_allclose(single.numpy(), expected, rtol=1e-3)


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_no_scale_or_shift_matters_but_a_sign_does(alignment: Alignment) -> None:
    student, teacher, mask = maps("masked")
    drawn = drawn_pixels(mask, generators(1, 2, 3), 40)
    found = input_term(student, teacher, mask, alignment, drawn)
    torch.testing.assert_close(input_term(student * 7 - 3, teacher * 0.01 + 5, mask, alignment, drawn), found)
    perfect = input_term(teacher * 3 + 1, teacher, mask, alignment, drawn)
    torch.testing.assert_close(perfect, torch.zeros_like(perfect))
    assert (input_term(-teacher, teacher, mask, alignment, drawn) > 0.01).all()


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_gradient_steps_turn_a_student_that_has_depth_inside_out(alignment: Alignment) -> None:
    """Neither a flat map nor a mirrored one is where the term ends."""
    torch.manual_seed(0)
    teacher, mask = torch.rand(1, 12, 12), torch.ones(1, 12, 12, dtype=torch.bool)
    student = (-0.5 * teacher + 0.2 * torch.rand(1, 12, 12)).requires_grad_()
    optimizer = torch.optim.Adam([student], 0.05)
    everywhere = torch.arange(144)[None]
    seen = []
    for _ in range(150):
        loss = input_term(student, teacher, mask, alignment, everywhere).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        agreement = torch.corrcoef(torch.stack([student.detach().flatten(), teacher.flatten()]))[0, 1]
        seen.append((loss.item(), agreement.item(), student.detach().std().item()))
    assert seen[0][1] < -0.9 and seen[-1][1] > 0.6, seen[-1]
    assert seen[-1][0] < 0.06 * seen[0][0] and seen[-1][2] > seen[0][2], seen[-1]


def test_depth_falls_with_disparity_everywhere_and_has_no_dead_slope() -> None:
    values = torch.linspace(-3, 4, 701, dtype=torch.float64).view(1, 1, -1).requires_grad_()
    low, high = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    depth = positive_depth(values, low, high, Quantity.DISPARITY, 10.0)
    assert (depth > 0).all() and (depth.diff() < 0).all()
    torch.testing.assert_close(depth[0, 0, [300, 400]].tolist(), [10.0, 1.0])
    (slope,) = torch.autograd.grad(depth.sum(), values)
    assert (slope <= -0.05).all() and (slope >= -90.0 - 1e-9).all()
    torch.testing.assert_close(slope[0, 0, 299], slope[0, 0, 300])  # its tangent


def test_the_range_leaves_out_two_percent_on_either_side() -> None:
    values = torch.arange(100.0).flip(0).view(1, 10, 10)
    mask = torch.ones_like(values, dtype=torch.bool)
    low, high = value_range(values, mask)
    assert (low.item(), high.item()) == (2.0, 97.0)
    low, high = value_range(values, values >= 50)
    assert (low.item(), high.item()) == (51.0, 98.0)
    assert [x.item() for x in value_range(values, values < 0)] == [0.0, 0.0]


def test_pixels_are_drawn_from_the_valid_ones_image_by_image() -> None:
    mask = torch.rand(2, 9, 11, generator=torch.Generator().manual_seed(0)) < 0.3
    drawn = drawn_pixels(mask, generators(5, 6), 2000)
    for i in range(2):
        wanted = set(mask[i].flatten().nonzero()[:, 0].tolist())
        assert set(drawn[i].tolist()) == wanted  # every one, and no other
        counts = torch.bincount(drawn[i])[list(wanted)]
        assert counts.min() > 0.4 * 2000 / len(wanted)
    alone = drawn_pixels(mask[1:], generators(6), 2000)
    assert torch.equal(alone[0], drawn[1])
    assert drawn_pixels(torch.zeros_like(mask), generators(5, 6), 3).max() < mask[0].numel()


def test_points_at_pixels_are_those_of_the_map() -> None:
    positions = torch.rand(2, 3, 4, 5)
    drawn = torch.tensor([[0, 7, 19], [5, 5, 4]])
    points = points_at(positions, drawn)
    assert torch.equal(points[0, 1], positions[0, :, 1, 2]) and torch.equal(
        points[1, 2], positions[1, :, 0, 4]
    )


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_gradient_check_of_points_and_features(alignment: Alignment) -> None:
    student, teacher, mask = (x[:, :5, :6] for x in maps("masked"))
    student = (student + teacher).clone().requires_grad_()
    drawn = drawn_pixels(mask, generators(1, 2, 3), 12)
    network = PointNet().double().eval()

    def terms(s: Tensor) -> Tensor:
        positions = position_maps(s, teacher, mask, CAMERA.expand(3, 3, 3), Quantity.DISPARITY, alignment)
        ours, theirs = in_unit_ball(*(points_at(p, drawn) for p in positions))
        seen, wanted = (network.features(cloud) for cloud in (ours, theirs))
        features = [mean_square(*pair, mask) for pair in zip(seen, wanted, strict=True)]
        return mean_square(ours, theirs, mask) + features[0] + features[1]

    assert torch.autograd.gradcheck(terms, (student,))


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_empty_masks_constants_and_what_stands_at_invalid_pixels(alignment: Alignment) -> None:
    student, teacher, mask = maps("masked")
    mask[1] = False
    student[2] = 3.0
    teacher = torch.cat([teacher, teacher[:1] * 0 + 1])
    student, mask = (torch.cat([x, x[:1]]) for x in (student, mask))
    drawn = drawn_pixels(mask, generators(1, 2, 3, 4), 40)
    clean = input_term(student, teacher, mask, alignment, drawn)
    student[~mask] = teacher[~mask] = torch.nan
    student.requires_grad_()
    found = input_term(student, teacher, mask, alignment, drawn)
    assert found[1] == 0 and torch.equal(found, clean) and found.isfinite().all()
    found.sum().backward()
    assert student.grad is not None and torch.isfinite(student.grad).all()
    assert (student.grad[1] == 0).all() and (student.grad[0] != 0).any()


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_alignment_is_that_of_the_named_fit(alignment: Alignment) -> None:
    student, teacher, mask = maps("masked")
    aligned = aligned_to_teacher(teacher * 2 + 5, teacher, mask, alignment)
    torch.testing.assert_close(aligned[mask], teacher[mask])
    other = aligned_to_teacher(student, teacher, mask, "median_deviation")
    upside_down = aligned_to_teacher(-teacher, teacher, mask, alignment)
    torch.testing.assert_close(upside_down, aligned_to_teacher(-teacher, teacher, mask, "median_deviation"))
    assert (alignment == "median_deviation") == torch.equal(
        aligned_to_teacher(student + teacher, teacher, mask, alignment),
        aligned_to_teacher(student + teacher, teacher, mask, "median_deviation"),
    )
    assert other.isfinite().all()
