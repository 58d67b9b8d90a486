"""Depth maps: the codecs of our labelled shards, and readers for the encodings of raw datasets.

`png16` and `log16` are one-channel PNGs of 16 bits, `linear16_blosc` and `log16_blosc` hold the same
numbers in a Blosc frame (`depthkd.formats.codes`). The number 0 is an invalid pixel; 1 to 65535 are
codes over the map's own range [low, high], its smallest and its largest valid value:

    png16, linear16_blosc:  value = low + (code - 1) * (high - low) / 65534
    log16, log16_blosc:     value = low * (high / low) ** ((code - 1) / 65534),   where low > 0

Linear codes are off by at most (high - low) / 131068, 7.6e-6 of the range; logarithmic ones by at most
ln(high / low) / 131068 of the value itself, under 1e-4 up to high / low = 4.9e5. Values are returned
in float32, which adds half a unit in its last place. `npy` stores float32 exactly, NaN for invalid. None
can hold a pickle.
"""

import io
import json
import math
import tokenize
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.lib import format as npy_format

from depthkd.errors import UserError
from depthkd.formats.codes import LEVELS, dequantize, pack_codes, quantize, unpack_codes
from depthkd.formats.images import MAX_PIXELS, decode_gray_png, encode_png
from depthkd.formats.sample import BadSample
from depthkd.shapes import DepthArray, MaskArray

CODECS = {
    "png16": "depth.png",
    "npy": "depth.npy",
    "log16": "depth.png",
    "linear16_blosc": "depth.blosc",
    "log16_blosc": "depth.blosc",
}  # codec -> suffix of the member
LINEAR = ("png16", "linear16_blosc")
LOGARITHMIC = ("log16", "log16_blosc")
LOG_ERROR = 1e-4  # of a value, that log16 may change it by
LINEAR_ERROR = 1e-2  # of a value, that png16 may, where values have a meaning up to a factor
SPREAD_ERROR = 0.05  # of the span of the closest half of the values, where they have no fixed zero
FEW = 0.01  # share of pixels
FLOAT32_MAX = float(np.finfo(np.float32).max)

Number = float | int


def encode_depth(
    depth: DepthArray, mask: MaskArray | None, codec: str = "png16"
) -> tuple[str, bytes, dict[str, Any]]:
    """A depth map as a member's suffix, its bytes, and what `decode_depth` needs to know about them.

    Values that are not finite are invalid, like those outside `mask`.

    Raises:
        UserError: the codec is unknown, no pixel is valid, or one is not positive and the codec logarithmic.
    """
    if codec not in CODECS:
        raise UserError(f"'{codec}' is not a depth codec; it would be one of {', '.join(CODECS)}")
    valid = np.isfinite(depth) if mask is None else mask & np.isfinite(depth)
    if not valid.any():
        raise UserError("a depth map without a valid pixel cannot be encoded")
    low, high = float(depth[valid].min()), float(depth[valid].max())
    meta: dict[str, Any] = {"codec": codec, "range": [low, high]}
    if codec == "npy":
        file = io.BytesIO()
        np.save(file, np.where(valid, depth, np.float32(np.nan)), allow_pickle=False)
        return CODECS[codec], file.getvalue(), meta
    if codec in LOGARITHMIC and low <= 0:
        raise UserError(f"codec {codec} takes values above 0, and the smallest is {low:g}")
    codes = quantize(depth, valid, low, high, codec in LOGARITHMIC)
    if CODECS[codec] == "depth.png":
        return CODECS[codec], encode_png(codes), meta
    return CODECS[codec], pack_codes(codes), {**meta, "size": list(depth.shape)}


def decode_depth(data: bytes, meta: Mapping[str, Any], name: str) -> tuple[DepthArray, MaskArray]:
    """The depth map and where it is valid; invalid pixels are 0.

    Args:
        data: the member's bytes.
        meta: the sample's "depth" entry: {"codec": "log16", "range": [low, high]}, the same with "png16",
            {"codec": "log16_blosc", "range": [low, high], "size": [height, width]}, the same with
            "linear16_blosc", or {"codec": "npy"}.
        name: what to call it in a sentence.

    Raises:
        BadSample: the bytes are not what `meta` says, or no pixel is valid.
    """
    codec = meta.get("codec")
    if codec == "npy":
        depth, mask = read_depth_npy(data, name=name)
    elif isinstance(codec, str) and codec in (*LINEAR, *LOGARITHMIC):
        low, high = _range(meta.get("range"), codec, name)
        if CODECS[codec] == "depth.png":
            codes = decode_gray_png(data, name)
        else:
            codes = unpack_codes(data, _size(meta.get("size"), codec, name), name)
        if codes.dtype != np.uint16:
            raise BadSample(f"{name} has 8 bits; codec {codec} has 16")
        depth, mask = dequantize(codes, low, high, codec in LOGARITHMIC), codes > 0
    else:
        raise BadSample(f"{name} has codec {json.dumps(codec)}; it would be one of {', '.join(CODECS)}")
    if not mask.any():
        raise BadSample(f"{name} has no valid pixel")
    return depth, mask


class LossyError(UserError):
    """A codec would change a depth map by more than matters.

    Attributes:
        extreme: the value at the end of the map's range that lies apart from the others.
    """

    def __init__(self, sentence: str, extreme: float) -> None:
        super().__init__(sentence)
        self.extreme = extreme

    def __reduce__(self) -> tuple[type["LossyError"], tuple[str, float]]:
        """As a worker process sends it, with both arguments."""
        return type(self), (str(self), self.extreme)


