"""Depth networks made from Stable Diffusion as a folder of diffusers, and back.

A folder holds what diffusers writes (`unet`, `vae`, `scheduler`, model_index.json, safetensors alone), the
empty prompt's embedding in place of a text encoder, and depthkd.json, which names the class that reads it.
"""

import json
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any

import diffusers
from safetensors.torch import save_file

from depthkd.errors import UserError
from depthkd.models.described import builder
from depthkd.models.hub import quietly
from depthkd.models.latent_diffusion.latent import UNetDepth
from depthkd.models.latent_diffusion.latent_files import EMBEDDINGS
from depthkd.models.latent_diffusion.transform_codec import TransformCodec
from depthkd.models.model import DepthModel
from depthkd.models.weights import FACTS, read_json_file

INDEX = "model_index.json"
READ = {"source", "text", "vae", "revision", "size"}  # arguments that say where weights are from
COMPANIONS = {"metric"}  # arguments that build other networks
SCHEDULER = {"_class_name": "DDIMScheduler", "timestep_spacing": "trailing", "clip_sample": False}


def write_folder(
    model: UNetDepth,
    folder: Path,
    image_size: int | None,
    arguments: Mapping[str, Any],
    schedule: Mapping[str, Any],
    index: Mapping[str, Any] | None = None,
    companions: Mapping[str, Any] | None = None,
) -> None:
    """Write a network as a folder.

    Args:
        model: which.
        folder: made where it is missing.
        image_size: see `DepthModel.save_pretrained`.
        arguments: of its class, besides the source.
        schedule: its noise schedule, as a scheduler's config.
        index: more entries of model_index.json, for a pipeline of diffusers; left out where the autoencoder
            is none of diffusers'.
        companions: argument -> the network that it builds, as `described` has it.
    """
    kind, own = type(model).__name__, isinstance(model.vae, TransformCodec)
    folder.mkdir(parents=True, exist_ok=True)
    with quietly():
        model.unet.save_pretrained(folder / "unet", safe_serialization=True)
        if own:
            model.vae.save_config(folder / "vae")
        else:
            model.vae.save_pretrained(folder / "vae", safe_serialization=True)
    _write(folder / "scheduler/scheduler_config.json", {**SCHEDULER, **schedule})
    save_file({"text": model.text.detach().cpu().contiguous()}, folder / EMBEDDINGS[0])
    parts = {
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["depthkd" if own else "diffusers", type(model.vae).__name__],
        "scheduler": ["diffusers", {**SCHEDULER, **schedule}["_class_name"]],
        "text_encoder": [None, None],
        "tokenizer": [None, None],
    }
    named = {"_class_name": kind, "_diffusers_version": diffusers.__version__}
    _write(folder / INDEX, {**named, **parts, **({} if own else index or {})})
    at = model.trained_at if image_size is None else (image_size, image_size)
    facts = {"class": kind, "init_args": dict(arguments), "trained_at": None if at is None else list(at)}
    _write(folder / FACTS, {**facts, **({"companions": companions} if companions else {})})


def read_folder(folder: Path, kinds: Mapping[str, type[DepthModel]]) -> DepthModel:
    """The network of a folder that `write_folder` wrote.

    Args:
        folder: which.
        kinds: name -> class, of those that are saved so.

    Raises:
        MissingFileError: a part of it is not there.
        UserError: it names no such class, or a part does not fit.
    """
    facts = read_json_file(folder / FACTS)
    kind, arguments = str(facts.get("class")), facts.get("init_args")
    companions = facts.get("companions", {})
    taken = set(signature(kinds[kind]).parameters) - READ if kind in kinds else set()
    known = taken - COMPANIONS
    plain = isinstance(companions, dict) and isinstance(arguments, dict)
    if kind not in kinds or not plain or arguments is None or not arguments.keys() <= known:
        raise UserError(
            f"{folder / FACTS} describes no network: class would be one of {', '.join(kinds)}, and init_args "
            "arguments of it that are no files"
        )
    if not companions.keys() <= taken & COMPANIONS:
        raise UserError(f"{folder / FACTS} names companions that {kind} does not have")
    where = f"{folder / FACTS}: companions"
    builders = {name: builder(one, f"{where}.{name}") for name, one in companions.items()}
    build: Any = kinds[kind]
    model: DepthModel = build(source=str(folder), **arguments, **builders)
    at = facts.get("trained_at")
    if at is not None:
        try:
            model.trained_at = int(at[0]), int(at[1])
        except (TypeError, ValueError, IndexError) as error:
            raise UserError(f"trained_at in {folder / FACTS} would be [height, width], not {at}") from error
    return model.eval()


def _write(file: Path, content: Mapping[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
