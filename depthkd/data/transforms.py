"""Joint transforms: image, depth, mask, intrinsics and windows change together.

Images are resized as models resize them: bicubic, antialiased. Depth and mask take the nearest
pixel: averaging would put surfaces into the empty space between an object and what is behind it,
and would let invalid pixels bleed into valid ones. Points of sparse depth stay points.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any, Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8

from depthkd.errors import UserError
from depthkd.formats.sample import Sample
from depthkd.geometry import crop_intrinsics, flip_intrinsics, resize_intrinsics, resize_sparse_depth


class Transform(ABC):
    """A change of a sample as a whole; every random choice is drawn from the generator that it is given."""

    @property
    def output_size(self) -> tuple[int, int] | None:
        """Height and width of all images that it returns; None: it does not say."""
        return None

    def pixels_needed(self, height: int, width: int, rng: np.random.Generator) -> int | None:
        """How many pixels the shorter side of an image may be reduced to, before the transform, without loss
        of detail in what it makes of it; None: none can be spared.

        Args:
            height, width: of the whole image.
            rng: in the state in which the transform will get it.
        """
        return None

    @abstractmethod
    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """The changed sample; the given one stays as it is."""


class SizedTransform(Transform):
    """A transform whose images are all of `size`, (height, width)."""

    size: tuple[int, int]

    @property
    def output_size(self) -> tuple[int, int]:
        """See `Transform.output_size`."""
        return self.size


class WholeImage(SizedTransform):
    """The whole image resized to height x width, whatever its shape: "shared context without random
    cropping" (Distill Any Depth, Table 2's baseline)."""

    def __init__(self, height: int, width: int, flip: float = 0.5) -> None:
        self.size = _checked_size((height, width))
        self.flip = checked_probability(flip)

    def pixels_needed(self, height: int, width: int, rng: np.random.Generator) -> int | None:
        """See `Transform.pixels_needed`."""
        return _covering(height, width, self.size)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """The resized sample, mirrored with probability `flip`."""
        return flipped(resize(sample, self.size), rng.random() < self.flip)


class ResizeCrop(SizedTransform):
    """The smallest resize that covers `size`, then a random crop of it: "short side to 518, then a
    random 518 x 518 crop" (Depth Anything V2).

    Args:
        size: the crop's side, or its (height, width), in pixels.
        flip: probability of mirroring.
    """

    def __init__(self, size: int | tuple[int, int], flip: float = 0.5) -> None:
        self.size = _checked_size((size, size) if isinstance(size, int) else size)
        self.flip = checked_probability(flip)

    def pixels_needed(self, height: int, width: int, rng: np.random.Generator) -> int | None:
        """See `Transform.pixels_needed`."""
        return _covering(height, width, self.size)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """The crop, of the given size."""
        (height, width), (tall, wide) = sample.whole_size, self.size
        scale = max(tall / height, wide / width)
        covering = max(tall, round(height * scale)), max(wide, round(width * scale))
        top = int(rng.integers(covering[0] - tall, endpoint=True))
        left = int(rng.integers(covering[1] - wide, endpoint=True))
        mirrored = rng.random() < self.flip
        return flipped(crop(resize(sample, covering), top, left, tall, wide), mirrored)


class SquareCrop(SizedTransform):
    """A random square region, resized to size x size: the shared context of Distill Any Depth, 4.1.

    Its side is uniform in [smallest, the image's shorter side], or that shorter side where it is
    below `smallest`; its place is uniform too.
    """

    def __init__(self, size: int = 560, smallest: int = 644, flip: float = 0.5) -> None:
        self.size = _checked_size((size, size))
        self.smallest = _checked_size((smallest, smallest))[0]
        self.flip = checked_probability(flip)

    def pixels_needed(self, height: int, width: int, rng: np.random.Generator) -> int | None:
        """See `Transform.pixels_needed`."""
        _, _, side, _ = self._drawn(height, width, rng)
        return math.ceil(min(height, width) * self.size[0] / side)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """The region at size x size."""
        top, left, side, mirrored = self.region(sample, rng)
        return flipped(resize(_part(sample, top, left, side), self.size), mirrored)

    def region(self, sample: Sample, rng: np.random.Generator) -> tuple[int, int, int, bool]:
        """Draw (top, left, side) in the whole image's pixels, and whether to mirror."""
        return self._drawn(*sample.whole_size, rng)

    def _drawn(self, height: int, width: int, rng: np.random.Generator) -> tuple[int, int, int, bool]:
        shorter = min(height, width)
        side = int(rng.integers(min(self.smallest, shorter), shorter, endpoint=True))
        top = int(rng.integers(height - side, endpoint=True))
        left = int(rng.integers(width - side, endpoint=True))
        return top, left, side, bool(rng.random() < self.flip)


