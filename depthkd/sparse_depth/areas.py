"""Patterns of what a sensor does not see: holes, missing borders, and what is too far away."""

from dataclasses import dataclass

import numpy as np

from depthkd.errors import UserError
from depthkd.shapes import MaskArray
from depthkd.sparse_depth.patterns import Area, View, percent


@dataclass(frozen=True)
class Holes(Area):
    """All but square holes in random places, which may overlap: "1 hole", "3 holes of 20 %".

    Args:
        count: how many.
        side: of a hole, as a part of the image's shorter side. The default is that of Prior Depth Anything,
            160 pixels in images of 480 x 640.

    Raises:
        UserError: there is none, or the side is not above 0 and at most 1.
    """

    count: int = 1
    side: float = 1 / 3

    def __post_init__(self) -> None:
        if self.count < 1 or not 0 < self.side <= 1:
            raise UserError(
                f"a pattern would have 1 hole or more, of more than 0 and at most 100 %, not '{self.name}'"
            )

    @property
    def name(self) -> str:
        """Such as "3 holes"."""
        size = "" if self.side == Holes.side else f" of {percent(self.side)}"
        return f"{self.count} hole{'s' * (self.count != 1)}{size}"

    def chosen(self, view: View, rng: np.random.Generator) -> MaskArray:
        """See `Selection`."""
        height, width = view.valid.shape
        side = max(1, round(self.side * min(height, width)))
        chosen = np.ones((height, width), np.bool_)
        for _ in range(self.count):
            top, left = rng.integers((height - side, width - side), endpoint=True)
            chosen[top : top + side, left : left + side] = False
        return chosen


@dataclass(frozen=True)
class MissingBorders(Area):
    """All but a strip along each of the image's four borders: "missing borders of 10 %".

    Args:
        share: width of the strips, as a part of the image's height and of its width.

    Raises:
        UserError: it is not above 0 and below half of the image.
    """

    share: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.share < 0.5:
            raise UserError(f"missing borders would be of more than 0 and less than 50 %, not '{self.name}'")

    @property
    def name(self) -> str:
        """Such as "missing borders of 10 %"."""
        return f"missing borders of {percent(self.share)}"

    def chosen(self, view: View, rng: np.random.Generator) -> MaskArray:
        """See `Selection`."""
        height, width = view.valid.shape
        tall, wide = round(self.share * height), round(self.share * width)
        chosen = np.zeros((height, width), np.bool_)
        chosen[tall : height - tall, wide : width - wide] = True
        return chosen


@dataclass(frozen=True)
class DepthRange(Area):
    """What lies between two depths: "nearer than 5 m", "3 to 10 m".

    Args:
        farthest: the depth below which a sensor measures, in meters.
        nearest: the depth above which it does.

    Raises:
        UserError: the range is empty, or begins below 0.
    """

    farthest: float
    nearest: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.nearest < self.farthest:
            raise UserError(
                f"a pattern's range would be from 0 m or more to a greater depth, not '{self.name}'"
            )

    @property
    def name(self) -> str:
        """Such as "nearer than 5 m"."""
        return (
            f"{self.nearest:g} to {self.farthest:g} m" if self.nearest else f"nearer than {self.farthest:g} m"
        )

    def chosen(self, view: View, rng: np.random.Generator) -> MaskArray:
        """See `Selection`."""
        return view.valid & (view.depth > self.nearest) & (view.depth < self.farthest)


@dataclass(frozen=True)
class NearestShare(Area):
    """The nearest part of the valid pixels, whatever their depths: "nearest 70 %".

    Args:
        share: how large a part.

    Raises:
        UserError: it is not above 0 and at most 1.
    """

    share: float

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise UserError(
                f"the nearest part would be more than 0 and at most 100 % of the pixels, not '{self.name}'"
            )

    @property
    def name(self) -> str:
        """Such as "nearest 70 %"."""
        return f"nearest {percent(self.share)}"

    def chosen(self, view: View, rng: np.random.Generator) -> MaskArray:
        """See `Selection`."""
        depth, valid = view.depth, view.valid
        return valid & (depth <= np.quantile(depth[valid], self.share)) if valid.any() else valid
