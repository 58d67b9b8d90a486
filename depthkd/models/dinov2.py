"""Dinov2Features: pre-trained DINOv2 as what a student's features are aligned to."""

from typing import Any

from jaxtyping import Float
from torch import Tensor
from transformers import Dinov2Config, Dinov2Model

from depthkd.errors import UserError
from depthkd.models.dpt.dpt import IMAGENET_MEAN, IMAGENET_STD
from depthkd.models.hub import load_safetensors, read_config, read_license
from depthkd.models.model import FeatureModel, resize_image
from depthkd.shapes import Image

KIND = "dinov2"


class Dinov2Features(FeatureModel):
    """DINOv2's patch features (Oquab et al., arXiv 2304.07193), without any depth.

    Depth Anything V2 (section 5.2) and Distill Any Depth (Eq. 9) keep the semantics of pre-trained DINOv2 by
    aligning the student's features to them. They are the last layer's patch tokens after the final
    LayerNorm, as those of a `DepthAnything`, without the class token.

    Args:
        source: hub id or local folder (config.json and safetensors; pickled weights are refused); of the
            student's size: facebook/dinov2-small, -base, -large or -giant.
        config: a transformers configuration of model_type dinov2 instead of a source; the weights are then
            random.
        revision: branch, tag or commit on the hub.
        license: of the weights; what their card says where None.

    Raises:
        MissingFileError: there is no such folder or hub repository, or the hub cannot be reached.
        UserError: it holds another model, or the weights are pickled or do not fit.
    """

    keeps_head_fp32 = True  # the final LayerNorm is in float32 under autocast
    training_sets = ()  # of depth: none

    def __init__(
        self,
        source: str | None = None,
        config: dict[str, Any] | None = None,
        revision: str | None = None,
        license: str | None = None,
    ) -> None:
        super().__init__()
        if (source is None) == (config is None):
            raise UserError("give Dinov2Features either a source (hub id or folder) or a config")
        described = config if source is None else read_config(source, revision)
        assert described is not None
        kind = described.get("model_type")
        if kind != KIND:
            whose = "the config" if source is None else f"'{source}'"
            raise UserError(f"{whose} has model_type '{kind}'; for Dinov2Features it would be {KIND}")
        self.network: Any
        if source is None:
            network_class: Any = Dinov2Model
            self.network = network_class(Dinov2Config.from_dict(described))
            self.source, self.license = f"random {KIND}", license or "unknown"
        else:
            self.network = load_safetensors(Dinov2Model, source, revision)
            self.source, self.license = source, license or read_license(source, revision)
        self.patch = int(self.network.config.patch_size)

    def features(self, image: Image) -> Float[Tensor, "batch tokens channels"]:
        """RGB in [0, 1] -> one token a patch, row by row; sides are rounded to whole patches."""
        height, width = image.shape[-2:]
        tall, wide = (max(1, round(side / self.patch)) * self.patch for side in (height, width))
        image = image if (tall, wide) == (height, width) else resize_image(image, (tall, wide))
        mean, std = (image.new_tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
        tokens: Tensor = self.network((image - mean) / std).last_hidden_state
        return tokens[:, 1:]

    @property
    def feature_channels(self) -> int:
        """DINOv2's width: 384, 768, 1024 or 1536."""
        return int(self.network.config.hidden_size)

    @property
    def feature_family(self) -> str:
        """As a DepthAnything's."""
        return KIND
