"""Where lifelike scenes are: rooms, tables seen from close by, corridors, streets, open land, and heaps."""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool

from depthkd.datasets.scenes.furniture import AGAINST_WALL, FREE, chair, table
from depthkd.datasets.scenes.layout import NO_END, Camera, HalfRoom, Layout, room_ahead, shell
from depthkd.datasets.scenes.lifelike import SKY
from depthkd.datasets.scenes.objects import UPRIGHT, Random, box, drawn, pole
from depthkd.datasets.scenes.render import cast
from depthkd.datasets.scenes.shapes import Plane, Role, Shape, Vector
from depthkd.datasets.scenes.solids import Ellipsoid
from depthkd.datasets.scenes.street import OUTSIDE, car, house, lamp_post, tree
from depthkd.datasets.scenes.things import Build, Group, heap, placed, some, strewn

_SHADOWLESS = 0.03  # of its distance: a shape of a smaller radius casts no shadow
_CLEARANCE = 0.35  # meters from the camera to the box around any shape


def draw_place(rng: Random) -> Layout:
    """A place, with a camera in it."""
    kinds = (room, tabletop, corridor, street, open_land, heaped)
    for _ in range(4):
        layout = kinds[int(rng.choice(len(kinds), p=(0.34, 0.2, 0.06, 0.18, 0.12, 0.1)))](rng)
        kept = _may_be_seen(layout.shapes, layout.camera)
        layout = Layout(layout.camera, kept, layout.ceiling, layout.half_room)
        if _worth_seeing(layout):
            break
    return layout


def _worth_seeing(layout: Layout) -> bool:
    """Whether near and far are apart, and something of it is nearer than the sky."""
    depth = np.minimum(cast(layout.shapes, layout.camera, 18, 24).depth, SKY)
    near, far = np.percentile(depth, (5, 90))
    return bool(far > 1.5 * near and np.median(depth[9:]) < SKY)


def room(rng: Random) -> Layout:
    """A furnished room."""
    half = rng.uniform(2.6, 9, 2) / 2
    ceiling = rng.uniform(2.3, 3.6)
    shapes = shell(half, ceiling)
    for side in range(4):
        shapes += _along_wall(rng, side, half, ceiling)
    for _ in range(int(rng.integers(1, 3 + int(half.prod() / 2)))):
        piece = drawn(rng, FREE)
        x, y = rng.uniform(-1, 1, 2) * np.maximum(half - 1.1, 0.2)
        group = placed(piece.build(rng), x, y, rng.uniform(-np.pi, np.pi))
        if piece.build is table:
            group += _chairs(rng, int(rng.integers(0, 4)), (0.85, 0.85), (x, y), careless=0.3)
        if not any(_overlap(a, b) for a in group[:3] for b in shapes[3:][:40]):
            shapes += group
    camera = _inside(rng, shapes, half, ceiling)
    return Layout(camera, shapes, ceiling, (float(half[0]), float(half[1])))


def corridor(rng: Random) -> Layout:
    """A long and narrow hall with doors and columns, seen along its length."""
    half = np.array([rng.uniform(4, 15), rng.uniform(0.8, 3.0)])
    ceiling = rng.uniform(2.3, 5)
    shapes = shell(half, ceiling)
    for side in (0, 2):
        shapes += _along_wall(rng, side, half, ceiling)
    if half[1] > 1.5 and rng.random() < 0.6:
        apart, wide = rng.uniform(1.5, 4), rng.uniform(0.12, 0.3)
        for x in np.arange(-half[0] + 1, half[0], apart):
            for side in (-1, 1):
                shapes.append(pole(Role.WALL, wide, ceiling, (x, side * (half[1] - 0.5), 0.0)))
    position = np.array(
        [-half[0] * rng.uniform(0.2, 0.95), rng.uniform(-0.6, 0.6) * half[1], rng.uniform(0.8, 2.0)]
    )
    yaw, pitch, roll = rng.normal(0.0, 0.25), rng.normal(-0.1, 0.12), rng.normal(0.0, 0.05)
    camera = Camera.posed(position, yaw, pitch, roll, _field_of_view(rng))
    return Layout(camera, _clear_of(shapes, position), ceiling, (float(half[0]), float(half[1])))


