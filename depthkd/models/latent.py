"""What depth networks made from Stable Diffusion share: an image's latent in, depth or its latent out."""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.utils import logging
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer
from transformers.utils.hub import cached_file

from depthkd.models.huggingface import load_safetensors, read_json
from depthkd.models.model import Answer, DepthModel, DepthOutput, Image, Resized

Latent = Float[Tensor, "batch channels latent_height latent_width"]
Said = Float[Tensor, "batch out_channels latent_height latent_width"]
Pictures = Float[Tensor, "batch 3 height width"]
WEIGHTS = "diffusion_pytorch_model.safetensors"
EMBEDDINGS = ("empty_text_embed.safetensors", "empty_text_embed.npy")


class UNetDepth(DepthModel):
    """A diffusers UNet over what an autoencoder's encoder makes of the image.

    The autoencoder stays in float32 in whatever precision the rest is: bfloat16 knows 128 values
    between 0.5 and 1, so depth would come in steps, and float16 overflows in it. It is never trained.

    Args:
        unet: a UNet2DConditionModel.
        vae: an AutoencoderKL; its weights are frozen.
        text: the text encoder's answer to an empty prompt.
        longest: the longer side at which it runs, in pixels, whatever the image's; where None, the
            image's own size or the resolution that is asked for.

    Raises:
        ValueError: the text embedding is of another width than the UNet takes; or `longest` is less
            than one pixel of the latent.
    """

    def __init__(self, unet: Any, vae: Any, text: Tensor, longest: int | None = None) -> None:
        super().__init__()
        self.multiple = 2 ** (len(vae.config.block_out_channels) - 1)
        if longest is not None and longest < self.multiple:
            raise ValueError(f"the longest side must be at least {self.multiple} pixels, not {longest}")
        width = unet.config.cross_attention_dim
        if text.ndim != 3 or len(text) != 1 or text.shape[-1] != width:
            raise ValueError(
                f"the empty prompt's embedding is {list(text.shape)}; this UNet takes [1, tokens, {width}]"
            )
        self.vae, self.unet = vae.requires_grad_(False), unet
        self.text: Tensor
        self.register_buffer("text", text)
        self.longest, self.own_size = longest, longest is not None

    @abstractmethod
    def answer(self, image: Image) -> Answer:
        """Depth in [0, 1], at a size that `restore` brings to the image's."""

    def forward(self, image: Image) -> DepthOutput:
        """RGB in [0, 1] -> depth in `self.space`, in [0, 1].

        With `longest` it is of the image's size, without it of the rounded size.
        """
        depth = self.answer(image)
        size = (image.shape[-2], image.shape[-1])
        return DepthOutput(self.restore(depth, size) if self.own_size else depth)

    def encode(self, image: Image) -> Latent:
        """RGB in [0, 1], of rounded size -> the mean of the autoencoder's posterior, scaled, float32."""
        scale: float = self.vae.config.scaling_factor
        with torch.autocast(image.device.type, enabled=False):
            mean: Tensor = self.vae.encode(image.float() * 2 - 1).latent_dist.mode()
        return mean * scale

    def denoise(self, latent: Latent, timestep: int, labels: Tensor | None = None) -> Said:
        """What the UNet says at a timestep, for an empty prompt, float32.

        Args:
            latent: with as many channels as the UNet takes.
            timestep: the same for the whole batch.
            labels: the class embedding's input, one row an image, where the UNet has one.
        """
        dtype = next(self.unet.parameters()).dtype
        text = self.text.to(dtype).expand(len(latent), -1, -1)
        times = torch.full((len(latent),), timestep, device=latent.device)
        labels = None if labels is None else labels.to(latent.device, dtype)
        output: Tensor = self.unet(latent.to(dtype), times, text, class_labels=labels).sample
        return output.float()

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        """The autoencoder's and the UNet's, which are pre-trained."""
        return chain(self.vae.parameters(), self.unet.parameters())

    def rounded(self, height: int, width: int) -> tuple[int, int]:
        """The size at which an image of this size runs."""
        factor = 1.0 if self.longest is None else self.longest / max(height, width)
        return super().rounded(round(height * factor), round(width * factor))

    def fit_input(self, image: Image) -> Resized:
        """Bilinear and antialiased, as these networks' own code resizes."""
        size = self.rounded(*image.shape[-2:])
        if tuple(image.shape[-2:]) == size:
            return image
        return F.interpolate(image, size, mode="bilinear", antialias=True, align_corners=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "UNetDepth":
        def keep_type(tensor: Tensor) -> Tensor:
            changed = fn(tensor)
            return changed if changed.dtype == tensor.dtype else tensor.to(changed.device)

        modules: dict[str, Any] = self._modules
        vae = modules.pop("vae")  # a rounded weight would not come back
        try:
            rest: Callable[..., object] = super()._apply
            rest(fn, recurse)
        finally:
            modules["vae"] = vae
        vae._apply(keep_type, recurse)
        return self


class LatentDepth(UNetDepth):
    """A UNet that says a depth map's latent, which the autoencoder's decoder makes depth of."""

    @abstractmethod
    def estimate(self, rgb: Latent) -> Latent:
        """The depth map's latent from the image's, both scaled, float32."""

    def answer(self, image: Image) -> Answer:
        """Depth in [0, 1] at the size that the network ran at."""
        return self.decode(self.estimate(self.encode(self.fit_input(image.float()))))

    def decode(self, latent: Latent) -> Answer:
        """A scaled latent -> depth in [0, 1], float32, `multiple` times as large."""
        with torch.autocast(latent.device.type, enabled=False):
            pictures: Tensor = self.vae.decode(latent.float() / self.vae.config.scaling_factor).sample
        return self.grey(pictures)

    def grey(self, pictures: Pictures) -> Answer:
        """A decoded picture in about [-1, 1] -> [0, 1]: the mean of its channels, then cut."""
        return pictures.mean(1).clamp(-1, 1) / 2 + 0.5


def noise_like(latent: Latent) -> Latent:
    """Normal noise from torch's global generator, drawn on the CPU and image by image: it depends
    neither on the device nor on the batch."""
    return torch.stack([torch.randn(latent.shape[1:]) for _ in latent]).to(latent.device)


def load_autoencoder(source: str, revision: str | None = None) -> Any:
    """The AutoencoderKL in `vae` of a hub id or folder; float32, complete, from safetensors.

    Raises:
        FileNotFoundError: there is none, or the hub cannot be reached.
        ValueError: its weights are pickled, or do not fit.
    """
    return _load(AutoencoderKL, source, "vae", revision)


def load_unet(
    source: str,
    folder: str,
    channels: tuple[int, ...],
    revision: str | None = None,
    base: str | None = None,
    unneeded: tuple[str, ...] = (),
) -> Any:
    """A UNet2DConditionModel of a hub id or folder; float32, complete, from safetensors.

    Args:
        source: hub id or folder.
        folder: in it; "." for the source itself.
        channels: how many the UNet may take.
        revision: of the source.
        base: where a `unet/config.json` is, if the weights come without one.
        unneeded: how the names of tensors begin that the weights may lack.

    Raises:
        FileNotFoundError: there is none, or the hub cannot be reached.
        ValueError: its weights are pickled or do not fit, or it takes another number of channels.
    """
    if base is not None and not read_json(source, inside(folder, "config.json"), revision):
        unet = _fill(UNet2DConditionModel, base, locate(source, inside(folder, WEIGHTS), revision), unneeded)
    else:
        unet = _load(UNet2DConditionModel, source, folder, revision, unneeded)
    if unet.config.in_channels not in channels:
        raise ValueError(
            f"the UNet in '{source}' takes {unet.config.in_channels} channels; it would be "
            f"{' or '.join(str(c) for c in channels)}"
        )
    return unet


def empty_text(
    source: str, width: int, text: str | None = None, revision: str | None = None
) -> Float[Tensor, "1 tokens width"]:
    """What a text encoder answers to an empty prompt, from wherever it can be had.

    Args:
        source: hub id or folder with `tokenizer` and `text_encoder`, which are needed only here, or
            with a file that holds the embedding (`empty_text_embed`, .safetensors or .npy).
        width: of the embedding, in case that it is to be zeros.
        text: such a file elsewhere; or "zeros", where nothing better is at hand.
        revision: of the source.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file holds no embedding, or the source neither file nor text encoder.
    """
    if text == "zeros":
        return torch.zeros(1, 2, width)  # an empty prompt is two tokens: its start and its end
    if text is not None:
        return read_embedding(text)
    if read_json(source, "text_encoder/config.json", revision):
        return encode_nothing(source, revision)
    for name in EMBEDDINGS:
        try:
            return read_embedding(str(locate(source, name, revision)))
        except FileNotFoundError:
            continue
    raise ValueError(
        f"'{source}' has neither a text_encoder nor {' or '.join(EMBEDDINGS)}: give text, a file with the "
        "embedding of the empty prompt, or text: zeros"
    )


@torch.no_grad()
def encode_nothing(source: str, revision: str | None = None) -> Float[Tensor, "1 tokens width"]:
    """The last hidden state that `text_encoder` has for an empty prompt without padding; float32."""
    locate(source, "tokenizer/tokenizer_config.json", revision)
    load: Any = CLIPTokenizer.from_pretrained
    tokenizer = load(source, subfolder="tokenizer", revision=revision)
    encoder = load_safetensors(CLIPTextModel, source, revision, "text_encoder").eval()
    embedding: Tensor = encoder(tokenizer("", return_tensors="pt").input_ids).last_hidden_state
    return embedding


def read_embedding(path: str) -> Float[Tensor, "1 tokens width"]:
    """An embedding [tokens, width] or [1, tokens, width] in a .npy or .safetensors file; float32.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds anything else.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"there is no file '{path}' with the empty prompt's embedding")
    try:
        if file.suffix == ".npy":
            values = [torch.from_numpy(np.load(file, allow_pickle=False))]
        else:
            values = list(load_file(file).values())
    except (SafetensorError, ValueError, TypeError, EOFError) as error:
        raise ValueError(f"'{path}' is no .npy or .safetensors file of numbers, or was cut short") from error
    if len(values) != 1 or values[0].ndim not in (2, 3) or not values[0].is_floating_point():
        shapes = ", ".join(str(list(value.shape)) for value in values)
        raise ValueError(f"'{path}' holds {shapes}; an embedding would be one array [1, tokens, channels]")
    return values[0].float().reshape(-1, *values[0].shape[-2:])


def locate(source: str, name: str, revision: str | None = None) -> Path:
    """A file of a hub id or folder.

    Raises:
        FileNotFoundError: there is none, or the hub cannot be reached.
    """
    try:
        found = cached_file(source, name, revision=revision)
    except OSError as error:
        raise FileNotFoundError(
            f"'{source}' is no folder or hub repository from which {name} can be had: check the name, the "
            "network, HF_HUB_OFFLINE and, for gated models, your login"
        ) from error
    return Path(str(found))


def inside(folder: str, name: str) -> str:
    """A file's name in a folder of a source; "." is the source itself."""
    return name if folder == "." else f"{folder}/{name}"


def _load(
    network_class: Any, source: str, folder: str, revision: str | None, unneeded: tuple[str, ...] = ()
) -> Any:
    locate(source, inside(folder, "config.json"), revision)
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # what lacks is told below, in one sentence
    try:
        network, info = network_class.from_pretrained(
            source,
            subfolder=None if folder == "." else folder,
            revision=revision,
            use_safetensors=True,
            torch_dtype=torch.float32,
            output_loading_info=True,
        )
    except (OSError, SafetensorError) as error:
        raise ValueError(
            f"'{source}' has no readable {inside(folder, WEIGHTS)}; pickled weights (.bin, .ckpt) are "
            "refused, so convert them to safetensors first"
        ) from error
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"the weights of '{source}' do not fit its {inside(folder, 'config.json')}: {_line(error)}"
        ) from error
    finally:
        logging.set_verbosity(verbosity)
    _refuse(f"{inside(folder, WEIGHTS)} of '{source}'", info["missing_keys"], unneeded)
    return network


def _fill(network_class: Any, base: str, weights: Path, unneeded: tuple[str, ...]) -> Any:
    config = read_json(base, "unet/config.json")
    if not config:
        raise FileNotFoundError(f"'{weights.parent}' has no config.json, and '{base}' no unet/config.json")
    network = network_class.from_config(config)
    try:
        lacking, _ = network.load_state_dict(load_file(weights), strict=False)
    except SafetensorError as error:
        raise ValueError(f"'{weights}' is no safetensors file, or was cut short") from error
    except RuntimeError as error:
        raise ValueError(f"'{weights}' does not fit the UNet of '{base}': {_line(error)}") from error
    _refuse(str(weights), lacking, unneeded)
    return network.eval()


def _refuse(whose: str, missing: list[str], unneeded: tuple[str, ...]) -> None:
    lacking = sorted(name for name in missing if not name.startswith(unneeded))
    if lacking:
        raise ValueError(f"the weights {whose} lack {len(lacking)} tensors, '{lacking[0]}' among them")


def _line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[min(1, len(lines) - 1)] if lines else type(error).__name__
