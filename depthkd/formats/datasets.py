"""Readers for the encodings in which depth benchmarks are shipped; each gives depth and where it is valid.

What a reader returns is 0 and false where nothing was measured. Pickles are never read.
"""

import struct

import numpy as np
from jaxtyping import Bool, Float32

from depthkd.formats.sample import BadSample

Depth = Float32[np.ndarray, "height width"]
Mask = Bool[np.ndarray, "height width"]

DPT_MAGIC = 202021.25  # "PIEH" read as a little-endian float32


def measured(values: np.ndarray, mask: np.ndarray | bool = True) -> tuple[Depth, Mask]:
    """Finite, positive numbers as depth, the others as not measured."""
    valid = np.isfinite(values) & (values > 0) & mask
    return np.where(valid, values, 0).astype(np.float32), valid


def read_raw_float32(data: bytes, height: int, width: int, name: str) -> tuple[Depth, Mask]:
    """ETH3D: row after row of little-endian float32, metres, infinite where nothing was measured.

    Raises:
        BadSample: it has another number of bytes.
    """
    if len(data) != 4 * height * width:
        raise BadSample(
            f"{name} has {len(data)} bytes, but {height} x {width} numbers of float32 take "
            f"{4 * height * width}"
        )
    return measured(np.frombuffer(data, "<f4").reshape(height, width))


def read_dpt(data: bytes, name: str) -> tuple[Depth, Mask]:
    """MPI Sintel's .dpt: a magic number, width, height, and float32 metres.

    Raises:
        BadSample: it is no such file, or is truncated.
    """
    if len(data) < 12 or struct.unpack("<f", data[:4])[0] != DPT_MAGIC:
        raise BadSample(f"{name} is not a .dpt file: it does not begin with {DPT_MAGIC}")
    width, height = struct.unpack("<ii", data[4:12])
    if width < 1 or height < 1:
        raise BadSample(f"{name} says that it is {width} x {height} pixels")
    return read_raw_float32(data[12:], height, width, name)
