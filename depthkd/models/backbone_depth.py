"""BackboneDepth: what networks share that put a head of their own on a backbone of elsewhere."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from depthkd.models.dpt.dpt import keep_precise
from depthkd.models.own_folder import OwnFolder
from depthkd.shapes import Image


class BackboneDepth(OwnFolder):
    """A backbone of elsewhere under a head of ours, saved as a folder that depthkd alone loads.

    The head computes in float32, whatever the rest runs in: its values overflow float16. A subclass sets what
    is declared here.
    """

    keeps_head_fp32 = True
    backbone: Any
    head: Any
    backbone_name: str
    built_by: dict[str, Any]  # those arguments, without those that say where the weights came from
    frozen_statistics: bool  # whether the backbone's batch normalization keeps its means and variances
    _feature_channels: int

    def normalized(self, image: Image, channels_last: bool) -> Tensor:
        """The image as the backbone takes it, in its precision.

        Args:
            image: RGB in [0, 1].
            channels_last: whether in that order in memory, which convolutions follow, and take a fifth less
                time in.
        """
        mean, std = (image.new_tensor(v).view(3, 1, 1) for v in (self.mean, self.std))
        normalized = ((image - mean) / std).to(next(self.backbone.parameters()).dtype)
        if not channels_last or breaks_channels_last(self.backbone):
            return normalized
        return normalized.contiguous(memory_format=torch.channels_last)

    @property
    def feature_channels(self) -> int:
        """The width of the last map; a plain transformer's has passed its final norm."""
        return self._feature_channels

    @property
    def feature_family(self) -> str:
        """The backbone's name; "dinov2" of those that are transformers' DINOv2 too."""
        name = self.backbone_name
        return "dinov2" if "dinov2" in name and "_reg" not in name else name

    def train(self, mode: bool = True) -> "BackboneDepth":
        """See `nn.Module.train`; frozen statistics stay what they are."""
        super().train(mode)
        if self.frozen_statistics:
            for module in self.backbone.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        """The backbone's."""
        parameters: Iterator[nn.Parameter] = self.backbone.parameters()
        return parameters

    def arguments_saved(self) -> dict[str, Any]:
        """See `OwnFolder`."""
        return {**self.built_by, "frozen_statistics": self.frozen_statistics}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        cast_all: Callable[..., object] = super()._apply
        cast_all(fn, recurse)
        keep_precise(self.head)
        return self


def breaks_channels_last(network: nn.Module) -> bool:
    """Whether a network has a convolution whose gradient torch gets wrong in the order of channels last.

    On CPUs, that of a convolution of one pixel, with a stride and fewer than 16 channels, writes past its
    memory (torch 2.15): FastViT, MobileOne and RepVGG begin with one.
    """
    convolutions = (m for m in network.modules() if isinstance(m, nn.Conv2d))
    return any(c.kernel_size == (1, 1) and c.stride != (1, 1) and c.in_channels < 16 for c in convolutions)
