"""Where things are: a camera and the shapes around it, indoors or outdoors, drawn from one generator.

Camera pitch, roll, height, yaw and field of view, the room's size and what stands close vary so much
that a pixel's position says little about its depth.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from depthkd.datasets.scenes.objects import INDOORS, OUTDOORS, UPRIGHT, Kind, box, drawn, moved
from depthkd.datasets.scenes.shapes import Matrix, Plane, Role, Shape, Vector, Walls

NO_END = np.array([np.inf, np.inf, 0.0])  # the half extents of a plane
HalfRoom = Float64[np.ndarray, " 2"]  # half its length and width, in meters
_CLEARANCE = 0.5  # meters between the camera and what stands around it


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole camera: `rotation`'s columns are right, down and forward in the world (z up)."""

    position: Vector
    rotation: Matrix
    field_of_view: float  # across the image's width, in radians

    @classmethod
    def posed(cls, position: Vector, yaw: float, pitch: float, roll: float, field_of_view: float) -> "Camera":
        """Angles in radians; a positive pitch looks up, a positive roll tilts the camera clockwise."""
        heading = np.array([np.cos(yaw), np.sin(yaw), 0.0])
        up = np.array([0.0, 0.0, 1.0])
        forward = np.cos(pitch) * heading + np.sin(pitch) * up
        right = np.cross(heading, up)
        down = np.cross(forward, right)
        c, s = np.cos(roll), np.sin(roll)
        return cls(
            position, np.stack([c * right + s * down, c * down - s * right, forward], 1), field_of_view
        )

    def intrinsics(self, height: int, width: int) -> Float64[np.ndarray, "3 3"]:
        """Pixels, with the center of the top-left pixel at (0, 0)."""
        focal = width / 2 / np.tan(self.field_of_view / 2)
        return np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])


@dataclass(frozen=True, eq=False)
class Layout:
    """A scene's geometry; `ceiling` is infinite outdoors."""

    camera: Camera
    shapes: list[Shape]
    ceiling: float
    half_room: tuple[float, float]

    @property
    def outdoors(self) -> bool:
        """Whether there is a sky."""
        return not np.isfinite(self.ceiling)


def draw_layout(rng: np.random.Generator) -> Layout:
    """A room or a place outdoors."""
    return _room(rng) if rng.random() < 0.55 else _outdoors(rng)


def _room(rng: np.random.Generator) -> Layout:
    half = rng.uniform(3, 12, 2) / 2
    ceiling = rng.uniform(2.3, 4.5)
    height = rng.uniform(0.4, min(3.0, ceiling - _CLEARANCE))
    views = [(rng.uniform(-1, 1, 2) * (half - _CLEARANCE), rng.uniform(-np.pi, np.pi)) for _ in range(3)]
    # Of three views the one with more room ahead: less often a bare wall alone.
    (x, y), yaw = max(views, key=lambda view: room_ahead(view[0], view[1], half))
    pitch, roll = np.radians(rng.uniform(-25, 25)), np.radians(rng.uniform(-15, 15))
    camera = Camera.posed(np.array([x, y, height]), yaw, pitch, roll, np.radians(rng.uniform(45, 90)))
    shapes = shell(half, ceiling)
    shapes += [_on_wall(rng, half, ceiling) for _ in range(int(rng.integers(2, 6)))]
    shapes += _furnish(rng, camera, yaw, INDOORS, int(rng.integers(3, 9)), ceiling, half)
    return Layout(camera, shapes, ceiling, (float(half[0]), float(half[1])))


def shell(half: HalfRoom, ceiling: float) -> list[Shape]:
    """A room's floor, ceiling and walls."""
    return [
        Plane(Role.FLOOR, np.zeros(3), UPRIGHT, NO_END, False),
        Plane(Role.CEILING, np.array([0.0, 0.0, ceiling]), UPRIGHT, NO_END, False),
        Walls(Role.WALL, np.zeros(3), UPRIGHT, np.array([half[0], half[1], np.inf]), False),
    ]


def room_ahead(position: Float64[np.ndarray, " 2"], yaw: float, half: HalfRoom) -> float:
    """Meters from a place in a room to the wall that it looks at."""
    heading = np.array([np.cos(yaw), np.sin(yaw)])
    return float(((half - np.sign(heading) * position) / np.abs(heading)).min())


