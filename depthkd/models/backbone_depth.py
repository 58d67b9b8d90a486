"""BackboneDepth: what networks share that put a head of their own on a backbone of elsewhere."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from depthkd.errors import UserError
from depthkd.models.dpt.dpt import keep_precise
from depthkd.models.hub import WEIGHTS, locate, read_config, read_license
from depthkd.models.model import DepthModel
from depthkd.models.timm_backbone import PATHS
from depthkd.models.weights import read_safetensors, refuse_broken
from depthkd.paths import user_path
from depthkd.shapes import Image


class BackboneDepth(DepthModel):
    """A backbone of elsewhere under a head of ours, saved as a folder that depthkd alone loads.

    The head computes in float32, whatever the rest runs in: its values overflow float16. A subclass sets what
    is declared here.
    """

    keeps_head_fp32 = True
    kind: str  # config.json's model_type
    saved: frozenset[str]  # the arguments that config.json holds

    backbone: Any
    head: Any
    backbone_name: str
    built_by: dict[str, Any]  # those arguments, without those that say where the weights came from
    mean: tuple[float, ...]  # of the normalization of RGB in [0, 1]
    std: tuple[float, ...]
    frozen_statistics: bool  # whether the backbone's batch normalization keeps its means and variances
    _feature_channels: int

    def normalized(self, image: Image, channels_last: bool) -> Tensor:
        """The image as the backbone takes it, in its precision.

        Args:
            image: RGB in [0, 1].
            channels_last: whether in that order in memory, which convolutions follow, and take a fifth less
                time in.
        """
        mean, std = (image.new_tensor(v).view(3, 1, 1) for v in (self.mean, self.std))
        normalized = ((image - mean) / std).to(next(self.backbone.parameters()).dtype)
        if not channels_last or breaks_channels_last(self.backbone):
            return normalized
        return normalized.contiguous(memory_format=torch.channels_last)

    @property
    def feature_channels(self) -> int:
        """The width of the last map; a plain transformer's has passed its final norm."""
        return self._feature_channels

    @property
    def feature_family(self) -> str:
        """The backbone's name; "dinov2" of those that are transformers' DINOv2 too."""
        name = self.backbone_name
        return "dinov2" if "dinov2" in name and "_reg" not in name else name

    def train(self, mode: bool = True) -> "BackboneDepth":
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
        """Write config.json and model.safetensors, as `from_folder` and `depthkd predict --model` read them;
        transformers has no class for it. See `DepthModel.save_pretrained`."""
        folder = user_path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        at = self.trained_at if image_size is None else (image_size, image_size)
        arguments = {**self.built_by, "frozen_statistics": self.frozen_statistics}
        config = {
            "model_type": self.kind,
            "class_path": f"depthkd.models.{self.saved_as().__name__}",
            "init_args": arguments,
            "depth_space": str(self.space),
            "trained_at": None if at is None else list(at),
            "image_mean": list(self.mean),
            "image_std": list(self.std),
        }
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})

    @classmethod
    def saved_as(cls) -> "type[BackboneDepth]":
        """The class that a folder is loaded as: the one that declares `saved`, of a subclass of that too."""
        bases = [one for one in cls.__mro__ if issubclass(one, BackboneDepth)]
        return next(one for one in bases if "saved" in vars(one))

    @classmethod
    def from_folder(cls, source: str, revision: str | None = None) -> "BackboneDepth":
        """The network of a folder, or hub id, that `save_pretrained` wrote.

        Raises:
            MissingFileError: there is no such folder or repository, or no weights in it.
            UserError: its config.json is another kind's, or its weights do not fit that.
        """
        config, name = read_config(source, revision), cls.__name__
        arguments = config.get("init_args")
        if (
            config.get("model_type") != cls.kind
            or not isinstance(arguments, dict)
            or arguments.keys() != cls.saved
        ):
            raise UserError(
                f"the config.json of '{source}' describes no {name}: model_type would be '{cls.kind}', and "
                f"init_args would be {', '.join(sorted(cls.saved))}"
            )
        if not isinstance(arguments["options"], dict) or PATHS & set(arguments["options"]):
            raise UserError(
                f"the config.json of '{source}' has options that read files; they would be plain values"
            )
        try:
            model: BackboneDepth = cls(**arguments)
            model.mean, model.std = tuple(config["image_mean"]), tuple(config["image_std"])
            at = config["trained_at"]
            model.trained_at = None if at is None else (int(at[0]), int(at[1]))
        except (KeyError, TypeError, IndexError) as error:
            raise UserError(f"the config.json of '{source}' describes no {name}: {error!r}") from error
        tensors = read_safetensors(locate(source, WEIGHTS, revision))
        refuse_broken(tensors, f"{WEIGHTS} of '{source}'")
        try:
            model.load_state_dict(tensors)
        except RuntimeError as error:
            first = (str(error).splitlines()[1:2] or [str(error)])[0].strip()
            raise UserError(f"the weights of '{source}' do not fit its config.json: {first}") from error
        model.source, model.license = source, read_license(source, revision)
        return model

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        cast_all: Callable[..., object] = super()._apply
        cast_all(fn, recurse)
        keep_precise(self.head)
        return self


def breaks_channels_last(network: nn.Module) -> bool:
    """Whether a network has a convolution whose gradient torch gets wrong in the order of channels last.

    On CPUs, that of a convolution of one pixel, with a stride and fewer than 16 channels, writes past its
    memory (torch 2.15): FastViT, MobileOne and RepVGG begin with one.
    """
    convolutions = (m for m in network.modules() if isinstance(m, nn.Conv2d))
    return any(c.kernel_size == (1, 1) and c.stride != (1, 1) and c.in_channels < 16 for c in convolutions)
