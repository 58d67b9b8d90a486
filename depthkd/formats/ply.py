"""Point clouds as binary PLY files, which MeshLab, CloudCompare, Open3D and Blender open."""

import numpy as np
from jaxtyping import Float, UInt8

POINT = np.dtype([(axis, "<f4") for axis in "xyz"] + [(color, "u1") for color in ("red", "green", "blue")])


def encode_ply(points: Float[np.ndarray, "points 3"], colors: UInt8[np.ndarray, "points 3"]) -> bytes:
    """Points (in meters, in the camera's frame: x right, y down, z forward) with their colors."""
    vertices = np.empty(len(points), POINT)
    for column, axis in enumerate("xyz"):
        vertices[axis] = points[:, column]
    for column, color in enumerate(("red", "green", "blue")):
        vertices[color] = colors[:, column]
    properties = [f"property float {axis}" for axis in "xyz"]
    properties += [f"property uchar {color}" for color in ("red", "green", "blue")]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(points)}", *properties]
    return "\n".join([*header, "end_header", ""]).encode() + vertices.tobytes()
