"""Depth Anything V1 and V2 (Yang et al., CVPR and NeurIPS 2024), and two small ones built alike."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from transformers import Dinov2Backbone

from depthkd.errors import UserError
from depthkd.models.dpt.dpt import HuggingFaceDepth, Initialize, load_network
from depthkd.models.dpt.original_weights import Official, fill_from_file, find_file, is_file, official
from depthkd.models.dpt.preprocessing import Preprocessing, depth_anything_version
from depthkd.models.hub import load_safetensors, read_config, read_license
from depthkd.models.provenance import hub_id, training_sets

Size = Literal["tiny", "mini", "small", "base", "large", "giant"]


@dataclass(frozen=True)
class Shape:
    """One row of the architecture's table."""

    hidden: int
    layers: int
    heads: int
    stages: tuple[int, int, int, int]  # the encoder layers that V2's neck reads, counted from 1
    neck: tuple[int, int, int, int]
    fusion: int
    swiglu: bool = False
    patch: int = 14
    image_size: int = 518
    head_hidden: int = 32
    factors: tuple[int | float, ...] = (4, 2, 1, 0.5)  # the neck's maps, in patches


# With patches of 8 the papers' factors would fuse at full resolution, at twice the cost a step.
_EIGHT: dict[str, Any] = {"patch": 8, "image_size": 96, "head_hidden": 16, "factors": (2, 1, 0.5, 0.5)}

SHAPES: dict[str, Shape] = {
    "tiny": Shape(48, 4, 2, (1, 2, 3, 4), (16, 24, 32, 48), 24, **_EIGHT),
    "mini": Shape(64, 4, 2, (1, 2, 3, 4), (16, 24, 32, 48), 24, **_EIGHT),
    "small": Shape(384, 12, 6, (3, 6, 9, 12), (48, 96, 192, 384), 64),
    "base": Shape(768, 12, 12, (3, 6, 9, 12), (96, 192, 384, 768), 128),
    "large": Shape(1024, 24, 16, (5, 12, 18, 24), (256, 512, 1024, 1024), 256),
    "giant": Shape(1536, 40, 24, (10, 20, 30, 40), (1536, 1536, 1536, 1536), 384, swiglu=True),
}


class DepthAnything(HuggingFaceDepth):
    """A Depth Anything network built from its table; random weights unless `weights` names some.

    Args:
        size: "small" to "giant" are the papers'; "tiny" (a student) and "mini" (its teacher) learn
            from scratch on two cores in minutes, at about 96x128 pixels.
        version: 2 reads encoder layers spread over the depth, 1 the last four.
        metric_max_depth: the meters at which the metric (sigmoid) head saturates, 20 indoors and 80
            outdoors; None is the relative head (affine disparity).
        patch: pixels a side of a patch; the size's own where None (14, tiny and mini 8).
        weights: hub id or folder; or a .safetensors or .pth file, here or in a hub repository
            (OWNER/NAME/FILE), as the authors of Depth Anything, Distill Any Depth and DINOv2 publish them;
            "{Size}" in it becomes Small, Base, ..., by `size`. A DINOv2 fills the encoder, and a relative
            Depth Anything the encoder alone of a metric one, as its fine-tuning does; anything else fills
            everything.
        license: of the weights; what their card says where None.
        gradient_checkpointing: recompute the encoder's activations in the backward pass.
        initialize: "encoder" takes the encoder alone from the weights; neck and head begin at random.
        preprocessing: whose way of resizing images and predictions: "depthkd", "authors" or "transformers",
            see `HuggingFaceDepth`.

    Raises:
        UserError: no such size or version, or weights that do not fit.
        MissingFileError: the weights cannot be found.
    """

    def __init__(
        self,
        size: Size = "small",
        version: int = 2,
        metric_max_depth: int | None = None,
        patch: int | None = None,
        weights: str | None = None,
        license: str | None = None,
        gradient_checkpointing: bool = False,
        initialize: Initialize = "all",
        preprocessing: Preprocessing = "depthkd",
    ) -> None:
        config = depth_anything_config(size, version, metric_max_depth, patch)
        super().__init__(
            config=config,
            license=license,
            gradient_checkpointing=gradient_checkpointing,
            preprocessing=preprocessing,
        )
        self.source = f"DepthAnything {size} V{version}"
        if weights is not None:
            weights = weights.replace("{Size}", size.capitalize())
            named = find_file(weights) if is_file(weights) else weights
            known = official(named) if is_file(weights) else None
            whole = fill_from(self.network, named, known, initialize == "encoder")
            self.license = license or (known.license if known else read_license(_folder(named)))
            self.source = f"{self.source} {'from' if whole else 'with the encoder of'} {weights}"
            self.training_sets = training_sets(known.hub_id if known else hub_id(named))


