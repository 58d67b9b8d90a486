"""Ray casting: which shape each pixel sees, how far away, and which pixels the light does not reach."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int16, Int64

from depthkd.datasets.scenes.layout import Camera
from depthkd.datasets.scenes.shapes import Shape, dot

_NEAR = 0.05
_RUN = 32


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
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for number, shape in enumerate(shapes):
            rows, columns = _window(shape, camera, intrinsics, height, width)
            if rows.start >= rows.stop or columns.start >= columns.stop:
                continue
            # The rays have z = 1 in the camera's frame, so t is the z-depth.
            turned = shape.rotation.T @ camera.rotation
            start = (shape.rotation.T @ (camera.position - shape.center))[:, None, None]
            across = turned[:, :1] * x[columns] + turned[:, 2:]
            downwards = turned[:, 1:2] * y[rows]
            a, b, c = (across[k] + downwards[k][:, None] for k in range(3))
            t = shape.hit((start[0], start[1], start[2]), (a, b, c))
            nearer = t < depth[rows, columns]
            depth[rows, columns][nearer] = t[nearer]
            index[rows, columns][nearer] = number
    return Hits(depth, index)


def _window(
    shape: Shape, camera: Camera, intrinsics: Float64[np.ndarray, "3 3"], height: int, width: int
) -> tuple[slice, slice]:
    """The rows and columns that a shape may cover."""
    if not shape.bounded:
        return slice(0, height), slice(0, width)
    corners = (shape.corners() - camera.position) @ camera.rotation
    if corners[:, 2].max() < _NEAR:
        return slice(0, 0), slice(0, 0)
    if corners[:, 2].min() < _NEAR:
        return slice(0, height), slice(0, width)
    pixels = corners[:, :2] / corners[:, 2:] * intrinsics[0, 0] + intrinsics[:2, 2]
    low = np.floor(pixels.min(axis=0)).clip(0, [width, height]).astype(int)
    high = np.ceil(pixels.max(axis=0) + 1).clip(0, [width, height]).astype(int)
    return slice(low[1], high[1]), slice(low[0], high[0])


def in_shadow(
    shapes: list[Shape],
    points: Float32[np.ndarray, "3 points"],
    seen: Int16[np.ndarray, " points"],
    to_light: Float32[np.ndarray, "3 points"],
    reach: Float32[np.ndarray, " points"],
) -> Bool[np.ndarray, " points"]:
    """Which points another shape hides from the light.

    `to_light` are unit vectors, `reach` the distance of the light in meters, and `seen` is the shape
    that each point lies on: the shapes are convex, and a lit side is not shadowed by its own.
    """
    shadow = np.zeros(len(seen), bool)
    rows = np.concatenate([points, to_light, reach[None]]).T.copy()  # of one point together: gathered at once
    casting = [(number, shape) for number, shape in enumerate(shapes) if shape.casts_shadow]
    for (number, shape), some in zip(casting, _between(casting, points, to_light, reach), strict=True):
        some = some[~shadow[some] & (seen[some] != number)]
        x, y, z, a, b, c, far = rows[some].T
        x, y, z = (part - np.float32(middle) for part, middle in zip((x, y, z), shape.center, strict=True))
        along = x * a + y * b + z * c
        gap = x * x + y * y + z * z - along * along - np.float32(shape.radius**2)
        near = np.flatnonzero((gap < 0) & (along < shape.radius))
        if not len(near):
            continue
        rotation = shape.rotation.T.astype(np.float32)
        x, y, z = rotation @ np.stack([x[near], y[near], z[near]])
        a, b, c = rotation @ np.stack([a[near], b[near], c[near]])
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            t = shape.hit((x, y, z), (a, b, c))
        shadow[some[near[(t > 1e-3) & (t < far[near])]]] = True
    return shadow


def _between(
    shapes: list[tuple[int, Shape]],
    points: Float32[np.ndarray, "3 points"],
    to_light: Float32[np.ndarray, "3 points"],
    reach: Float32[np.ndarray, " points"],
) -> Iterator[Int64[np.ndarray, " some"]]:
    """For each shape the points that it may keep from the light.

    Points are taken in runs: of a run in a ball around one of its points, all rays to the light stay as near
    to that point's ray as the ball is large.
    """
    count = points.shape[1]
    starts = np.arange(0, count, _RUN)
    middle = np.minimum(starts + _RUN // 2, count - 1)
    members = np.minimum(starts[:, None] + np.arange(_RUN), count - 1)
    apart = points[:, members] - points[:, middle][:, :, None]
    size = np.sqrt((apart * apart).sum(axis=0).max(axis=1, initial=0))
    at, ray, far = points[:, middle], to_light[:, middle], reach[middle]
    for _, shape in shapes:
        offset = shape.center.astype(np.float32)[:, None] - at
        along = dot(offset, ray)
        ahead = np.clip(along, 0, far)
        gap = dot(offset, offset) - 2 * ahead * along + ahead * ahead
        near = np.flatnonzero(gap < (size + np.float32(1.001 * shape.radius) + 1e-3) ** 2)
        chosen = (starts[near][:, None] + np.arange(_RUN)).ravel()
        yield chosen[chosen < count]
