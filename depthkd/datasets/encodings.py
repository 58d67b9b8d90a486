"""Readers for the encodings in which depth data sets are shipped.

Depth is 0, and its mask false, where nothing was measured. Pickles are never read.
"""

import io
import math
import struct
import zlib
from collections.abc import Sequence

import h5py
import numpy as np
from jaxtyping import Float32, Float64
from scipy.io.matlab import MatReadError, loadmat

from depthkd.errors import UserError
from depthkd.formats.depth import FLOAT32_MAX
from depthkd.formats.images import MAX_PIXELS
from depthkd.formats.sample import BadSample
from depthkd.shapes import DepthArray, MaskArray

MAT_ERRORS = (  # what loadmat raises for files that are cut off or garbled
    MatReadError, NotImplementedError, LookupError, OSError, EOFError, TypeError, ValueError, struct.error,
    zlib.error,
)  # fmt: skip
DPT_MAGIC = 202021.25  # "PIEH" read as a little-endian float32


def measured(values: np.ndarray, mask: np.ndarray | bool = True) -> tuple[DepthArray, MaskArray]:
    """Positive numbers that float32 can hold as depth, the others as not measured."""
    valid = (values > 0) & (values <= FLOAT32_MAX) & mask
    return np.where(valid, values, 0).astype(np.float32), valid


def rendered(depth: np.ndarray, known: np.ndarray | bool = True) -> tuple[DepthArray, MaskArray]:
    """As `measured`, but depth that is known to be infinite, the sky's, stays so outside of the mask."""
    values, mask = measured(depth, known)
    return np.where(np.isposinf(depth) & known, np.float32(np.inf), values), mask


def read_raw_float32(data: bytes, height: int, width: int, name: str) -> tuple[DepthArray, MaskArray]:
    """ETH3D: row after row of little-endian float32, meters, infinite where nothing was measured.

    Raises:
        BadSample: it has another number of bytes.
    """
    if len(data) != 4 * height * width:
        raise BadSample(
            f"{name} has {len(data)} bytes, but {height} x {width} numbers of float32 take "
            f"{4 * height * width}"
        )
    return measured(np.frombuffer(data, "<f4").reshape(height, width))


def read_pfm(data: bytes, name: str) -> np.ndarray:
    """The numbers, [height, width], of a one-channel PFM: rows from the bottom up, in the byte order that the
    sign of its third word tells.

    Raises:
        BadSample: it is no such file, or is truncated.
    """
    words = data.split(maxsplit=4)[:4]
    try:
        width, height, scale = int(words[1]), int(words[2]), float(words[3])
    except (IndexError, ValueError) as error:
        raise BadSample(
            f"{name} is not a PFM file: its header would be 'Pf', width, height, scale"
        ) from error
    if words[0] != b"Pf" or min(width, height) < 1 or width * height > MAX_PIXELS or not scale:
        raise BadSample(
            f"{name} is not a PFM file of one channel: it says {b' '.join(words).decode('latin-1')}"
        )
    size = 4 * width * height
    if len(data) < size + len(b" ".join(words)) + 1:
        raise BadSample(f"{name} is cut off: {width} x {height} numbers of float32 take {size} bytes")
    numbers = np.frombuffer(data[-size:], "<f4" if scale < 0 else ">f4").reshape(height, width)
    return np.ascontiguousarray(numbers[::-1], np.float32)


