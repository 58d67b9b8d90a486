"""Point clouds and meshes as binary glTF 2.0, which browsers, Blender and phones show.

Source: Khronos, glTF 2.0 specification: 3.6 (buffers), 3.7.2 (meshes; colors are linear, not sRGB), 4
(the .glb container); extension KHR_materials_unlit.
"""

import json
import struct
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, UInt8, UInt32

FLOAT, INDEX = 5126, 5125  # glTF's types of float32 and uint32
VERTICES, INDICES = 34962, 34963  # its kinds of buffers
POINTS, TRIANGLES = 0, 4  # its modes
UPRIGHT = np.array([1, -1, -1], np.float32)  # our x right, y down, z forward -> its y up, z backward
JSON_CHUNK, BINARY_CHUNK = 0x4E4F534A, 0x004E4942


def encode_glb(
    points: Float[np.ndarray, "points 3"],
    colors: UInt8[np.ndarray, "points 3"],
    triangles: UInt32[np.ndarray, "triangles 3"] | None = None,
) -> bytes:
    """Points with their colors, or a mesh of them, lit by nothing but its own colors.

    Args:
        points: in meters, in the camera's frame: x right, y down, z forward. In the file y is up and the
            camera looks along -z, as glTF has it.
        colors: sRGB, which become linear, as glTF has them.
        triangles: three points each, counterclockwise as the camera sees them; None: a point cloud.
    """
    document: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": "depthkd predict"},
        "scene": 0,
        "scenes": [{}],
    }
    if not len(points) or (triangles is not None and not len(triangles)):
        return _container(document, b"")
    places = np.ascontiguousarray(points * UPRIGHT, "<f4")
    shades = linear_colors()[colors]
    parts = [places.tobytes(), shades.tobytes()]
    primitive: dict[str, Any] = {"attributes": {"POSITION": 0, "COLOR_0": 1}, "mode": POINTS, "material": 0}
    accessors: list[dict[str, Any]] = [
        {"bufferView": 0, "componentType": FLOAT, "count": len(points), "type": "VEC3"},
        {"bufferView": 1, "componentType": FLOAT, "count": len(points), "type": "VEC3"},
    ]
    accessors[0] |= {"min": places.min(0).tolist(), "max": places.max(0).tolist()}
    if triangles is not None:
        parts.append(np.ascontiguousarray(triangles, "<u4").tobytes())
        primitive |= {"mode": TRIANGLES, "indices": 2}
        accessors.append({"bufferView": 2, "componentType": INDEX, "count": triangles.size, "type": "SCALAR"})
    starts = np.cumsum([0, *map(len, parts)]).tolist()
    kinds = (VERTICES, VERTICES, INDICES)
    views = [
        {"buffer": 0, "byteOffset": start, "byteLength": len(part), "target": kind}
        for start, part, kind in zip(starts, parts, kinds, strict=False)
    ]
    document |= {
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [primitive]}],
        "materials": [{"extensions": {"KHR_materials_unlit": {}}, "doubleSided": True}],
        "extensionsUsed": ["KHR_materials_unlit"],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": starts[-1]}],
    }
    return _container(document, b"".join(parts))


def linear_colors() -> Float32[np.ndarray, "256"]:
    """The linear value of each sRGB value of 8 bits (IEC 61966-2-1), from 0 to 1.

    As float32: bytes would make steps in the dark, and some readers take 16 bits for bytes.
    """
    value = np.arange(256) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return np.asarray(linear, "<f4")


def _container(document: dict[str, Any], binary: bytes) -> bytes:
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<II", len(text), JSON_CHUNK) + text
    if binary:
        binary += b"\0" * (-len(binary) % 4)
        chunks += struct.pack("<II", len(binary), BINARY_CHUNK) + binary
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks
