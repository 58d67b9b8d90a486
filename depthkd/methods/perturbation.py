"""Strong color perturbations of the student's input: color jitter, blur and noise, batched, on the device.

Depth Anything V1, section 3.2, perturbs unlabelled images so; V2's author found it unnecessary for
small students of a strong teacher, so every method has it off unless asked.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from depthkd.errors import UserError
from depthkd.shapes import Image, PerImage

LUMINANCE = (0.299, 0.587, 0.114)


class ColorPerturbation:
    """Draws, for each image on its own, gain, contrast, saturation, tint, gamma, blur and noise.

    Args:
        jitter: largest relative change of gain, contrast, saturation and each channel's tint.
        blur: largest standard deviation of the Gaussian blur, in pixels.
        noise: largest standard deviation of the Gaussian noise, of values in [0, 1].
    """

    def __init__(self, jitter: float = 0.5, blur: float = 2.0, noise: float = 0.0) -> None:
        for name, value in (("jitter", jitter), ("blur", blur), ("noise", noise)):
            if value < 0:
                raise UserError(f"a perturbation's {name} must be 0 or more, not {value}")
        if jitter >= 1:
            raise UserError(f"a perturbation's jitter is relative and must be below 1, not {jitter}")
        self.jitter = jitter
        self.blur = blur
        self.noise = noise

    def __call__(self, image: Image, seeds: Sequence[Sequence[int]]) -> Image:
        """RGB in [0, 1] -> RGB in [0, 1]; image i depends on `seeds[i]` alone."""
        draws = np.stack([np.random.default_rng([*seed, 0x70]).uniform(-1, 1, 9) for seed in seeds])
        drawn = torch.from_numpy(draws).to(image.device, image.dtype)
        factor = torch.exp2(drawn[:, :6] * np.log2(1 + self.jitter))
        image = image.clamp(min=1e-4).pow(per_image(factor[:, 0]))  # gamma
        image = image * factor[:, 1:4, None, None]  # gain and tint
        image = stretch(image, image.mean((1, 2, 3), keepdim=True), factor[:, 4])
        image = stretch(image, luminance(image), factor[:, 5])
        if self.blur > 0:
            image = gaussian_blur(image, (drawn[:, 6] * 0.5 + 0.5) * self.blur, self.blur)
        if self.noise > 0:
            deviation = (drawn[:, 7] * 0.5 + 0.5) * self.noise
            image = image + per_image(deviation) * white_noise(image, seeds)
        return image.clamp(0.0, 1.0)


def per_image(values: PerImage) -> Float[Tensor, "batch 1 1 1"]:
    """One value an image, shaped for broadcasting."""
    return values[:, None, None, None]


def luminance(image: Image) -> Float[Tensor, "batch 1 height width"]:
    """ITU-R BT.601."""
    weights = torch.tensor(LUMINANCE, device=image.device, dtype=image.dtype)
    return (image * weights[:, None, None]).sum(1, keepdim=True)


def stretch(image: Image, middle: Tensor, factor: PerImage) -> Image:
    """Move away from `middle` by a factor: contrast (its mean) or saturation (its luminance)."""
    return middle + (image - middle) * per_image(factor)


def gaussian_blur(image: Image, deviation: PerImage, largest: float) -> Image:
    """Each image with a Gaussian of its own standard deviation, in pixels, up to `largest`; edges are
    replicated."""
    batch, channels, height, width = image.shape
    radius = max(1, int(np.ceil(3 * largest)))
    offsets = torch.arange(-radius, radius + 1, device=image.device, dtype=image.dtype)
    kernel = torch.exp(-0.5 * (offsets / deviation.clamp(min=1e-2)[:, None]) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(channels, 0)
    flat = F.pad(image.reshape(1, batch * channels, height, width), [radius] * 4, mode="replicate")
    flat = F.conv2d(flat, kernel[:, None, :, None], groups=batch * channels)
    flat = F.conv2d(flat, kernel[:, None, None, :], groups=batch * channels)
    return flat.view(batch, channels, height, width)


def white_noise(image: Image, seeds: Sequence[Sequence[int]]) -> Image:
    """Standard normal noise, drawn for each image from its own seed."""
    noise = [
        np.random.default_rng([*seed, 0x71]).standard_normal(image.shape[1:], dtype=np.float32)
        for seed in seeds
    ]
    return torch.from_numpy(np.stack(noise)).to(image.device, image.dtype)
