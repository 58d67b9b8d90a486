"""Solids of the lifelike scenes: cones and cups, rounded bodies, and crowns of leaves with gaps."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from depthkd.datasets.scenes.shapes import Array, Components, Coordinates, Points, Shape, dot, slab
from depthkd.datasets.scenes.textures import value_noise


class Ellipsoid(Shape):
    """A body of half axes `half`."""

    @cached_property
    def radius(self) -> float:
        """See Shape."""
        return float(self.half.max())

    def hit(self, origin: Components, direction: Components) -> Array:
        """See Shape."""
        near, _ = self.crossings(origin, direction)
        return np.where(near > 0, near, np.inf)

    def crossings(self, origin: Components, direction: Components) -> tuple[Array, Array]:
        """Where the ray enters and leaves; inf where it passes by."""
        start = [o / h for o, h in zip(origin, self.half, strict=True)]
        along = [d / h for d, h in zip(direction, self.half, strict=True)]
        o, d = (start[0], start[1], start[2]), (along[0], along[1], along[2])
        a, b = dot(d, d), dot(o, d)
        discriminant = b * b - a * (dot(o, o) - 1)
        root = np.sqrt(np.maximum(discriminant, 0))
        passes = discriminant <= 0
        return np.where(passes, np.inf, (-b - root) / a), np.where(passes, np.inf, (root - b) / a)

    def surface(self, points: Points) -> tuple[Points, Coordinates]:
        """See Shape."""
        scaled = points / self.half[:, None]
        normals = scaled / self.half[:, None]
        normals = normals / np.linalg.norm(normals, axis=0)
        longitude = np.arctan2(scaled[1], scaled[0]) * self.half[:2].mean()
        latitude = np.arcsin(np.clip(scaled[2], -1, 1)) * self.half[2]
        return normals, np.stack([longitude, latitude])


@dataclass(frozen=True, eq=False)
class Crown(Ellipsoid):
    """The leaves of a tree or a bush: an ellipsoid's skin with gaps, through which its far side is seen.

    `gap` is the share of the skin that is open, and `leaf` the size of a gap in meters.
    """

    gap: float = 0.4
    leaf: float = 0.2

    def hit(self, origin: Components, direction: Components) -> Array:
        """See Shape."""
        first = np.full(np.broadcast_shapes(*(np.shape(part) for part in (*origin, *direction))), np.inf)
        for t in reversed(self.crossings(origin, direction)):
            t = np.where(t > 0, t, np.inf)
            meets = np.where(np.isfinite(t), t, 0)
            u, v, w = ((o + meets * d).ravel() for o, d in zip(origin, direction, strict=True))
            leaves = 0.5 * value_noise((u + 0.7 * w) / self.leaf + 99, (v - 0.7 * w) / self.leaf + 99)
            leaves += 0.5 * value_noise((u - 0.8 * v) / self.leaf * 2.1 + 99, w / self.leaf * 2.1 + 99)
            first = np.where(np.isfinite(t) & (leaves.reshape(t.shape) > self.gap), t, first)
        return first


@dataclass(frozen=True, eq=False)
class Frustum(Shape):
    """An upright cone cut off at its top; its radii at the bottom and the top are those shares of half[0]."""

    bottom: float = 1.0
    top: float = 0.0

    @property
    def _side(self) -> tuple[float, float]:
        """The radius half way up, and how it changes with height."""
        radius, height = float(self.half[0]), 2 * float(self.half[2])
        return radius * (self.bottom + self.top) / 2, radius * (self.top - self.bottom) / height

    def hit(self, origin: Components, direction: Components) -> Array:
        """See Shape."""
        middle, slope = self._side
        reach = middle + slope * origin[2]
        a = direction[0] ** 2 + direction[1] ** 2 - (slope * direction[2]) ** 2
        b = origin[0] * direction[0] + origin[1] * direction[1] - slope * reach * direction[2]
        c = origin[0] ** 2 + origin[1] ** 2 - reach**2
        root = np.sqrt(b * b - a * c)  # nan where there is none, and comparisons with nan are false
        enter, leave = slab(origin[2], direction[2], self.half[2])
        within = a * enter * enter + 2 * b * enter + c < 0  # it enters through an end
        first = np.full_like(enter, np.inf)
        for t in ((-b - root) / a, (root - b) / a):
            first = np.where((t >= enter) & (t < leave) & (t < first), t, first)
        first = np.where(within, enter, first)
        return np.where(first > 0, first, np.inf)

    def surface(self, points: Points) -> tuple[Points, Coordinates]:
        """See Shape."""
        x, y, z = points
        distance = np.hypot(x, y)
        middle, slope = self._side
        side = middle + slope * z
        cap = np.abs(z) - self.half[2] > distance - side - 1e-9
        level = np.where(cap, np.sign(z), -slope)
        outwards = np.where(cap, 0, 1 / np.maximum(distance, 1e-9))
        normals = np.stack([x * outwards, y * outwards, level])
        normals = normals / np.linalg.norm(normals, axis=0)
        around = np.arctan2(y, x) * self.half[0]
        return normals, np.stack([np.where(cap, x, around), np.where(cap, y, z)])
