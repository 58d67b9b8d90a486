"""More joint transforms, to be put in a row: those of metric fine-tuning on NYUv2 and KITTI.

BTS, AdaBins and ZoeDepth (arXiv 2302.12288) train on whole images that are rotated a little and mirrored;
KITTI's are cut to its benchmark's crop first.
"""

import math
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from depthkd.benchmarks.crops import KB_CROP, kb_cropped
from depthkd.data.transforms import (
    CrossContextCrop,
    SizedTransform,
    Transform,
    checked_probability,
    flipped,
)
from depthkd.errors import UserError
from depthkd.formats.sample import Sample


class SameSize(Transform):
    """A transform whose images have the size of those that it is given."""


class Compose(Transform):
    """Transforms one after another, each drawing from the same generator.

    Args:
        transforms: the first one first; a `CrossContextCrop`, whose windows no other knows, is the last.

    Raises:
        UserError: there is none, or another follows a `CrossContextCrop`.
    """

    def __init__(self, transforms: list[Transform]) -> None:
        if not transforms:
            raise UserError("Compose needs one or more transforms")
        if any(isinstance(one, CrossContextCrop) for one in transforms[:-1]):
            raise UserError("a CrossContextCrop is the last of composed transforms: none other knows windows")
        self.transforms = transforms

    @property
    def output_size(self) -> tuple[int, int] | None:
        """See `Transform.output_size`."""
        for transform in reversed(self.transforms):
            if transform.output_size is not None or not isinstance(transform, SameSize):
                return transform.output_size
        return None

    def pixels_needed(self, height: int, width: int, rng: np.random.Generator) -> int | None:
        """See `Transform.pixels_needed`: what the first one needs."""
        return self.transforms[0].pixels_needed(height, width, rng)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """What the last one makes of it."""
        for transform in self.transforms:
            sample = transform(sample, rng)
        return sample


class KBCrop(SizedTransform):
    """KITTI's benchmark crop: 352 x 1216 pixels at the bottom and in the middle of the image.

    An image that is smaller is a bad sample.
    """

    def __init__(self) -> None:
        self.size = KB_CROP

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """The crop."""
        return replace(kb_cropped(sample), decoded_from=None)


class RandomFlip(SameSize):
    """The mirrored sample with a probability.

    Args:
        probability: of mirroring.
    """

    def __init__(self, probability: float = 0.5) -> None:
        self.probability = checked_probability(probability)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """The sample, mirrored or as it is."""
        return flipped(sample, rng.random() < self.probability)


class RandomRotation(SameSize):
    """The sample rotated around the image's center; the corners that become free are black, and not valid.

    The image is interpolated bilinearly, depth and mask take the nearest pixel, as BTS's and ZoeDepth's code
    does. Depth stays what it was, for the camera rolls around its axis.

    Args:
        degrees: the largest angle, either way; each is as likely.

    Raises:
        UserError: it is not 0 to 180.
    """

    def __init__(self, degrees: float = 1.0) -> None:
        if not 0 <= degrees <= 180:
            raise UserError(f"a RandomRotation's degrees must be from 0 to 180, not {degrees}")
        self.degrees = degrees

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """The rotated sample."""
        return rotated(sample, float(rng.uniform(-self.degrees, self.degrees)))


def rotated(sample: Sample, degrees: float) -> Sample:
    """The sample rotated counterclockwise around its center; the camera's focal lengths must be alike."""
    mask = sample.mask
    if mask is None and sample.depth is not None:  # the free corners are not valid
        mask = np.isfinite(sample.depth)
    mask = None if mask is None else _turned(mask.view(np.uint8), degrees).view(np.bool_)
    return replace(
        sample,
        image=_turned(sample.image, degrees, Image.Resampling.BILINEAR),
        depth=None if sample.depth is None else _turned(sample.depth, degrees),
        mask=mask,
        sparse=None if sample.sparse is None else _turned(sample.sparse, degrees),
        intrinsics=None if sample.intrinsics is None else _rolled(sample.intrinsics, sample.image, degrees),
    )


def _turned(array: Any, degrees: float, resampling: Image.Resampling = Image.Resampling.NEAREST) -> Any:
    return np.array(Image.fromarray(np.ascontiguousarray(array)).rotate(degrees, resampling))


def _rolled(intrinsics: Any, image: Any, degrees: float) -> Any:
    """The camera whose principal point has turned with the image."""
    center = np.array([image.shape[1] - 1, image.shape[0] - 1]) / 2
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    turn = np.array([[cosine, sine], [-sine, cosine]])  # rows grow downwards
    camera = intrinsics.copy()
    camera[:2, 2] = turn @ (camera[:2, 2] - center) + center
    return camera