class CrossContextCrop(SquareCrop):
    """The square region of `SquareCrop`, and windows of it at its native resolution: the global view
    and the local views of Distill Any Depth, 4.1.

    The windows are unresized: `window` pixels of the original image, which is why the smallest
    region is a little larger than a window. In an image too small for that, a window covers the
    same share of the region, round(side * window / smallest) pixels, and is resized to `window`.

    Args:
        size: side of the resized region.
        smallest: smallest side of the native region, where the image allows it.
        windows: how many windows.
        window: a window's side.
        placement: "random", uniform inside the region; or "grid", from edge to edge: k x k windows,
            which cover the region where k * window reaches its side.
        overlap: with "grid": the region's full grid, whose neighbors share at least this part of a
            window's side, of which `windows` are drawn (again and again, where it has fewer). None:
            the grid has `windows` of them.
        flip: probability of mirroring the region together with its windows.
    """

    def __init__(
        self,
        size: int = 560,
        smallest: int = 644,
        windows: int = 4,
        window: int = 560,
        placement: Literal["random", "grid"] = "random",
        flip: float = 0.5,
        overlap: float | None = None,
    ) -> None:
        super().__init__(size, smallest, flip)
        if windows < 1:
            raise UserError(f"a CrossContextCrop needs windows of 1 or more, not {windows}")
        if not 1 <= window <= smallest:
            raise UserError(
                f"a CrossContextCrop's window of {window} pixels must fit into its smallest region of "
                f"{smallest}: window would be 1 to {smallest}"
            )
        if placement not in ("random", "grid"):
            raise UserError(f"'{placement}' is not a placement of windows; it would be 'random' or 'grid'")
        if overlap is not None and (placement != "grid" or not 0.0 <= overlap < 1.0):
            raise UserError(
                f"overlap is a part of a window's side, 0 to less than 1, of a grid: not {overlap} with "
                f"placement '{placement}'"
            )
        if placement == "grid" and overlap is None and round(windows**0.5) ** 2 != windows:
            raise UserError(
                f"{windows} windows make no square grid; windows would be 1, 4, 9 or another square number"
            )
        self.windows = windows
        self.window = window
        self.placement = placement
        self.overlap = overlap

    def pixels_needed(self, height: int, width: int, rng: np.random.Generator) -> int | None:
        """All: windows are cut at the image's own resolution."""
        return None

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """The region at size x size with `windows`, and with `boxes` as fractions of the region."""
        top, left, side, mirrored = self.region(sample, rng)
        region = crop(sample, top, left, side, side)
        cut = self.window if side >= self.smallest else max(1, round(side * self.window / self.smallest))
        places = self._places(side - cut, cut, rng)
        size = self.window, self.window
        views = [resize_image(region.image[y : y + cut, x : x + cut], size) for y, x in places]
        if mirrored:
            views = [_mirrored(view) for view in views]
            places = [(y, side - cut - x) for y, x in places]
        boxes = np.array([(y, x, cut, cut) for y, x in places], dtype=np.float64) / side
        shared = flipped(resize(region, self.size), mirrored)
        windows = np.stack([view.transpose(2, 0, 1) for view in views]).transpose(0, 2, 3, 1)
        return replace(shared, windows=windows, boxes=boxes.astype(np.float32))

    def _places(self, room: int, cut: int, rng: np.random.Generator) -> list[tuple[int, int]]:
        """Top-left corners of the windows of `cut` pixels, each coordinate in [0, room]."""
        if self.placement == "random":
            return [(int(y), int(x)) for y, x in rng.integers(room, size=(self.windows, 2), endpoint=True)]
        if self.overlap is None:
            return _grid(room, round(self.windows**0.5))
        stride = max(1, int(cut * (1 - self.overlap)))
        cells = _grid(room, 1 + -(-room // stride))
        drawn = rng.choice(len(cells), self.windows, replace=self.windows > len(cells))
        return [cells[i] for i in drawn]


def _grid(room: int, count: int) -> list[tuple[int, int]]:
    """Corners of count x count windows from edge to edge."""
    steps = [round(i * room / (count - 1)) for i in range(count)] if count > 1 else [room // 2]
    return [(y, x) for y in steps for x in steps]


def _covering(height: int, width: int, size: tuple[int, int]) -> int:
    """Shorter side, in pixels, of the smallest image of this shape that is as large as `size` in both."""
    return math.ceil(min(height, width) * max(size[0] / height, size[1] / width))


def _part(sample: Sample, top: int, left: int, side: int) -> Sample:
    """A square in the pixels of the whole image, also of one that was decoded at a fraction of its size."""
    (height, width), (tall, wide) = sample.whole_size, sample.image.shape[:2]
    if (height, width) == (tall, wide):
        return crop(sample, top, left, side, side)
    first = round(top * tall / height), round(left * wide / width)
    last = round((top + side) * tall / height), round((left + side) * wide / width)
    return crop(sample, *first, last[0] - first[0], last[1] - first[1])


def crop(sample: Sample, top: int, left: int, height: int, width: int) -> Sample:
    """The part of the sample whose top-left pixel is at (top, left); views of its arrays."""
    rows, columns = slice(top, top + height), slice(left, left + width)
    return replace(
        sample,
        image=sample.image[rows, columns],
        decoded_from=None,
        depth=None if sample.depth is None else sample.depth[rows, columns],
        mask=None if sample.mask is None else sample.mask[rows, columns],
        sparse=None if sample.sparse is None else sample.sparse[rows, columns],
        intrinsics=_moved(sample, crop_intrinsics, float(top), float(left)),
    )


def resize(sample: Sample, size: tuple[int, int]) -> Sample:
    """The sample at size (height, width); its corners stay where they are."""
    (height, width), (tall, wide) = sample.image.shape[:2], size
    mask = None if sample.mask is None else _nearest(sample.mask.view(np.uint8), size).view(np.bool_)
    return replace(
        sample,
        image=resize_image(sample.image, size),
        decoded_from=None,
        depth=None if sample.depth is None else _nearest(sample.depth, size),
        mask=mask,
        sparse=None if sample.sparse is None else _resized_points(sample.sparse, size),
        intrinsics=_moved(sample, resize_intrinsics, tall / height, wide / width),
    )


def resize_image(
    image: UInt8[np.ndarray, "height width 3"], size: tuple[int, int]
) -> UInt8[np.ndarray, "new_height new_width 3"]:
    """Bicubic, antialiased along the axes that shrink, clipped to 0..255; color by color in memory, as it is
    computed and as batches want it."""
    if image.shape[:2] == size:
        return np.ascontiguousarray(image)
    # as exact as OpenCV's INTER_AREA, and in uint8 more than twice as fast
    writable = image if image.flags.writeable else image.copy()  # Pillow's are not, and torch would warn
    pixels = torch.from_numpy(writable).permute(2, 0, 1)[None]
    resized = F.interpolate(pixels, size, mode="bicubic", antialias=True, align_corners=False)
    return resized[0].permute(1, 2, 0).numpy()


def _nearest(array: Any, size: tuple[int, int]) -> Any:
    if array.shape == size:
        return np.ascontiguousarray(array)
    # plain INTER_NEAREST rounds down, which shifts the map by up to half a source pixel
    return cv2.resize(array, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)


def _resized_points(sparse: Any, size: tuple[int, int]) -> Any:
    return resize_sparse_depth(torch.from_numpy(np.ascontiguousarray(sparse))[None], size)[0].numpy()


def flipped(sample: Sample, mirrored: bool) -> Sample:
    """The sample with left and right exchanged, if `mirrored`; its windows stay as they are."""
    if not mirrored:
        return sample
    width = sample.image.shape[1]
    return replace(
        sample,
        image=_mirrored(sample.image),
        depth=None if sample.depth is None else np.ascontiguousarray(sample.depth[:, ::-1]),
        mask=None if sample.mask is None else np.ascontiguousarray(sample.mask[:, ::-1]),
        sparse=None if sample.sparse is None else np.ascontiguousarray(sample.sparse[:, ::-1]),
        intrinsics=_moved(sample, flip_intrinsics, width),
    )


def _mirrored(image: Any) -> Any:
    planes = image.transpose(2, 0, 1)
    if planes.flags.c_contiguous:
        return torch.from_numpy(planes).flip(-1).permute(1, 2, 0).numpy()
    return cv2.flip(image, 1)


def _moved(sample: Sample, move: Any, *arguments: Any) -> Any:
    if sample.intrinsics is None:
        return None
    return move(torch.from_numpy(sample.intrinsics), *arguments).numpy()


def _checked_size(size: tuple[int, int]) -> tuple[int, int]:
    if min(size) < 1:
        raise UserError(f"a transform's sizes must be 1 pixel or more, not {size[0]} x {size[1]}")
    return size[0], size[1]


def checked_probability(flip: float) -> float:
    """The probability of mirroring, if it is one.

    Raises:
        UserError: it is not 0 to 1.
    """
    if not 0.0 <= flip <= 1.0:
        raise UserError(f"flip is a probability between 0 and 1, not {flip}")
    return flip
