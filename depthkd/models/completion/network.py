"""The completion network: a small encoder-decoder over image, aligned depth and points."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from depthkd.errors import UserError

Channels = Float[Tensor, "batch channels height width"]
Maps = Float[Tensor, "batch maps height width"]
GROUP = 8  # channels that are normalized together
FOLD = 2  # pixels to a side that become channels


def block(channels: int, width: int, stride: int = 1) -> nn.Sequential:
    """Two convolutions of 3 x 3, each normalized in groups of channels: no batch is needed for it."""
    layers: list[nn.Module] = []
    for before, step in ((channels, stride), (width, 1)):
        layers += [
            nn.Conv2d(before, width, 3, step, padding=1, bias=False),
            nn.GroupNorm(width // GROUP, width),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


class EncoderDecoder(nn.Module):
    """A U-Net of levels that halve the sides; its outputs are maps, 0 everywhere before training.

    Its finest level has half of the image's sides: four pixels become four times the channels on the way in,
    and four channels become four pixels on the way out, so that nothing is averaged.

    Args:
        channels: of the input.
        maps: of the output.
        widths: channels of each level, the finest first; multiples of 8.

    Raises:
        UserError: a width is not.
    """

    def __init__(self, channels: int, maps: int, widths: Sequence[int]) -> None:
        super().__init__()
        if not widths or any(width < GROUP or width % GROUP for width in widths):
            raise UserError(f"widths would be multiples of {GROUP}, not {list(widths)}")
        before = [channels * FOLD**2, *widths[:-1]]
        self.down = nn.ModuleList(
            block(inner, width, 1 if level == 0 else 2)
            for level, (inner, width) in enumerate(zip(before, widths, strict=True))
        )
        self.up = nn.ModuleList(block(fine + coarse, fine) for fine, coarse in pairwise(widths))
        self.head = nn.Conv2d(widths[0], maps * FOLD**2, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(self, inputs: Channels) -> Maps:
        """Maps of the input's size."""
        height, width = inputs.shape[-2:]
        even = F.pad(inputs, (0, -width % FOLD, 0, -height % FOLD), mode="replicate")
        levels = [F.pixel_unshuffle(even, FOLD)]
        for down in self.down:
            levels.append(down(levels[-1]))
        hidden = levels.pop()
        for up, skip in zip(reversed(self.up), reversed(levels[1:]), strict=True):
            size = skip.shape[-2:]
            larger = F.interpolate(hidden, size, mode="bilinear", align_corners=False)
            hidden = up(torch.cat([skip, larger], 1))
        maps = F.pixel_shuffle(self.head(hidden), FOLD)
        return maps[..., :height, :width]
