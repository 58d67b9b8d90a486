"""The crops that papers score KITTI and NYUv2 in."""

from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool

from depthkd.formats.sample import BadSample, Sample
from depthkd.geometry import crop_intrinsics

Crop = Literal["eigen", "garg", "none"]

NYU_EIGEN = np.s_[45:471, 41:601]  # of 480 x 640; outside it Kinect's depth was never projected
KB_CROP = (352, 1216)  # height, width: bottom and center, of image and truth
CROPS: dict[Crop, tuple[float, float, float, float]] = {  # rows and columns that are scored, as fractions
    "eigen": (0.3324324, 0.91351351, 0.0359477, 0.96405229),
    "garg": (0.40810811, 0.99189189, 0.03594771, 0.96405229),
}


def kb_cropped(sample: Sample) -> Sample:
    """Image, truth and sparse depth (where there are any) and camera cut to KITTI's benchmark crop.

    Raises:
        BadSample: the image is smaller.
    """
    height, width = sample.image.shape[:2]
    top, left = height - KB_CROP[0], (width - KB_CROP[1]) // 2
    if top < 0 or left < 0:
        raise BadSample(
            f"{sample.key} is {height} x {width}, smaller than the crop, {KB_CROP[0]} x {KB_CROP[1]}"
        )
    area = np.s_[top : top + KB_CROP[0], left : left + KB_CROP[1]]
    camera = sample.intrinsics
    if camera is not None:
        camera = crop_intrinsics(torch.from_numpy(camera), top, left).numpy()
    return replace(
        sample,
        image=sample.image[area],
        depth=None if sample.depth is None else sample.depth[area],
        mask=None if sample.mask is None else sample.mask[area],
        sparse=None if sample.sparse is None else sample.sparse[area],
        intrinsics=camera,
    )


def scored_crop(size: tuple[int, ...], crop: Crop) -> Bool[np.ndarray, "height width"]:
    """Where a crop of `CROPS` lets pixels count; everywhere for "none"."""
    height, width = size
    mask = np.full(size, crop == "none")
    if crop != "none":
        top, bottom, left, right = CROPS[crop]
        mask[int(top * height) : int(bottom * height), int(left * width) : int(right * width)] = True
    return mask


def masked(sample: Sample, scored: Bool[np.ndarray, "height width"]) -> Sample:
    """The sample, of which only these pixels count."""
    assert sample.mask is not None
    return replace(sample, mask=sample.mask & scored)
