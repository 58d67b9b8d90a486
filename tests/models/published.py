"""The authors' own Depth Anything: how its files name their tensors, and what it computes with them."""

import math
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

State = dict[str, Tensor]


def publish(network: Any, prefix: str = "pretrained", chunks: int = 1) -> State:
    """The tensors of transformers' network as the authors' files hold them.

    Args:
        network: DepthAnythingForDepthEstimation.
        prefix: "backbone" in Distill Any Depth's large file; "" in DINOv2's own, which have no head.
        chunks: above 1, blocks are named blocks.<chunk>.<i>., as in models that were trained with FSDP.
    """
    with tempfile.TemporaryDirectory() as folder:  # names on disk outlive transformers' versions
        network.save_pretrained(folder)
        ours = load_file(Path(folder) / "model.safetensors")
    encoder: State = {
        "cls_token": ours["backbone.embeddings.cls_token"],
        "pos_embed": ours["backbone.embeddings.position_embeddings"],
        "mask_token": ours["backbone.embeddings.mask_token"],
    }
    for end in ("weight", "bias"):
        encoder[f"patch_embed.proj.{end}"] = ours[f"backbone.embeddings.patch_embeddings.projection.{end}"]
        encoder[f"norm.{end}"] = ours[f"backbone.layernorm.{end}"]
    layers = network.config.backbone_config.num_hidden_layers
    for i in range(layers):
        old, new = f"backbone.encoder.layer.{i}.", f"blocks.{i * chunks // layers}.{i}."
        if chunks == 1:
            new = f"blocks.{i}."
        encoder[new + "ls1.gamma"] = ours[old + "layer_scale1.lambda1"]
        encoder[new + "ls2.gamma"] = ours[old + "layer_scale2.lambda1"]
        for end in ("weight", "bias"):
            for norm in ("norm1", "norm2"):
                encoder[f"{new}{norm}.{end}"] = ours[f"{old}{norm}.{end}"]
            rows = [ours[f"{old}attention.attention.{one}.{end}"] for one in ("query", "key", "value")]
            encoder[f"{new}attn.qkv.{end}"] = torch.cat(rows)
            encoder[f"{new}attn.proj.{end}"] = ours[f"{old}attention.output.dense.{end}"]
            names = {"fc1": "fc1", "fc2": "fc2", "w12": "weights_in", "w3": "weights_out"}
            for theirs, name in names.items():
                if f"{old}mlp.{name}.{end}" in ours:
                    encoder[f"{new}mlp.{theirs}.{end}"] = ours[f"{old}mlp.{name}.{end}"]
    if not prefix:
        return {name: tensor.clone() for name, tensor in encoder.items()}
    state = {f"{prefix}.{name}": tensor for name, tensor in encoder.items()}
    for end in ("weight", "bias"):
        for i in range(4):
            old = f"neck.reassemble_stage.layers.{i}."
            state[f"depth_head.projects.{i}.{end}"] = ours[f"{old}projection.{end}"]
            if f"{old}resize.{end}" in ours:
                state[f"depth_head.resize_layers.{i}.{end}"] = ours[f"{old}resize.{end}"]
            new, old = f"depth_head.scratch.refinenet{i + 1}.", f"neck.fusion_stage.layers.{3 - i}."
            state[f"{new}out_conv.{end}"] = ours[f"{old}projection.{end}"]
            for unit in (1, 2):
                for conv in (1, 2):
                    theirs = f"{new}resConfUnit{unit}.conv{conv}.{end}"
                    state[theirs] = ours[f"{old}residual_layer{unit}.convolution{conv}.{end}"]
        state[f"depth_head.scratch.output_conv1.{end}"] = ours[f"head.conv1.{end}"]
        state[f"depth_head.scratch.output_conv2.0.{end}"] = ours[f"head.conv2.{end}"]
        state[f"depth_head.scratch.output_conv2.2.{end}"] = ours[f"head.conv3.{end}"]
    for i in range(4):
        state[f"depth_head.scratch.layer{i + 1}_rn.weight"] = ours[f"neck.convs.{i}.weight"]
    return {name: tensor.clone() for name, tensor in state.items()}


def depth_of(
    state: State, pixels: Tensor, layers: list[int], heads: int, max_depth: float | None = None
) -> Tensor:
    """What the authors' network answers, computed from a file's tensors.

    Args:
        state: as `publish` gives it.
        pixels: normalized.
        layers: the encoder's layers that the head reads, counted from 0.
        heads: of the attention.
        max_depth: of a metric head; None is the relative one.
    """
    patch = state["pretrained.patch_embed.proj.weight"].shape[-1]
    rows, columns = pixels.shape[2] // patch, pixels.shape[3] // patch
    maps = [
        tokens[:, 1:].transpose(1, 2).reshape(len(pixels), -1, rows, columns)
        for tokens in encode(state, pixels, layers, heads, patch)
    ]
    path = None
    resized = [reassemble(state, i, one) for i, one in enumerate(maps)]
    for i in (3, 2, 1, 0):
        name = f"depth_head.scratch.refinenet{i + 1}."
        lateral = F.conv2d(resized[i], state[f"depth_head.scratch.layer{i + 1}_rn.weight"], padding=1)
        path = lateral if path is None else path + residual(state, name + "resConfUnit1.", lateral)
        path = residual(state, name + "resConfUnit2.", path)
        size = resized[i - 1].shape[2:] if i else [2 * side for side in path.shape[2:]]
        path = F.interpolate(path, tuple(size), mode="bilinear", align_corners=True)
        path = conv(state, name + "out_conv", path)
    head = "depth_head.scratch.output_conv"
    path = conv(state, head + "1", path, padding=1)
    path = F.interpolate(path, (rows * patch, columns * patch), mode="bilinear", align_corners=True)
    path = conv(state, head + "2.2", conv(state, head + "2.0", path, padding=1).relu())
    return (path.relu() if max_depth is None else path.sigmoid() * max_depth)[:, 0]


