"""Small things of the lifelike scenes, as they lie on tables, shelves and floors."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from depthkd.datasets.scenes.objects import LYING, UPRIGHT, Random, ball, box, drawn, pole, turn
from depthkd.datasets.scenes.shapes import Cylinder, Matrix, Role, Shape
from depthkd.datasets.scenes.solids import Crown, Ellipsoid, Frustum

Group = list[Shape]
Build = Callable[[Random], Group]


@dataclass(frozen=True)
class Piece:
    """A kind of thing or furniture: how to build one, at the origin, and how often it appears."""

    build: Build
    weight: float


def placed(group: Sequence[Shape], x: float, y: float, yaw: float, z: float = 0.0) -> Group:
    """The group turned about the vertical, then moved along the ground and up."""
    rotation, step = turn(yaw), np.array([x, y, z])
    return [
        replace(shape, center=rotation @ shape.center + step, rotation=rotation @ shape.rotation)
        for shape in group
    ]


def tipped(group: Sequence[Shape], angle: float) -> Group:
    """The group rotated about the world's x axis, in radians."""
    c, s = np.cos(angle), np.sin(angle)
    return _rotated(group, np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]]))


def tilted(group: Sequence[Shape], angle: float) -> Group:
    """The group rotated about the world's y axis, in radians."""
    c, s = np.cos(angle), np.sin(angle)
    return _rotated(group, np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]]))


def _rotated(group: Sequence[Shape], rotation: Matrix) -> Group:
    return [replace(part, center=rotation @ part.center, rotation=rotation @ part.rotation) for part in group]


def rounded(
    role: Role, half: tuple[float, float, float], at: tuple[float, float, float] = (0.0, 0.0, 0.0)
) -> Ellipsoid:
    """An ellipsoid whose lowest point is `at`."""
    return Ellipsoid(role, np.array(at) + np.array([0.0, 0.0, half[2]]), UPRIGHT, np.array(half))


def tapered(
    role: Role, radius: float, height: float, taper: float, at: tuple[float, float, float] = (0.0, 0.0, 0.0)
) -> Frustum:
    """A cut cone whose bottom's middle is `at`; its top's radius is `taper` times that of its bottom."""
    widest = max(1.0, taper)
    half = np.array([radius * widest, radius * widest, height / 2])
    center = np.array(at) + np.array([0.0, 0.0, height / 2])
    return Frustum(role, center, UPRIGHT, half, bottom=1 / widest, top=taper / widest)


def some(rng: Random, *roles: Role) -> Role:
    """One of the roles."""
    return roles[int(rng.integers(len(roles)))]


def mug(rng: Random) -> Group:
    """A cup with a handle."""
    radius, height = rng.uniform(0.035, 0.05), rng.uniform(0.07, 0.12)
    body = tapered(Role.CERAMIC, radius, height, rng.uniform(0.8, 1.25))
    return [body, box(Role.CERAMIC, (0.03, 0.012, height * 0.6), (radius + 0.01, 0.0, height * 0.2))]


def bottle(rng: Random) -> Group:
    """A bottle: body, shoulder and neck."""
    radius, height = rng.uniform(0.03, 0.055), rng.uniform(0.1, 0.22)
    role = some(rng, Role.CERAMIC, Role.FURNITURE, Role.PRINT)
    neck = radius * rng.uniform(0.3, 0.5)
    return [
        pole(role, radius, height),
        tapered(Role.CERAMIC, radius, 0.5 * height, neck / radius, (0.0, 0.0, height)),
        pole(Role.FURNITURE, neck, 0.2 * height, (0.0, 0.0, 1.5 * height)),
    ]


def book(rng: Random) -> Group:
    """A book, a paper or a stack of them, lying."""
    group: Group = []
    level = 0.0
    for _ in range(int(rng.integers(1, 4))):
        size = rng.uniform(0.12, 0.22), rng.uniform(0.16, 0.3), rng.choice([0.003, rng.uniform(0.01, 0.05)])
        group += placed([box(Role.PRINT, size)], 0.0, 0.0, rng.uniform(-0.4, 0.4), level)
        level += size[2]
    return group


