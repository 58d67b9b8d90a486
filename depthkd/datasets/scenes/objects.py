"""What stands in the embedded scenes: groups of shapes of typical sizes, on the ground at the origin."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np

from depthkd.datasets.scenes.shapes import Box, Cylinder, Fence, Matrix, Role, Shape, Sphere

UPRIGHT: Matrix = np.eye(3)
LYING: Matrix = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])  # along the ground's y


def turn(angle: float) -> Matrix:
    """The rotation about the vertical, in radians, counter-clockwise from above."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def moved(shape: Shape, x: float, y: float, yaw: float) -> Shape:
    """The shape after a turn about the world's vertical axis and a step along the ground."""
    rotation = turn(yaw)
    center = rotation @ shape.center + np.array([x, y, 0.0])
    return replace(shape, center=center, rotation=rotation @ shape.rotation)


def box(
    role: Role, size: tuple[float, float, float], at: tuple[float, float, float] = (0.0, 0.0, 0.0)
) -> Box:
    """A box of that size whose bottom's middle is `at`."""
    half = np.array(size) / 2
    return Box(role, np.array(at) + np.array([0.0, 0.0, half[2]]), UPRIGHT, half)


def ball(role: Role, radius: float, at: tuple[float, float, float]) -> Sphere:
    """A sphere whose center is `at`."""
    return Sphere(role, np.array(at, dtype=float), UPRIGHT, np.full(3, radius))


def pole(
    role: Role, radius: float, height: float, at: tuple[float, float, float] = (0.0, 0.0, 0.0)
) -> Cylinder:
    """An upright cylinder whose bottom's middle is `at`."""
    half = np.array([radius, radius, height / 2])
    return Cylinder(role, np.array(at) + np.array([0.0, 0.0, height / 2]), UPRIGHT, half)


def screen(
    length: float, height: float, pitch: tuple[float, float], bar: tuple[float, float], bottom: float = 0.0
) -> Fence:
    """A fence along x."""
    center = np.array([0.0, 0.0, bottom + height / 2])
    half = np.array([length / 2, 0.0, height / 2])
    return Fence(Role.METAL, center, UPRIGHT, half, pitch=pitch, bar=bar)


Random = np.random.Generator


@runtime_checkable
class Weighted(Protocol):
    """What is drawn the more often, the larger its weight is."""

    @property
    def weight(self) -> float:
        """Above 0; weights need not sum to 1."""


Choice = TypeVar("Choice", bound=Weighted)


def drawn(rng: Random, choices: Sequence[Choice]) -> Choice:
    """One of them, each as often as its weight says."""
    weights = np.array([choice.weight for choice in choices])
    return choices[int(rng.choice(len(choices), p=weights / weights.sum()))]


def _crate(rng: Random, ceiling: float) -> list[Shape]:
    side = rng.uniform(0.3, 0.9)
    lower = box(Role.FURNITURE, (side, side * rng.uniform(0.7, 1.6), side * rng.uniform(0.7, 1.3)))
    if rng.random() < 0.6:
        return [lower]
    upper = box(Role.FURNITURE, (side * 0.7, side * 0.7, side * 0.6), (0.0, 0.0, 2 * float(lower.half[2])))
    return [lower, moved(upper, 0.0, 0.0, rng.uniform(-0.6, 0.6))]


def _ball(rng: Random, ceiling: float) -> list[Shape]:
    radius = rng.uniform(0.12, 0.45)
    return [ball(Role.FURNITURE, radius, (0.0, 0.0, radius))]


def _bin(rng: Random, ceiling: float) -> list[Shape]:
    return [pole(Role.FURNITURE, rng.uniform(0.14, 0.35), rng.uniform(0.35, 1.1))]


def _table(rng: Random, ceiling: float) -> list[Shape]:
    length, width, height = rng.uniform(0.8, 1.8), rng.uniform(0.6, 0.9), rng.uniform(0.45, 0.78)
    leg = rng.uniform(0.03, 0.07)
    x, y = length / 2 - leg, width / 2 - leg
    legs = [box(Role.FURNITURE, (leg, leg, height), (i * x, j * y, 0.0)) for i in (-1, 1) for j in (-1, 1)]
    vase = pole(Role.FURNITURE, 0.08, rng.uniform(0.15, 0.4), (rng.uniform(-x, x) * 0.7, 0.0, height + 0.04))
    return [box(Role.FURNITURE, (length, width, 0.04), (0.0, 0.0, height)), *legs, vase]


