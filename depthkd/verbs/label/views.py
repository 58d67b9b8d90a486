"""How a teacher looks at an image: as a whole, or also at windows of it, whose predictions are blended.

A network sees an image at the size that it runs at. Windows show it parts of the image at that size, so that
their predictions have finer detail, each with a scale and a shift of its own: those are fitted to the
prediction of the whole image, and windows that overlap are averaged with weights that fall smoothly
to their borders.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from depthkd.errors import UserError
from depthkd.formats.depth import Number
from depthkd.geometry import crop_intrinsics, resize_intrinsics
from depthkd.models.frozen import Frozen
from depthkd.models.model import Cameras, DepthModel, resize_image, resize_map
from depthkd.models.windows import Box, blend, starts
from depthkd.resolution import NATIVE, Resolution

Size = tuple[int, int]
Kind = Literal["whole", "windows"]
Pictures = Float[Tensor, "_ 3 _ _"]  # of one image or a batch, at any size
Maps = Float[Tensor, "_ _ _"]


@dataclass(frozen=True)
class View:
    """What of an image a network sees.

    Args:
        kind: the whole image, or windows of it too.
        window: a window's sides, as a share of the image's.
        overlap: the least share of a window that the next one covers as well.

    Raises:
        UserError: a share is none, or the windows would not move on.
    """

    kind: Kind = "whole"
    window: Number = 0.5
    overlap: Number = 0.5

    def __post_init__(self) -> None:
        if not 0.05 <= self.window < 1:
            raise UserError(
                f"window is a share of the image's sides, from 0.05 to below 1, not {self.window:g}"
            )
        if not 0 <= self.overlap <= 0.9:
            raise UserError(f"overlap is a share of a window, from 0 to 0.9, not {self.overlap:g}")

    def record(self) -> str | dict[str, Number]:
        """As a label's json tells it."""
        return "whole" if self.kind == "whole" else {"window": self.window, "overlap": self.overlap}

    def label_size(self, size: Size) -> Size:
        """Height and width of the map that windows of this size make up."""
        if self.kind == "whole":
            return size
        return math.ceil(size[0] / self.window), math.ceil(size[1] / self.window)

    def boxes(self, window: Size, whole: Size) -> list[Box]:
        """Where each window begins, row by row: evenly spaced, from border to border."""
        rows, columns = (starts(n, length, self.overlap) for n, length in zip(window, whole, strict=True))
        return [(top, left) for top in rows for left in columns]


def input_sizes(model: DepthModel, view: View, at: Resolution, height: int, width: int) -> list[Size]:
    """Sizes to which an image is brought for a model: for the whole, and for windows.

    A model that resizes images in a way of its own gets them as they are.
    """
    size = None
    if not (model.chooses_size or model.resizes or model.fixed_size is not None):
        size = model.runs_at(height, width, at)
    if view.kind == "whole":
        return [size or (height, width)]
    return [size or (height, width), (height, width) if size is None else view.label_size(size)]


def resized(image: Pictures, sizes: Sequence[Size]) -> list[Pictures]:
    """An image at some sizes."""
    return [image if tuple(image.shape[-2:]) == size else resize_image(image, size) for size in sizes]


@torch.no_grad()
def predict(
    teacher: Frozen,
    inputs: Sequence[Pictures],
    cameras: Cameras | None,
    image_size: Size,
    view: View,
    at: Resolution,
    flip: bool,
    seed: int,
) -> Maps:
    """A teacher's depth of a batch of images, float32, at the size of its own output.

    Args:
        teacher: the network.
        inputs: the images at their `input_sizes`.
        cameras: their intrinsics, in pixels of the images themselves.
        image_size: height and width of the images themselves.
        view: what the network sees.
        at: the resolution that is asked for.
        flip: whether the mean with the mirrored images' prediction is taken.
        seed: of networks that draw noise; the draws of each batch begin anew from it.

    Raises:
        UserError: the network does not answer with one map an image.
    """
    torch.manual_seed(seed)
    whole = _infer(teacher, inputs[0], scaled(cameras, image_size, inputs[0]), at, flip)
    if view.kind == "whole":
        return whole
    canvas = inputs[1]
    target = (canvas.shape[-2], canvas.shape[-1])
    window = inputs[0].shape[-2], inputs[0].shape[-1]
    if window == target:  # a network that resizes by itself
        window = max(1, round(target[0] * view.window)), max(1, round(target[1] * view.window))
    boxes = view.boxes(window, target)
    camera = scaled(cameras, image_size, canvas)

    def maps() -> Iterator[Maps]:
        for top, left in boxes:
            part = canvas[..., top : top + window[0], left : left + window[1]]
            its = None if camera is None else crop_intrinsics(camera, top, left)
            yield resize_map(_infer(teacher, part, its, at, flip), window)

    return blend(resize_map(whole, target), maps(), boxes)


def scaled(cameras: Cameras | None, size: Size, image: Pictures) -> Cameras | None:
    """Intrinsics of images of this size, in the pixels of what they were resized to."""
    if cameras is None:
        return None
    return resize_intrinsics(cameras, image.shape[-2] / size[0], image.shape[-1] / size[1])


def _infer(teacher: Frozen, image: Pictures, cameras: Cameras | None, at: Resolution, flip: bool) -> Maps:
    """Depth at the size of the raw prediction, of images that have the size at which the network runs."""
    model = teacher.model
    by_itself = model.chooses_size or model.resizes or model.fixed_size is not None
    with torch.autocast(image.device.type, teacher.autocast, enabled=teacher.autocast is not None):
        raw = model.infer(image.to(teacher.dtype), at if by_itself else NATIVE, 1.0, flip, cameras)
    if raw.ndim != 3 or len(raw) != len(image) or not raw.numel():
        raise UserError(
            f"{model.source} answers {len(image)} images with {list(raw.shape)}; it would be "
            f"[{len(image)}, height, width]"
        )
    return model.resize_to(raw.float(), (raw.shape[-2], raw.shape[-1])).float()
