"""Patterns of sparse depth: which pixels of a dense depth map a sensor would measure, and how wrongly.

Each kind is a frozen dataclass; `parse_pattern` in `names.py` makes one from its name, which tables print.
OMNI-DC (Zuo et al., arXiv 2411.19278) and Prior Depth Anything (Wang et al., arXiv 2505.10565) test on these.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from depthkd.errors import UserError
from depthkd.shapes import DepthArray, MaskArray

ImageArray = UInt8[np.ndarray, "height width 3"]
Camera = Float[np.ndarray, "3 3"] | None
OUTLIER_RANGE = (10.0, 90.0)  # percentiles of the depth, between which OMNI-DC draws outliers


def valid_depth(depth: DepthArray, mask: MaskArray) -> MaskArray:
    """Where a depth map is known, finite and above 0."""
    valid: MaskArray = mask & np.isfinite(depth) & (depth > 0)
    return valid


class View(NamedTuple):
    """What a sensor stands before: depth, where it is valid, and the image and camera of the same view."""

    depth: DepthArray
    valid: MaskArray
    image: ImageArray
    intrinsics: Camera


class SparsePattern(ABC):
    """What a sensor measures of a depth map."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What tables call it; `parse_pattern` reads it."""

    @abstractmethod
    def __call__(
        self,
        depth: DepthArray,
        mask: MaskArray,
        image: ImageArray,
        intrinsics: Camera,
        rng: np.random.Generator,
    ) -> DepthArray:
        """The measured depth in meters; 0 where nothing was measured, which is wherever `mask` is false.

        Args:
            depth: in meters.
            mask: where it is known.
            image: of the same view.
            intrinsics: of its camera, in pixels with the top-left one's center at (0, 0); None: not known.
            rng: from which all that is random is drawn.
        """


class Selection(SparsePattern):
    """A pattern that measures some pixels, each exactly."""

    @abstractmethod
    def chosen(self, view: View, rng: np.random.Generator) -> MaskArray:
        """Which pixels are measured, where they are valid."""

    def __call__(
        self,
        depth: DepthArray,
        mask: MaskArray,
        image: ImageArray,
        intrinsics: Camera,
        rng: np.random.Generator,
    ) -> DepthArray:
        """See `SparsePattern`."""
        valid = valid_depth(depth, mask)
        return kept(depth, valid & self.chosen(View(depth, valid, image, intrinsics), rng))


class Sensor(Selection):
    """A selection of single pixels; of several sensors, each measures its own."""


class Area(Selection):
    """A selection of a part of the view, outside of which no sensor measures anything."""


def kept(depth: DepthArray, chosen: MaskArray) -> DepthArray:
    """The depth where chosen, 0 elsewhere."""
    return np.where(chosen, depth, 0).astype(np.float32)


def some_of(valid: MaskArray, count: int, rng: np.random.Generator) -> MaskArray:
    """So many of the valid pixels, each as likely as any other; all, where there are fewer."""
    places = np.flatnonzero(valid)
    if len(places) > count:
        places = rng.choice(places, count, replace=False, shuffle=False)
    chosen = np.zeros(valid.shape, np.bool_)
    chosen.flat[places] = True
    return chosen


@dataclass(frozen=True)
class Points(Sensor):
    """Pixels drawn at random: "500 points", or for training "10 to 2000 points".

    Args:
        count: how many; all valid ones, where there are fewer.
        most: where given, a number between `count` and this is drawn for each image, its logarithm uniform.

    Raises:
        UserError: a number is negative, or `most` is less than `count` or not above 0.
    """

    count: int
    most: int | None = None

    def __post_init__(self) -> None:
        if self.count < 0 or (self.most is not None and not max(self.count, 1) <= self.most):
            raise UserError(
                f"a pattern would have 0 points or more, or a range up to 1 or more, not '{self.name}'"
            )

    @property
    def name(self) -> str:
        """Such as "500 points"."""
        if self.most is not None:
            return f"{self.count} to {self.most} points"
        return f"{self.count} point{'s' * (self.count != 1)}"

    def chosen(self, view: View, rng: np.random.Generator) -> MaskArray:
        """See `Selection`."""
        count = self.count
        if self.most is not None:
            low, high = np.log(max(count, 1)), np.log(self.most + 1)
            count = min(int(np.exp(rng.uniform(low, high))), self.most)
        return some_of(view.valid, count, rng)


