"""Depth files of any data set: what the numbers in a PNG or a .npy mean."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from depthkd.batch import METRIC_DEPTH, SCALE_DISPARITY, DepthSpace, Quantity
from depthkd.datasets.files import File, file_bytes
from depthkd.errors import UserError
from depthkd.formats.depth import Number, read_npy, scaled
from depthkd.formats.images import decode_gray_png
from depthkd.formats.sample import BadSample
from depthkd.shapes import DepthArray, MaskArray

CLOSE = 1.0  # m: 8 bits that end before have a scale that was meant for 16


@dataclass(frozen=True)
class RawDepth:
    """What the numbers in a raw dataset's depth files mean: value = number * scale + offset.

    Numbers in `invalid` were not measured; nor were those that are not finite or too large for float32,
    or, in a metric or scale space, not positive. What lies farther than `max_depth` is invalid, too: meters
    in a metric space, the values' own unit in scale depth.

    Raises:
        UserError: `max_depth` is not positive, or the space has no depth to compare it with.
    """

    space: DepthSpace
    scale: Number
    offset: Number = 0.0
    invalid: Sequence[Number] = (0,)
    max_depth: Number | None = None

    def __post_init__(self) -> None:
        if self.max_depth is None:
            return
        if not self.max_depth > 0:
            raise UserError(f"max_depth is a depth above 0, and not {self.max_depth:g}")
        if not self.space.invertible or self.space == SCALE_DISPARITY:
            raise UserError(f"max_depth needs metric values or scale depth; '{self.space}' has no such limit")

    def read(self, path: File) -> tuple[DepthArray, MaskArray]:
        """Values and where they are valid.

        Raises:
            BadSample: it is neither a one-channel PNG nor a .npy array, has no valid pixel, or has 8 bits
                where `scale` was made for 16.
        """
        numbers = self._numbers(path)
        if numbers.dtype == np.uint8 and self.space == METRIC_DEPTH:
            white = 255 * self.scale + self.offset
            if white < CLOSE:
                raise BadSample(
                    f"{path} has 8 bits, with which scale {self.scale:g} reaches {white:g} m: it is a "
                    "picture of depth, or its scale is another"
                )
        depth, mask = scaled(numbers, self.scale, self.offset, self.invalid)
        if self.space.invertible:
            mask = mask & (depth > 0)
        if self.max_depth is not None:
            disparity = self.space.quantity is Quantity.DISPARITY
            mask = mask & (depth >= 1 / self.max_depth if disparity else depth <= self.max_depth)
        if not mask.any():
            low, high = float(numbers.min()), float(numbers.max())
            raise BadSample(
                f"{path} has no valid pixel: its numbers are {low:g} to {high:g}, scale {self.scale:g}, for "
                f"{self.space}"
            )
        return depth, mask

    def advice(self, path: File, value: float) -> str:
        """What to do about an extreme value that the codec cannot store beside the file's others."""
        numbers = self._numbers(path)
        depth, mask = scaled(numbers, self.scale, self.offset, self.invalid)
        number = _plain(float(numbers[mask & (depth == np.float32(value))][0]))
        known = ",".join(_plain(float(n)) for n in self.invalid)
        limit = "" if not self.space.invertible or self.space == SCALE_DISPARITY else " or limit --max_depth"
        return (
            f"if the number {number} means 'not measured', such as a sky, add it (--invalid {known},{number})"
            f"{limit}; --codec npy stores any range exactly"
        )

    def _numbers(self, path: File) -> np.ndarray:
        data, suffix = file_bytes(path), PurePosixPath(path.name).suffix.lower()
        if suffix == ".npy":
            return read_npy(data, str(path))
        try:
            return decode_gray_png(data, str(path))
        except BadSample as error:
            if suffix == ".png":
                raise
            raise BadSample(f"{error}; depth is read from .png and .npy files") from error


def _plain(number: float) -> str:
    """As short as it can be typed and read again as the same number."""
    return f"{number:g}" if float(f"{number:g}") == number else repr(number)