def _on_wall(rng: np.random.Generator, half: HalfRoom, ceiling: float) -> Shape:
    """A picture or a door on one of the four walls."""
    if rng.random() < 0.7:
        width, height = rng.uniform(0.4, 1.2), rng.uniform(0.4, 0.9)
        shape = box(Role.PICTURE, (width, 0.04, height), (0.0, 0.0, rng.uniform(0.9, ceiling - 1.0)))
    else:
        width = 0.9
        shape = box(Role.FURNITURE, (width, 0.06, 2.05))
    side = int(rng.integers(4))
    along, away = half[side % 2], half[1 - side % 2]
    return moved(
        moved(shape, rng.uniform(-1, 1) * (along - width / 2), away, 0.0), 0.0, 0.0, side * np.pi / 2
    )


def _outdoors(rng: np.random.Generator) -> Layout:
    field_of_view = np.radians(rng.uniform(45, 90))
    yaw = rng.uniform(-np.pi, np.pi)
    # Looking up, a part of the ground stays in a 4:3 image: a sky has no depth to learn from.
    highest = min(25.0, np.degrees(0.5 * np.arctan(0.75 * np.tan(field_of_view / 2))))
    pitch, roll = np.radians(rng.uniform(-25, highest)), np.radians(rng.uniform(-15, 15))
    camera = Camera.posed(np.array([0.0, 0.0, rng.uniform(0.4, 3)]), yaw, pitch, roll, field_of_view)
    shapes: list[Shape] = [Plane(Role.GROUND, np.zeros(3), UPRIGHT, NO_END, False)]
    if rng.random() < 0.4:
        shapes += _street(rng, yaw)
    shapes += _furnish(rng, camera, yaw, OUTDOORS, int(rng.integers(5, 13)), np.inf, None)
    return Layout(camera, shapes, np.inf, (np.inf, np.inf))


def _street(rng: np.random.Generator, yaw: float) -> list[Shape]:
    """Rows of houses along a street that the camera stands in, on one side or on both."""
    direction = yaw + rng.uniform(-0.7, 0.7)
    shapes: list[Shape] = []
    for side in (-1, 1):
        if rng.random() < 0.25:
            continue
        distance, along = rng.uniform(2.5, 9), rng.uniform(-6, 4)
        while along < 40:
            length, depth, height = rng.uniform(5, 12), rng.uniform(4, 8), rng.uniform(3, 11)
            house = box(Role.FACADE, (length, depth, height))
            shapes.append(
                moved(
                    moved(house, along + length / 2, side * (distance + depth / 2), 0.0), 0.0, 0.0, direction
                )
            )
            along += length + rng.choice([0.0, 0.0, rng.uniform(1, 6)])
    return shapes


def _furnish(
    rng: np.random.Generator,
    camera: Camera,
    yaw: float,
    kinds: tuple[Kind, ...],
    count: int,
    ceiling: float,
    half_room: HalfRoom | None,
) -> list[Shape]:
    """Objects ahead of the camera, inside the room, clear of it and of one another."""
    taken: list[tuple[float, float, float]] = [(float(camera.position[0]), float(camera.position[1]), 0.0)]
    shapes: list[Shape] = []
    for _ in range(3 * count):
        if len(taken) > count:
            break
        kind = drawn(rng, kinds)
        group = kind.build(rng, ceiling)
        radius = max(float(np.linalg.norm(shape.center[:2])) + _reach(shape) for shape in group)
        angle = yaw + rng.uniform(-0.55, 0.55) * camera.field_of_view
        distance = np.exp(rng.uniform(np.log(kind.nearest), np.log(kind.farthest)))
        distance += min(radius, 0.5 * kind.nearest)
        x = camera.position[0] + distance * np.cos(angle)
        y = camera.position[1] + distance * np.sin(angle)
        if half_room is not None and max(abs(x) - half_room[0], abs(y) - half_room[1]) > -min(radius, 0.5):
            continue
        gaps = [np.hypot(x - other[0], y - other[1]) - radius - other[2] for other in taken]
        if gaps[0] < _CLEARANCE or min(gaps[1:], default=0) < -0.3 * radius:
            continue
        taken.append((x, y, radius))
        turned = rng.uniform(-np.pi, np.pi)
        shapes += [moved(shape, x, y, turned) for shape in group]
    return shapes


def _reach(shape: Shape) -> float:
    return float(np.linalg.norm((np.abs(shape.rotation) @ shape.half)[:2]))
