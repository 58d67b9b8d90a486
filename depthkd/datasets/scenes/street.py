"""What stands outdoors in the lifelike scenes."""

from dataclasses import dataclass

import numpy as np

from depthkd.datasets.scenes.furniture import boxes, machine, person
from depthkd.datasets.scenes.objects import LYING, UPRIGHT, Random, box, pole, screen
from depthkd.datasets.scenes.shapes import Cylinder, Role
from depthkd.datasets.scenes.solids import Crown
from depthkd.datasets.scenes.things import Group, Piece, placed, rounded, tapered, tipped


def leaves(
    half: tuple[float, float, float], at: tuple[float, float, float], gap: float, leaf: float
) -> Crown:
    """A crown whose center is `at`."""
    return Crown(Role.FOLIAGE, np.array(at), UPRIGHT, np.array(half), gap=gap, leaf=leaf)


def tree(rng: Random) -> Group:
    """A tree: a trunk, some branches, and leaves with gaps; tall and narrow, or wide."""
    trunk, wide = rng.uniform(1.2, 4.0), rng.uniform(0.7, 2.4)
    tall = wide * rng.uniform(0.7, 2.5)
    lean = rng.normal(0.0, 0.06)
    group: Group = tipped([tapered(Role.BARK, rng.uniform(0.07, 0.3), trunk + tall, 0.4)], lean)
    gap = rng.uniform(0.3, 0.52)
    for _ in range(int(rng.integers(2, 6))):
        x, y, z = rng.uniform(-0.5, 0.5, 3)
        half = (wide * rng.uniform(0.4, 0.7), wide * rng.uniform(0.4, 0.7), tall * rng.uniform(0.4, 0.7))
        group.append(
            leaves(half, (x * wide, y * wide, trunk + tall * (0.6 + z)), gap, rng.uniform(0.08, 0.3))
        )
    return group


def bare_tree(rng: Random) -> Group:
    """A trunk with branches."""
    high = rng.uniform(3, 8)
    group: Group = [tapered(Role.BARK, rng.uniform(0.1, 0.3), high, 0.3)]
    for _ in range(int(rng.integers(4, 10))):
        branch = tipped(
            [tapered(Role.BARK, rng.uniform(0.03, 0.08), rng.uniform(0.8, 2.5), 0.3)], rng.uniform(0.4, 1.3)
        )
        group += placed(branch, 0.0, 0.0, rng.uniform(-np.pi, np.pi), high * rng.uniform(0.3, 0.9))
    return group


def bush(rng: Random) -> Group:
    """A bush of some lumps."""
    size = rng.uniform(0.25, 0.9)
    gap = rng.uniform(0.2, 0.45)
    return [
        leaves(
            tuple(size * rng.uniform(0.5, 1.1, 3)),
            (*(rng.uniform(-0.7, 0.7, 2) * size), size * 0.5),
            gap,
            0.2 * size,
        )
        for _ in range(int(rng.integers(1, 4)))
    ]


def hedge(rng: Random) -> Group:
    """A hedge."""
    return [box(Role.FOLIAGE, (rng.uniform(2, 8), rng.uniform(0.4, 0.9), rng.uniform(0.6, 2.0)))]


def stone(rng: Random) -> Group:
    """A boulder or a mound."""
    size = np.exp(rng.uniform(np.log(0.15), np.log(1.5)))
    parts = tipped([rounded(Role.GROUND, tuple(size * rng.uniform(0.4, 1.0, 3)))], rng.normal(0.0, 0.3))
    return placed(parts, 0.0, 0.0, 0.0, -0.3 * size)


def car(rng: Random) -> Group:
    """A car, a van or a bus."""
    kind = rng.random()
    length, wide = (rng.uniform(3.6, 4.8), 1.8) if kind < 0.8 else (rng.uniform(5, 10), 2.3)
    low, body = 0.25, rng.uniform(0.55, 0.7) if kind < 0.8 else rng.uniform(0.9, 1.2)
    top, back = (
        (rng.uniform(0.45, 0.6), rng.uniform(0.45, 0.65)) if kind < 0.8 else (rng.uniform(0.9, 1.6), 0.96)
    )
    cabin = rng.uniform(-0.12, 0.0) * length if kind < 0.8 else 0.0
    group: Group = [
        box(Role.METAL, (length, wide, body), (0.0, 0.0, low)),
        box(Role.METAL, (length * back, wide * 0.88, top), (cabin, 0.0, low + body)),
        box(Role.CERAMIC, (length * back * 0.9, wide * 0.9, top * 0.7), (cabin, 0.0, low + body + 0.1 * top)),
        box(
            Role.CERAMIC, (length * back * 1.02, wide * 0.78, top * 0.7), (cabin, 0.0, low + body + 0.1 * top)
        ),
        *(
            box(Role.GLOWING, (0.05, 0.3, 0.14), (i * length / 2, j * wide * 0.34, low + 0.6 * body))
            for i in (-1, 1)
            for j in (-1, 1)
        ),
    ]
    for side in (-1, 1):
        for radius, half in ((0.33, wide / 2 + 0.02), (0.2, wide / 2 + 0.03)):
            role = Role.BARK if radius > 0.3 else Role.METAL
            center = np.array([side * length * 0.31, 0.0, 0.33])
            group.append(Cylinder(role, center, LYING, np.array([radius, radius, half])))
    return group