def check_round_trip(
    depth: DepthArray, mask: MaskArray, decoded: DepthArray, codec: str, relative: bool
) -> None:
    """Compare a depth map with what its bytes are read as.

    Args:
        depth: what was encoded.
        mask: where it is valid.
        decoded: what `decode_depth` makes of it.
        codec: how it was encoded.
        relative: whether the values are known up to a factor at most, so that an error counts against the
            value itself: logarithmic codes may change it by 1e-4, linear ones by 1e-2. Otherwise their zero
            has no meaning, and an error may be 5 % of the span of the closest half of the values.

    Raises:
        LossyError: the codec changes a value by more.
    """
    values = depth[mask].astype(np.float64)
    errors = np.abs(decoded[mask] - values)
    different = np.unique(values[:: max(1, len(values) >> 18)])
    if relative:
        error, allowed, of = float((errors / values).max()), LINEAR_ERROR, "of themselves"
        if codec in LOGARITHMIC:
            allowed = LOG_ERROR
    else:
        half = (len(different) + 1) // 2
        span = float((different[half - 1 :] - different[: len(different) - half + 1]).min())
        largest = float(errors.max())
        error, allowed = (largest / span if span else math.inf) if largest else 0.0, SPREAD_ERROR
        of = f"of the {span:.3g} that half of them span"
    if error <= allowed:
        return
    low, middle, high = float(values.min()), float(np.median(different)), float(values.max())
    far = high / middle > middle / low if relative else high - middle > middle - low
    raise LossyError(
        f"codec {codec} cannot hold values from {low:.6g} to {high:.6g}: it would change "
        f"them by up to {error:.3g} {of}, and {allowed:g} is allowed",
        high if far else low,
    )


def too_coarse(depth: DepthArray, mask: MaskArray, meta: Mapping[str, Any]) -> str | None:
    """Why a map of positive values cannot be trusted, because linear codes were wrong for its range.

    So it is where more than 1 % of its pixels may be off by more than 1 % of their value.
    """
    if meta.get("codec") not in LINEAR:
        return None
    low, high = meta["range"]
    step = (high - low) / LEVELS
    if float((depth[mask] < step / 2 / LINEAR_ERROR).mean()) <= FEW:
        return None
    return (
        f"has values from {low:.6g} to {high:.6g} in linear steps of {step:.3g}, which erase the small ones; "
        "pack it again"
    )


def read_depth_png(
    data: bytes,
    scale: Number,
    offset: Number = 0.0,
    invalid: Sequence[Number] = (0,),
    name: str = "the depth image",
) -> tuple[DepthArray, MaskArray]:
    """A raw dataset's one-channel PNG of 8 or 16 bits: depth = number * scale + offset.

    `invalid` lists the numbers that mean "not measured"; those pixels become 0 and false.

    Raises:
        BadSample: it is no such PNG.
    """
    return scaled(decode_gray_png(data, name), scale, offset, invalid)


def read_depth_npy(
    data: bytes,
    scale: Number = 1.0,
    offset: Number = 0.0,
    invalid: Sequence[Number] = (),
    name: str = "the depth array",
) -> tuple[DepthArray, MaskArray]:
    """A raw dataset's .npy array of numbers, [height, width] or [height, width, 1].

    Numbers that are not finite are invalid, and so are those in `invalid`, and values too large for
    float32 (3.4e38); they become 0 and false.

    Raises:
        BadSample: it is no such array.
    """
    return scaled(read_npy(data, name), scale, offset, invalid)


def read_npy(data: bytes, name: str) -> np.ndarray:
    """The numbers, [height, width], of a .npy array of that shape or of [height, width, 1].

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
    return numbers.reshape(shape[:2])


def scaled(
    numbers: np.ndarray, scale: Number, offset: Number, invalid: Sequence[Number]
) -> tuple[DepthArray, MaskArray]:
    """number * scale + offset in float32, and where that is finite and the number is not in `invalid`."""
    with np.errstate(invalid="ignore", over="ignore"):  # a damaged file holds any bits, signaling NaNs too
        numbers = numbers.astype(np.float64)
        mask = np.isfinite(numbers) & ~np.isin(numbers, np.asarray(invalid, np.float64))
        values = np.where(mask, numbers, 0) * scale + offset
        mask &= np.abs(values) <= FLOAT32_MAX
    return np.where(mask, values, 0).astype(np.float32), mask


def _range(value: Any, codec: str, name: str) -> tuple[float, float]:
    numbers = value if isinstance(value, list) else []
    if (
        len(numbers) != 2
        or not all(type(number) in (int, float) and abs(number) <= FLOAT32_MAX for number in numbers)
        or numbers[0] > numbers[1]
        or (codec in LOGARITHMIC and numbers[0] <= 0)
    ):
        above = ", both above 0" if codec in LOGARITHMIC else ""
        raise BadSample(f"{name} has range {json.dumps(value)}; codec {codec} needs [low, high]{above}")
    return float(numbers[0]), float(numbers[1])


def _size(value: Any, codec: str, name: str) -> tuple[int, int]:
    sides = value if isinstance(value, list) else []
    if len(sides) != 2 or not all(type(side) is int and side > 0 for side in sides):
        raise BadSample(f"{name} has size {json.dumps(value)}; codec {codec} needs [height, width]")
    if sides[0] * sides[1] > MAX_PIXELS:
        raise BadSample(f"{name} has size {sides[0]} x {sides[1]}, more than {MAX_PIXELS} pixels")
    return sides[0], sides[1]