def depth_anything_config(
    size: str = "small", version: int = 2, metric_max_depth: int | None = None, patch: int | None = None
) -> dict[str, Any]:
    """The transformers configuration of one row of the table.

    Raises:
        UserError: no such size or version.
    """
    if size not in SHAPES:
        raise UserError(f"Depth Anything has no size '{size}'; it would be one of {', '.join(SHAPES)}")
    if version not in (1, 2):
        raise UserError(f"Depth Anything has no version {version}; it would be 1 or 2")
    shape = SHAPES[size]
    patch = patch or shape.patch
    last_four = range(shape.layers - 3, shape.layers + 1)
    return {
        "model_type": "depth_anything",
        "backbone_config": {
            "model_type": "dinov2",
            "hidden_size": shape.hidden,
            "num_hidden_layers": shape.layers,
            "num_attention_heads": shape.heads,
            "use_swiglu_ffn": shape.swiglu,
            "image_size": shape.image_size,
            "patch_size": patch,
            "out_indices": list(shape.stages if version == 2 else last_four),
            "apply_layernorm": True,
            "reshape_hidden_states": False,
        },
        "patch_size": patch,
        "reassemble_hidden_size": shape.hidden,
        "reassemble_factors": list(shape.factors),
        "neck_hidden_sizes": list(shape.neck),
        "fusion_hidden_size": shape.fusion,
        "head_hidden_size": shape.head_hidden,
        "depth_estimation_type": "relative" if metric_max_depth is None else "metric",
        "max_depth": 1 if metric_max_depth is None else metric_max_depth,
    }


def fill_from(network: Any, weights: str, known: Official | None = None, encoder_only: bool = False) -> bool:
    """Copy weights into a Depth Anything network, or into its encoder.

    Args:
        network: transformers' DepthAnythingForDepthEstimation.
        weights: hub id, folder or file.
        known: what a file's name says of it.
        encoder_only: leave neck and head as they are.

    Returns:
        Whether neck and head were filled too.

    Raises:
        UserError: they are of another architecture or size, or of another version or head by what
            their configuration or the file's name says.
    """
    if is_file(weights):
        if known is not None and not encoder_only:
            encoder_only = _other_head(network, weights, known.version, known.metric_max_depth)
        return fill_from_file(network, weights, encoder_only)
    kind = read_config(weights).get("model_type")
    if kind == "dinov2":
        target, source = network.backbone, load_safetensors(Dinov2Backbone, weights)
    elif kind == "depth_anything":
        target, source = network, load_network(weights)
        if encoder_only or _other_head(network, weights, depth_anything_version(source), _max_depth(source)):
            target, source = network.backbone, source.backbone
    else:
        raise UserError(f"the weights '{weights}' are a '{kind}'; it would be depth_anything or dinov2")
    try:
        target.load_state_dict(source.state_dict())
    except RuntimeError as error:
        raise UserError(
            f"the weights '{weights}' are of another size: {str(error).splitlines()[1].strip()}"
        ) from error
    return target is network


def _other_head(network: Any, weights: str, version: int, max_depth: int | None) -> bool:
    """Whether a network is metric and weights are relative, so that they fill its encoder alone."""
    ours = _max_depth(network)
    if ours is not None and max_depth is None:
        return True
    if ours != max_depth:
        raise UserError(
            f"the weights '{weights}' are metric up to {max_depth} m: set metric_max_depth: {max_depth}, or "
            "initialize: encoder for a head of another kind"
        )
    if version != depth_anything_version(network):
        raise UserError(
            f"the weights '{weights}' are of version {version}, whose head reads other layers of the "
            f"encoder: set version: {version}, or initialize: encoder"
        )
    return False


def _max_depth(network: Any) -> int | None:
    metric = network.config.depth_estimation_type == "metric"
    return int(network.config.max_depth) if metric else None


def _folder(weights: str) -> str:
    return str(Path(weights).parent) if is_file(weights) else weights