def tabletop(rng: Random) -> Layout:
    """Things on a table or the floor, seen from near, before the room behind."""
    half = rng.uniform(2.2, 6, 2) / 2
    ceiling = rng.uniform(2.3, 3.2)
    shapes = shell(half, ceiling)
    for side in range(4):
        if rng.random() < 0.7:
            shapes += _along_wall(rng, side, half, ceiling)
    top = rng.choice([0.0, rng.uniform(0.4, 0.95)])
    length, width = rng.uniform(0.7, 2.0), rng.uniform(0.6, 1.1)
    x, y = rng.uniform(-1, 1, 2) * np.maximum(half - 0.8, 0.1)
    yaw = rng.uniform(-np.pi, np.pi)
    role = some(rng, Role.WOOD, Role.WOOD, Role.FURNITURE, Role.FABRIC, Role.CERAMIC)
    stand: Group = [box(role, (length, width, 0.05), (0.0, 0.0, top))]
    if top:
        stand += [
            box(role, (0.06, 0.06, top), (i * length * 0.45, j * width * 0.42, 0.0))
            for i in (-1, 1)
            for j in (-1, 1)
        ]
    stand += strewn(rng, int(rng.integers(4, 16)), length, width, top + 0.05)
    if top and rng.random() < 0.7:
        stand += _chairs(rng, int(rng.integers(1, 4)), (length / 2 + 0.2, width / 2 + 0.2))
    shapes += placed(stand, x, y, yaw)
    distance, around = rng.uniform(0.4, 1.6), rng.uniform(-np.pi, np.pi)
    eye = top + rng.uniform(0.12, 0.9)
    position = np.array([x - distance * np.cos(around), y - distance * np.sin(around), eye])
    position[:2] = np.clip(position[:2], -half + 0.25, half - 0.25)
    aim = np.arctan2(y - position[1], x - position[0]) + rng.normal(0.0, 0.25)
    pitch = np.arctan2(top + rng.uniform(-0.2, 0.5) - eye, max(distance, 0.3)) * rng.uniform(0.4, 1.1)
    camera = Camera.posed(position, aim, pitch, rng.normal(0.0, 0.12), _field_of_view(rng))
    return Layout(camera, _clear_of(shapes, position, 0.12), ceiling, (float(half[0]), float(half[1])))


def street(rng: Random) -> Layout:
    """A road between sidewalks, with parked cars, trees, lamps and houses along it."""
    shapes: list[Shape] = [_ground(Role.ROAD)]
    road = rng.uniform(2.5, 6)
    if rng.random() < 0.6:
        shapes += [box(Role.PRINT, (1.6, 0.12, 0.006), (x, 0.0, 0.0)) for x in np.arange(-2, 40, 4.0)]
    for side in (-1, 1):
        edge = side * (road + 20)
        shapes.append(
            box(
                some(rng, Role.GROUND, Role.ROAD, Role.FLOOR),
                (240.0, 40.0, rng.uniform(0.05, 0.18)),
                (60.0, edge, 0.0),
            )
        )
        for build, low, high, gap, near in (
            (car, -2.5, -1.0, rng.uniform(0.8, 6), 0.85),
            (tree, 0.4, 2.0, rng.uniform(3, 9), 0.6),
            (lamp_post, 0.3, 0.8, rng.uniform(12, 25), 0.4),
        ):
            if rng.random() < near:
                shapes += _row(rng, build, side, road + rng.uniform(low, high), gap, 0.5)
        if rng.random() < 0.8:
            shapes += _row(rng, house, side, road + rng.uniform(2.5, 9) + 4, rng.choice([0.0, 4.0]), 0.0)
    for _ in range(int(rng.integers(0, 4))):
        moving = car(rng)
        shapes += placed(moving, rng.uniform(7, 40), rng.uniform(-0.6, 0.6) * road, rng.choice([0, np.pi]))
    position = np.array([0.0, rng.uniform(-1.1, 1.1) * road, rng.uniform(1.0, 2.2)])
    shapes += _scattered(rng, position, int(rng.integers(0, 5)))
    yaw, pitch, roll = rng.normal(0.0, 0.3), rng.normal(-0.05, 0.1), rng.normal(0.0, 0.04)
    camera = Camera.posed(position, yaw, pitch, roll, _field_of_view(rng))
    return Layout(camera, _clear_of(shapes, position), np.inf, (np.inf, np.inf))


