"""Depth maps: the codecs of our labelled shards, and readers for the encodings of raw datasets.

`png16` stores 0 for an invalid pixel and 1..65535 linearly over [low, high], the range of the valid
values. Its worst-case error is (high - low) / 65534 / 2 = 7.6e-6 of the range, plus half a unit in
the last place of the float32 that is returned. `npy` stores float32 exactly, NaN for invalid.
Neither can hold a pickle.
"""

import io
import json
import math
import tokenize
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64
from numpy.lib import format as npy_format

from depthkd.errors import UserError
from depthkd.formats.images import MAX_PIXELS, decode_grey_png, encode_png
from depthkd.formats.sample import BadSample

CODECS = {"png16": "depth.png", "npy": "depth.npy"}  # codec -> suffix of the member
LEVELS = 65534  # steps between the codes 1 and 65535
FLOAT32_MAX = float(np.finfo(np.float32).max)

Depth = Float32[np.ndarray, "height width"]
Mask = Bool[np.ndarray, "height width"]
Number = float | int


def encode_depth(depth: Depth, mask: Mask | None, codec: str = "png16") -> tuple[str, bytes, dict[str, Any]]:
    """A depth map as a member's suffix, its bytes, and what `decode_depth` needs to know about them.

    Values that are not finite are invalid, like those outside `mask`.

    Raises:
        UserError: the codec is unknown, or no pixel is valid.
    """
    if codec not in CODECS:
        raise UserError(f"'{codec}' is not a depth codec; it would be one of {', '.join(CODECS)}")
    valid = np.isfinite(depth) if mask is None else mask & np.isfinite(depth)
    if not valid.any():
        raise UserError("a depth map without a valid pixel cannot be encoded")
    low, high = float(depth[valid].min()), float(depth[valid].max())
    meta = {"codec": codec, "range": [low, high]}
    if codec == "npy":
        file = io.BytesIO()
        np.save(file, np.where(valid, depth, np.float32(np.nan)), allow_pickle=False)
        return CODECS[codec], file.getvalue(), meta
    fraction = (depth.astype(np.float64) - low) / ((high - low) or 1.0)
    codes = np.zeros(depth.shape, np.uint16)
    codes[valid] = 1 + np.rint(fraction[valid] * LEVELS).astype(np.uint16)
    return CODECS[codec], encode_png(codes), meta


def decode_depth(data: bytes, meta: Mapping[str, Any], name: str) -> tuple[Depth, Mask]:
    """The depth map and where it is valid; invalid pixels are 0.

    Args:
        data: the member's bytes.
        meta: the sample's "depth" entry: {"codec": "png16", "range": [low, high]} or {"codec": "npy"}.
        name: what to call it in a sentence.

    Raises:
        BadSample: the bytes are not what `meta` says, or no pixel is valid.
    """
    codec = meta.get("codec")
    if codec == "npy":
        depth, mask = read_depth_npy(data, name=name)
    elif codec == "png16":
        low, high = _range(meta.get("range"), name)
        codes = decode_grey_png(data, name)
        if codes.dtype != np.uint16:
            raise BadSample(f"{name} has 8 bits; codec png16 has 16")
        mask = codes > 0
        values = low + (codes.astype(np.float64) - 1) * ((high - low) / LEVELS)
        depth = np.where(mask, values, 0).astype(np.float32)
    else:
        raise BadSample(f"{name} has codec {json.dumps(codec)}; it would be one of {', '.join(CODECS)}")
    if not mask.any():
        raise BadSample(f"{name} has no valid pixel")
    return depth, mask


def read_depth_png(
    data: bytes,
    scale: Number,
    offset: Number = 0.0,
    invalid: Sequence[Number] = (0,),
    name: str = "the depth image",
) -> tuple[Depth, Mask]:
    """A raw dataset's one-channel PNG of 8 or 16 bits: depth = number * scale + offset.

    `invalid` lists the numbers that mean "not measured"; those pixels become 0 and false.

    Raises:
        BadSample: it is no such PNG.
    """
    numbers = decode_grey_png(data, name)
    return _scaled(numbers.astype(np.float64), scale, offset, invalid)


def read_depth_npy(
    data: bytes,
    scale: Number = 1.0,
    offset: Number = 0.0,
    invalid: Sequence[Number] = (),
    name: str = "the depth array",
) -> tuple[Depth, Mask]:
    """A raw dataset's .npy array of numbers, [height, width] or [height, width, 1].

    Numbers that are not finite are invalid, and so are those in `invalid`; they become 0 and false.
    The header is checked before memory is taken, and nothing is ever unpickled.

    Raises:
        BadSample: it is no such array.
    """
    file = io.BytesIO(data)
    try:
        version = npy_format.read_magic(file)
        read_header = {
            (1, 0): npy_format.read_array_header_1_0,
            (2, 0): npy_format.read_array_header_2_0,
        }.get(version)
        if read_header is None:
            raise BadSample(f"{name} is a .npy file of version {version}; 1.0 and 2.0 are read")
        shape, columns_first, kind = read_header(file)
    except (ValueError, SyntaxError, tokenize.TokenError) as error:
        raise BadSample(f"{name} is not a .npy array: {error}") from error
    if kind.hasobject or kind.kind not in "fui":
        raise BadSample(f"{name} holds {kind}, not plain numbers; pickles are never read")
    if len(shape) < 2 or shape[2:] not in ((), (1,)) or min(shape) < 1 or math.prod(shape) > MAX_PIXELS:
        raise BadSample(f"{name} has shape {shape}; a depth map has [height, width]")
    body = data[file.tell() :]
    if len(body) != math.prod(shape) * kind.itemsize:
        raise BadSample(f"{name} has {len(body)} bytes of numbers where its header says {shape} of {kind}")
    numbers = np.frombuffer(body, kind).reshape(shape, order="F" if columns_first else "C")
    return _scaled(numbers.reshape(shape[:2]).astype(np.float64), scale, offset, invalid)


def _scaled(
    numbers: Float64[np.ndarray, "height width"], scale: Number, offset: Number, invalid: Sequence[Number]
) -> tuple[Depth, Mask]:
    mask = np.isfinite(numbers) & ~np.isin(numbers, np.asarray(invalid, np.float64))
    values = np.where(mask, numbers, 0) * scale + offset
    mask &= np.abs(values) <= FLOAT32_MAX
    return np.where(mask, values, 0).astype(np.float32), mask


def _range(value: Any, name: str) -> tuple[float, float]:
    numbers = value if isinstance(value, list) else []
    if (
        len(numbers) != 2
        or not all(type(number) in (int, float) and abs(number) <= FLOAT32_MAX for number in numbers)
        or numbers[0] > numbers[1]
    ):
        raise BadSample(f"{name} has range {json.dumps(value)}; codec png16 needs [low, high]")
    return float(numbers[0]), float(numbers[1])