def _chair(rng: Random, ceiling: float) -> list[Shape]:
    legs = [
        box(Role.FURNITURE, (0.04, 0.04, 0.45), (i * 0.2, j * 0.2, 0.0)) for i in (-1, 1) for j in (-1, 1)
    ]
    seat = box(Role.FURNITURE, (0.46, 0.46, 0.05), (0.0, 0.0, 0.45))
    return [seat, *legs, box(Role.FURNITURE, (0.46, 0.04, rng.uniform(0.35, 0.6)), (0.0, 0.21, 0.5))]


def _cupboard(rng: Random, ceiling: float) -> list[Shape]:
    return [box(Role.FURNITURE, (rng.uniform(0.6, 1.6), rng.uniform(0.35, 0.6), rng.uniform(0.8, 2.1)))]


def _floor_lamp(rng: Random, ceiling: float) -> list[Shape]:
    height = rng.uniform(1.3, 1.8)
    shade = pole(Role.FURNITURE, rng.uniform(0.14, 0.24), 0.28, (0.0, 0.0, height))
    return [pole(Role.METAL, 0.14, 0.03), pole(Role.METAL, rng.uniform(0.012, 0.025), height), shade]


def _hanging_lamp(rng: Random, ceiling: float) -> list[Shape]:
    radius, drop = rng.uniform(0.12, 0.25), rng.uniform(0.3, 0.9)
    cord = pole(Role.METAL, 0.012, drop, (0.0, 0.0, ceiling - drop))
    return [cord, ball(Role.FURNITURE, radius, (0.0, 0.0, ceiling - drop - radius))]


def _railing(rng: Random, ceiling: float) -> list[Shape]:
    pitch, height = rng.uniform(0.12, 0.25), rng.uniform(0.8, 1.1)
    return [screen(rng.uniform(1.5, 4), height, (pitch, height - 0.06), (rng.uniform(0.02, 0.05), 0.06))]


def _partition(rng: Random, ceiling: float) -> list[Shape]:
    return [box(Role.WALL, (rng.uniform(1.0, 3.5), rng.uniform(0.12, 0.3), ceiling))]


def _pillar(rng: Random, ceiling: float) -> list[Shape]:
    side = rng.uniform(0.25, 0.6)
    if rng.random() < 0.5:
        return [pole(Role.WALL, side / 2, ceiling)]
    return [box(Role.WALL, (side, side, ceiling))]


def _tree(rng: Random, ceiling: float) -> list[Shape]:
    trunk, crown = rng.uniform(1.6, 4.5), rng.uniform(0.8, 2.0)
    shapes: list[Shape] = [pole(Role.BARK, rng.uniform(0.07, 0.25), trunk + crown / 2)]
    for _ in range(int(rng.integers(2, 5))):
        x, y, z = rng.uniform(-0.6, 0.6, 3) * crown
        shapes.append(ball(Role.FOLIAGE, crown * rng.uniform(0.6, 0.9), (x, y, trunk + crown + z)))
    return shapes


def _bush(rng: Random, ceiling: float) -> list[Shape]:
    radius = rng.uniform(0.3, 0.9)
    return [
        ball(Role.FOLIAGE, radius, (0.0, 0.0, radius * 0.6)),
        ball(Role.FOLIAGE, radius * 0.7, (radius, 0.0, 0.3)),
    ]


def _hedge(rng: Random, ceiling: float) -> list[Shape]:
    return [box(Role.FOLIAGE, (rng.uniform(2, 8), rng.uniform(0.4, 0.9), rng.uniform(0.6, 1.8)))]


def _building(rng: Random, ceiling: float) -> list[Shape]:
    return [box(Role.FACADE, (rng.uniform(5, 14), rng.uniform(5, 10), rng.uniform(3, 14)))]


