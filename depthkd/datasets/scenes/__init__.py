"""Procedural scenes with exact ground truth: the embedded data, on which every method runs offline.

Rooms and outdoor places are ray-cast in numpy: boxes, balls, cylinders, thin poles and fences, with
textures of fixed size in meters, light, shadow and haze. What a scene is (its layout, camera and
depth) and how it looks (its materials, light and camera film) come from separate generators: the
same seed and index have the same depth in the studio and film styles, and only the look differs.

The lifelike style has places of its own: furnished rooms, tables seen from near, streets, parks and heaps,
with photographs among their textures and a phone's camera before them. What is learned from them carries
over to photographs.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from depthkd.batch import METRIC_DEPTH
from depthkd.datasets.dataset import Dataset
from depthkd.datasets.scenes.appearance import Style, develop
from depthkd.datasets.scenes.layout import draw_layout
from depthkd.datasets.scenes.lifelike import SKY
from depthkd.datasets.scenes.places import draw_place
from depthkd.datasets.scenes.render import cast
from depthkd.datasets.scenes.shading import shade
from depthkd.errors import UserError
from depthkd.formats.sample import Sample

__all__ = ["FARTHEST", "Scene", "Scenes", "Style", "scene", "scenes"]

FARTHEST = 40.0  # meters of z-depth; what is beyond fades into the haze and is masked like the sky


@dataclass
class Scene:
    """A sample in metric depth, with the surfaces' normals.

    `sample.mask` is false and `sample.depth` 0 in the sky and beyond FARTHEST; lifelike scenes have depth
    everywhere, and their sky is SKY meters away. `normals` are unit vectors in the camera's frame (x right, y
    down, z forward) that point towards the camera, and 0 where the mask is false.
    """

    sample: Sample
    normals: Float32[np.ndarray, "height width 3"]


def check_style(style: str) -> None:
    """See that there is such a style.

    Raises:
        UserError: there is none.
    """
    if style not in list(Style):
        raise UserError(f"'{style}' is not a style of scenes; it would be one of {', '.join(Style)}")


def scene(
    seed: int, index: int, style: Style | str = Style.STUDIO, height: int = 192, width: int = 256
) -> Scene:
    """The scene of that seed and index, in that style: the same whenever and wherever it is asked for.

    Depth is z in meters along each pixel center's ray, exact and never averaged over an edge.
    The camera, and so the geometry, does not depend on the size in pixels.

    Raises:
        UserError: the style does not exist, the size is not positive, or seed or index are negative.
    """
    check_style(style)
    if min(height, width) < 1:
        raise UserError(f"a scene of {height}x{width} pixels has none; height and width must be at least 1")
    if min(seed, index) < 0:
        raise UserError(f"scenes have a seed and an index from 0 on, and not seed {seed} and index {index}")
    style = Style(style)
    lifelike = style is Style.LIFELIKE
    layout = (draw_place if lifelike else draw_layout)(np.random.default_rng([seed, index, 0]))
    hits = cast(layout.shapes, layout.camera, height, width)
    looks = np.random.default_rng([seed, index, 1 + list(Style).index(style)])
    radiance, normals = shade(looks, layout, hits, style)
    mask = np.full(hits.depth.shape, True) if lifelike else hits.depth < FARTHEST
    sample = Sample(
        key=f"{style}_{seed:04d}_{index:06d}",
        image=develop(looks, radiance, style),
        depth=np.where(mask, np.minimum(hits.depth, SKY), 0).astype(np.float32),
        mask=mask,
        intrinsics=layout.camera.intrinsics(height, width),
        space=METRIC_DEPTH,
    )
    return Scene(sample, np.where(mask[..., None], normals, 0))


def scenes(
    seed: int, count: int, style: Style | str = Style.STUDIO, height: int = 192, width: int = 256
) -> Iterator[Scene]:
    """The first `count` scenes of a seed."""
    return (scene(seed, index, style, height, width) for index in range(count))


class Scenes(Dataset):
    """The first scenes of a seed, as a data set.

    Args:
        style: how they look: studio, film, lifelike, studio_fog or film_fog.
        seed: which scenes.
        count: how many.
        height, width: of the images, in pixels.

    Raises:
        UserError: there is no such style.
    """

    name = "scenes"
    bundled = True

    def __init__(
        self,
        style: Style | str = Style.STUDIO,
        seed: int = 0,
        count: int = 600,
        height: int = 192,
        width: int = 256,
    ) -> None:
        check_style(style)
        self.style, self.seed, self.count = str(style), seed, count
        self.height, self.width = height, width

    def __len__(self) -> int:
        return self.count

    def sample(self, index: int) -> Sample:
        """See `Dataset.sample`."""
        if not 0 <= index < self.count:
            raise IndexError(f"there are {self.count} scenes, so no index {index}")
        return scene(self.seed, index, self.style, self.height, self.width).sample

    def key(self, index: int) -> str:
        """The scene's name."""
        return f"{self.style}_{self.seed:04d}_{index:06d}"
