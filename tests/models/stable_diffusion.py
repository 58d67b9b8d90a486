"""A tiny Stable Diffusion with random weights, in the folders that diffusers writes."""

import json
import math
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, DDPMScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

WIDTH = 8  # of the text embedding
LEVELS = {  # Stable Diffusion 2.1's own blocks
    "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
    "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
    "use_linear_projection": True,
}
DPT_CHANNELS, DPT_FUSION = (16, 24, 32, 32), 12


def unet(channels: int, **options: Any) -> UNet2DConditionModel:
    torch.manual_seed(channels)
    return UNet2DConditionModel(
        in_channels=channels,
        out_channels=4,
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=8,
        norm_num_groups=8,
        **options,
    ).eval()


def lotus_unet(channels: int) -> UNet2DConditionModel:
    return unet(channels, class_embed_type="projection", projection_class_embeddings_input_dim=4)


def autoencoder() -> AutoencoderKL:
    torch.manual_seed(1)
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=4,
        latent_channels=4,
        scaling_factor=0.18215,
    ).eval()
    nn.init.normal_(vae.decoder.conv_out.weight, std=0.3)  # so that answers differ, and some are cut
    return vae


def text_encoder(folder: Path) -> None:
    tokens = ["!", "a</w>", "<|startoftext|>", "<|endoftext|>"]
    tokenizer = folder / "tokenizer"
    tokenizer.mkdir(parents=True)
    (tokenizer / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (tokenizer / "merges.txt").write_text("#version: 0.2\n")
    CLIPTokenizer.from_pretrained(tokenizer, model_max_length=77).save_pretrained(tokenizer)
    torch.manual_seed(2)
    config = CLIPTextConfig(
        vocab_size=4,
        hidden_size=WIDTH,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=77,
        bos_token_id=2,
        eos_token_id=3,
    )
    CLIPTextModel(config).save_pretrained(folder / "text_encoder")


def nothing(folder: Path) -> Tensor:
    """What the folder's text encoder says of start and end alone."""
    encoder = CLIPTextModel.from_pretrained(folder / "text_encoder").eval()
    with torch.no_grad():
        return encoder(torch.tensor([[2, 3]])).last_hidden_state


def stable_diffusion(folder: Path) -> str:
    """What GenPercept takes from Stable Diffusion."""
    autoencoder().save_pretrained(folder / "vae")
    text_encoder(folder)
    return str(folder)


def genpercept(folder: Path, name: str = "unet_disparity_v2") -> str:
    unet(4).save_pretrained(folder if name == "." else folder / name)
    return str(folder)


def four_level_unet() -> UNet2DConditionModel:
    torch.manual_seed(6)
    return UNet2DConditionModel(
        in_channels=4,
        out_channels=4,
        block_out_channels=DPT_CHANNELS,
        cross_attention_dim=WIDTH,
        attention_head_dim=(2, 3, 4, 4),
        norm_num_groups=8,
        **LEVELS,
    ).eval()


def dpt_head_shapes(channels: tuple[int, ...], fusion: int) -> dict[str, tuple[int, ...]]:
    """What dpt_head_identity/model.safetensors holds."""
    square, layers = (fusion, fusion, 3, 3), "neck.fusion_stage.layers"
    shapes: dict[str, tuple[int, ...]] = {
        "feature_upsample_0.conv.weight": (channels[0], channels[0], 3, 3),
        "feature_upsample_0.conv.bias": (channels[0],),
        "head.projection.weight": square,
        "head.projection.bias": (fusion,),
        "head.head.0.weight": (fusion // 2, fusion, 3, 3),
        "head.head.0.bias": (fusion // 2,),
        "head.head.2.weight": (32, fusion // 2, 3, 3),
        "head.head.2.bias": (32,),
        "head.head.4.weight": (1, 32, 1, 1),
        "head.head.4.bias": (1,),
    }
    for k, width in enumerate(channels):
        shapes[f"neck.convs.{k}.weight"] = (fusion, width, 3, 3)
        shapes[f"{layers}.{k}.projection.weight"] = (fusion, fusion, 1, 1)
        shapes[f"{layers}.{k}.projection.bias"] = (fusion,)
        for unit in (2,) if k == 0 else (1, 2):
            for number in (1, 2):
                shapes[f"{layers}.{k}.residual_layer{unit}.convolution{number}.weight"] = square
    return shapes


def dpt_head() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(7)
    head = {
        name: torch.randn(shape, generator=generator) / max(1, math.prod(shape[1:])) ** 0.5
        for name, shape in dpt_head_shapes(DPT_CHANNELS, DPT_FUSION).items()
    }
    head["head.head.4.bias"] += 1.5  # so that maps are on both sides of 0
    return head


def genpercept_dpt(folder: Path) -> str:
    """A UNet beside a DPT head, as guangkaixu/genpercept-models has them."""
    part = folder / "unet_disparity_dpt_head_v2"
    four_level_unet().save_pretrained(part)
    config = part / "config.json"
    config.write_text(config.read_text().replace('"UNet2DCon', '"CustomUNet2DCon'))
    weights = part / "diffusion_pytorch_model.safetensors"
    kept = {k: v for k, v in load_file(weights).items() if not k.startswith(("conv_out", "conv_norm_out"))}
    save_file(kept, weights, {"format": "pt"})
    (folder / "dpt_head_identity").mkdir()
    save_file(dpt_head(), folder / "dpt_head_identity" / "model.safetensors")
    return str(folder)


def lotus(folder: Path, channels: int = 8) -> str:
    stable_diffusion(folder)
    lotus_unet(channels).save_pretrained(folder / "unet")
    return str(folder)


def fiffdepth(folder: Path, channels: int = 4) -> str:
    """What FiffDepth takes from Stable Diffusion, its noise schedule among it."""
    stable_diffusion(folder)
    unet(channels).save_pretrained(folder / "unet")
    DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear").save_pretrained(
        folder / "scheduler"
    )
    return str(folder)


def marigold(folder: Path, steps: int | None = 2, **index: Any) -> str:
    stable_diffusion(folder)
    unet(8).save_pretrained(folder / "unet")
    DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        rescale_betas_zero_snr=True,
        clip_sample=False,
    ).save_pretrained(folder / "scheduler")
    parts = {"scheduler": "DDIMScheduler", "unet": "UNet2DConditionModel", "vae": "AutoencoderKL"}
    listed: dict[str, Any] = {name: ["diffusers", kind] for name, kind in parts.items()}
    listed |= {
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
    }
    listed |= {"default_denoising_steps": steps, "default_processing_resolution": 64}
    listed |= {"_class_name": "MarigoldDepthPipeline", "prediction_type": "depth", **index}
    (folder / "model_index.json").write_text(json.dumps(listed))
    return str(folder)


def photographs(height: int, width: int, count: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.rand(count, 3, height, width, generator=generator)
