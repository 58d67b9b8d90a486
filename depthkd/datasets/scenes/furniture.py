"""Furniture of the lifelike scenes, laden with things."""

from dataclasses import replace

import numpy as np

from depthkd.datasets.scenes.objects import Random, box, pole
from depthkd.datasets.scenes.shapes import Role
from depthkd.datasets.scenes.things import (
    Group,
    Piece,
    placed,
    potted_plant,
    rounded,
    screen_on_stand,
    some,
    strewn,
    tapered,
    tilted,
    tipped,
)


def table(rng: Random) -> Group:
    """A table, square or round, with things on it."""
    length, width, height = rng.uniform(0.6, 2.0), rng.uniform(0.5, 1.0), rng.uniform(0.4, 0.8)
    role = some(rng, Role.WOOD, Role.WOOD, Role.FURNITURE, Role.METAL)
    thick, leg = rng.uniform(0.02, 0.06), rng.uniform(0.03, 0.1)
    group: Group
    if rng.random() < 0.25:
        radius = length / 2
        group = [
            pole(role, radius, thick, (0.0, 0.0, height)),
            pole(Role.METAL, leg, height),
            pole(Role.METAL, 0.3 * length, 0.03),
        ]
        length = width = 1.4 * radius
    else:
        x, y = length / 2 - leg, width / 2 - leg
        group = [box(role, (leg, leg, height), (i * x, j * y, 0.0)) for i in (-1, 1) for j in (-1, 1)]
        group.append(box(role, (length, width, thick), (0.0, 0.0, height)))
        if rng.random() < 0.3:
            group.append(
                box(role, (length * 0.4, width * 0.9, height * 0.9), (0.25 * length, 0.0, 0.1 * height))
            )
    return group + strewn(rng, int(rng.integers(0, 8)), length, width, height + thick)


def chair(rng: Random) -> Group:
    """A chair with legs or a foot, and a back that is whole or of slats."""
    seat, width = rng.uniform(0.42, 0.5), rng.uniform(0.38, 0.5)
    role, cover = (
        some(rng, Role.WOOD, Role.WOOD, Role.METAL, Role.FURNITURE),
        some(rng, Role.FABRIC, Role.WOOD),
    )
    if rng.random() < 0.3:
        group: Group = [pole(Role.METAL, 0.03, seat), tapered(Role.METAL, 0.28, 0.08, 0.2)]
    else:
        leg, half = rng.uniform(0.02, 0.05), width / 2 - 0.03
        group = [box(role, (leg, leg, seat), (i * half, j * half, 0.0)) for i in (-1, 1) for j in (-1, 1)]
    group.append(box(cover, (width, width, rng.uniform(0.03, 0.1)), (0.0, 0.0, seat)))
    high = rng.uniform(0.35, 0.6)
    if rng.random() < 0.5:
        posts = [box(role, (0.04, 0.04, high), (i * (width / 2 - 0.02), width / 2, seat)) for i in (-1, 1)]
        slats = [
            box(role, (width, 0.025, 0.05), (0.0, width / 2, seat + high * k)) for k in (0.35, 0.6, 0.85)
        ]
        group += posts + slats
    else:
        group.append(box(cover, (width, 0.05, high), (0.0, width / 2, seat + rng.uniform(0.0, 0.1))))
    return group


def sofa(rng: Random) -> Group:
    """A sofa with cushions."""
    length, depth, seat, back = (
        rng.uniform(0.8, 2.2),
        rng.uniform(0.75, 0.95),
        rng.uniform(0.35, 0.45),
        rng.uniform(0.35, 0.5),
    )
    group: Group = [
        box(Role.FABRIC, (length, depth, seat), (0.0, 0.0, 0.06)),
        box(Role.FABRIC, (length, 0.2, seat + back), (0.0, depth / 2 - 0.1, 0.06)),
        *(box(Role.FABRIC, (0.16, depth, seat + 0.2), (i * length / 2, 0.0, 0.06)) for i in (-1, 1)),
    ]
    for _ in range(int(rng.integers(0, 4))):
        cushion = tipped([rounded(Role.FABRIC, (0.22, 0.09, 0.2))], -0.35)
        group += placed(
            cushion, rng.uniform(-0.4, 0.4) * length, depth / 2 - 0.35, rng.normal(0.0, 0.3), seat + 0.06
        )
    return group


def bed(rng: Random) -> Group:
    """A bed with pillows."""
    width, length, high = rng.uniform(0.9, 1.8), 2.0, rng.uniform(0.35, 0.6)
    group: Group = [
        box(Role.FABRIC, (width, length, high)),
        box(
            some(rng, Role.WOOD, Role.FABRIC),
            (width + 0.1, 0.08, high + rng.uniform(0.2, 0.7)),
            (0.0, length / 2, 0.0),
        ),
    ]
    if rng.random() < 0.6:
        group.append(box(Role.FABRIC, (width + 0.06, length * 0.6, 0.08), (0.0, -0.2 * length, high - 0.04)))
    sides = (-0.25, 0.25) if width > 1.2 else (0.0,)
    return group + [
        rounded(Role.FABRIC, (0.3, 0.2, 0.09), (i * width, length / 2 - 0.3, high - 0.02)) for i in sides
    ]


