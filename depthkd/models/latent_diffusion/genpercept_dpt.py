"""GenPercept with DPT's head: depth from the UNet's maps, not from its latent."""

import re
from collections.abc import Callable, Sequence
from pathlib import PurePath
from typing import Any

import torch
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn
from transformers import DPTConfig
from transformers.models.dpt.modeling_dpt import DPTDepthEstimationHead, DPTNeck

from depthkd.batch import DepthSpace
from depthkd.errors import UserError
from depthkd.models.dpt.dpt import keep_precise
from depthkd.models.hub import locate, read_license
from depthkd.models.latent_diffusion.diffusion import space_by_name
from depthkd.models.latent_diffusion.latent import Latent, UNetDepth
from depthkd.models.latent_diffusion.latent_files import (
    STABLE_DIFFUSION,
    empty_text,
    inside,
    load_autoencoder,
    load_unet,
)
from depthkd.models.model import DepthOutput, RawPrediction
from depthkd.models.provenance import stated_or_known
from depthkd.models.weights import read_weights
from depthkd.shapes import Image

HEAD = "model.safetensors"
FUSION = 256  # channels of the published head's maps
SAYS_ITS_WIDTH = "neck.convs.0.weight"
UNNEEDED = ("conv_norm_out.", "conv_out.")  # the UNet's way back to a latent
HEADLESS = re.compile(r"unet_(?!.*dpt_head)\w+_v\d")  # what the authors call their other UNets


class GenPerceptDPT(UNetDepth):
    """GenPercept (Xu et al., arXiv 2403.06090) with DPT's head instead of the autoencoder's decoder.

    One pass at t = 1 over the image's latent, no noise; the head reads what each of the UNet's up
    blocks gives. Its map, which has no fixed range, is brought to [0, 1] image by image; a constant one
    is 0 (aim-uofa/GenPercept: genpercept/genpercept_pipeline.py and models/). UNet and neck run in the
    ambient precision, the output head in float32.

    Args:
        source: hub id or folder with UNet and head.
        unet: the UNet's folder in there; "unet" in what the authors' trainer writes, "." for the source
            itself. Where it has no config.json, Stable Diffusion's is taken.
        head: the folder in there with the head's model.safetensors.
        base, text, longest, space, license, revision, training_sets: see `GenPercept`.

    Raises:
        MissingFileError: there is no such folder or hub repository, or the hub cannot be reached.
        UserError: it holds another model, or the weights are pickled, incomplete or do not fit.
    """

    def __init__(
        self,
        source: str = "guangkaixu/genpercept-models",
        unet: str = "unet_disparity_dpt_head_v2",
        head: str = "dpt_head_identity",
        base: str = STABLE_DIFFUSION,
        text: str | None = None,
        longest: int | None = 768,
        space: str | None = None,
        license: str | None = None,
        revision: str | None = None,
        training_sets: list[str] | None = None,
    ) -> None:
        if HEADLESS.fullmatch(unet):
            raise UserError(f"'{unet}' is GenPercept without a DPT head: take depthkd.models.GenPercept")
        meaning = DepthSpace.parse(space) if space else space_by_name(f"{PurePath(source).name}/{unet}")
        network = load_unet(source, unet, (4,), revision, base, UNNEEDED)
        network.conv_norm_out, network.conv_out = None, nn.Identity()
        dpt = load_head(source, head, network.config.block_out_channels, revision)
        embedding = empty_text(base, network.config.cross_attention_dim, text)
        vae = load_autoencoder(base)
        vae.decoder = vae.post_quant_conv = None
        super().__init__(network, vae, embedding, longest)
        self.dpt = dpt
        self.space = meaning
        self.source = f"{source}/{unet}"
        self.license = license or read_license(source, revision)
        self.training_sets = stated_or_known(training_sets, source)

    def forward(self, image: Image) -> DepthOutput:
        """RGB in [0, 1] -> depth in `self.space`, in [0, 1].

        With `longest` it is of the image's size, without it of the rounded size.
        """
        height, width = image.shape[-2:]
        size = (height, width) if self.chooses_size else self.rounded(height, width)
        return DepthOutput(self.resize_to(self.predict_raw(image), size))

    def predict_raw(self, image: Image) -> RawPrediction:
        """Depth in [0, 1], float32, at 32 times the size of the UNet's coarsest map.

        That is the size at which it runs where that is a multiple of 32, and above it elsewhere.
        """
        return to_unit_range(self.dpt(self.maps(self.encode(self.fit_input(image.float())))))

    def maps(self, rgb: Latent) -> list[Tensor]:
        """What the UNet's up blocks give, [batch, channels, height, width] each, finest first.

        Of Stable Diffusion's, with 320, 640, 1280 and 1280 channels: the first two are of the latent's
        size, the others of its half and quarter.
        """
        inputs: list[Tensor] = []
        hooks = [b.register_forward_hook(lambda _, __, out: inputs.append(out)) for b in self.unet.up_blocks]
        try:
            self.denoise(rgb, 1)
        finally:
            for hook in hooks:
                hook.remove()
        return inputs[::-1]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "GenPerceptDPT":
        cast_all: Callable[..., object] = super()._apply
        cast_all(fn, recurse)
        keep_precise(self.dpt.head)
        return self


