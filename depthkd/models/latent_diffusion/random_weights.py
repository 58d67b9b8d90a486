"""Networks built like Stable Diffusion's, with random weights: full-size, or small enough for two cores."""

from typing import Any, Literal

from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from jaxtyping import Float
from torch import Tensor

from depthkd.models.latent_diffusion.transform_codec import TransformCodec

Size = Literal["tiny", "mini", "fine", "large"]

NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}  # Stable Diffusion's
READ = {*NOISE, "num_train_timesteps", "rescale_betas_zero_snr"}  # of a scheduler's config
CHANNELS = {"tiny": (64, 128), "mini": (96, 192), "fine": (32, 64, 96)}
TEXT_WIDTH = 8  # of the small ones' empty prompt, which they do not hear


def alphas_cumprod(scheduler: dict[str, Any]) -> Float[Tensor, " timesteps"]:
    """The share of the signal's variance that is left at each timestep of a diffusers scheduler's config."""
    config = {k: v for k, v in (scheduler or NOISE).items() if k in READ}
    scheduler_class: Any = DDPMScheduler
    kept: Tensor = scheduler_class(**config).alphas_cumprod
    return kept


def random_unet(size: Size, latent_channels: int, latents: int = 1, tasks: bool = False) -> Any:
    """Stable Diffusion 2.1's UNet ("large"), or one with attention to itself at its lowest resolution and
    none to a prompt; random weights.

    Args:
        size: which.
        latent_channels: of the autoencoder.
        latents: how many of them it takes side by side.
        tasks: whether it is told its task by Lotus's class embedding.
    """
    unet_class: Any = UNet2DConditionModel
    ends: dict[str, Any] = {"in_channels": latents * latent_channels, "out_channels": latent_channels}
    if tasks:
        ends |= {"class_embed_type": "projection", "projection_class_embeddings_input_dim": 4}
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


def random_autoencoder(size: Size) -> Any:
    """Stable Diffusion's AutoencoderKL with random weights ("large"), or a `TransformCodec`.

    That of "fine" has the smallest blocks, and loses nothing of a depth map.
    """
    if size != "large":
        return TransformCodec(block=2, keep=2, scaling_factor=0.5) if size == "fine" else TransformCodec()
    vae_class: Any = AutoencoderKL
    channels = (128, 256, 512, 512)
    return vae_class(
        block_out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        layers_per_block=2,
        sample_size=768,
    )
