"""Point clouds of the embedded scenes' shapes: what a camera sees of one, back-projected."""

import numpy as np
from jaxtyping import Float, Float32

from depthkd.datasets.scenes import furniture, street
from depthkd.datasets.scenes.layout import Camera
from depthkd.datasets.scenes.objects import Random
from depthkd.datasets.scenes.render import cast
from depthkd.datasets.scenes.shapes import Shape

Cloud = Float32[np.ndarray, "points 3"]
Points = Float[np.ndarray, "points 3"]
PIXELS = 64  # a side, of the depth map that a cloud is of
LEAST = 24  # pixels of a shape that a camera must see: a fence along which it looks has none
NOISE, FARTHEST_NOISE = 0.01, 0.05  # of a cloud in the unit ball

KINDS = {  # each is drawn as often as any other
    "table": furniture.table,
    "chair": furniture.chair,
    "sofa": furniture.sofa,
    "bed": furniture.bed,
    "shelf": furniture.shelf,
    "desk": furniture.desk,
    "floor_plant": furniture.floor_plant,
    "standing_lamp": furniture.standing_lamp,
    "person": furniture.person,
    "tree": street.tree,
    "bare_tree": street.bare_tree,
    "bush": street.bush,
    "stone": street.stone,
    "car": street.car,
    "sign": street.sign,
    "fence": street.fence,
    "bench": street.bench,
    "house": street.house,
}
CLASSES = tuple(KINDS)


def cloud(seed: int, index: int, points: int) -> tuple[Cloud, int]:
    """The cloud of that seed and index, and which of CLASSES it is of.

    A shape is drawn, and a camera that looks at it from anywhere around, from a little below its middle to
    well above. What the camera sees, as a depth map of 64 x 64 pixels, is back-projected into its frame (x
    right, y down, z forward); points of that are drawn, again and again where they are few, and brought into
    the unit ball. Last come a random scale, of .8 to 1.25, and noise.

    Args:
        seed, index: which cloud.
        points: how many it has.
    """
    rng = np.random.default_rng([seed, index, 5])
    label = int(rng.integers(len(CLASSES)))
    shapes = KINDS[CLASSES[label]](rng)
    seen = _seen(rng, shapes)
    order = rng.permutation(len(seen))
    drawn = in_unit_ball(seen[np.resize(order, points)])
    noise = np.clip(rng.normal(0, NOISE, drawn.shape), -FARTHEST_NOISE, FARTHEST_NOISE)
    return (drawn * rng.uniform(0.8, 1.25) + noise).astype(np.float32), label


def in_unit_ball(points: Points) -> Points:
    """The points around their mean, the farthest of them 1 away from it."""
    centered = points - points.mean(0)
    farthest = np.linalg.norm(centered, axis=1).max()
    scaled: Points = centered / max(float(farthest), 1e-9)
    return scaled


def _seen(rng: Random, shapes: list[Shape]) -> Points:
    """The points that a camera sees of shapes, in its frame, in meters."""
    corners = np.concatenate([shape.corners for shape in shapes])
    low, high = corners.min(0), corners.max(0)
    middle, radius = (low + high) / 2, float(np.linalg.norm(high - low)) / 2
    while True:
        yaw, pitch = rng.uniform(-np.pi, np.pi), rng.uniform(-0.7, 0.1)
        away = radius * rng.uniform(2.0, 3.5)
        heading = np.array([np.cos(pitch) * np.cos(yaw), np.cos(pitch) * np.sin(yaw), np.sin(pitch)])
        field_of_view = 2.2 * float(np.arcsin(radius / away))
        camera = Camera.posed(middle - away * heading, yaw, pitch, 0.0, field_of_view)
        depth = cast(shapes, camera, PIXELS, PIXELS).depth
        if np.isfinite(depth).sum() >= LEAST:
            break
    rows, columns = np.nonzero(np.isfinite(depth))
    intrinsics = camera.intrinsics(PIXELS, PIXELS)
    z = depth[rows, columns]
    x = (columns - intrinsics[0, 2]) / intrinsics[0, 0] * z
    y = (rows - intrinsics[1, 2]) / intrinsics[1, 1] * z
    return np.stack([x, y, z], 1)
