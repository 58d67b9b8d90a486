"""The 16-bit codes of a depth map, and a container for them: smaller than a PNG, and several times as fast.

A smooth map's codes are nearly linear within a few pixels, so what is stored of each is its difference
from the plane through its neighbors (the Lorenzo predictor: left + above - left above), modulo 65536. The
differences are bit-shuffled and compressed by Zstandard in a Blosc frame, and its CRC-32 follows it. Nothing
is lost.
"""

import math
import struct
import zlib
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import UInt16

from depthkd.formats.sample import BadSample
from depthkd.shapes import DepthArray, MaskArray

Codes = UInt16[np.ndarray, "height width"]

LEVELS = 65534  # steps between the codes 1 and 65535

HEADER = struct.Struct("<4B3I")  # version, version of the compressor, flags, size of an item; three counts
CHECKSUM = struct.Struct("<I")
FASTEST = 1  # of Zstandard's levels: higher ones take a multiple of the time for 1 to 5 % fewer bytes
CHUNK = 1 << 14  # values that are turned into codes at a time, in the processor's cache


def quantize(depth: DepthArray, valid: MaskArray, low: float, high: float, logarithmic: bool) -> Codes:
    """Codes 1 to 65535 over [low, high], which holds all valid values, evenly or by their logarithms; 0 where
    a pixel is not valid."""
    first, last = (math.log(low), math.log(high)) if logarithmic else (low, high)
    values, codes = depth.ravel(), np.empty(depth.size, np.uint16)
    for start in range(0, depth.size, CHUNK):
        chunk = slice(start, start + CHUNK)
        steps = np.where(valid.ravel()[chunk], values[chunk], low).astype(np.float64)
        if logarithmic:
            np.log(steps, out=steps)
        steps -= first
        steps /= (last - first) or 1.0
        steps *= LEVELS
        codes[chunk] = np.rint(steps, out=steps) + 1
    quantized: Codes = codes.reshape(depth.shape) * valid
    return quantized


def dequantize(codes: Codes, low: float, high: float, logarithmic: bool) -> DepthArray:
    """The values of codes; 0 of the code 0."""
    steps = np.arange(LEVELS + 1, dtype=np.float64)
    if logarithmic:
        table = low * np.exp(steps * (math.log(high / low) / LEVELS))
    else:
        table = low + steps * ((high - low) / LEVELS)
    depth: DepthArray = np.concatenate([[0.0], table]).astype(np.float32)[codes]
    return depth


def pack_codes(codes: Codes) -> bytes:
    """A map's codes as a frame with its checksum; the same codes give the same bytes."""
    differences = codes.copy()
    differences[1:] -= codes[:-1]
    differences[:, 1:] -= differences[:, :-1]
    blosc = _blosc()
    frame: bytes = blosc.compress(differences, b"zstd", FASTEST, blosc.BITSHUFFLE)
    return frame + CHECKSUM.pack(zlib.crc32(frame))


def unpack_codes(data: bytes, size: tuple[int, int], name: str) -> Codes:
    """The codes that `pack_codes` packed.

    Args:
        data: the frame with its checksum.
        size: height and width of the map.
        name: what to call it in a sentence.

    Raises:
        BadSample: it is damaged, or of another size.
    """
    height, width = size
    frame = data[: -CHECKSUM.size]
    if len(frame) < HEADER.size or CHECKSUM.unpack(data[-CHECKSUM.size :]) != (zlib.crc32(frame),):
        raise BadSample(f"{name} is damaged: its {len(data)} bytes are not a Blosc frame with its CRC-32")
    *_, item, whole, _, packed = HEADER.unpack_from(frame)
    # Blosc believes its header: with wrong counts it would read or write beyond the ends.
    if (item, whole, packed) != (2, 2 * height * width, len(frame)):
        raise BadSample(
            f"{name} holds {whole} bytes in items of {item} in a frame of {packed}; {width} x {height} codes "
            f"have {2 * height * width} in items of 2, and its frame {len(frame)}"
        )
    try:
        differences = np.frombuffer(_blosc().decompress(frame), np.uint16).reshape(size)
    except RuntimeError as error:
        raise BadSample(f"{name} is not a Blosc frame: {error}") from error
    codes: Codes = np.cumsum(differences, axis=1, dtype=np.uint16)
    for above, row in pairwise(codes):  # cumsum over axis 0 takes five times as long
        row += above
    return codes


def _blosc() -> Any:
    """The library, without threads of its own: worker processes do not survive those of their parent."""
    from numcodecs import blosc

    blosc.use_threads = False
    return blosc