def open_land(rng: Random) -> Layout:
    """A field or a park, with hills behind."""
    shapes: list[Shape] = [_ground(some(rng, Role.GROUND, Role.GROUND, Role.FOLIAGE, Role.ROAD))]
    for _ in range(int(rng.integers(0, 4))):
        far, angle, high = rng.uniform(50, 300), rng.uniform(-1, 1), rng.uniform(5, 60)
        center = np.array([far * np.cos(angle), far * np.sin(angle), -0.3 * high])
        half = np.array([rng.uniform(0.2, 0.6) * far, rng.uniform(0.3, 0.9) * far, high])
        half[0] = min(half[0], 0.7 * far)
        shapes.append(Ellipsoid(some(rng, Role.GROUND, Role.FOLIAGE), center, UPRIGHT, half, False))
    position = np.array([0.0, 0.0, rng.uniform(0.3, 2.5)])
    shapes += _scattered(rng, position, int(rng.integers(5, 22)))
    yaw, pitch, roll = rng.normal(0.0, 0.2), rng.normal(-0.1, 0.15), rng.normal(0.0, 0.06)
    camera = Camera.posed(position, yaw, min(pitch, 0.3), roll, _field_of_view(rng))
    return Layout(camera, _clear_of(shapes, position), np.inf, (np.inf, np.inf))


def heaped(rng: Random) -> Layout:
    """Solids in all attitudes before a wall or a sky, in no order but that what hides is nearer."""
    indoors = rng.random() < 0.7
    half, ceiling = rng.uniform(2, 6, 2), rng.uniform(2.5, 4)
    shapes: list[Shape] = shell(half, ceiling) if indoors else [_ground(Role.GROUND)]
    position = np.array([-half[0] * 0.5, 0.0, rng.uniform(0.5, 2.0)])
    for _ in range(int(rng.integers(1, 4))):
        size, far = rng.uniform(0.1, 0.5), rng.uniform(0.8, 3.0)
        group = heap(rng, int(rng.integers(4, 14)), size)
        shapes += placed(group, position[0] + far, rng.uniform(-0.4, 0.4) * far, 0.0, rng.uniform(0.2, 1.5))
    camera = Camera.posed(
        position, rng.normal(0.0, 0.1), rng.normal(-0.15, 0.2), rng.normal(0.0, 0.2), _field_of_view(rng)
    )
    room_half = (float(half[0]), float(half[1])) if indoors else (np.inf, np.inf)
    return Layout(camera, _clear_of(shapes, position, 0.2), ceiling if indoors else np.inf, room_half)


def _chairs(
    rng: Random,
    count: int,
    away: tuple[float, float],
    at: tuple[float, float] = (0.0, 0.0),
    careless: float = 0.0,
) -> Group:
    """Chairs around a table at `at`, turned to it but for a deviation of `careless` radians."""
    group: Group = []
    for _ in range(count):
        angle = rng.uniform(-np.pi, np.pi)
        x, y = at[0] + np.cos(angle) * away[0], at[1] + np.sin(angle) * away[1]
        one = chair(rng)
        group += placed(one, x, y, angle - np.pi / 2 + (rng.normal(0.0, careless) if careless else 0.0))
    return group


def _field_of_view(rng: Random) -> float:
    """From a phone's zoom to its wide lens."""
    return float(np.radians(rng.uniform(35, 85)))


def _ground(role: Role) -> Plane:
    return Plane(role, np.zeros(3), UPRIGHT, NO_END, False)


