"""Weights as the authors' own code names them: Depth Anything V1 and V2, Distill Any Depth, DINOv2.

By the rules below their names become those of the hub's checkpoints for transformers, which loads them.
The files say neither which encoder layers the head reads (V1 or V2) nor how the head ends (relative or
metric), only their names do. Distill Any Depth's large network clips at 0 after it has brought the map
to the image's size, not before; its tensors are the same.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.utils.hub import cached_file

from depthkd.errors import MissingFileError, UserError
from depthkd.models.hub import UNUSED, quietly
from depthkd.models.weights import SUFFIXES, read_weights
from depthkd.paths import local_or_hub

# From the authors' names to the hub's: regular expressions, applied one after another.
RULES = (
    (r"^pretrained\.pos_embed", r"backbone.embeddings.position_embeddings"),
    (r"^pretrained\.patch_embed\.proj", r"backbone.embeddings.patch_embeddings.projection"),
    (r"^pretrained\.(cls_token|mask_token)", r"backbone.embeddings.\1"),
    (r"^pretrained\.norm", r"backbone.layernorm"),
    (r"^pretrained\.blocks", r"backbone.encoder.layer"),
    (r"attn\.proj", r"attention.output.dense"),
    (r"ls(\d)\.gamma", r"layer_scale\1.lambda1"),
    (r"mlp\.w12", r"mlp.weights_in"),
    (r"mlp\.w3", r"mlp.weights_out"),
    (r"^depth_head\.projects\.(\d)", r"neck.reassemble_stage.layers.\1.projection"),
    (r"^depth_head\.resize_layers\.(\d)", r"neck.reassemble_stage.layers.\1.resize"),
    *((rf"^depth_head\.scratch\.layer{k + 1}_rn", rf"neck.convs.{k}") for k in range(4)),
    *((rf"^depth_head\.scratch\.refinenet{4 - k}", rf"neck.fusion_stage.layers.{k}") for k in range(4)),
    (r"resConfUnit(\d)\.conv(\d)", r"residual_layer\1.convolution\2"),
    (r"out_conv", r"projection"),
    (r"^depth_head\.scratch\.output_conv1", r"head.conv1"),
    (r"^depth_head\.scratch\.output_conv2\.0", r"head.conv2"),
    (r"^depth_head\.scratch\.output_conv2\.2", r"head.conv3"),
)
THIRDS = ("query", "key", "value")  # of the rows of attn.qkv
ENCODER = "backbone."
SIZES = {"s": "Small", "b": "Base", "l": "Large", "g": "Giant"}
FILE_NAME = re.compile(
    r"depth_anything(?P<v2>_v2)?(_metric_(?P<scenes>hypersim|vkitti))?_vit(?P<size>[sblg])(14)?"
)


@dataclass(frozen=True)
class Official:
    """Which weights an official file holds, by its name."""

    hub_id: str
    version: int
    metric_max_depth: int | None  # meters; None is the relative head
    license: str


def official(path: str) -> Official | None:
    """What is known of a file that is called as its authors call it; None for any other."""
    found = FILE_NAME.fullmatch(Path(path).stem)
    if found is None:
        return None
    size, scenes = found["size"], found["scenes"]
    if not found["v2"]:
        return Official(f"LiheYoung/depth_anything_vit{size}14", 1, None, "apache-2.0")
    kind = {None: "", "hypersim": "Metric-Hypersim-", "vkitti": "Metric-VKITTI-"}[scenes]
    return Official(
        f"depth-anything/Depth-Anything-V2-{kind}{SIZES[size]}",
        2,
        {None: None, "hypersim": 20, "vkitti": 80}[scenes],
        "apache-2.0" if size == "s" else "cc-by-nc-4.0",
    )


def is_file(weights: str) -> bool:
    """Whether weights are a file or named as one, and not as a folder or a hub repository."""
    path = Path(local_or_hub(weights))
    return path.is_file() or (path.suffix in SUFFIXES and not path.is_dir())


def find_file(weights: str) -> str:
    """The path of a file that is here, or in a hub repository (OWNER/NAME/FILE), fetched at first use.

    Raises:
        MissingFileError: it is neither.
    """
    if Path(local_or_hub(weights)).is_file():
        return local_or_hub(weights)
    inside = re.fullmatch(r"(\w[\w.-]*/\w[\w.-]*)/(.+)", weights)
    if inside:
        fetched = cached_file(
            inside[1],
            inside[2],
            _raise_exceptions_for_gated_repo=False,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        if fetched:
            return str(fetched)
    raise MissingFileError(
        f"there is no file of weights '{weights}', and no such file in a hub repository that can be reached"
    )


def hub_state(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """A file's tensors under the hub's names; what already has them stays as it is.

    The authors' prefix is pretrained. or backbone., DINOv2's own files have none; their blocks may be
    counted within chunks (blocks.<chunk>.<i>.), where i counts all blocks.
    """
    if any(name.startswith(f"{ENCODER}embeddings.") for name in tensors):
        return tensors
    bare = "cls_token" in tensors or "pos_embed" in tensors
    named = {}
    for name, tensor in tensors.items():
        name = f"pretrained.{name}" if bare else re.sub(r"^backbone\.", "pretrained.", name)
        name = re.sub(r"^(pretrained\.blocks)\.\d+(\.\d+\.)", r"\1\2", name)
        for pattern, replacement in RULES:
            name = re.sub(pattern, replacement, name)
        if "attn.qkv" in name:
            for third, rows in zip(THIRDS, tensor.chunk(3), strict=True):
                named[name.replace("attn.qkv", f"attention.attention.{third}")] = rows
        else:
            named[name] = tensor
    return named


def fill_from_file(network: Any, path: str, encoder_only: bool) -> bool:
    """Copy the weights of a file into a Depth Anything network of transformers, or into its encoder.

    Names are the authors' or the hub's. A file without a head fills the encoder.

    Args:
        network: transformers' DepthAnythingForDepthEstimation.
        path: of a .safetensors or .pth file.
        encoder_only: leave neck and head as they are.

    Returns:
        Whether neck and head were filled too.

    Raises:
        MissingFileError: there is no such file.
        UserError: it is another network's or of another size, is incomplete, or holds more than tensors.
    """
    tensors = read_weights(path)
    state = hub_state(tensors)
    if not any(name.startswith(ENCODER) for name in state):
        some = f"; it holds '{next(iter(tensors))}', for example" if tensors else ""
        raise UserError(
            f"'{path}' is no Depth Anything or DINOv2: its tensors' names begin neither with pretrained. nor "
            f"with backbone.{some}"
        )
    target = network
    if encoder_only or all(name.startswith(ENCODER) for name in state):
        state = {n.removeprefix(ENCODER): t for n, t in state.items() if n.startswith(ENCODER)}
        target = network.backbone
    with quietly():
        loaded, info = type(target).from_pretrained(
            None,
            config=target.config,
            state_dict=state,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    _check(path, info)
    target.load_state_dict(loaded.state_dict())
    return target is network


def _check(path: str, info: dict[str, Any]) -> None:
    for name, is_here, would_be in sorted(info["mismatched_keys"]):
        raise UserError(
            f"the weights '{path}' are of another size: '{name}' is {list(is_here)}, and would be "
            f"{list(would_be)}"
        )
    missing = sorted(n for n in info["missing_keys"] if not n.startswith(UNUSED) and "mask_token" not in n)
    if missing:
        raise UserError(f"the weights '{path}' lack {len(missing)} tensors, '{missing[0]}' among them")
    unexpected = sorted(info["unexpected_keys"])
    if unexpected:
        raise UserError(
            f"the weights '{path}' are of another network: {len(unexpected)} tensors have no place in this "
            f"one, '{unexpected[0]}' among them"
        )
