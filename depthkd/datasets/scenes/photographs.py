"""The photographs that scikit-image bundles, as textures of the lifelike scenes.

The motorcycle is not among them: it is a benchmark.
"""

from functools import cache

import cv2
import numpy as np
import PIL.Image
from jaxtyping import Float32

from depthkd.datasets.photographs import bundled
from depthkd.datasets.scenes.shapes import Coordinates
from depthkd.datasets.scenes.textures import Values

PICTURES = (
    "astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "hubble_deep_field.jpg", "retina.jpg",
    "ihc.png", "camera.png", "coins.png", "page.png", "text.png", "moon.png", "clock_motion.png",
)  # fmt: skip
SURFACES = ("brick.png", "grass.png", "gravel.png")
SIDE = 512  # pixels of a texture, a power of 2


@cache
def pyramid(name: str) -> list[Float32[np.ndarray, "side side 3"]]:
    """Linear RGB at 512x512, 256x256, … 1x1."""
    with PIL.Image.open(bundled(name)) as file:
        image = np.asarray(file.convert("RGB"))
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    square = cv2.resize(
        image[top : top + side, left : left + side], (SIDE, SIDE), interpolation=cv2.INTER_AREA
    )
    levels = [(square.astype(np.float32) / 255) ** np.float32(2.2)]
    while len(levels[-1]) > 1:
        half = len(levels[-1]) // 2
        levels.append(levels[-1].reshape(half, 2, half, 2, 3).mean(axis=(1, 3)))
    return levels


def printed(
    name: str, coordinates: Coordinates, footprint: Values, size: float
) -> Float32[np.ndarray, "3 points"]:
    """The photograph laid over a surface, `size` meters wide, upright and mirrored again and again."""
    levels = pyramid(name)
    u, v = (np.abs(np.mod(c / size + shift, 2) - 1) for c, shift in zip(coordinates, (1, 0), strict=True))
    wanted = np.log2(np.maximum(footprint * (SIDE / size), 1))
    level = np.minimum(wanted.astype(np.int32), len(levels) - 1)
    out = np.empty((3, len(u)), np.float32)
    for k in np.unique(level):
        at, side = np.flatnonzero(level == k), len(levels[k])
        x, y = (np.clip(c[at] * side - 0.5, 0, side - 1) for c in (u, v))
        i, j = x.astype(np.int32), y.astype(np.int32)
        dx, dy = (x - i).astype(np.float32)[:, None], (y - j).astype(np.float32)[:, None]
        right, below = np.minimum(i + 1, side - 1), np.minimum(j + 1, side - 1)
        texels, j, below = levels[k].reshape(-1, 3), j * side, below * side
        above = texels.take(j + i, axis=0) * (1 - dx) + texels.take(j + right, axis=0) * dx
        under = texels.take(below + i, axis=0) * (1 - dx) + texels.take(below + right, axis=0) * dx
        out[:, at] = (above * (1 - dy) + under * dy).T
    return out