def _along_wall(rng: Random, side: int, half: HalfRoom, ceiling: float) -> list[Shape]:
    """What stands along one wall, and what hangs on it; built along x with the wall at y = 0, then turned."""
    length, away = 2 * half[side % 2], half[1 - side % 2]
    group: Group = []
    if rng.random() < 0.5:
        group.append(
            box(
                some(rng, Role.WOOD, Role.FURNITURE),
                (length, 0.03, rng.uniform(0.06, 0.14)),
                (0.0, -0.015, 0.0),
            )
        )
    x = -length / 2 + rng.uniform(0.1, 0.6)
    while x < length / 2 - 0.5:
        if rng.random() < 0.3:
            x += rng.uniform(0.3, 1.2)
            continue
        parts = drawn(rng, AGAINST_WALL).build(rng)
        wide = max(float(p.center[0] + p.half[0]) for p in parts) - min(
            float(p.center[0] - p.half[0]) for p in parts
        )
        deep = max(float(p.center[1] + min(p.half[1], 1.0)) for p in parts)
        if x + wide > length / 2:
            break
        group += placed(parts, x + wide / 2, -deep - 0.02, rng.normal(0.0, 0.02))
        x += wide + rng.choice([0.05, rng.uniform(0.1, 1.0)])
    for _ in range(int(rng.integers(0, 4))):
        group += _hanging(rng, length, ceiling)
    turned = side * np.pi / 2
    x, y = away * -np.sin(turned), away * np.cos(turned)
    return placed(group, x, y, turned)


def _hanging(rng: Random, length: float, ceiling: float) -> Group:
    """A picture, a window, a door, a board or a curtain on the wall."""
    kind, x = rng.random(), rng.uniform(-0.45, 0.45) * length
    if kind < 0.5:
        width, high = rng.uniform(0.2, 1.3), rng.uniform(0.2, 0.9)
        z = rng.uniform(0.9, max(1.0, ceiling - high - 0.2))
        return [
            box(some(rng, Role.WOOD, Role.METAL, Role.PRINT), (width, 0.03, high), (x, -0.015, z)),
            box(Role.PRINT, (width * 0.85, 0.01, high * 0.85), (x, -0.035, z + high * 0.07)),
        ]
    if kind < 0.75:
        width, high, z = rng.uniform(0.6, 2.0), rng.uniform(0.8, 1.5), rng.uniform(0.6, 1.0)
        group: Group = [
            box(some(rng, Role.WOOD, Role.CERAMIC), (width + 0.12, 0.06, high + 0.12), (x, -0.03, z - 0.06))
        ]
        group.append(box(Role.GLOWING, (width, 0.02, high), (x, -0.06, z)))
        group.append(box(Role.WOOD, (0.05, 0.03, high), (x, -0.065, z)))
        if rng.random() < 0.5:
            group += [
                box(Role.FABRIC, (0.35, 0.1, high + 0.6), (x + i * width * 0.6, -0.09, z - 0.3))
                for i in (-1, 1)
            ]
        return group
    return [
        box(Role.WOOD, (1.0, 0.06, 2.1), (x, -0.02, 0.0)),
        box(some(rng, Role.WOOD, Role.FURNITURE), (0.86, 0.05, 2.02), (x, -0.035, 0.0)),
        box(Role.METAL, (0.12, 0.06, 0.02), (x + 0.33, -0.06, 1.02)),
    ]


def _row(rng: Random, build: Build, side: int, away: float, gap: float, jitter: float) -> list[Shape]:
    """The same kind of thing again and again along the street, from behind the camera to far ahead."""
    shapes: list[Shape] = []
    x = rng.uniform(-6, 2)
    while x < 60:
        group = build(rng)
        reach = max(float(abs(p.center[0]) + p.half[0]) for p in group)
        turned = (0.0 if side < 0 else np.pi) + rng.normal(0.0, 0.02)
        if len(shapes) < 150:
            shapes += placed(group, x + reach, side * away + rng.normal(0.0, 0.2) * jitter, turned)
        x += 2 * reach + gap * rng.uniform(0.6, 1.6)
    return shapes