def package(rng: Random) -> Group:
    """A box, standing or lying."""
    role = some(rng, Role.PRINT, Role.FURNITURE, Role.CERAMIC, Role.WOOD)
    return [box(role, (rng.uniform(0.06, 0.35), rng.uniform(0.04, 0.25), rng.uniform(0.05, 0.35)))]


def bowl(rng: Random) -> Group:
    """A bowl of fruit."""
    radius = rng.uniform(0.08, 0.16)
    group: Group = [tapered(Role.CERAMIC, 0.6 * radius, 0.5 * radius, 1.6)]
    for _ in range(int(rng.integers(0, 5))):
        fruit = rng.uniform(0.03, 0.045)
        x, y = rng.uniform(-0.5, 0.5, 2) * radius
        group.append(ball(Role.FURNITURE, fruit, (x, y, 0.5 * radius + 0.6 * fruit)))
    return group


def potted_plant(rng: Random) -> Group:
    """A plant in its pot."""
    pot, size = rng.uniform(0.06, 0.16), rng.uniform(0.1, 0.35)
    group: Group = [tapered(Role.CERAMIC, 0.75 * pot, 1.5 * pot, 1.3)]
    for _ in range(int(rng.integers(1, 4))):
        half = size * rng.uniform(0.4, 0.8, 3)
        x, y = rng.uniform(-0.3, 0.3, 2) * size
        center = np.array([x, y, 1.5 * pot + size * rng.uniform(0.5, 1.1)])
        group.append(
            Crown(Role.FOLIAGE, center, UPRIGHT, half, gap=rng.uniform(0.42, 0.55), leaf=0.25 * size)
        )
    return group


def screen_on_stand(rng: Random) -> Group:
    """A monitor."""
    width, height, up = rng.uniform(0.4, 0.7), rng.uniform(0.27, 0.4), rng.uniform(0.08, 0.16)
    face = box(some(rng, Role.GLOWING, Role.METAL, Role.PRINT), (width, 0.01, height), (0.0, -0.02, up))
    return [
        box(Role.METAL, (width + 0.03, 0.03, height + 0.03), (0.0, 0.0, up - 0.015)),
        face,
        box(Role.METAL, (0.06, 0.04, up)),
        box(Role.METAL, (0.25, 0.18, 0.015)),
    ]


def laptop(rng: Random) -> Group:
    """An open laptop."""
    width, depth = rng.uniform(0.28, 0.38), rng.uniform(0.2, 0.26)
    lid = tipped([box(some(rng, Role.GLOWING, Role.METAL), (width, 0.012, depth))], -rng.uniform(0.1, 0.5))
    return [box(Role.METAL, (width, depth, 0.018)), *placed(lid, 0.0, depth / 2, 0.0, 0.018)]


def desk_lamp(rng: Random) -> Group:
    """A lamp with a shade."""
    height = rng.uniform(0.25, 0.5)
    shade = tapered(
        some(rng, Role.GLOWING, Role.FABRIC), rng.uniform(0.09, 0.16), 0.17, 0.6, (0.0, 0.0, height)
    )
    return [pole(Role.METAL, 0.07, 0.02), pole(Role.METAL, 0.012, height), shade]


def frame(rng: Random) -> Group:
    """A picture in a frame that stands, or a card."""
    width, height = rng.uniform(0.1, 0.3), rng.uniform(0.12, 0.35)
    picture = [
        box(some(rng, Role.WOOD, Role.METAL), (width, 0.015, height)),
        box(Role.PRINT, (width * 0.8, 0.005, height * 0.8), (0.0, -0.01, height * 0.1)),
    ]
    return tipped(picture, -rng.uniform(0.05, 0.3))