def lamp_post(rng: Random) -> Group:
    """A street lamp."""
    high = rng.uniform(2.8, 7.5)
    return [
        tapered(Role.METAL, rng.uniform(0.05, 0.1), high, 0.6),
        box(Role.METAL, (rng.uniform(0.6, 1.8), 0.08, 0.08), (0.5, 0.0, high)),
        rounded(Role.GLOWING, (0.22, 0.14, 0.08), (1.0, 0.0, high - 0.1)),
    ]


def sign(rng: Random) -> Group:
    """A traffic sign."""
    high, size = rng.uniform(1.6, 2.8), rng.uniform(0.4, 0.8)
    face = box(Role.PRINT, (size, 0.02, size * rng.uniform(0.5, 1.4)), (0.0, -0.04, high - 0.4))
    if rng.random() < 0.4:
        disc = tipped([pole(Role.PRINT, size / 2, 0.02)], 0.5 * np.pi)
        return [pole(Role.METAL, 0.03, high), *placed(disc, 0.0, -0.03, 0.0, high - 0.2)]
    return [pole(Role.METAL, 0.03, high), face]


def bollard(rng: Random) -> Group:
    """A bollard, or a traffic cone."""
    if rng.random() < 0.4:
        return [tapered(Role.FURNITURE, 0.18, 0.7, 0.1), box(Role.FURNITURE, (0.4, 0.4, 0.04))]
    return [pole(Role.METAL, rng.uniform(0.05, 0.14), rng.uniform(0.5, 1.1))]


def fence(rng: Random) -> Group:
    """A fence of pickets, rails or wire."""
    pitch, high, length = rng.uniform(0.1, 0.25), rng.uniform(0.7, 1.8), rng.uniform(3, 12)
    if rng.random() < 0.3:
        return [screen(length, high, (2.0, high / 3), (0.1, 0.07))]
    return [
        screen(length, high, (pitch, high * rng.uniform(0.3, 0.6)), (pitch * rng.uniform(0.15, 0.5), 0.06))
    ]


def wall(rng: Random) -> Group:
    """A garden wall."""
    return [box(Role.WALL, (rng.uniform(3, 10), 0.25, rng.uniform(0.6, 2.6)))]


def bench(rng: Random) -> Group:
    """A bench."""
    length = rng.uniform(1.2, 2.0)
    slats = [box(Role.WOOD, (length, 0.1, 0.03), (0.0, y, 0.45)) for y in (-0.18, -0.05, 0.08)]
    back = [box(Role.WOOD, (length, 0.03, 0.1), (0.0, 0.2, z)) for z in (0.6, 0.78)]
    return [
        *slats,
        *back,
        *(box(Role.METAL, (0.06, 0.45, 0.45), (i * 0.4 * length, 0.0, 0.0)) for i in (-1, 1)),
    ]


def house(rng: Random) -> Group:
    """A house with a roof, windows and a door."""
    long, deep, high = rng.uniform(4, 14), rng.uniform(4, 10), rng.uniform(3, 14)
    group: Group = [box(Role.FACADE, (long, deep, high))]
    if rng.random() < 0.6:
        slope = rng.uniform(0.4, 0.9)
        half = deep / 2 / np.cos(slope)
        for side in (-1, 1):
            roof = tipped([box(Role.WOOD, (long + 0.4, half + 0.3, 0.12))], -side * slope)
            group += placed(roof, 0.0, side * deep / 4, 0.0, high + deep / 4 * np.tan(slope))
    return group


@dataclass(frozen=True)
class Standing(Piece):
    """A kind of thing that stands outdoors, and how near and far it does (meters)."""

    nearest: float
    farthest: float


OUTSIDE = (
    Standing(tree, 4.0, 2.0, 40.0),
    Standing(bare_tree, 1.0, 2.0, 30.0),
    Standing(bush, 2.5, 1.0, 20.0),
    Standing(hedge, 1.0, 2.0, 25.0),
    Standing(stone, 1.5, 0.8, 20.0),
    Standing(house, 2.0, 8.0, 60.0),
    Standing(wall, 1.0, 2.0, 25.0),
    Standing(car, 2.5, 3.0, 40.0),
    Standing(person, 2.0, 1.2, 20.0),
    Standing(machine, 1.0, 1.2, 8.0),
    Standing(lamp_post, 1.5, 2.0, 25.0),
    Standing(sign, 1.0, 1.2, 12.0),
    Standing(bollard, 1.0, 1.0, 12.0),
    Standing(fence, 1.5, 1.2, 12.0),
    Standing(bench, 1.0, 1.2, 12.0),
    Standing(boxes, 1.0, 1.0, 8.0),
)