def encode(state: State, pixels: Tensor, layers: list[int], heads: int, patch: int) -> list[Tensor]:
    tokens = conv(state, "pretrained.patch_embed.proj", pixels, stride=patch).flatten(2).transpose(1, 2)
    first = state["pretrained.cls_token"].expand(len(pixels), -1, -1)
    size = (pixels.shape[2], pixels.shape[3])
    tokens = torch.cat([first, tokens], dim=1) + positions(state["pretrained.pos_embed"], size, patch)
    found = []
    for i in range(max(layers) + 1):
        name = f"pretrained.blocks.{i}."
        attended = attend(state, name + "attn.", normalize(state, name + "norm1", tokens), heads)
        tokens = tokens + state[name + "ls1.gamma"] * attended
        hidden = normalize(state, name + "norm2", tokens)
        if name + "mlp.w12.weight" in state:
            gate, hidden = linear(state, name + "mlp.w12", hidden).chunk(2, dim=-1)
            hidden = linear(state, name + "mlp.w3", F.silu(gate) * hidden)
        else:
            hidden = linear(state, name + "mlp.fc2", F.gelu(linear(state, name + "mlp.fc1", hidden)))
        tokens = tokens + state[name + "ls2.gamma"] * hidden
        if i in layers:
            found.append(normalize(state, "pretrained.norm", tokens))
    return found


def positions(known: Tensor, size: tuple[int, int], patch: int) -> Tensor:
    """DINOv2's position embeddings for so many pixels: a cubic convolution (a = -.75) whose step is the known
    grid's side over a tenth of a patch more than there are; in float64."""
    side = math.isqrt(known.shape[1] - 1)
    if size == (side * patch, side * patch):
        return known
    grid = known[0, 1:].double().numpy().reshape(side, side, -1)
    for axis, pixels in enumerate(size):
        count = pixels // patch
        places = (np.arange(count) + 0.5) * side / (count + 0.1) - 0.5
        first = np.floor(places).astype(int)
        taps = []
        for offset in (-1, 0, 1, 2):
            index = np.clip(first + offset, 0, side - 1)
            weight = cubic(np.abs(places - first - offset))
            taps.append(
                np.take(grid, index, axis) * np.expand_dims(weight, [k for k in range(3) if k != axis])
            )
        grid = np.sum(taps, axis=0)
    patches = torch.from_numpy(grid).float().reshape(1, -1, known.shape[-1])
    return torch.cat([known[:, :1], patches], dim=1)


def cubic(distance: np.ndarray, a: float = -0.75) -> np.ndarray:
    near = (a + 2) * distance**3 - (a + 3) * distance**2 + 1
    far = a * (distance**3 - 5 * distance**2 + 8 * distance - 4)
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))


def infer_image(
    image: np.ndarray, tensors: State, layers: list[int], heads: int, version: int, max_depth: float | None,
    input_size: int = 518, patch: int = 14,
) -> Tensor:  # fmt: skip
    """Depth Anything V2's `infer_image`, and V1's run.py: depth of a uint8 RGB image, at its size."""
    height, width = image.shape[:2]
    scale = max(input_size / height, input_size / width)
    sides = []
    for side in (height, width):
        near = int(np.round(scale * side / patch) * patch)
        sides.append(near if near >= input_size else int(np.ceil(scale * side / patch) * patch))
    resized = cv2.resize(image / 255.0, (sides[1], sides[0]), interpolation=cv2.INTER_CUBIC)
    normalized = (resized - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    pixels = torch.from_numpy(normalized.transpose(2, 0, 1)[None]).float()
    depth = depth_of(tensors, pixels, layers, heads, max_depth)
    return F.interpolate(depth[:, None], (height, width), mode="bilinear", align_corners=version == 2)[0, 0]


def attend(state: State, name: str, tokens: Tensor, heads: int) -> Tensor:
    width = tokens.shape[-1] // heads
    query, key, value = linear(state, name + "qkv", tokens).chunk(3, dim=-1)
    parts = []
    for h in range(heads):
        part = slice(h * width, (h + 1) * width)
        weights = (query[..., part] @ key[..., part].transpose(1, 2) / width**0.5).softmax(-1)
        parts.append(weights @ value[..., part])
    return linear(state, name + "proj", torch.cat(parts, dim=-1))


def reassemble(state: State, i: int, one: Tensor) -> Tensor:
    one = conv(state, f"depth_head.projects.{i}", one)
    name = f"depth_head.resize_layers.{i}"
    if i == 2:
        return one
    if i == 3:
        return conv(state, name, one, stride=2, padding=1)
    return F.conv_transpose2d(one, state[name + ".weight"], state[name + ".bias"], stride=(4, 2)[i])


def residual(state: State, name: str, one: Tensor) -> Tensor:
    inner = conv(state, name + "conv1", one.relu(), padding=1)
    return one + conv(state, name + "conv2", inner.relu(), padding=1)


def conv(state: State, name: str, one: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
    return F.conv2d(one, state[name + ".weight"], state[name + ".bias"], stride, padding)


def linear(state: State, name: str, tokens: Tensor) -> Tensor:
    return F.linear(tokens, state[name + ".weight"], state[name + ".bias"])


def normalize(state: State, name: str, tokens: Tensor) -> Tensor:
    return F.layer_norm(tokens, tokens.shape[-1:], state[name + ".weight"], state[name + ".bias"], 1e-6)