def _scattered(rng: Random, position: Vector, count: int) -> list[Shape]:
    """Things of the outdoors, ahead along x."""
    shapes: list[Shape] = []
    for _ in range(count):
        kind = drawn(rng, OUTSIDE)
        far = np.exp(rng.uniform(np.log(kind.nearest), np.log(kind.farthest)))
        angle = rng.uniform(-0.8, 0.8)
        shapes += placed(
            kind.build(rng),
            position[0] + far * np.cos(angle),
            position[1] + far * np.sin(angle),
            rng.uniform(-np.pi, np.pi),
        )
    return shapes


def _inside(rng: Random, shapes: list[Shape], half: HalfRoom, ceiling: float) -> Camera:
    """A camera that stands free in the room and looks where there is most of it; often downwards."""
    free: list[tuple[float, Vector, float]] = []
    for _ in range(12):
        position = np.array(
            [*(rng.uniform(-1, 1, 2) * (half - _CLEARANCE)), rng.uniform(0.5, min(2.0, ceiling - 0.3))]
        )
        yaw = rng.uniform(-np.pi, np.pi)
        if _free(shapes, position).all():
            ahead = room_ahead(position[:2], yaw, half)
            free.append((min(ahead, 3.0 + rng.uniform(0.0, 1)), position, yaw))
        if len(free) == 3:
            break
    if not free:
        free = [(0.0, np.array([0.0, 0.0, ceiling - 0.3]), rng.uniform(-np.pi, np.pi))]
    _, position, yaw = max(free, key=lambda view: view[0])
    pitch = rng.normal(-0.12 - 0.25 * max(position[2] - 1.0, 0.0), 0.2)
    return Camera.posed(position, yaw, pitch, rng.normal(0.0, 0.08), _field_of_view(rng))


def _free(
    shapes: list[Shape], position: Vector, clearance: float = _CLEARANCE
) -> Bool[np.ndarray, " shapes"]:
    """Which shapes stay that far from the position, by the boxes around them; those without end do."""
    bounded = np.array([shape.bounded for shape in shapes])
    offset = position - np.array([shape.center for shape in shapes])
    rotation, half = (np.array([getattr(shape, name) for shape in shapes]) for name in ("rotation", "half"))
    local = np.abs(np.einsum("nij,ni->nj", rotation, offset))
    return np.asarray(~bounded | (local > half + clearance).any(axis=1))


def _clear_of(shapes: list[Shape], position: Vector, clearance: float = _CLEARANCE) -> list[Shape]:
    """The shapes that do not enclose or touch the camera."""
    free = _free(shapes, position, clearance)
    return [shape for shape, apart in zip(shapes, free, strict=True) if apart]


def _overlap(a: Shape, b: Shape) -> bool:
    reach = np.hypot(*a.half[:2]) + np.hypot(*b.half[:2])
    return b.bounded and bool(np.linalg.norm(a.center[:2] - b.center[:2]) < 0.8 * reach)


def _may_be_seen(shapes: list[Shape], camera: Camera) -> list[Shape]:
    """Those whose balls reach into a wide cone ahead of the camera, or nearly; small ones without shadows."""
    offset = np.array([shape.center for shape in shapes]) - camera.position
    radius = np.array([shape.radius for shape in shapes])
    ahead = offset @ camera.rotation[:, 2]
    aside = np.linalg.norm(offset - ahead[:, None] * camera.rotation[:, 2], axis=1)
    cone = 1.6 * np.maximum(ahead, 0.0) * np.tan(camera.field_of_view / 2) + 1.5 * radius + 0.5
    seen = ~np.isfinite(radius) | ((ahead > -radius) & (aside < cone))
    small = radius < _SHADOWLESS * np.maximum(ahead, 0.0)
    return [
        replace(shape, casts_shadow=False) if tiny and shape.casts_shadow else shape
        for shape, kept, tiny in zip(shapes, seen, small, strict=True)
        if kept
    ]
