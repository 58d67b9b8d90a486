"""The crops that papers score KITTI and NYUv2 in."""

from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool
from PIL import Image

from depthkd.formats.sample import BadSample, Sample
from depthkd.geometry import crop_intrinsics, resize_intrinsics

Crop = Literal["eigen", "garg", "none"]

NYU_EIGEN = np.s_[45:471, 41:601]  # of 480 x 640; outside it Kinect's depth was never projected
NLSPN_CROP = (228, 304)  # height, width: the middle of NYUv2 at half of its size
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
    return cropped(sample, top, left, *KB_CROP)


def cropped(sample: Sample, top: int, left: int, height: int, width: int) -> Sample:
    """Image, truth and sparse depth (where there are any) and camera cut to a part of the image."""
    area = np.s_[top : top + height, left : left + width]
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


def nlspn_sized(sample: Sample, filled: bool) -> Sample:
    """NYUv2's 480 x 640 as NLSPN's evaluation has it, and most papers on depth completion after it: at half
    of the size, the middle 228 x 304.

    Image and depth are shrunk by Pillow's bilinear filter, as NLSPN shrinks its filled depth. Of depth with
    holes, which that would mix with zeros, every second row and column is taken.

    Args:
        sample: whole.
        filled: whether its depth has no holes.

    Raises:
        BadSample: the image is smaller than what is cut out.
    """
    height, width = (side // 2 for side in sample.image.shape[:2])
    top, left = (height - NLSPN_CROP[0]) // 2, (width - NLSPN_CROP[1]) // 2
    if min(top, left) < 0:
        raise BadSample(f"{sample.key} is {2 * height} x {2 * width}, smaller than twice {NLSPN_CROP}")
    assert sample.depth is not None and sample.mask is not None
    image = np.asarray(Image.fromarray(sample.image).resize((width, height), Image.Resampling.BILINEAR))
    mask = sample.mask[1::2, 1::2]
    depth = sample.depth[1::2, 1::2]
    if filled:
        depth = np.array(Image.fromarray(sample.depth).resize((width, height), Image.Resampling.BILINEAR))
    camera = sample.intrinsics
    if camera is not None:
        camera = resize_intrinsics(torch.from_numpy(camera), 0.5, 0.5).numpy()
    half = replace(sample, image=image, depth=depth, mask=mask & (depth > 0), intrinsics=camera)
    return cropped(half, top, left, *NLSPN_CROP)


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
