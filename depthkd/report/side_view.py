"""A depth map as colored points seen from the side, which shows flat walls and smeared edges."""

import numpy as np
import torch
from jaxtyping import Float, UInt8

from depthkd.geometry import back_project
from depthkd.shapes import ArrayMap

YAW, PITCH = np.radians(28.0), np.radians(10.0)  # of the second look, to the right and downwards
AWAY = 1.12  # how much farther it is from the middle than the camera
FARTHEST = 3.0  # times the median depth; what is farther is left out
PAPER = 247  # gray


def side_view(
    image: UInt8[np.ndarray, "height width 3"],
    depth: ArrayMap,
    intrinsics: Float[np.ndarray, "3 3"],
) -> UInt8[np.ndarray, "height width 3"]:
    """The points of the pixels, drawn by a second camera that has moved around their middle.

    Args:
        image: RGB.
        depth: z-depth of each pixel, in any unit; NaN where there is none.
        intrinsics: of the camera, in pixels.

    Returns:
        RGB of the same size.
    """
    height, width = depth.shape
    picture = np.full((height, width, 3), PAPER, np.uint8)
    known = np.isfinite(depth) & (depth > 0)
    if not known.any():
        return picture
    middle = float(np.median(depth[known]))
    known &= depth < FARTHEST * middle
    camera = torch.from_numpy(intrinsics)
    points = back_project(torch.from_numpy(depth).to(camera), camera).numpy()[:, known]
    points[2] -= middle
    c, s, d, t = np.cos(YAW), np.sin(YAW), np.cos(PITCH), np.sin(PITCH)
    turned = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]) @ points
    x, y, far = np.array([[1, 0, 0], [0, d, t], [0, -t, d]]) @ turned
    far = far + AWAY * middle
    ahead = far > 0.1 * middle
    seen = intrinsics[:2] @ np.stack([x[ahead] / far[ahead], y[ahead] / far[ahead], np.ones(ahead.sum())])
    u, v = np.round(seen)
    colors, order = image[known][ahead], np.argsort(-far[ahead], kind="stable")
    colors, u, v = colors[order], u[order].astype(np.int64), v[order].astype(np.int64)
    nearest = np.full((height, width), -1)  # the last of the points that cover a pixel, in order
    for row, column in np.ndindex(3, 3):
        j, i = v + row - 1, u + column - 1
        inside = np.flatnonzero((i >= 0) & (i < width) & (j >= 0) & (j < height))
        last = np.full_like(nearest, -1)
        last[j[inside], i[inside]] = inside  # of points on one pixel the last, which is the nearest
        nearest = np.maximum(nearest, last)
    covered = nearest >= 0
    picture[covered] = colors[nearest[covered]]
    return picture