def _garden_wall(rng: Random, ceiling: float) -> list[Shape]:
    return [box(Role.WALL, (rng.uniform(3, 10), 0.25, rng.uniform(0.9, 2.6)))]


def _car(rng: Random, ceiling: float) -> list[Shape]:
    length = rng.uniform(3.8, 4.8)
    body = box(Role.METAL, (length, 1.8, 0.62), (0.0, 0.0, 0.28))
    cabin = box(Role.METAL, (length * 0.52, 1.55, 0.52), (-0.2, 0.0, 0.9))
    axles = [
        Cylinder(Role.BARK, np.array([side * length * 0.31, 0.0, 0.32]), LYING, np.array([0.32, 0.32, 0.92]))
        for side in (-1, 1)
    ]
    return [body, cabin, *axles]


def _lamp_post(rng: Random, ceiling: float) -> list[Shape]:
    height = rng.uniform(2.8, 6.5)
    arm = box(Role.METAL, (1.0, 0.08, 0.08), (0.5, 0.0, height))
    return [
        pole(Role.METAL, rng.uniform(0.04, 0.09), height),
        arm,
        ball(Role.METAL, 0.16, (1.0, 0.0, height)),
    ]


def _sign(rng: Random, ceiling: float) -> list[Shape]:
    height = rng.uniform(1.6, 2.5)
    return [pole(Role.METAL, 0.035, height), box(Role.PICTURE, (0.6, 0.03, 0.6), (0.0, -0.05, height - 0.3))]


def _bollard(rng: Random, ceiling: float) -> list[Shape]:
    return [pole(Role.METAL, rng.uniform(0.07, 0.14), rng.uniform(0.6, 1.0))]


def _picket_fence(rng: Random, ceiling: float) -> list[Shape]:
    pitch, height = rng.uniform(0.12, 0.22), rng.uniform(0.8, 1.4)
    width = pitch * rng.uniform(0.3, 0.5)
    return [screen(rng.uniform(4, 12), height, (pitch, height * 0.55), (width, 0.07))]


def _rail_fence(rng: Random, ceiling: float) -> list[Shape]:
    height = rng.uniform(0.9, 1.3)
    return [screen(rng.integers(2, 5) * 2 + 0.1, height, (2.0, height / 3), (0.1, 0.07))]


@dataclass(frozen=True)
class Kind:
    """An object: how to build it, how often it appears, and how far from the camera it may stand (meters)."""

    build: Callable[[Random, float], list[Shape]]
    weight: float
    nearest: float
    farthest: float


INDOORS = (
    Kind(_crate, 3.0, 0.8, 10.0),
    Kind(_ball, 2.0, 0.8, 8.0),
    Kind(_bin, 2.0, 0.8, 10.0),
    Kind(_table, 2.0, 1.2, 8.0),
    Kind(_chair, 2.0, 1.0, 8.0),
    Kind(_cupboard, 2.0, 1.2, 10.0),
    Kind(_floor_lamp, 2.0, 0.9, 6.0),
    Kind(_hanging_lamp, 1.5, 0.8, 6.0),
    Kind(_railing, 1.0, 1.0, 5.0),
    Kind(_partition, 1.5, 1.5, 10.0),
    Kind(_pillar, 2.0, 1.0, 10.0),
)
OUTDOORS = (
    Kind(_crate, 2.0, 1.2, 10.0),
    Kind(_tree, 4.0, 2.0, 30.0),
    Kind(_bush, 2.0, 1.2, 15.0),
    Kind(_hedge, 1.5, 2.0, 25.0),
    Kind(_building, 3.0, 6.0, 35.0),
    Kind(_garden_wall, 2.0, 2.0, 25.0),
    Kind(_car, 2.5, 2.5, 30.0),
    Kind(_lamp_post, 2.0, 1.5, 18.0),
    Kind(_sign, 1.5, 1.2, 8.0),
    Kind(_bollard, 2.0, 1.0, 12.0),
    Kind(_picket_fence, 2.0, 1.2, 8.0),
    Kind(_rail_fence, 1.5, 1.5, 10.0),
)
