"""What a batch holds, and what the numbers of a depth map mean."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Float32, UInt8
from torch import Tensor

from depthkd.errors import UserError


class Quantity(StrEnum):
    """What is measured along the viewing ray."""

    DEPTH = "depth"  # larger is farther
    DISPARITY = "disparity"  # inverse depth: larger is nearer


class Ambiguity(StrEnum):
    """What must still be known before the numbers are meters (or 1/meters)."""

    METRIC = "metric"  # nothing
    SCALE = "scale"  # one factor per image
    AFFINE = "affine"  # one factor and one offset per image


@dataclass(frozen=True)
class DepthSpace:
    """The space that a depth map lives in, such as "affine disparity" or "metric depth".

    Every model and every owner of a depth tensor declares one; alignment, losses, metrics, color
    maps and file formats read it.
    """

    quantity: Quantity
    ambiguity: Ambiguity

    @classmethod
    def parse(cls, text: "str | DepthSpace") -> "DepthSpace":
        """Read "<ambiguity> <quantity>", for example "affine disparity".

        Raises:
            UserError: the text names no space; the sentence lists those that exist.
        """
        if isinstance(text, DepthSpace):
            return text
        words = str(text).split()
        ambiguities, quantities = [a.value for a in Ambiguity], [q.value for q in Quantity]
        if len(words) != 2 or words[0] not in ambiguities or words[1] not in quantities:
            names = ", ".join(f"'{a} {q}'" for q in quantities for a in ambiguities)
            raise UserError(f"'{text}' is not a depth space; it would be one of {names}")
        return cls(Quantity(words[1]), Ambiguity(words[0]))

    @property
    def invertible(self) -> bool:
        """Whether 1/x means something: not before the offset is known."""
        return self.ambiguity is not Ambiguity.AFFINE

    def includes(self, other: "DepthSpace") -> bool:
        """Whether maps of the other space are maps of this one too: of its quantity, with no more unknown."""
        order = list(Ambiguity)
        known = order.index(other.ambiguity) <= order.index(self.ambiguity)
        return known and other.quantity is self.quantity

    def inverse(self) -> "DepthSpace":
        """The space of 1/x.

        Raises:
            UserError: values with an unknown offset cannot be inverted.
        """
        if not self.invertible:
            raise UserError(f"'{self}' cannot be inverted: align it first, its offset is unknown")
        other = Quantity.DEPTH if self.quantity is Quantity.DISPARITY else Quantity.DISPARITY
        return DepthSpace(other, self.ambiguity)

    def __str__(self) -> str:
        return f"{self.ambiguity} {self.quantity}"


METRIC_DEPTH = DepthSpace(Quantity.DEPTH, Ambiguity.METRIC)
METRIC_DISPARITY = DepthSpace(Quantity.DISPARITY, Ambiguity.METRIC)
SCALE_DISPARITY = DepthSpace(Quantity.DISPARITY, Ambiguity.SCALE)
AFFINE_DEPTH = DepthSpace(Quantity.DEPTH, Ambiguity.AFFINE)
AFFINE_DISPARITY = DepthSpace(Quantity.DISPARITY, Ambiguity.AFFINE)


class Skipped(NamedTuple):
    """A sample that could not be used: what of it was bad (image, label, json, shard), and a sentence."""

    kind: str
    sentence: str


@dataclass
class Batch:
    """Samples of one source, of one size and one depth space.

    Workers emit uint8 images; `images()` gives the floats that models want. `depth` is in `space`
    (z-depth in meters, where it is metric depth), `mask` is true where it is valid, `intrinsics`
    are in pixels with the center of the top-left pixel at (0, 0), and `positions` are the samples'
    places in the stream, from which every random choice about them is drawn. `windows` are further
    views of parts of the image, and `boxes` says where each lies in it: (top, left, height, width)
    as fractions of the image. `skipped` tells of every bad sample that was passed over,
    `digests` tell the images' files apart (see `content_digest`), and `data_sets` are the public data sets
    that the samples are of, as far as that is known. `sparse` is depth in meters that was measured at some
    pixels, 0 elsewhere, for students that complete it.
    """

    image: UInt8[Tensor, "batch 3 height width"] | Float[Tensor, "batch 3 height width"]
    keys: list[str]
    depth: Float[Tensor, "batch height width"] | None = None
    mask: Bool[Tensor, "batch height width"] | None = None
    intrinsics: Float[Tensor, "batch 3 3"] | None = None
    space: DepthSpace | None = None
    positions: list[int] | None = None
    windows: UInt8[Tensor, "batch count 3 window_height window_width"] | None = None
    boxes: Float[Tensor, "batch count 4"] | None = None
    skipped: list[Skipped] = field(default_factory=list)
    digests: list[int] = field(default_factory=list)
    data_sets: list[str] = field(default_factory=list)
    sparse: Float[Tensor, "batch height width"] | None = None

    def __len__(self) -> int:
        return len(self.keys)

    def images(self) -> Float32[Tensor, "batch 3 height width"]:
        """RGB in [0, 1], float32, on the batch's device."""
        if self.image.dtype == torch.uint8:
            return self.image.float().div_(255.0)
        return self.image.float()

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        """A batch whose tensors are on `device`."""
        return self._with_tensors(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Batch":
        """A batch in page-locked memory, which copies to a GPU in the background."""
        return self._with_tensors(Tensor.pin_memory)

    def _with_tensors(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        for name, value in values.items():
            if isinstance(value, Tensor):
                values[name] = change(value)
        return Batch(**values)


TrainingBatch = dict[str, Batch]  # source name -> its share of the batch
