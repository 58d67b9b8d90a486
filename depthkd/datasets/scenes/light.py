"""The light of a scene."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from depthkd.datasets.scenes.textures import Color


@dataclass(frozen=True, eq=False)
class Light:
    """Light and air. The lamp is a point in a room, and outdoors a direction (of unit length) to the sun."""

    lamp: Float32[np.ndarray, " 3"]
    key: Color
    ambient: Color
    fill: float  # a light at the camera, which fades with distance
    haze: Color
    zenith: Color
    visibility: float  # meters, at which haze has taken over 63 % of the color; inf in a room
    clouds: float
