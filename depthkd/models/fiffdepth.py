"""FiffDepth's network (Bai and Huang, sections 3.1 and 3.3): Stable Diffusion's UNet, run forward once."""

from typing import Any, Literal

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from jaxtyping import Float
from torch import Tensor

from depthkd.batch import DepthSpace
from depthkd.models.huggingface import read_json, read_licence
from depthkd.models.latent import Latent, LatentDepth
from depthkd.models.latent_files import STABLE_DIFFUSION, empty_text, load_autoencoder, load_unet
from depthkd.models.provenance import stated_or_known
from depthkd.models.transform_codec import TransformCodec

NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}  # Stable Diffusion's
CHANNELS = {"tiny": (64, 128), "mini": (96, 192)}  # of UNets that train on two cores in minutes
TEXT_WIDTH = 8  # of their empty prompt, which they do not hear


class FiffDepth(LatentDepth):
    """d0 = UNet(x0, t = 0), Eq. 1: from the image's latent to the depth map's, without noise or schedule.

    Its authors have published no weights: it is what `FiffDepthFeedForward` trains, from Stable
    Diffusion. The answer is that of t = 0; that of t = -1 (Eq. 4), UNet(d0, t = -1), on request.

    Args:
        source: hub id or folder of Stable Diffusion, with `unet`, `vae`, `scheduler`, `tokenizer` and
            `text_encoder`: 2.1, or another one whose UNet takes 4 channels.
        size: random weights instead of a source. "tiny" and "mini" are small UNets over a
            `TransformCodec`, or over `vae`; "large" is Stable Diffusion 2.1's own make.
        space: what the depth map's latent means; "affine disparity" or "affine depth".
        step: whose answer it gives: 0, or -1 for a look at what it is trained to pass through.
        vae: hub id or folder of another autoencoder than the source's `vae`, large or tiny.
        text: a .npy or .safetensors file with the empty prompt's embedding instead of the text
            encoder; or "zeros".
        longest: the longer side at which it runs, in pixels; where None, the image's own size or
            the resolution that is asked for.
        vae_dtype: in which the frozen autoencoder encodes; it decodes in float32.
        gradient_checkpointing: recompute the UNet's activations in the backward pass.
        licence: of the weights; what their card says where None.
        revision: branch, tag or commit of the source on the hub.
        training_sets: the data sets that the weights have learned from; what is publicly known where None.

    Raises:
        FileNotFoundError: there is no such folder or hub repository, or the hub cannot be reached.
        ValueError: it holds another model, the weights are pickled or do not fit, or `step` or
            `space` is neither of the two.
    """

    def __init__(
        self,
        source: str = STABLE_DIFFUSION,
        size: Literal["tiny", "mini", "large"] | None = None,
        space: str = "affine disparity",
        step: int = 0,
        vae: str | None = None,
        text: str | None = None,
        longest: int | None = None,
        vae_dtype: Literal["float32", "float16", "bfloat16"] = "float32",
        gradient_checkpointing: bool = False,
        licence: str | None = None,
        revision: str | None = None,
        training_sets: list[str] | None = None,
    ) -> None:
        if step not in (0, -1):
            raise ValueError(f"FiffDepth answers at step 0 or -1, not {step}")
        meaning = DepthSpace.parse(space)
        if meaning.invertible:
            raise ValueError(f"FiffDepth learns maps of unknown scale and offset; space cannot be '{space}'")
        codec = None if vae is None else load_autoencoder(vae, folder=".")
        if size is None:
            unet = load_unet(source, "unet", (4,), revision)
            codec = codec or load_autoencoder(source, revision)
            embedding = empty_text(source, unet.config.cross_attention_dim, text, revision)
            self_named, noise = source, read_json(source, "scheduler/scheduler_config.json", revision)
        else:
            codec = codec or (random_autoencoder() if size == "large" else TransformCodec())
            unet = random_unet(size, codec.config.latent_channels)
            embedding = torch.zeros(1, 2, unet.config.cross_attention_dim)
            self_named, noise = f"random weights ({size})", NOISE
        super().__init__(unet, codec, embedding, longest)
        if unet.config.in_channels != codec.config.latent_channels:
            raise ValueError(
                f"the UNet of '{source}' takes latents of {unet.config.in_channels} channels, and "
                f"the autoencoder '{vae}' gives {codec.config.latent_channels}"
            )
        self.space = meaning
        self.step = step
        self.encoding = getattr(torch, vae_dtype)
        self.alphas_cumprod: Tensor
        self.register_buffer("alphas_cumprod", alphas_cumprod(noise), persistent=False)
        if gradient_checkpointing:
            self.unet.enable_gradient_checkpointing()
        self.source = self_named
        self.licence = licence or ("unknown" if size else read_licence(source, revision))
        self.training_sets = stated_or_known(training_sets, None if size else source)

    def estimate(self, rgb: Latent) -> Latent:
        """The depth map's latent from the image's: Eq. 1, and with `step` -1 Eq. 4."""
        latent = self.denoise(rgb, 0)
        return self.denoise(latent, -1) if self.step == -1 else latent


def alphas_cumprod(scheduler: dict[str, Any]) -> Float[Tensor, " timesteps"]:
    """The share of the signal's variance that is left at each timestep of a diffusers scheduler's config."""
    config = {k: v for k, v in (scheduler or NOISE).items() if k in {*NOISE, "num_train_timesteps"}}
    scheduler_class: Any = DDPMScheduler
    kept: Tensor = scheduler_class(**config).alphas_cumprod
    return kept


def random_unet(size: str, latent_channels: int) -> Any:
    """Stable Diffusion 2.1's UNet ("large"), or one with attention to itself at its lowest resolution and
    none to a prompt; random weights."""
    unet_class: Any = UNet2DConditionModel
    ends = {"in_channels": latent_channels, "out_channels": latent_channels}
    if size == "large":
        return unet_class(
            **ends,
            attention_head_dim=(5, 10, 20, 20),
            cross_attention_dim=1024,
            use_linear_projection=True,
            sample_size=96,
        )
    channels = CHANNELS[size]
    return unet_class(
        **ends,
        block_out_channels=channels,
        down_block_types=("DownBlock2D",) * len(channels),  # with attention, odd sides would not come back
        up_block_types=("UpBlock2D",) * len(channels),
        mid_block_type="UNetMidBlock2D",
        layers_per_block=1,
        attention_head_dim=32,
        cross_attention_dim=TEXT_WIDTH,
        norm_num_groups=16,
    )


def random_autoencoder() -> Any:
    """Stable Diffusion's AutoencoderKL with random weights."""
    vae_class: Any = AutoencoderKL
    channels = (128, 256, 512, 512)
    return vae_class(
        block_out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        layers_per_block=2,
        sample_size=768,
    )
