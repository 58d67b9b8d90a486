"""An autoencoder that nobody has to train: the low frequencies of 8 x 8 blocks, as JPEG keeps them."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from depthkd.errors import UserError

Pictures = Float[Tensor, "batch 3 height width"]
Latents = Float[Tensor, "batch channels latent_height latent_width"]

# Orthonormal: brightness, red against blue, green against both.
COLORS = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 2.0, -1.0]])


def cosines(block: int, keep: int) -> Float[Tensor, "{keep} {block}"]:
    """The first rows of the orthonormal discrete cosine transform (DCT-II) of `block` values."""
    frequency, place = torch.arange(keep)[:, None], torch.arange(block)[None]
    rows = torch.cos(math.pi * frequency * (2 * place + 1) / (2 * block)) * math.sqrt(2 / block)
    rows[0] /= math.sqrt(2)
    return rows


class TransformCodec(nn.Module):
    """Stands where a latent-diffusion model has its AutoencoderKL, for networks that train in minutes.

    Each block of each color channel becomes its `keep` x `keep` lowest frequencies: of the three
    orthonormal color channels, all of the brightness and a quarter of the other two. Depth is gray, so
    its other two are 0. `encode` and `decode` are each other's transpose and return what diffusers' do.

    Args:
        block: pixels a side of a block; the latent is so many times smaller. A power of 2.
        keep: frequencies a side of the brightness.
        scaling_factor: of the latents; with it, natural images' have about unit variance.
    """

    def __init__(self, block: int = 8, keep: int = 4, scaling_factor: float = 0.25) -> None:
        super().__init__()
        if block < 1 or block & (block - 1) or not 1 <= keep <= block:
            raise UserError(f"block must be a power of 2 and keep at most that, not {block} and {keep}")
        kept = (keep, max(1, keep // 2), max(1, keep // 2))
        patterns = []
        for color, count in zip(COLORS / COLORS.norm(dim=1, keepdim=True), kept, strict=True):
            rows = cosines(block, count)
            waves = torch.einsum("ya,xb->yxab", rows, rows).reshape(-1, block, block)
            patterns.append(color[None, :, None, None] * waves[:, None])
        self.patterns: Tensor
        self.register_buffer("patterns", torch.cat(patterns), persistent=False)
        self.block, self.keep = block, keep
        self.config = SimpleNamespace(
            block_out_channels=(1,) * (int(math.log2(block)) + 1),
            latent_channels=len(self.patterns),
            scaling_factor=scaling_factor,
        )

    def save_config(self, folder: Path) -> None:
        """Write config.json, from which `TransformCodec` is built again: it has no weights."""
        folder.mkdir(parents=True, exist_ok=True)
        config = {"_class_name": type(self).__name__, "latent_channels": self.config.latent_channels}
        arguments = {"block": self.block, "keep": self.keep, "scaling_factor": self.config.scaling_factor}
        (folder / "config.json").write_text(json.dumps({**config, **arguments}, indent=2) + "\n")

    def encode(self, pictures: Pictures) -> SimpleNamespace:
        """Pictures in [-1, 1] -> `.latents`, not scaled."""
        latents: Latents = F.conv2d(pictures, self.patterns, stride=self.block)
        return SimpleNamespace(latents=latents)

    def decode(self, latents: Latents) -> SimpleNamespace:
        """Latents, not scaled -> `.sample`, pictures in about [-1, 1]."""
        return SimpleNamespace(sample=F.conv_transpose2d(latents, self.patterns, stride=self.block))
