"""The DPT family through transformers: Depth Anything, Distill Any Depth, DPT and MiDaS."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import (
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    DPTConfig,
    DPTForDepthEstimation,
    DPTImageProcessor,
)

from depthkd.batch import AFFINE_DISPARITY, METRIC_DEPTH, DepthSpace
from depthkd.errors import UserError
from depthkd.models.dpt.preprocessing import RECORDED, PreprocessedDepth, Preprocessing
from depthkd.models.hub import UNBUILT, UNUSED, load_safetensors, read_config, read_json, read_license
from depthkd.models.model import DepthOutput, resize_map
from depthkd.models.provenance import stated_or_known
from depthkd.paths import user_path
from depthkd.shapes import Image

FAMILIES = {
    "depth_anything": (DepthAnythingConfig, DepthAnythingForDepthEstimation),
    "dpt": (DPTConfig, DPTForDepthEstimation),
}
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Initialize = Literal["all", "encoder"]  # what is taken of weights; the rest begins at random
ELSEWHERE = {
    "zoedepth": "ZoeDepth",
    "depth_pro": "DepthPro",
    "prompt_depth_anything": "PromptDepthAnything",
}


class HuggingFaceDepth(PreprocessedDepth):
    """A depth network that *is* the transformers class (in `network`), whatever it was built from.

    Hub checkpoints load as they are, and what `save_pretrained` writes loads back, here and in
    `transformers.pipeline("depth-estimation")`. Space, normalization, multiple and license follow
    from the configuration files; an argument overrides them.

    Args:
        source: hub id or local folder (config.json and safetensors; pickled weights are refused).
        config: a transformers configuration with its `model_type` (depth_anything or dpt) instead
            of a source; the weights are then random.
        space: what the output means: "affine disparity", or "metric depth" for metric heads.
        mean: of the normalization of RGB in [0, 1].
        std: likewise.
        multiple: of the input's sides, in pixels.
        license: of the weights.
        revision: branch, tag or commit on the hub.
        gradient_checkpointing: recompute the encoder's activations in the backward pass.
        training_sets: the data sets that the weights have learned from; what is publicly known where None.
        initialize: "encoder" takes the encoder's weights alone from the source and lets neck and head
            begin at random, as Distill Any Depth does for its comparisons (appendix C.1).
        preprocessing: None: what the folder records (`depthkd export --preprocessing`), else "depthkd", which
            resizes antialiased and passes gradients; "authors", of a Depth Anything,
            gives what its authors' code gives, and "transformers" what its depth-estimation pipeline
            gives. These two choose the size themselves where nobody asks for one, and no student learns
            with them.

    Raises:
        MissingFileError: there is no such folder or hub repository, or the hub cannot be reached.
        UserError: the model type is another, or the weights are pickled or do not fit.
    """

    keeps_head_fp32 = True

    def __init__(
        self,
        source: str | None = None,
        config: dict[str, Any] | None = None,
        space: str | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        multiple: int | None = None,
        license: str | None = None,
        revision: str | None = None,
        gradient_checkpointing: bool = False,
        training_sets: list[str] | None = None,
        initialize: Initialize = "all",
        preprocessing: Preprocessing | None = None,
    ) -> None:
        super().__init__()
        if (source is None) == (config is None):
            raise UserError("give HuggingFaceDepth either a source (hub id or folder) or a config")
        if config is not None:
            self.network = random_network(config)
            self.source, card_license, stored = f"random {config['model_type']}", "unknown", {}
        else:
            assert source is not None
            self.network = load_network(source, revision)
            self.source, card_license = source, read_license(source, revision)
            stored = read_json(source, "preprocessor_config.json", revision)
            if initialize == "encoder":
                randomize_head(self.network)
                self.source = f"the encoder of {source}"
        self.config = self.network.config
        self.space = DepthSpace.parse(space or getattr(self.config, "depth_space", None) or self._space())
        if self.space == METRIC_DEPTH and self._space() == METRIC_DEPTH:  # the sigmoid ends there
            self.max_depth = float(self.config.max_depth)
        self.multiple = multiple or self._multiple()
        if getattr(self.config, "is_hybrid", False):  # transformers refuses any other size for these
            self.fixed_size = (_first(self.config.image_size), _last(self.config.image_size))
        self.license = license or card_license
        self.training_sets = stated_or_known(training_sets, source)
        self.mean = tuple(mean or stored.get("image_mean") or IMAGENET_MEAN)
        self.std = tuple(std or stored.get("image_std") or IMAGENET_STD)
        for name, parameter in self.network.named_parameters():
            if name.startswith(UNUSED):
                parameter.requires_grad_(False)
        for part in (self.network.neck, self.network.head):
            part.to(memory_format=torch.channels_last)  # a third faster on CPUs
        if gradient_checkpointing:
            newer = getattr(self.network, "activation_checkpointing_enable", None)
            (newer or self.network.gradient_checkpointing_enable)()
        at = getattr(self.config, "trained_at", None)
        self.trained_at = None if at is None else (int(at[0]), int(at[1]))
        side = _first(self._encoder_config().image_size)
        preprocessing = preprocessing or getattr(self.config, RECORDED, None) or "depthkd"
        self.preprocess_as(preprocessing, self.network, side, lambda: self._stored_processor(stored, side))

    def normalized(self, image: Image) -> Image:
        """Less the mean, and divided by the standard deviation, of each channel."""
        mean, std = (image.new_tensor(v).view(3, 1, 1) for v in (self.mean, self.std))
        return (image - mean) / std

    def run(self, pixels: Image) -> DepthOutput:
        """The network's input -> float32 depth of its size, and the last stage's patch tokens.

        The encoder and the neck run in the ambient precision, the head in float32: its values
        overflow float16.
        """
        height, width = pixels.shape[-2:]
        stages = self._encode(pixels.to(next(self.network.parameters()).dtype))
        patch = self._patch_size()
        hidden = self.network.neck(stages, height // patch, width // patch)
        with torch.autocast(pixels.device.type, enabled=False):
            precise = [h.to(next(self.network.head.parameters()).dtype) for h in hidden]
            if self.config.model_type == "depth_anything":
                depth = self.network.head(precise, height // patch, width // patch)
            else:
                depth = self.network.head(precise)
        last = stages[-1]
        features = last.flatten(2).transpose(1, 2) if last.ndim == 4 else last[:, 1:]
        return DepthOutput(resize_map(depth, (height, width)), features)

    @property
    def feature_channels(self) -> int:
        """The width of the encoder's last stage.

        Depth Anything's features have passed the encoder's last LayerNorm, those of DPT (plain,
        hybrid, BEiT, SwinV2) are the last stage's as the neck reads them.
        """
        return int(self._encoder_config().hidden_size)

    @property
    def feature_family(self) -> str:
        """The backbone's model type, such as "dinov2" or "beit"."""
        return str(self._encoder_config().model_type)

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        """The backbone's."""
        return self._encoder().parameters()

    def save_pretrained(self, folder: Path | str, image_size: int | None = None) -> None:
        """Write config.json, model.safetensors and preprocessor_config.json.

        Args:
            folder: made where it is missing.
            image_size: the side at which the pipeline will run it, in pixels; None: the shorter one of
                the images that a run's student learned from, or the encoder's own.
        """
        folder = user_path(folder)
        at = self.trained_at if image_size is None else (image_size, image_size)
        self.config.depth_space = str(self.space)
        self.config.trained_at = None if at is None else list(at)
        setattr(self.config, RECORDED, self.preprocessing)
        self.network.save_pretrained(folder)
        side = image_size or min(self.trained_at or (_first(self._encoder_config().image_size),))
        self.processor(side).save_pretrained(folder)

    def processor(self, side: int) -> Any:
        """transformers' image processor for it, with the side at which the pipeline will run, in pixels."""
        return DPTImageProcessor(
            size={"height": side, "width": side},
            keep_aspect_ratio=getattr(self.network, "backbone", None)
            is not None,  # its plain DPT wants squares
            ensure_multiple_of=self.multiple,
            image_mean=list(self.mean),
            image_std=list(self.std),
            do_pad=False,
        )

    def _stored_processor(self, stored: dict[str, Any], side: int) -> Any:
        values = {"image_mean": list(self.mean), "image_std": list(self.std)}
        return DPTImageProcessor.from_dict(stored | values) if stored else self.processor(side)

    def _encode(self, pixels: Float[Tensor, "batch 3 height width"]) -> list[Tensor]:
        """The stages that the neck wants; as in the transformers classes' own forward."""
        if getattr(self.network, "backbone", None) is not None:
            return list(self.network.backbone(pixels).feature_maps)
        output = self.network.dpt(pixels, output_hidden_states=True)
        layers, chosen = output.hidden_states[1:], self.config.backbone_out_indices
        if self.config.is_hybrid:
            return [*output.intermediate_activations, *(layers[i] for i in chosen[2:])]
        return [layers[i] for i in chosen]

    def _encoder(self) -> nn.Module:
        backbone: nn.Module | None = getattr(self.network, "backbone", None)
        encoder: nn.Module = self.network.dpt if backbone is None else backbone
        return encoder

    def _encoder_config(self) -> Any:
        return self.config if getattr(self.network, "backbone", None) is None else self.config.backbone_config

    def _space(self) -> DepthSpace:
        metric = getattr(self.config, "depth_estimation_type", "relative") == "metric"
        return METRIC_DEPTH if metric else AFFINE_DISPARITY

    def _patch_size(self) -> int:
        if self.config.model_type == "dpt" and getattr(self.network, "backbone", None) is not None:
            return _first(self.config.backbone_config.patch_size)
        return _first(self.config.patch_size)

    def _multiple(self) -> int:
        if self.config.model_type == "depth_anything":
            return self._patch_size()
        backbone = self.config.backbone_config
        if backbone is not None and backbone.model_type == "swinv2":
            halvings: int = len(backbone.depths) - 1
            return self._patch_size() << halvings
        return 2 * self._patch_size()  # DPT's coarsest map has half as many rows as there are patches

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "HuggingFaceDepth":
        cast_all: Callable[..., object] = super()._apply
        cast_all(fn, recurse)
        keep_precise(self.network.head)
        return self


