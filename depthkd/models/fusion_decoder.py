"""The decoder that LeReS fuses the maps of an encoder with (Yin et al., arXiv 2012.09365)."""

import math
from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

STD, WIDTH = 0.01, 256  # deviation of all weights as they begin, and most layers' width, in LeReS

Maps = Float[Tensor, "batch channels height width"]
Skipped = Float[Tensor, "batch encoder_channels height width"]
Outside = Float[Tensor, "batch outside height width"]


class FeatureTransfer(nn.Module):
    """FTB: a convolution to another width, then a residual block: x + conv(relu(bn(conv(relu(x))))), relu."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.conv = _convolution(inside, outside)
        self.branch = nn.Sequential(
            nn.ReLU(),
            _convolution(outside, outside),
            nn.BatchNorm2d(outside),
            nn.ReLU(),
            _convolution(outside, outside),
        )

    def forward(self, x: Maps) -> Outside:
        """Maps of the input's size."""
        x = self.conv(x)
        return F.relu(x + self.branch(x))


class FeatureFusion(nn.Module):
    """FFM: up(FTB(FTB(skip) + coarse)); without a skip, up(FTB(coarse)).

    Args:
        skip: channels of the encoder's map; None: there is none.
        middle: channels of what comes from the coarser side.
        outside: channels of the result.
    """

    def __init__(self, skip: int | None, middle: int, outside: int) -> None:
        super().__init__()
        self.transfer = None if skip is None else FeatureTransfer(skip, middle)
        self.refine = FeatureTransfer(middle, outside)

    def forward(self, skip: Skipped | None, coarse: Maps) -> Tensor:
        """Maps of twice the size."""
        if self.transfer is not None:
            coarse = self.transfer(skip) + coarse
        return doubled(self.refine(coarse))


class AdaptiveOutput(nn.Module):
    """AO: up(conv(relu(bn(conv(x))))), one channel, at `factor` times the size."""

    def __init__(self, inside: int, factor: int = 2) -> None:
        super().__init__()
        hidden = max(1, inside // 2)
        self.convs = nn.Sequential(
            _convolution(inside, hidden),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            _convolution(hidden, 1, WIDTH // 2),
        )
        self.factor = factor

    def forward(self, x: Maps) -> Float[Tensor, "batch 1 new_height new_width"]:
        """One value a pixel, of any sign."""
        return doubled(self.convs(x), self.factor)


class FusionDecoder(nn.Module):
    """LeReS's decoder (its network_auxi.py) without the last part, the `AdaptiveOutput`.

    It makes, of four maps, each of half the size of the one before, one of twice the first one's size.

    Args:
        channels: of the encoder's maps, the finest first; None in the first place: that map is not used.
        widths: channels of the decoder at the same four sizes. LeReS has 256, 256, 256 and 512.
    """

    def __init__(self, channels: Sequence[int | None], widths: Sequence[int]) -> None:
        super().__init__()
        *finer, coarsest = channels
        assert coarsest is not None and len(channels) == len(widths)
        self.top = nn.Sequential(FeatureTransfer(coarsest, widths[-1]), _convolution(widths[-1], widths[-2]))
        after = [widths[0], *widths[:-2]]  # what each fusion hands on to the finer one
        self.fusions = nn.ModuleList(
            FeatureFusion(*sizes) for sizes in zip(finer, widths[:-1], after, strict=True)
        )

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """The encoder's maps, the finest first -> `widths[0]` channels at twice the finest one's size."""
        x = doubled(self.top(maps[-1]))
        for fusion, skip in list(zip(self.fusions, maps, strict=False))[::-1]:
            x = fusion(skip, x)
        return x


def doubled(maps: Maps, factor: int = 2) -> Tensor:
    """Maps at twice the size, or `factor` times: bilinear, with aligned corners."""
    return F.interpolate(maps, scale_factor=float(factor), mode="bilinear", align_corners=True)


def _convolution(inside: int, outside: int, width: int = WIDTH) -> nn.Conv2d:
    """Of 3x3 pixels; normal weights, and a bias of 0.

    Their deviation is LeReS's 0.01; with fewer channels it is larger by the root of the ratio, so
    that sums over the channels are as large as there. Maps would shrink to nothing on their way otherwise.

    Args:
        inside, outside: channels.
        width: how many LeReS's layer takes.
    """
    convolution = nn.Conv2d(inside, outside, 3, padding=1)
    nn.init.normal_(convolution.weight, std=STD * max(1.0, math.sqrt(width / inside)))
    assert convolution.bias is not None
    nn.init.zeros_(convolution.bias)
    return convolution
