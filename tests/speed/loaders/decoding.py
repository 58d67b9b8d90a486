"""JPEG bytes -> a random crop: as most do it, and as depthkd does."""

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from depthkd.data.transforms import SquareCrop
from depthkd.formats.images import decode_image, image_size
from depthkd.formats.sample import Sample

CROP = SquareCrop(560, 644, flip=0.0)


def decode_usual(data: bytes) -> Tensor:
    """A random square of 644 to 1500 pixels at 560, by Pillow and torchvision."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    side = int(torch.randint(644, 1501, ()))
    square = v2.RandomCrop(side)(v2.functional.to_image(image))
    resized: Tensor = v2.functional.resize(square, [560, 560], antialias=True)
    return resized


def decode_ours(data: bytes) -> Tensor:
    """The same, as a ShardSource does it with `shorter_side_at_least: auto`."""
    seed = int(torch.randint(2**31, ()))
    height, width = image_size(data, "photo")
    needed = CROP.pixels_needed(height, width, np.random.default_rng(seed))
    image = decode_image(data, "photo", shorter_side_at_least=needed)
    sample = Sample("photo", image, None, None, None, None, decoded_from=(height, width))
    cut = CROP(sample, np.random.default_rng(seed)).image
    return torch.from_numpy(np.require(cut, requirements="W")).permute(2, 0, 1)