def random_network(config: dict[str, Any]) -> Any:
    """The transformers network of a configuration, with random weights.

    Raises:
        UserError: the model type is not one of the DPT family's.
    """
    config_class, network_class = _family(config, "the config")
    try:
        network = network_class(config_class.from_dict(config))
    except UNBUILT as error:
        kind, reason = config["model_type"], " ".join(str(error).split())
        raise UserError(f"transformers cannot build a {kind} by the config: {reason}") from error
    randomize_head(network)
    return network


def randomize_head(network: Any) -> None:
    """Begin a DPT network's neck and head anew.

    They begin at torch's defaults, as in the papers' own code; transformers' would give nearly
    constant maps. The last bias begins at 1, above the ReLU that ends a relative head, or half of
    all starts would be dead.
    """
    for module in [*network.neck.modules(), *network.head.modules()]:
        reset = getattr(module, "reset_parameters", None)
        if reset is not None:
            reset()
    if getattr(network.config, "depth_estimation_type", "relative") == "relative":
        last = [m for m in network.head.modules() if isinstance(m, nn.Conv2d)][-1]
        nn.init.constant_(cast(Tensor, last.bias), 1.0)


def keep_precise(head: nn.Module) -> None:
    """Bring a head that was cast to a half precision back to float32."""
    if next(head.parameters()).dtype in (torch.float16, torch.bfloat16):
        head.float()


def load_network(source: str, revision: str | None = None) -> Any:
    """The transformers network of a hub id or a folder, in float32, from safetensors alone.

    Raises:
        MissingFileError: there is no such folder or repository, or the hub cannot be reached.
        UserError: the model type is another, or the weights are pickled or do not fit.
    """
    _, network_class = _family(read_config(source, revision), f"'{source}'")
    return load_safetensors(network_class, source, revision)


def _family(config: dict[str, Any], whose: str) -> tuple[Any, Any]:
    kind = str(config.get("model_type"))
    if kind in ELSEWHERE:
        raise UserError(f"{whose} has model_type '{kind}': its class is depthkd.models.{ELSEWHERE[kind]}")
    if kind not in FAMILIES:
        raise UserError(f"{whose} has model_type '{kind}'; it would be one of {', '.join(FAMILIES)}")
    return FAMILIES[kind]


def _first(size: int | Sequence[int]) -> int:
    return size if isinstance(size, int) else int(size[0])


def _last(size: int | Sequence[int]) -> int:
    return size if isinstance(size, int) else int(size[-1])