@dataclass(frozen=True)
class LowResolution(Sensor):
    """The pixel in the middle of each square of `factor` x `factor` pixels: "1/8 resolution".

    Raises:
        UserError: the factor is below 1.
    """

    factor: int

    def __post_init__(self) -> None:
        if self.factor < 1:
            raise UserError(f"a pattern of low resolution would be 1/1 resolution or less, not '{self.name}'")

    @property
    def name(self) -> str:
        """Such as "1/8 resolution"."""
        return f"1/{self.factor} resolution"

    def chosen(self, view: View, rng: np.random.Generator) -> MaskArray:
        """See `Selection`."""
        chosen = np.zeros(view.valid.shape, np.bool_)
        middles = slice(self.factor // 2, None, self.factor)
        chosen[middles, middles] = True
        return chosen


@dataclass(frozen=True)
class Outliers(SparsePattern):
    """Some measured depths replaced by wrong ones: "5 % outliers".

    Each measured pixel is wrong with this probability, and is then uniform between the 10th and the 90th
    percentile of the image's valid depth, as in OMNI-DC's protocol. Alone it changes the whole valid depth.

    Args:
        share: the probability.

    Raises:
        UserError: it is not above 0 and at most 1.
    """

    share: float

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise UserError(f"outliers would be more than 0 and at most 100 %, not '{self.name}'")

    @property
    def name(self) -> str:
        """Such as "5 % outliers"."""
        return f"{percent(self.share)} outliers"

    def __call__(
        self,
        depth: DepthArray,
        mask: MaskArray,
        image: ImageArray,
        intrinsics: Camera,
        rng: np.random.Generator,
    ) -> DepthArray:
        """See `SparsePattern`."""
        valid = valid_depth(depth, mask)
        return self.spoiled(kept(depth, valid), depth[valid], rng)

    def spoiled(
        self, sparse: DepthArray, known: Float[np.ndarray, " pixels"], rng: np.random.Generator
    ) -> DepthArray:
        """Measured depth with outliers.

        Args:
            sparse: measured depth, 0 where nothing was measured.
            known: all depths of the image that are valid.
            rng: from which the wrong pixels and their depths are drawn.
        """
        places = np.flatnonzero(sparse)
        if not len(places):
            return sparse
        wrong = places[rng.random(len(places)) < self.share]
        spoiled = sparse.copy()
        low, high = np.percentile(known, OUTLIER_RANGE)
        spoiled.flat[wrong] = rng.uniform(low, high, len(wrong))
        return spoiled


@dataclass(frozen=True)
class Several(SparsePattern):
    """Patterns put together: "5 % outliers, 500 points".

    Nothing is measured outside of any of the areas. Each sensor measures its own pixels inside of them; where
    no sensor is named, all of them are. Outliers come last. So the order of the parts does not matter, except
    among those that draw at random and are of one kind.

    Args:
        parts: two or more.
    """

    parts: tuple[SparsePattern, ...]

    @property
    def name(self) -> str:
        """The names of the parts."""
        return ", ".join(part.name for part in self.parts)

    def __call__(
        self,
        depth: DepthArray,
        mask: MaskArray,
        image: ImageArray,
        intrinsics: Camera,
        rng: np.random.Generator,
    ) -> DepthArray:
        """See `SparsePattern`."""
        valid = everything = valid_depth(depth, mask)
        for area in (part for part in self.parts if isinstance(part, Area)):
            valid = valid & area.chosen(View(depth, valid, image, intrinsics), rng)
        view = View(depth, valid, image, intrinsics)
        chosen = [valid & part.chosen(view, rng) for part in self.parts if isinstance(part, Sensor)]
        sparse = kept(depth, np.any(chosen, axis=0) if chosen else valid)
        for part in self.parts:
            if isinstance(part, Outliers):
                sparse = part.spoiled(sparse, depth[everything], rng)
        return sparse


def percent(share: float) -> str:
    """0.05 as "5 %"."""
    return f"{100 * share:g} %"
