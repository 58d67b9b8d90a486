"""FiffDepth's network (Bai and Huang, sections 3.1 and 3.3): Stable Diffusion's UNet, run forward once."""

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from depthkd.batch import DepthSpace
from depthkd.errors import UserError
from depthkd.models.hub import read_json, read_license
from depthkd.models.latent_diffusion.latent import Latent, LatentDepth
from depthkd.models.latent_diffusion.latent_files import (
    STABLE_DIFFUSION,
    empty_text,
    latent_channels,
    load_autoencoder,
    load_unet,
)
from depthkd.models.latent_diffusion.latent_folder import write_folder
from depthkd.models.latent_diffusion.random_weights import (
    NOISE,
    Size,
    alphas_cumprod,
    random_autoencoder,
    random_unet,
)
from depthkd.models.provenance import stated_or_known
from depthkd.paths import user_path


class FiffDepth(LatentDepth):
    """FiffDepth (Bai and Huang, arXiv 2412.00671): d0 = UNet(x0, t = 0), Eq. 1, without noise or schedule.

    Its authors have published no weights: it is what `FiffDepthFeedForward` trains, from Stable
    Diffusion. The prediction is that of t = 0; that of t = -1 (Eq. 4), UNet(d0, t = -1), on request.

    Args:
        source: hub id or folder of Stable Diffusion, with `unet`, `vae`, `scheduler`, `tokenizer` and
            `text_encoder`: 2.1, or another one whose UNet takes 4 channels.
        size: random weights instead of a source. "tiny", "mini" and "fine" are small UNets over a
            `TransformCodec`, or over `vae`; "large" is Stable Diffusion 2.1's own make.
        space: what the depth map's latent means; "affine disparity" or "affine depth".
        step: whose prediction it gives: 0, or -1 for a look at what it is trained to pass through.
        vae: hub id or folder of another autoencoder than the source's `vae`, large or tiny.
        text: a .npy or .safetensors file with the empty prompt's embedding instead of the text
            encoder; or "zeros".
        longest: the longer side at which it runs where nobody asks for another size, in pixels; None:
            see `UNetDepth`.
        vae_dtype: in which the frozen autoencoder encodes; it decodes in float32.
        gradient_checkpointing: recompute the UNet's activations in the backward pass.
        license: of the weights; what their card says where None.
        revision: branch, tag or commit of the source on the hub.
        training_sets: the data sets that the weights have learned from; what is publicly known where None.

    Raises:
        MissingFileError: there is no such folder or hub repository, or the hub cannot be reached.
        UserError: it holds another model, the weights are pickled or do not fit, or `step` or
            `space` is neither of the two.
    """

    def __init__(
        self,
        source: str = STABLE_DIFFUSION,
        size: Size | None = None,
        space: str = "affine disparity",
        step: int = 0,
        vae: str | None = None,
        text: str | None = None,
        longest: int | None = None,
        vae_dtype: Literal["float32", "float16", "bfloat16"] = "float32",
        gradient_checkpointing: bool = False,
        license: str | None = None,
        revision: str | None = None,
        training_sets: list[str] | None = None,
    ) -> None:
        if step not in (0, -1):
            raise UserError(f"FiffDepth answers at step 0 or -1, not {step}")
        meaning = DepthSpace.parse(space)
        if meaning.invertible:
            raise UserError(f"FiffDepth learns maps of unknown scale and offset; space cannot be '{space}'")
        codec = None if vae is None else load_autoencoder(vae, folder=".")
        if size is None:
            unet = load_unet(source, "unet", (latent_channels(source, revision),), revision)
            codec = codec or load_autoencoder(source, revision)
            embedding = empty_text(source, unet.config.cross_attention_dim, text, revision)
            self_named, noise = source, read_json(source, "scheduler/scheduler_config.json", revision)
        else:
            codec = codec or random_autoencoder(size)
            unet = random_unet(size, codec.config.latent_channels)
            embedding = torch.zeros(1, 2, unet.config.cross_attention_dim)
            self_named, noise = f"random weights ({size})", NOISE
        super().__init__(unet, codec, embedding, longest)
        if unet.config.in_channels != codec.config.latent_channels:
            raise UserError(
                f"the UNet of '{source}' takes latents of {unet.config.in_channels} channels, and "
                f"the autoencoder '{vae}' gives {codec.config.latent_channels}"
            )
        self.space = meaning
        self.step = step
        self.schedule = noise
        self.vae_dtype = vae_dtype
        self.encoding = getattr(torch, vae_dtype)
        self.alphas_cumprod: Tensor
        self.register_buffer("alphas_cumprod", alphas_cumprod(noise), persistent=False)
        if gradient_checkpointing:
            self.unet.enable_gradient_checkpointing()
        self.source = self_named
        self.license = license or ("unknown" if size else read_license(source, revision))
        self.training_sets = stated_or_known(training_sets, None if size else source)

    def estimate(self, rgb: Latent) -> Latent:
        """The depth map's latent from the image's: Eq. 1, and with `step` -1 Eq. 4."""
        latent = self.denoise(rgb, 0)
        return self.denoise(latent, -1) if self.step == -1 else latent

    def save_pretrained(self, folder: Path | str, image_size: int | None = None) -> None:
        """Write a folder of diffusers, which `FiffDepth(source=FOLDER)` loads; see
        `DepthModel.save_pretrained`."""
        own = {
            "space": str(self.space),
            "step": self.step,
            "longest": self.longest,
            "vae_dtype": self.vae_dtype,
        }
        write_folder(self, user_path(folder), image_size, own, self.schedule)