def shelf(rng: Random) -> Group:
    """Shelves with books and things."""
    width, depth, boards = rng.uniform(0.6, 1.6), rng.uniform(0.25, 0.4), int(rng.integers(2, 6))
    gap = rng.uniform(0.28, 0.42)
    role = some(rng, Role.WOOD, Role.FURNITURE, Role.METAL)
    high = boards * gap
    group: Group = [box(role, (0.03, depth, high), (i * width / 2, 0.0, 0.0)) for i in (-1, 1)]
    if rng.random() < 0.6:
        group.append(box(role, (width, 0.02, high), (0.0, depth / 2, 0.0)))
    for k in range(boards + 1):
        group.append(box(role, (width, depth, 0.025), (0.0, 0.0, k * gap)))
        if k == boards or rng.random() < 0.25:
            continue
        if rng.random() < 0.6:
            x = -width / 2 + 0.05
            while x < width / 2 * rng.uniform(0.2, 1.0) - 0.05:
                thick, tall = rng.uniform(0.03, 0.09), rng.uniform(0.5, 0.85) * gap
                group.append(
                    box(
                        some(rng, Role.PRINT, Role.FURNITURE),
                        (thick * 0.95, depth * 0.75, tall),
                        (x + thick / 2, -0.02, k * gap + 0.025),
                    )
                )
                x += thick
        else:
            group += strewn(rng, 3, width, depth, k * gap + 0.025, 0.8 * gap)
    return group


def cupboard(rng: Random) -> Group:
    """A cupboard with doors or drawers, and things on it."""
    width, depth, high = rng.uniform(0.5, 1.6), rng.uniform(0.35, 0.65), rng.uniform(0.5, 2.1)
    role = some(rng, Role.WOOD, Role.FURNITURE, Role.FURNITURE)
    return [
        *fronted(rng, role, width, depth, high),
        *strewn(rng, int(rng.integers(0, 4)), width, depth, high),
    ]


def fronted(rng: Random, role: Role, width: float, depth: float, high: float, bottom: float = 0.0) -> Group:
    """A body with doors and handles on its front, which is at -y."""
    group: Group = [box(role, (width, depth, high), (0.0, 0.0, bottom))]
    columns, rows = (
        max(1, round(width / rng.uniform(0.35, 0.6))),
        int(rng.integers(1, 4 if high > 0.5 else 2)),
    )
    for i in range(columns):
        for j in range(rows):
            w, h = width / columns, high / rows
            x, z = -width / 2 + (i + 0.5) * w, bottom + j * h
            panel = box(role, (w - 0.02, 0.02, h - 0.02), (x, -depth / 2, z + 0.01))
            group.append(replace(panel, casts_shadow=False))
            group.append(
                box(Role.METAL, (min(0.12, 0.5 * w), 0.02, 0.015), (x, -depth / 2 - 0.025, z + 0.8 * h))
            )
    return group


def counter(rng: Random) -> Group:
    """A kitchen's counter with things on it, and cupboards above."""
    length, depth, high = rng.uniform(1.4, 4.0), rng.uniform(0.55, 0.7), rng.uniform(0.82, 0.95)
    role = some(rng, Role.FURNITURE, Role.FURNITURE, Role.WOOD)
    group = fronted(rng, role, length, depth, high)
    group.append(
        box(
            some(rng, Role.WOOD, Role.CERAMIC, Role.METAL),
            (length + 0.02, depth + 0.06, 0.04),
            (0.0, -0.03, high),
        )
    )
    group += strewn(rng, int(rng.integers(3, 10)), length, depth * 0.8, high + 0.04, 0.5)
    if rng.random() < 0.7:
        up = fronted(rng, role, length * rng.uniform(0.4, 1), 0.35, rng.uniform(0.35, 0.8), 1.4)
        group += placed(up, 0.0, depth / 2 - 0.18, 0.0)
    return group


def desk(rng: Random) -> Group:
    """A desk with a monitor."""
    length, width, high = rng.uniform(1.0, 1.8), rng.uniform(0.6, 0.8), rng.uniform(0.68, 0.78)
    role = some(rng, Role.WOOD, Role.FURNITURE)
    group: Group = [box(role, (0.04, width, high), (i * length / 2, 0.0, 0.0)) for i in (-1, 1)]
    group.append(box(role, (length, width, 0.03), (0.0, 0.0, high)))
    group += placed(
        screen_on_stand(rng), rng.uniform(-0.2, 0.2) * length, 0.2 * width, rng.normal(0.0, 0.2), high + 0.03
    )
    return group + strewn(rng, int(rng.integers(1, 6)), length, width * 0.6, high + 0.03, 0.4)


