"""Files of transformers and diffusers, in a folder or in a hub repository: configurations, cards, weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from logging import getLogger
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers.configuration_utils import PreTrainedConfig
from transformers.utils import logging
from transformers.utils.hub import cached_file

from depthkd.errors import MissingFileError, UserError
from depthkd.formats.dataset_card import front_matter
from depthkd.models.provenance import LICENSES, hub_id
from depthkd.models.weights import read_json_file, refuse_broken, refuse_run, renamed, why_unreadable
from depthkd.paths import local_or_hub

# Part of the checkpoints, but never part of the result: DDP must not wait for their gradients.
UNUSED = (
    "neck.fusion_stage.layers.0.residual_layer1.",
    "backbone.embeddings.mask_token",
    "backbone.beit.embeddings.mask_token",
    "dpt.layernorm.",
)
WEIGHTS = "model.safetensors"
ERRORS_ALONE = 40
PATIENCE = 3.0  # seconds until a progress bar shows
PICKLED = "pickled weights (.bin, .pth, .ckpt) are refused, so convert them to safetensors first"
UNBUILT = (KeyError, RuntimeError, TypeError, ValueError, StrictDataclassError)  # of settings that cannot be


def load_safetensors(network_class: Any, source: str, revision: str | None = None, folder: str = "") -> Any:
    """A transformers class with the weights of a hub id or folder; complete, float32, safetensors.

    Args:
        network_class: with `from_pretrained`.
        source: hub id or folder.
        revision: branch, tag or commit on the hub.
        folder: in the source, where it is not the source itself.

    Raises:
        UserError: the weights are pickled or incomplete.
    """
    inside, source = f"{folder}/" if folder else "", local_or_hub(source)
    options = {"dtype": torch.float32, "output_loading_info": True, "ignore_mismatched_sizes": True}
    place = _optional_file(source, f"{inside}config.json", revision)
    with quietly():
        try:
            network, info = network_class.from_pretrained(
                source, revision=revision, subfolder=folder, use_safetensors=True, **options
            )
            tensors = renamed(place.parent, WEIGHTS) if place and info["missing_keys"] else None
            if tensors is not None:
                config = network.config
                network, info = network_class.from_pretrained(
                    None, config=config, state_dict=tensors, **options
                )
        except (OSError, SafetensorError) as error:
            why = why_unreadable(place.parent, WEIGHTS) if place else None
            raise UserError(f"'{source}' has no readable {inside}{WEIGHTS}: {why or PICKLED}") from error
        except UNBUILT as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"the weights of '{source}' do not fit its {inside}config.json: {reason}"
            ) from error
    for name, is_here, would_be in sorted(info["mismatched_keys"]):
        raise UserError(
            f"the weights of '{source}' do not fit its {inside}config.json: '{name}' is {list(is_here)}, and "
            f"would be {list(would_be)}"
        )
    missing = sorted(
        k for k in info["missing_keys"] if not k.startswith(UNUSED) and not k.endswith(".mask_token")
    )
    if missing:
        raise UserError(f"the weights of '{source}' lack {len(missing)} tensors, '{missing[0]}' among them")
    refuse_broken(network.state_dict(), f"{inside}{WEIGHTS} of '{source}'")
    return network


@contextmanager
def quietly() -> Iterator[None]:
    """Silence what depthkd says itself in one sentence: transformers' page about weights that do not fit, and
    the hub's log of every attempt to reach it. Its progress bar shows only if reading takes a while."""
    verbosity, hook = logging.get_verbosity(), logging.set_tqdm_hook(_late)
    hub = getLogger("huggingface_hub")
    level = hub.level
    logging.set_verbosity(ERRORS_ALONE)
    hub.setLevel(ERRORS_ALONE)
    try:
        yield
    finally:
        hub.setLevel(level)
        logging.set_verbosity(verbosity)
        logging.set_tqdm_hook(hook)


def _late(bar: Any, args: Any, options: Any) -> Any:
    return bar(*args, **{"delay": PATIENCE, "disable": None, **options})


def read_config(source: str, revision: str | None = None) -> dict[str, Any]:
    """config.json of a hub id or folder.

    Raises:
        MissingFileError: there is none, or the hub cannot be reached.
    """
    source = local_or_hub(source)
    folder = Path(source)
    if folder.is_file():
        raise UserError(f"'{source}' is a file; it would be a hub id, or a folder with config.json")
    if folder.is_dir():
        refuse_run(folder)
        if not (folder / "config.json").is_file():
            raise MissingFileError(f"the folder '{source}' has no config.json")
        read_json_file(folder / "config.json")
    try:
        with quietly():
            config: dict[str, Any] = PreTrainedConfig.get_config_dict(source, revision=revision)[0]
    except OSError as error:
        raise MissingFileError(nowhere(source)) from error
    return config


def read_json(source: str, name: str, revision: str | None = None) -> dict[str, Any]:
    """A JSON file of a hub id or folder; empty where there is none."""
    path = _optional_file(source, name, revision)
    return read_json_file(path) if path else {}


def read_license(source: str, revision: str | None = None) -> str:
    """The license that the model card names, or "unknown"."""
    if hub_id(source) in LICENSES:
        return LICENSES[hub_id(source)]
    card = _optional_file(source, "README.md", revision)
    front = front_matter(card.read_bytes(), str(card)) if card else None
    if not isinstance(front, dict):
        return "unknown"
    named = str(front.get("license", "unknown"))
    return str(front.get("license_name", named)) if named == "other" else named


def locate(source: str, name: str, revision: str | None = None) -> Path:
    """A file of a hub id or folder.

    Raises:
        MissingFileError: there is none, or the hub cannot be reached.
    """
    source = local_or_hub(source)
    refuse_run(Path(source))
    try:
        found = cached_file(source, name, revision=revision)
        if found is None:  # what transformers answers where config.json is not in a folder
            raise FileNotFoundError(name)
    except OSError as error:
        raise MissingFileError(
            f"'{source}' is no folder or hub repository from which {name} can be had: check the name, the "
            "network, HF_HUB_OFFLINE and, for gated models, your login"
        ) from error
    return Path(str(found))


def _optional_file(source: str, name: str, revision: str | None) -> Path | None:
    try:
        with quietly():
            found = cached_file(
                local_or_hub(source),
                name,
                revision=revision,
                _raise_exceptions_for_gated_repo=False,
                _raise_exceptions_for_missing_entries=False,
                _raise_exceptions_for_connection_errors=False,
            )
    except OSError as error:
        raise MissingFileError(nowhere(source)) from error
    return Path(found) if found else None


def nowhere(source: str) -> str:
    """The sentence about a source that is neither a folder nor a hub repository."""
    return (
        f"'{source}' is no folder here, and no hub repository that can be reached: check the name, the "
        "network, HF_HUB_OFFLINE and, for gated models, your login"
    )