def read_exr(data: bytes, name: str) -> Float32[np.ndarray, "height width"]:
    """The numbers of an OpenEXR image of one channel, whatever that is called.

    Raises:
        BadSample: it is no such file, is cut off, or claims too many pixels, which is checked before memory
            is taken.
        UserError: the package that reads it is not installed.
    """
    try:
        import OpenEXR
    except ImportError as error:
        raise UserError(
            f"{name} is read by OpenEXR, which is not installed: pip install 'depthkd[exr]'"
        ) from error
    try:
        header = OpenEXR.File(io.BytesIO(data), header_only=True).header()
        (left, top), (right, bottom) = (corner.tolist() for corner in header["dataWindow"])
        size, channels = (bottom - top + 1, right - left + 1), [c.name for c in header["channels"]]
        if len(channels) != 1 or min(size) < 1 or math.prod(size) > MAX_PIXELS:
            raise BadSample(
                f"{name} claims {size[1]} x {size[0]} pixels of {', '.join(channels) or 'nothing'}; it would "
                f"have one channel, and at most {MAX_PIXELS} pixels"
            )
        file = OpenEXR.File(io.BytesIO(data), separate_channels=True, num_threads=1)
        pixels = np.asarray(file.channels()[channels[0]].pixels)
    except BadSample:
        raise
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise BadSample(f"{name} is not an OpenEXR image that can be read: {error}") from error
    if pixels.shape != size or pixels.dtype.kind not in "fu":
        raise BadSample(f"{name} has a channel of {pixels.shape} pixels of {pixels.dtype}, not {size}")
    return pixels.astype(np.float32)


def read_dpt(data: bytes, name: str) -> tuple[DepthArray, MaskArray]:
    """MPI Sintel's .dpt: a magic number, width, height, and float32 meters.

    Raises:
        BadSample: it is no such file, or is truncated.
    """
    if len(data) < 12 or struct.unpack("<f", data[:4])[0] != DPT_MAGIC:
        raise BadSample(f"{name} is not a .dpt file: it does not begin with {DPT_MAGIC}")
    width, height = struct.unpack("<ii", data[4:12])
    if width < 1 or height < 1:
        raise BadSample(f"{name} says that it is {width} x {height} pixels")
    return read_raw_float32(data[12:], height, width, name)


def read_hdf5(data: bytes, key: str, name: str) -> Float64[np.ndarray, "height width"]:
    """The array of numbers, [height, width], under `key` in an HDF5 file.

    Raises:
        BadSample: it is no HDF5 file, is cut off, or holds no such array.
    """
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            found = file.get(key)
            if not isinstance(found, h5py.Dataset):
                held = ", ".join(f"'{k}'" for k in file) or "nothing"
                raise BadSample(f"{name} has no array '{key}'; it holds {held}")
            if found.dtype.kind not in "fui" or len(found.shape) != 2:
                raise BadSample(
                    f"{name}: '{key}' has shape {found.shape} of {found.dtype}; it would be [height, width] "
                    "of numbers"
                )
            if not 0 < math.prod(found.shape) <= MAX_PIXELS:
                raise BadSample(f"{name}: '{key}' claims shape {found.shape}; at most {MAX_PIXELS} pixels")
            return np.asarray(found[()], np.float64)
    except BadSample:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, OverflowError) as error:
        raise BadSample(f"{name} is not an HDF5 file that can be read: {error}") from error


def read_dsp5(data: bytes, name: str) -> Float64[np.ndarray, "height width"]:
    """Spring's .dsp5: disparity in pixels of the image, at twice its height and width.

    An HDF5 file whose array "disparity" is NaN where nothing is known, as `flow_IO.readDsp5Disp` of
    Spring's tools reads it.

    Raises:
        BadSample: it is no such file.
    """
    return read_hdf5(data, "disparity", name)


def read_mat(data: bytes, variable: str, fields: Sequence[str], name: str) -> dict[str, np.ndarray]:
    """Fields of the struct `variable` in a MATLAB file, of version 5 to 7, as two-dimensional arrays or more.

    Raises:
        BadSample: it is no such file, is cut off, or lacks the variable or a field.
    """
    try:
        found = loadmat(io.BytesIO(data), variable_names=[variable]).get(variable)
    except MAT_ERRORS as error:
        raise BadSample(f"{name} is not a MATLAB file of version 5 to 7: {error}") from error
    if not isinstance(found, np.ndarray) or found.dtype.names is None or found.shape != (1, 1):
        raise BadSample(f"{name} has no struct '{variable}'")
    lacking = [field for field in fields if field not in found.dtype.names]
    if lacking:
        raise BadSample(f"{name}: struct '{variable}' has no field {', '.join(lacking)}")
    return {field: np.asarray(found[0, 0][field]) for field in fields}
