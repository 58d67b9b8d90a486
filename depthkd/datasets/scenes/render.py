"""Ray casting: which shape each pixel sees, how far away, and which pixels the light does not reach."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int16, Int64

from depthkd.datasets.scenes.layout import Camera
from depthkd.datasets.scenes.shapes import Shape, dot

TILE = 8  # pixels a side: shadows are looked for in runs of a tile's points

_NEAR = 0.05
_RUN = TILE**2
_NOWHERE = np.zeros((8, 3))
_EDGES = np.array([(i, i + k) for k in (1, 2, 4) for i in range(8) if not i & k]).T  # from corner to corner


@dataclass(frozen=True, eq=False)
class Hits:
    """What each pixel sees: z-depth in meters (inf for nothing) and the shape's place in the list (or -1)."""

    depth: Float64[np.ndarray, "height width"]
    shape: Int16[np.ndarray, "height width"]


def cast(shapes: list[Shape], camera: Camera, height: int, width: int) -> Hits:
    """The nearest surface through each pixel's center, exactly: nothing is averaged over an edge."""
    intrinsics = camera.intrinsics(height, width)
    x = (np.arange(width) - intrinsics[0, 2]) / intrinsics[0, 0]
    y = (np.arange(height) - intrinsics[1, 2]) / intrinsics[1, 1]
    depth = np.full((height, width), np.inf)
    index = np.full((height, width), -1, np.int16)
    windows = _windows(shapes, camera, intrinsics, height, width)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for number, (shape, (top, left, bottom, right)) in enumerate(zip(shapes, windows, strict=True)):
            if top >= bottom or left >= right:
                continue
            rows, columns = slice(top, bottom), slice(left, right)
            # The rays have z = 1 in the camera's frame, so t is the z-depth.
            turned = shape.rotation.T @ camera.rotation
            start = (shape.rotation.T @ (camera.position - shape.center))[:, None, None]
            across = turned[:, :1] * x[columns] + turned[:, 2:]
            downwards = turned[:, 1:2] * y[rows]
            a, b, c = across[:, None] + downwards[:, :, None]
            t = shape.hit((start[0], start[1], start[2]), (a, b, c))
            nearer = t < depth[rows, columns]
            np.copyto(depth[rows, columns], t, where=nearer)
            np.copyto(index[rows, columns], np.int16(number), where=nearer)
    return Hits(depth, index)


def _windows(
    shapes: list[Shape], camera: Camera, intrinsics: Float64[np.ndarray, "3 3"], height: int, width: int
) -> list[list[int]]:
    """For each shape the pixels that it may cover: from this row and column to before those.

    They hold the corners of its box before the camera, and where the box's edges come before it.
    """
    boxes = np.stack([shape.corners if shape.bounded else _NOWHERE for shape in shapes])
    corners = (boxes - camera.position) @ camera.rotation
    one, other = corners[:, _EDGES[0]], corners[:, _EDGES[1]]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        cut = one + (other - one) * ((_NEAR - one[..., 2:]) / (other - one)[..., 2:])
        points = np.concatenate([corners, cut], axis=1)
        pixels = points[..., :2] / points[..., 2:] * intrinsics[0, 0] + intrinsics[:2, 2]
    before = corners[..., 2] >= _NEAR
    counts = np.concatenate([before, before[:, _EDGES[0]] != before[:, _EDGES[1]]], axis=1)[..., None]
    low = np.floor(np.where(counts, pixels, np.inf).min(axis=1)).clip(0, [width, height])
    high = np.ceil(np.where(counts, pixels + 1, -np.inf).max(axis=1)).clip(0, [width, height])
    windows = np.concatenate([low[:, ::-1], high[:, ::-1]], axis=1)
    windows[[not shape.bounded for shape in shapes]] = 0, 0, height, width
    found: list[list[int]] = windows.astype(int).tolist()
    return found


def in_shadow(
    shapes: list[Shape],
    points: Float32[np.ndarray, "3 points"],
    seen: Int16[np.ndarray, " points"],
    to_light: Float32[np.ndarray, "3 points"],
    reach: Float32[np.ndarray, " points"],
) -> Bool[np.ndarray, " points"]:
    """Which points another shape hides from the light.

    `to_light` are unit vectors, `reach` the distance of the light in meters, and `seen` is the shape
    that each point lies on: the shapes are convex, and a lit side is not shadowed by its own. It is fastest
    where points that follow each other are near each other.
    """
    count = len(seen)
    shadow = np.zeros(count, bool)
    casting = [(number, shape) for number, shape in enumerate(shapes) if shape.casts_shadow]
    if not count or not casting:
        return shadow
    places = np.minimum(np.arange(0, count, _RUN)[:, None] + np.arange(_RUN), count - 1)  # runs of neighbors
    runs = np.concatenate([points, to_light, reach[None]])[:, places]
    for (number, shape), near in zip(casting, _between(casting, runs), strict=True):
        if not len(near):
            continue
        x, y, z, a, b, c, far = runs[:, near].reshape(7, -1)
        x, y, z = (part - np.float32(middle) for part, middle in zip((x, y, z), shape.center, strict=True))
        along = x * a + y * b + z * c
        gap = x * x + y * y + z * z - along * along - np.float32(shape.radius**2)
        passing = np.flatnonzero((gap < 0) & (along < shape.radius))
        some = places[near].ravel()[passing]
        new = ~shadow[some] & (seen[some] != number)
        some, passing = some[new], passing[new]
        if not len(some):
            continue
        x, y, z, a, b, c, far = (part.take(passing) for part in (x, y, z, a, b, c, far))
        rotation = shape.rotation.T.astype(np.float32)
        x, y, z = rotation @ np.stack([x, y, z])
        a, b, c = rotation @ np.stack([a, b, c])
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            t = shape.hit((x, y, z), (a, b, c))
        shadow[some[(t > 1e-3) & (t < far)]] = True
    return shadow


def _between(
    shapes: list[tuple[int, Shape]], runs: Float32[np.ndarray, "7 runs run"]
) -> Iterator[Int64[np.ndarray, " some"]]:
    """For each shape the runs of points that it may keep from the light.

    Of a run in a ball around one of its points, all rays to the light stay as near to that point's ray as
    the ball is large.
    """
    apart = runs[:3] - runs[:3, :, _RUN // 2, None]
    size = np.sqrt((apart * apart).sum(axis=0).max(axis=1))
    x, y, z, a, b, c, far = runs[:, :, _RUN // 2].astype(np.float64)
    at, ray = np.stack([x, y, z]), np.stack([a, b, c])
    centers = np.stack([shape.center for _, shape in shapes])
    radii = np.array([shape.radius for _, shape in shapes])[:, None]
    along = centers @ ray - dot((x, y, z), (a, b, c))
    ahead = np.clip(along, 0, far)
    offset = (centers * centers).sum(axis=1)[:, None] - 2 * centers @ at + dot((x, y, z), (x, y, z))
    gap = offset - 2 * ahead * along + ahead * ahead
    for near in gap < (size + 1.001 * radii + 1e-3) ** 2:
        yield np.flatnonzero(near)
