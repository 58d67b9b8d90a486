"""Perturbations of the student's input, batched, on the device: of colors, and CutMix.

Strong ones: Depth Anything V1, section 3.2, perturbs unlabelled images so; V2's author found it unnecessary
for small students of a strong teacher, so every method has it off unless asked. Weak ones are those of metric
fine-tuning.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from depthkd.errors import UserError
from depthkd.shapes import Image, Mask, PerImage

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


@dataclass(frozen=True)
class Mixture:
    """What CutMix drew for a batch.

    Attributes:
        partner: of each image, the number of the one that its rectangle is cut from.
        inside: the rectangle; nowhere true in an image that is not mixed.
    """

    partner: Int[Tensor, " batch"]
    inside: Mask

    def mixed(self, image: Image) -> Image:
        """u_ab: each image, with its partner's pixels inside the rectangle."""
        return torch.where(self.inside[:, None], image[self.partner], image)


class CutMix:
    """Cuts a rectangle of one image into another (Depth Anything V1, section 3.2).

    The images at the stream's positions 2j and 2j + 1 are each other's partners; whether one is mixed, and
    its rectangle, are drawn from its own position alone. So neither workers nor resuming change anything,
    and nor does the number of ranks as long as each takes an even number of a source's images in every batch:
    where it is odd, an image whose partner is on another rank, or in another batch, stays as it is.

    The paper gives the probability; how rectangles are drawn is that of its first author's earlier UniMatch.

    Args:
        probability: that an image is mixed.
        smallest: the rectangle's smallest part of the image's area.
        largest: its largest part.
        aspect: smallest ratio of its sides, 0 to 1; the largest is the inverse.

    Raises:
        UserError: one is out of its range.
    """

    def __init__(
        self, probability: float = 0.5, smallest: float = 0.02, largest: float = 0.4, aspect: float = 0.3
    ) -> None:
        if not 0.0 <= probability <= 1.0:
            raise UserError(f"CutMix's probability must be from 0 to 1, not {probability}")
        if not 0.0 < smallest <= largest <= 1.0:
            raise UserError(
                "CutMix's smallest and largest are parts of an image's area, above 0 and up to 1, in this "
                f"order, not {smallest} and {largest}"
            )
        if not 0.0 < aspect <= 1.0:
            raise UserError(f"CutMix's aspect is the smallest ratio of two sides, 0 to 1, not {aspect}")
        self.probability = probability
        self.smallest = smallest
        self.largest = largest
        self.aspect = aspect

    def __call__(
        self,
        size: tuple[int, int],
        positions: Sequence[int],
        seed: Sequence[int],
        device: torch.device | str = "cpu",
    ) -> Mixture:
        """Draw partners and rectangles.

        Args:
            size: height and width of the images.
            positions: of the images in their source's stream.
            seed: of the draws, besides the position.
            device: of what is returned.
        """
        places = {position: i for i, position in enumerate(positions)}
        partner = [places.get(position ^ 1, i) for i, position in enumerate(positions)]
        inside = np.zeros((len(positions), *size), dtype=np.bool_)
        for i, position in enumerate(positions):
            rng = np.random.default_rng([*seed, position, 0x72])
            if rng.random() < self.probability and partner[i] != i:
                inside[i][self._rectangle(size, rng)] = True
        to = torch.from_numpy
        return Mixture(torch.tensor(partner, device=device), to(inside).to(device, non_blocking=True))

    def _rectangle(self, size: tuple[int, int], rng: np.random.Generator) -> tuple[slice, slice]:
        """Rows and columns of a rectangle that lies in the image."""
        area = rng.uniform(self.smallest, self.largest) * size[0] * size[1]
        ratio = rng.uniform(self.aspect, 1 / self.aspect)
        sides = [
            int(np.clip(np.sqrt(s), 1, most))
            for s, most in zip((area * ratio, area / ratio), size, strict=True)
        ]
        first = [
            int(rng.integers(most - side, endpoint=True)) for side, most in zip(sides, size, strict=True)
        ]
        rows, columns = (slice(start, start + side) for start, side in zip(first, sides, strict=True))
        return rows, columns


class GammaBrightnessColor:
    """Gamma, brightness and color augmentation, of each image on its own or not at all.

    ZoeDepth's (arXiv 2302.12288), from BTS: image^gamma times a brightness and a factor a channel, each
    uniform around 1, clipped to [0, 1].

    Args:
        gamma: largest change of gamma from 1.
        brightness: largest change of the brightness from 1: .25 on NYUv2, .1 on KITTI.
        color: largest change of each channel's factor from 1.
        probability: with which an image is changed.

    Raises:
        UserError: a change is not 0 to less than 1, or the probability is not 0 to 1.
    """

    def __init__(
        self, gamma: float = 0.1, brightness: float = 0.1, color: float = 0.1, probability: float = 0.5
    ) -> None:
        for name, value in (("gamma", gamma), ("brightness", brightness), ("color", color)):
            if not 0 <= value < 1:
                raise UserError(f"a perturbation's {name} must be 0 to less than 1, not {value}")
        if not 0 <= probability <= 1:
            raise UserError(f"a perturbation's probability must be from 0 to 1, not {probability}")
        self.gamma = gamma
        self.brightness = brightness
        self.color = color
        self.probability = probability

    def __call__(self, image: Image, seeds: Sequence[Sequence[int]]) -> Image:
        """RGB in [0, 1] -> RGB in [0, 1]; image i depends on `seeds[i]` alone."""
        generators = [np.random.default_rng([*seed, 0x72]) for seed in seeds]
        changed = torch.tensor([bool(g.random() < self.probability) for g in generators])
        draws = np.stack([g.uniform(-1, 1, 5) for g in generators])
        drawn = torch.from_numpy(draws).to(image.device, image.dtype)
        gamma, brightness = 1 + self.gamma * drawn[:, 0], 1 + self.brightness * drawn[:, 1]
        color = 1 + self.color * drawn[:, 2:, None, None]
        other = image.pow(per_image(gamma)) * per_image(brightness) * color
        return torch.where(changed.to(image.device)[:, None, None, None], other.clamp(0.0, 1.0), image)


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
