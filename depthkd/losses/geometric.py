"""Geometric distillation: two depth maps as point clouds in one camera, compared point by point.

The poster "Robust Lightweight Depth Estimation Model via Data-free Distillation" (ICASSP 2024), (b): "first
convert the 2D depth map into 3D position map, then use PointNet to extract features (input and feature), then
compute the MSE loss". What it leaves open is said where it is settled: how the maps are aligned
(`aligned_to_teacher`), how they become positive depth (`positive_depth`), the camera (`assumed_intrinsics`),
which pixels (`drawn_pixels`), and in which unit points are compared (`in_unit_ball`).
"""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from depthkd.alignment import fit_median, fit_scale_and_shift
from depthkd.batch import Quantity
from depthkd.geometry import back_project, focal_length, intrinsics_matrix
from depthkd.pixels import kth_largest
from depthkd.shapes import Map, Mask, PerImage

Intrinsics = Float[Tensor, "batch 3 3"]
PositionMap = Float[Tensor, "batch 3 height width"]
Cloud = Float[Tensor, "batch points 3"]
Drawn = Int[Tensor, "batch points"]
Alignment = Literal["median_deviation", "least_squares"]
TAIL = 0.02  # share of a teacher's pixels that is left out on either side of its range
EPSILON = 1e-6


def aligned_to_teacher(
    student: Map, teacher: Map, mask: Mask, alignment: Alignment = "median_deviation"
) -> Map:
    """The student's map in the teacher's scale and shift, so that neither of its own matters.

    "median_deviation" carries its median and its mean absolute deviation from it to the teacher's, which is
    to normalize both maps alike: the scale is never negative, and nothing is gained by a flatter map.
    "least_squares" takes the scale and shift that minimize the squared difference, and the former where that
    scale is not positive: a student that has depth inside out would be turned over, and never learn.
    Gradients pass through both.

    Args:
        student, teacher: maps of one quantity.
        mask: where both are valid.
        alignment: which of the two.
    """
    scale, shift = fit_median(student, teacher, mask)
    if alignment == "least_squares":
        fitted, offset = fit_scale_and_shift(student, teacher, mask)
        upright = fitted > 0
        scale, shift = torch.where(upright, fitted, scale), torch.where(upright, offset, shift)
    return student * scale[:, None, None] + shift[:, None, None]


@torch.no_grad()
def value_range(teacher: Map, mask: Mask) -> tuple[PerImage, PerImage]:
    """The values below and above which 2 % of the valid pixels lie; 0 and 0 where none is valid."""
    values, valid = teacher.flatten(1), mask.flatten(1)
    count = valid.sum(1)
    tail = (TAIL * count).long()
    known = torch.where(valid, values, -torch.inf)
    low, high = (kth_largest(known, k.clamp(min=1)) for k in (count - tail, tail + 1))
    return torch.where(count > 0, low, 0), torch.where(count > 0, high, 0)


def positive_depth(values: Map, low: PerImage, high: PerImage, quantity: Quantity, ratio: float) -> Map:
    """z-depth in units of the nearest point, of values whose offset is unknown.

    The range from `low` to `high` is taken to be that of a scene whose farthest point is `ratio` times as far
    as its nearest: of disparities `low` becomes 1 / ratio and `high` 1, and depth is their inverse; of depths
    they become 1 and `ratio`. A disparity below `low` has the depth that the tangent at `low` gives: so depth
    is finite and falls with disparity everywhere, and no gradient is 0 or without bound.

    Squared errors of points count an error of disparity by the fourth power of depth: with a ratio of 10, the
    farthest point's 10,000 times as much as the nearest's, and little is learned of what is near; with 3, 81
    times.

    Args:
        values: disparity or depth.
        low, high: the teacher's `value_range`.
        quantity: which of the two.
        ratio: above 1.
    """
    span = (high - low).clamp(min=EPSILON)
    part = (values - low[:, None, None]) / span[:, None, None]
    if quantity is Quantity.DEPTH:
        return 1 + part * (ratio - 1)
    disparity = 1 / ratio + part * (1 - 1 / ratio)
    inverse = 1 / disparity.clamp(min=1 / ratio)
    return torch.where(disparity >= 1 / ratio, inverse, ratio * (2 - ratio * disparity))


def assumed_intrinsics(height: int, width: int, field_of_view: float, like: Map) -> Intrinsics:
    """Of a camera of that horizontal field of view, in degrees, that looks through the middle of the image;
    one for each of the maps `like`, with their type and device."""
    focal = focal_length(width, field_of_view)
    camera = intrinsics_matrix(focal, focal, (width - 1) / 2, (height - 1) / 2)
    return camera.to(like).expand(len(like), 3, 3)


def position_maps(
    student: Map,
    teacher: Map,
    mask: Mask,
    intrinsics: Intrinsics,
    quantity: Quantity,
    alignment: Alignment = "median_deviation",
    ratio: float = 3.0,
) -> tuple[PositionMap, PositionMap]:
    """Both maps as points in the camera's frame (x right, y down, z forward), in units of the nearest depth.

    Args:
        student, teacher: maps of one quantity.
        mask: where both are valid; what stands elsewhere, NaN included, becomes some finite point.
        intrinsics: of the cameras, in the maps' pixels, the top-left one's center at (0, 0).
        quantity: of the maps.
        alignment: see `aligned_to_teacher`.
        ratio: see `positive_depth`.
    """
    student, teacher = (torch.where(mask, depth, 0) for depth in (student, teacher))
    low, high = value_range(teacher, mask)
    aligned = aligned_to_teacher(student, teacher, mask, alignment)
    ours, theirs = (
        back_project(positive_depth(values, low, high, quantity, ratio), intrinsics)
        for values in (aligned, teacher)
    )
    return ours, theirs


def drawn_pixels(mask: Mask, generators: list[torch.Generator], count: int) -> Drawn:
    """Which pixels are compared: `count` valid ones of each image, each drawn from all of them; row by row
    from 0. An image without any gets its first pixel.

    Args:
        mask: the valid ones.
        generators: one an image, on the CPU.
        count: how many are drawn.
    """
    drawn = torch.stack([torch.rand(count, generator=g, dtype=torch.float64) for g in generators])
    places = mask.flatten(1).cumsum(1)
    valid = places[:, -1:]
    number = (drawn.to(mask.device, non_blocking=True) * valid).long().clamp(max=(valid - 1).clamp(min=0))
    return torch.searchsorted(places, number + 1).clamp(max=places.shape[1] - 1)


def points_at(positions: PositionMap, drawn: Drawn) -> Cloud:
    """The points of these pixels."""
    index = drawn[:, None].expand(-1, 3, -1)
    return positions.flatten(2).gather(2, index).transpose(1, 2)


def in_unit_ball(student: Cloud, teacher: Cloud) -> tuple[Cloud, Cloud]:
    """Both clouds around the teacher's mean, in units of the distance of its farthest point from there.

    PointNet is trained on clouds in the unit ball. The student's is not brought there by itself: where its
    points lie is what it learns.
    """
    center = teacher.mean(1, keepdim=True)
    radius = torch.linalg.vector_norm(teacher - center, dim=2).amax(1).clamp(min=EPSILON)[:, None, None]
    return (student - center) / radius, (teacher - center) / radius


def mean_square(
    student: Float[Tensor, "batch *values"], teacher: Float[Tensor, "batch *values"], mask: Mask
) -> PerImage:
    """Mean squared difference of points or features, one value an image; 0 of images without valid pixels."""
    difference = (student - teacher).square().flatten(1).mean(1)
    return torch.where(mask.flatten(1).any(1), difference, 0)