def boxes(rng: Random) -> Group:
    """A stack of boxes."""
    group: Group = []
    level, side = 0.0, rng.uniform(0.3, 0.7)
    for _ in range(int(rng.integers(1, 4))):
        high = side * rng.uniform(0.4, 1.0)
        role = some(rng, Role.WOOD, Role.FURNITURE, Role.PRINT)
        group += placed(
            [box(role, (side, side * rng.uniform(0.6, 1), high))], 0.0, 0.0, rng.normal(0.0, 0.2), level
        )
        level, side = level + high, side * rng.uniform(0.7, 1.0)
    return group


def floor_plant(rng: Random) -> Group:
    """A tall plant."""
    return placed(potted_plant(rng), 0.0, 0.0, 0.0) + [
        rounded(
            Role.FOLIAGE,
            (0.25, 0.05, 0.3),
            (rng.uniform(-0.2, 0.2), rng.uniform(-0.2, 0.2), rng.uniform(0.3, 1.0)),
        )
        for _ in range(int(rng.integers(1, 5)))
    ]


def standing_lamp(rng: Random) -> Group:
    """A lamp that stands on the floor."""
    high = rng.uniform(1.2, 1.8)
    shade = tapered(
        some(rng, Role.GLOWING, Role.FABRIC),
        rng.uniform(0.14, 0.24),
        0.28,
        rng.uniform(0.5, 1),
        (0.0, 0.0, high),
    )
    return [pole(Role.METAL, 0.14, 0.03), pole(Role.METAL, rng.uniform(0.012, 0.03), high), shade]


def person(rng: Random) -> Group:
    """Somebody who stands or walks."""
    high, wide = rng.uniform(1.5, 1.9), rng.uniform(0.18, 0.26)
    stride = rng.uniform(0.0, 0.2)
    legs: Group = []
    for side in (-1, 1):
        leg = tilted([tapered(Role.FABRIC, 0.07, 0.5 * high, 1.3)], side * stride)
        legs += placed(leg, -side * 0.6 * stride, side * 0.09, 0.0)
    arms = [
        tapered(Role.FABRIC, 0.04, 0.36 * high, 1.3, (0.0, side * (wide + 0.03), 0.45 * high))
        for side in (-1, 1)
    ]
    return [
        *legs,
        *arms,
        rounded(Role.FABRIC, (0.14, wide, 0.2 * high), (0.0, 0.0, 0.46 * high)),
        rounded(Role.BODY, (0.1, 0.085, 0.12), (0.0, 0.0, high - 0.24)),
        rounded(Role.BARK, (0.105, 0.09, 0.07), (-0.015, 0.0, high - 0.13)),
    ]


def machine(rng: Random) -> Group:
    """Wheels in a frame of tubes with a body: a bicycle, a motorcycle, a cart."""
    wheel, apart = rng.uniform(0.2, 0.38), rng.uniform(0.9, 1.4)
    lying = 0.5 * np.pi
    group: Group = []
    for side in (-1, 1):
        for radius, thick, role in ((wheel, 0.05, Role.BARK), (wheel * 0.8, 0.055, Role.METAL)):
            disc = tipped([pole(role, radius, thick)], lying)
            group += placed(disc, side * apart / 2, 0.0, 0.0, wheel)
    group += [
        rounded(
            Role.METAL,
            (apart * 0.25, rng.uniform(0.1, 0.18), rng.uniform(0.1, 0.2)),
            (0.05, 0.0, wheel * rng.uniform(0.7, 1.3)),
        ),
        rounded(Role.METAL, (apart * 0.24, 0.12, 0.11), (0.1, 0.0, wheel + 0.42)),
        rounded(Role.FABRIC, (apart * 0.25, 0.1, 0.05), (-0.25 * apart, 0.0, wheel + 0.42)),
    ]
    for _ in range(int(rng.integers(3, 8))):
        tube = tilted(
            [pole(Role.METAL, rng.uniform(0.012, 0.03), rng.uniform(0.3, 0.8))], rng.uniform(-1.2, 1.2)
        )
        group += placed(
            tube, rng.uniform(-0.5, 0.5) * apart, rng.uniform(-0.1, 0.1), 0.0, rng.uniform(0.1, 0.6)
        )
    group.append(tipped([pole(Role.METAL, 0.015, 0.7)], lying)[0])
    group[-1:] = placed(group[-1:], apart * 0.35, 0.35, 0.0, wheel + 0.65)
    return group


def lying_things(rng: Random) -> Group:
    """A few things on the floor."""
    return strewn(rng, int(rng.integers(1, 4)), 0.8, 0.8, 0.0)


FREE = (
    Piece(table, 4.0), Piece(chair, 4.0), Piece(boxes, 1.5), Piece(floor_plant, 1.0),
    Piece(standing_lamp, 1.0), Piece(person, 1.0), Piece(machine, 1.0), Piece(lying_things, 2.0),
)  # fmt: skip
AGAINST_WALL = (  # with their backs
    Piece(sofa, 1.5), Piece(bed, 0.8), Piece(shelf, 2.0), Piece(cupboard, 2.5), Piece(counter, 2.5),
    Piece(desk, 1.5),
)  # fmt: skip