class UNetDPT(nn.Module):
    """DPT's neck and head (Ranftl et al., arXiv 2103.13413) over a UNet's maps, named as GenPercept's.

    They are transformers', but for this: the maps need no reassembling, the finest is first made twice
    as large, and no ReLU ends the head.

    Args:
        channels: of the maps, finest first.
        fusion: channels of the neck's maps.
    """

    def __init__(self, channels: Sequence[int], fusion: int = FUSION) -> None:
        super().__init__()
        make_config: Any = DPTConfig
        make_neck: Any = DPTNeck
        make_head: Any = DPTDepthEstimationHead
        config = make_config(
            neck_hidden_sizes=list(channels),
            fusion_hidden_size=fusion,
            use_batch_norm_in_fusion_residual=False,
            use_bias_in_fusion_residual=False,
        )
        self.feature_upsample_0 = Upsample2D(channels[0], use_conv=True)
        self.neck = make_neck(config)
        self.neck.reassemble_stage = None
        del self.neck.fusion_stage.layers[0].residual_layer1
        self.head = make_head(config)
        self.head.projection = nn.Conv2d(fusion, fusion, 3, padding=1)
        self.head.head[-1] = nn.Identity()

    def forward(self, maps: list[Tensor]) -> RawPrediction:
        """Maps, finest first -> one of any range, float32, at least eight times as large as the finest."""
        finest, *coarser = maps
        fused = self.neck([self.feature_upsample_0(finest), *coarser])[-1]
        with torch.autocast(fused.device.type, enabled=False):
            depth: Tensor = self.head([fused.to(self.head.projection.weight.dtype)])
        return depth


def load_head(source: str, folder: str, channels: Sequence[int], revision: str | None = None) -> UNetDPT:
    """GenPercept's DPT head in a folder of a hub id or folder; float32, complete, from safetensors.

    Args:
        source: hub id or folder.
        folder: in it, with model.safetensors.
        channels: of the UNet's maps, finest first.
        revision: of the source.

    Raises:
        MissingFileError: there is none, or the hub cannot be reached.
        UserError: its weights are incomplete, or another head's or UNet's.
    """
    path = str(locate(source, inside(folder, HEAD), revision))
    tensors = {name: tensor.float() for name, tensor in read_weights(path).items()}
    width = tensors[SAYS_ITS_WIDTH].shape[:1] if SAYS_ITS_WIDTH in tensors else ()
    with torch.device("meta"):
        head = UNetDPT(channels, *width)
    check(path, tensors, head.state_dict())
    head.load_state_dict(tensors, assign=True)
    return head.eval()


def check(path: str, tensors: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Refuse a head's file unless it holds just what is expected.

    Raises:
        UserError: tensors lack, are too many, or have other shapes.
    """
    lacking, unknown = sorted(expected.keys() - tensors), sorted(tensors.keys() - expected)
    if lacking:
        raise UserError(
            f"'{path}' lacks {len(lacking)} tensors of GenPercept's DPT head, '{lacking[0]}' among them"
        )
    if unknown:
        raise UserError(
            f"'{path}' is of another network: {len(unknown)} tensors have no place in GenPercept's DPT "
            f"head, '{unknown[0]}' among them"
        )
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise UserError(
                f"'{path}' does not fit the UNet: '{name}' is {list(tensor.shape)}, and would be "
                f"{list(expected[name].shape)}"
            )


def to_unit_range(depth: RawPrediction) -> RawPrediction:
    """Each map by its own minimum and maximum to [0, 1]; a constant map becomes 0."""
    lowest, highest = depth.amin((1, 2), keepdim=True), depth.amax((1, 2), keepdim=True)
    extent = highest - lowest
    return (depth - lowest) / torch.where(extent > 0, extent, 1.0)
