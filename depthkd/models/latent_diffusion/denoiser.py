"""Depth networks that take noise out of a depth map's latent: Lotus, Marigold and SharpDepth."""

from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from depthkd.errors import UserError
from depthkd.models.hub import read_json
from depthkd.models.latent_diffusion.latent import Latent, LatentDepth
from depthkd.models.latent_diffusion.latent_files import (
    empty_text,
    latent_channels,
    load_autoencoder,
    load_unet,
)
from depthkd.models.latent_diffusion.random_weights import (
    NOISE,
    Size,
    alphas_cumprod,
    random_autoencoder,
    random_unet,
)
from depthkd.shapes import PerImage

Prediction = Literal["sample", "v_prediction", "epsilon"]
Task = Literal["depth", "image"]

LAST = 999  # of the timesteps
TASKS: dict[Task, tuple[float, float]] = {"depth": (1.0, 0.0), "image": (0.0, 1.0)}  # Lotus's


def noised(latent: Latent, noise: Latent, alphas_cumprod: PerImage) -> Latent:
    """x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps (FiffDepth, Eq. 2, second line; SharpDepth's z^t)."""
    kept = alphas_cumprod[:, None, None, None]
    return kept.sqrt() * latent + (1.0 - kept).sqrt() * noise


def velocity(latent: Latent, noise: Latent, alphas_cumprod: PerImage) -> Latent:
    """v_t = sqrt(abar_t) eps - sqrt(1 - abar_t) x_0 (FiffDepth, Eq. 3, first line)."""
    kept = alphas_cumprod[:, None, None, None]
    return kept.sqrt() * noise - (1.0 - kept).sqrt() * latent


def clean_latent(output: Latent, noisy: Latent, alphas_cumprod: PerImage, prediction: Prediction) -> Latent:
    """x_0 from a UNet's output for x_t: x_0 itself ("sample"), v_t, or eps.

    Of v it is sqrt(abar_t) x_t - sqrt(1 - abar_t) v_t; of eps, (x_t - sqrt(1 - abar_t) eps) / sqrt(abar_t).
    """
    if prediction == "sample":
        return output
    signal, noise = (a.sqrt()[:, None, None, None] for a in (alphas_cumprod, 1.0 - alphas_cumprod))
    if prediction == "v_prediction":
        return signal * noisy - noise * output
    return (noisy - noise * output) / signal


class Parts(NamedTuple):
    """What a `DepthDenoiser` is made of; `schedule` is its scheduler's config."""

    unet: Any
    vae: Any
    text: Tensor
    prediction: Prediction
    schedule: dict[str, Any]


class DepthDenoiser(LatentDepth):
    """A UNet that predicts a depth map's latent from a noisy one, beside the image's latent.

    One with Lotus's class embedding says x_0 itself, in one step from its last timestep; others say
    what their scheduler's config says.

    Args:
        parts: the networks, see `load_parts`.
        longest: the longer side at which it runs where nobody asks for another size, in pixels; None:
            see `UNetDepth`.

    Raises:
        UserError: the parts do not fit each other.
    """

    def __init__(self, parts: Parts, longest: int | None = None) -> None:
        super().__init__(parts.unet, parts.vae, parts.text, longest)
        self.prediction: Prediction = parts.prediction
        self.schedule = parts.schedule
        self.tasks = parts.unet.config.class_embed_type == "projection"
        self.generative = parts.unet.config.in_channels == 2 * parts.vae.config.latent_channels
        self.alphas_cumprod: Tensor
        self.register_buffer("alphas_cumprod", alphas_cumprod(parts.schedule), persistent=False)
        if parts.prediction == "epsilon" and float(self.alphas_cumprod[-1]) == 0.0:
            raise UserError("of a last timestep that is all noise, no epsilon tells the depth")

    @property
    def timesteps(self) -> tuple[int, int]:
        """The first and the last timestep that it is good at: Lotus was trained at the last alone; of others
        DreamFusion's 2% to 98%, because little can be learned from their ends."""
        if self.tasks:
            return LAST, LAST
        count = len(self.alphas_cumprod)
        return round(0.02 * count), round(0.98 * count)

    def clean(
        self, noisy: Latent, rgb: Latent, timestep: int | Int[Tensor, " batch"], task: Task = "depth"
    ) -> Latent:
        """x_0 = f(x_t; z_i, t): the depth's latent from a noisy one and the image's, scaled, float32.

        Args:
            noisy: x_t; a UNet that takes the image's latent alone (Lotus-D) does not hear it.
            rgb: the image's latent z_i.
            timestep: t, the same for the whole batch or one for each image.
            task: what is to be told, of a UNet that knows Lotus's two tasks: depth, or the image itself.
        """
        times = torch.as_tensor(timestep, device=rgb.device).expand(len(rgb))
        latent = torch.cat([rgb, noisy], 1) if self.generative else rgb
        labels = None
        if self.tasks:
            chosen = torch.tensor([TASKS[task]], device=rgb.device).expand(len(rgb), -1)
            labels = torch.cat([chosen.sin(), chosen.cos()], 1)
        output = self.denoise(latent, times, labels)
        return clean_latent(output, noisy, self.alphas_cumprod[times].float(), self.prediction)


def load_parts(
    source: str,
    size: Size | None = None,
    vae: str | None = None,
    text: str | None = None,
    revision: str | None = None,
    latents: tuple[int, ...] = (2,),
    prediction: Prediction = "sample",
) -> Parts:
    """The parts of a Lotus or a Marigold.

    Args:
        source: hub id or folder, with `unet`, `vae`, `tokenizer` and `text_encoder`, and `scheduler`
            where the UNet is no Lotus's.
        size: random weights instead.
        vae: hub id or folder of another autoencoder than the source's `vae`.
        text: see `empty_text`.
        revision: of the source.
        latents: how many latents side by side the UNet may take.
        prediction: of one with random weights; with "sample" it is a Lotus.

    Raises:
        MissingFileError: there is no such folder or hub repository, or the hub cannot be reached.
        UserError: it holds another model, or the weights are pickled or do not fit.
    """
    codec = None if vae is None else load_autoencoder(vae, folder=".")
    if size is not None:
        codec = codec or random_autoencoder(size)
        unet = random_unet(size, codec.config.latent_channels, 2, tasks=prediction == "sample")
        return Parts(unet, codec, torch.zeros(1, 2, unet.config.cross_attention_dim), prediction, NOISE)
    channels = latent_channels(source, revision)
    unet = load_unet(source, "unet", tuple(count * channels for count in latents), revision)
    schedule = read_json(source, "scheduler/scheduler_config.json", revision)
    lotus = unet.config.class_embed_type == "projection"
    kind: Prediction = "sample" if lotus else schedule.get("prediction_type", "epsilon")
    embedding = empty_text(source, unet.config.cross_attention_dim, text, revision)
    return Parts(unet, codec or load_autoencoder(source, revision), embedding, kind, schedule or NOISE)
