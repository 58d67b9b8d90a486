"""The solids of the embedded scenes, and where a ray first meets each.

A shape has its own frame: `center` in the world (meters, z up) and `rotation`, whose columns are its
axes in the world. `hit` and `surface` work in that frame, on coordinates given as three arrays that
broadcast against each other.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Float64

Array = Float[np.ndarray, "..."]
Components = tuple[Array, Array, Array]
Points = Float[np.ndarray, "3 points"]
Coordinates = Float[np.ndarray, "2 points"]
Vector = Float64[np.ndarray, " 3"]
Matrix = Float64[np.ndarray, "3 3"]

_SIGNS = np.array([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)])  # of a box's corners


class Role(StrEnum):
    """What a shape is in its scene; its look is drawn by this."""

    FLOOR = "floor"
    WALL = "wall"
    CEILING = "ceiling"
    GROUND = "ground"
    FACADE = "facade"
    FURNITURE = "furniture"
    METAL = "metal"
    PICTURE = "picture"
    FOLIAGE = "foliage"
    BARK = "bark"
    WOOD = "wood"
    FABRIC = "fabric"
    CERAMIC = "ceramic"
    PRINT = "print"
    GLOWING = "glowing"
    ROAD = "road"
    BODY = "body"


@dataclass(frozen=True, eq=False)
class Shape(ABC):
    """A solid; `half` are the half extents along its own axes, infinite where it does not end."""

    role: Role
    center: Vector
    rotation: Matrix
    half: Vector
    casts_shadow: bool = True

    @cached_property
    def bounded(self) -> bool:
        """Whether it ends in every direction."""
        return bool(np.isfinite(self.half).all())

    @cached_property
    def radius(self) -> float:
        """Radius in meters of a ball around `center` that holds all of it."""
        return float(np.linalg.norm(self.half))

    @cached_property
    def corners(self) -> Float64[np.ndarray, "8 3"]:
        """The corners of its bounding box, in the world."""
        corners: Float64[np.ndarray, "8 3"] = self.center + (_SIGNS * self.half) @ self.rotation.T
        return corners

    @abstractmethod
    def hit(self, origin: Components, direction: Components) -> Array:
        """The smallest t > 0 at which origin + t * direction is on the surface; inf where it never is."""

    @abstractmethod
    def surface(self, points: Points) -> tuple[Points, Coordinates]:
        """Unit normals at points on the surface, and texture coordinates in meters."""


class Plane(Shape):
    """The plane z = 0 of its frame, without end: a floor, a ceiling, the ground."""

    def hit(self, origin: Components, direction: Components) -> Array:
        """See Shape."""
        t = -origin[2] / direction[2]
        return np.where(t > 0, t, np.inf)

    def surface(self, points: Points) -> tuple[Points, Coordinates]:
        """See Shape."""
        return np.broadcast_to(np.eye(3)[:, 2:], points.shape), points[:2]


class Walls(Shape):
    """Four vertical walls, seen from inside: where a ray leaves |x| < half x, |y| < half y."""

    def hit(self, origin: Components, direction: Components) -> Array:
        """See Shape."""
        exits = []
        for axis in (0, 1):
            inverse = 1 / direction[axis]
            exits.append(np.abs(inverse) * self.half[axis] - origin[axis] * inverse)
        first: Array = np.minimum(*exits)
        return first

    def surface(self, points: Points) -> tuple[Points, Coordinates]:
        """See Shape."""
        x, y, z = points
        on_x = np.abs(x) - self.half[0] > np.abs(y) - self.half[1]
        normals = np.stack([np.where(on_x, np.sign(x), 0), np.where(on_x, 0, np.sign(y)), np.zeros_like(z)])
        return normals, np.stack([np.where(on_x, y, x), z])


class Box(Shape):
    """A solid box."""

    def hit(self, origin: Components, direction: Components) -> Array:
        """See Shape."""
        return _entry([slab(origin[axis], direction[axis], self.half[axis]) for axis in range(3)])

    def surface(self, points: Points) -> tuple[Points, Coordinates]:
        """See Shape."""
        x, y, z = points
        axis = (np.abs(points) - self.half[:, None]).argmax(axis=0)
        normals = np.sign(points) * (axis == np.arange(3)[:, None])
        return normals, np.stack([np.where(axis == 0, y, x), np.where(axis == 2, y, z)])


class Sphere(Shape):
    """A ball of radius half[0]."""

    @cached_property
    def radius(self) -> float:
        """See Shape."""
        return float(self.half[0])

    def hit(self, origin: Components, direction: Components) -> Array:
        """See Shape."""
        a = dot(direction, direction)
        b = dot(origin, direction)
        discriminant = b * b - a * (dot(origin, origin) - self.half[0] ** 2)
        t = (-b - np.sqrt(np.maximum(discriminant, 0))) / a
        return np.where((discriminant > 0) & (t > 0), t, np.inf)

    def surface(self, points: Points) -> tuple[Points, Coordinates]:
        """See Shape."""
        normals = points / np.linalg.norm(points, axis=0)
        longitude = np.arctan2(normals[1], normals[0])
        latitude = np.arcsin(np.clip(normals[2], -1, 1))
        return normals, np.stack([longitude, latitude]) * self.half[0]


class Cylinder(Shape):
    """A solid upright cylinder of radius half[0], closed at both ends."""

    def hit(self, origin: Components, direction: Components) -> Array:
        """See Shape."""
        a = direction[0] * direction[0] + direction[1] * direction[1]
        b = origin[0] * direction[0] + origin[1] * direction[1]
        c = origin[0] * origin[0] + origin[1] * origin[1] - self.half[0] ** 2
        root = np.sqrt(b * b - a * c)  # nan where the ray passes by, and comparisons with nan are false
        side = (-b - root) / a, (root - b) / a
        return _entry([side, slab(origin[2], direction[2], self.half[2])])

    def surface(self, points: Points) -> tuple[Points, Coordinates]:
        """See Shape."""
        x, y, z = points
        distance = np.hypot(x, y)
        cap = np.abs(z) - self.half[2] > distance - self.half[0]
        outwards = np.where(cap, 0, 1 / np.maximum(distance, 1e-9))
        normals = np.stack([x * outwards, y * outwards, np.where(cap, np.sign(z), 0)])
        around = np.arctan2(y, x) * self.half[0]
        return normals, np.stack([np.where(cap, x, around), np.where(cap, y, z)])


@dataclass(frozen=True, eq=False)
class Fence(Shape):
    """A flat screen of bars in the plane y = 0 of its frame, open between them.

    Upright bars of width `bar[0]` stand every `pitch[0]` meters, level bars of width `bar[1]` lie
    every `pitch[1]`, both from the lower left corner on.
    """

    pitch: tuple[float, float] = (0.2, 0.5)
    bar: tuple[float, float] = (0.05, 0.05)

    def hit(self, origin: Components, direction: Components) -> Array:
        """See Shape."""
        t = -origin[1] / direction[1]
        x, z = origin[0] + t * direction[0], origin[2] + t * direction[2]
        solid = (np.abs(x) <= self.half[0]) & (np.abs(z) <= self.half[2])
        solid &= self._bars(x, 0) | self._bars(z, 2)
        return np.where(solid & (t > 0), t, np.inf)

    def _bars(self, position: Array, axis: int) -> Bool[np.ndarray, "..."]:
        pitch, bar = self.pitch[axis // 2], self.bar[axis // 2]
        return np.asarray(np.mod(position + self.half[axis], pitch) < bar)

    def surface(self, points: Points) -> tuple[Points, Coordinates]:
        """See Shape."""
        return np.broadcast_to(np.eye(3)[:, 1:2], points.shape), points[[0, 2]]


def dot(a: Components | Points, b: Components | Points) -> Array:
    """The scalar product of vectors given by their components."""
    product: Array = a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
    return product


def slab(origin: Array, direction: Array, half: float) -> tuple[Array, Array]:
    """Where a ray enters and leaves |coordinate| < half."""
    inverse = 1 / direction
    middle, reach = -origin * inverse, np.abs(inverse) * half
    return middle - reach, middle + reach


def _entry(intervals: list[tuple[Array, Array]]) -> Array:
    """The start of the common part of the intervals; inf where they share none or it is behind."""
    enter, leave = intervals[0]
    for other_enter, other_leave in intervals[1:]:
        enter, leave = np.maximum(enter, other_enter), np.minimum(leave, other_leave)
    return np.where((enter < leave) & (enter > 0), enter, np.inf)