def toy(rng: Random) -> Group:
    """A body of rounded parts: a toy, a bag, an animal."""
    size = rng.uniform(0.05, 0.2)
    role = some(rng, Role.BODY, Role.FABRIC, Role.FURNITURE)
    body = size * rng.uniform(0.5, 1.0, 3)
    group: Group = [rounded(role, tuple(body))]
    head = size * rng.uniform(0.3, 0.6)
    group.append(
        rounded(
            role,
            (head, head, head * rng.uniform(0.8, 1.2)),
            (body[0] * rng.uniform(-0.3, 1), 0.0, body[2] * 1.5),
        )
    )
    for side in (-1, 1):
        group.append(
            rounded(
                role,
                (head * 0.35, head * 0.25, head * 0.5),
                (group[1].center[0], side * head * 0.6, group[1].center[2] + head * 0.6),
            )
        )
    return group


def cone(rng: Random) -> Group:
    """A cone, a pyramid's round sister."""
    return [
        tapered(
            some(rng, Role.FURNITURE, Role.CERAMIC, Role.PRINT),
            rng.uniform(0.05, 0.15),
            rng.uniform(0.1, 0.4),
            rng.uniform(0.0, 0.3),
        )
    ]


def tube(rng: Random) -> Group:
    """A cylinder that lies."""
    radius, half = rng.uniform(0.02, 0.08), rng.uniform(0.06, 0.25)
    role = some(rng, Role.FURNITURE, Role.METAL, Role.PRINT, Role.FABRIC)
    return [Cylinder(role, np.array([0.0, 0.0, radius]), LYING, np.array([radius, radius, half]))]


def ball_on_floor(rng: Random) -> Group:
    """A ball."""
    radius = rng.uniform(0.03, 0.14)
    return [ball(some(rng, Role.FURNITURE, Role.PRINT, Role.FABRIC), radius, (0.0, 0.0, radius))]


THINGS = (
    Piece(mug, 2.0), Piece(bottle, 2.0), Piece(book, 3.0), Piece(package, 3.0), Piece(bowl, 1.0),
    Piece(potted_plant, 1.0), Piece(screen_on_stand, 0.7), Piece(laptop, 0.7), Piece(desk_lamp, 0.7),
    Piece(frame, 1.2), Piece(toy, 1.2), Piece(cone, 0.8), Piece(tube, 0.8), Piece(ball_on_floor, 0.8),
)  # fmt: skip


def strewn(rng: Random, count: int, width: float, depth: float, z: float, largest: float = 9.0) -> Group:
    """Things on a level of width x depth around the origin, at height `z`; none taller than `largest`."""
    group: Group = []
    taken: list[tuple[float, float, float]] = []
    for _ in range(2 * count):
        if len(taken) >= count:
            break
        parts = drawn(rng, THINGS).build(rng)
        reach = max(float(np.hypot(*part.center[:2])) + 0.7 * float(part.half[:2].max()) for part in parts)
        x, y = rng.uniform(-0.5, 0.5, 2) * np.maximum(np.array([width, depth]) - 1.2 * reach, 0.0)
        if max(part.center[2] + part.half[2] for part in parts) > largest:
            continue
        if any(np.hypot(x - i, y - j) < 0.8 * (reach + r) for i, j, r in taken):
            continue
        taken.append((x, y, reach))
        group += placed(
            parts, x, y, rng.uniform(-np.pi, np.pi) if rng.random() < 0.6 else rng.normal(0.0, 0.2), z
        )
    return group


def heap(rng: Random, count: int, size: float) -> Group:
    """Solids of every kind and tilt around the origin, in no order of the world's."""
    group: Group = []
    roles = list(Role)
    for _ in range(count):
        role = roles[int(rng.integers(len(roles)))]
        half = size * np.exp(rng.uniform(-1.6, 0.2, 3))
        kind = int(rng.integers(4))
        if kind == 0:
            solid: Shape = box(role, tuple(2 * half))
        elif kind == 1:
            solid = rounded(role, tuple(half))
        elif kind == 2:
            solid = tapered(role, half[0], 2 * half[2], rng.uniform(0.0, 1))
        else:
            solid = pole(role, 0.4 * half[0], 3 * half[2])
        parts = tilted(tipped([solid], rng.uniform(-np.pi, np.pi)), rng.uniform(-np.pi, np.pi))
        x, y, z = rng.uniform(-2.5, 2.5, 3) * size
        group += placed(parts, x, y, rng.uniform(-np.pi, np.pi), z)
    return group
