"""ZoeDepth and Depth Pro through transformers: metric depth, at a size of the network's own choice."""

import math
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformers import (
    DepthProForDepthEstimation,
    DepthProImageProcessor,
    ZoeDepthForDepthEstimation,
    ZoeDepthImageProcessor,
)

from depthkd.batch import METRIC_DEPTH, Ambiguity, DepthSpace, Quantity
from depthkd.errors import UserError
from depthkd.models.hub import load_safetensors, read_config, read_json, read_license
from depthkd.models.model import DepthModel, DepthOutput, RawPrediction, Resized, resize_map
from depthkd.models.provenance import stated_or_known
from depthkd.paths import user_path
from depthkd.resolution import Asked
from depthkd.shapes import Image

HALF = (0.5, 0.5, 0.5)
FARTHEST, NEAREST = 1e-4, 1e4  # limits of Depth Pro's inverse depth, in 1/m


class MetricDepth(DepthModel):
    """What networks of transformers with a size of their own share: the network and its files.

    Args:
        source: hub id or local folder (config.json, preprocessor_config.json and safetensors).
        license: of the weights; what their card says where None.
        revision: branch, tag or commit on the hub.
        training_sets: the data sets that the weights have learned from; what is publicly known where None.

    Raises:
        MissingFileError: there is no such folder or hub repository, or the hub cannot be reached.
        UserError: it holds another model, or the weights are pickled or do not fit.
    """

    chooses_size = True
    space = METRIC_DEPTH
    model_type: str
    network_class: Any
    processor_class: Any

    def __init__(
        self,
        source: str,
        license: str | None = None,
        revision: str | None = None,
        training_sets: list[str] | None = None,
    ) -> None:
        super().__init__()
        kind = read_config(source, revision).get("model_type")
        if kind != self.model_type:
            raise UserError(
                f"'{source}' has model_type '{kind}'; for {type(self).__name__} it would be {self.model_type}"
            )
        self.network = load_safetensors(self.network_class, source, revision)
        self.source = source
        self.license = license or read_license(source, revision)
        self.training_sets = stated_or_known(training_sets, source)
        stored = read_json(source, "preprocessor_config.json", revision)
        self.mean = tuple(stored.get("image_mean") or HALF)
        self.std = tuple(stored.get("image_std") or HALF)
        self._stored = stored
        self._read(stored)

    @abstractmethod
    def _read(self, stored: dict[str, Any]) -> None:
        """Take the sizes from preprocessor_config.json."""

    def forward(self, image: Image) -> DepthOutput:
        """RGB in [0, 1] -> depth in `self.space` at the image's size."""
        return DepthOutput(self.resize_to(self.predict_raw(image), (image.shape[-2], image.shape[-1])))

    def save_pretrained(self, folder: Path | str, image_size: int | None = None) -> None:
        """Write config.json, model.safetensors and preprocessor_config.json, for transformers.

        Raises:
            UserError: an image size is asked for.
        """
        if image_size is not None:
            raise UserError(f"{type(self).__name__} runs at a size of its own, and takes no image size")
        folder = user_path(folder)
        self.network.save_pretrained(folder)
        self.processor_class.from_dict(self._stored).save_pretrained(folder)

    def normalized(self, pixels: Resized) -> Resized:
        """With the stored mean and standard deviation, in the network's precision."""
        mean, std = (pixels.new_tensor(v).view(3, 1, 1) for v in (self.mean, self.std))
        return ((pixels - mean) / std).to(next(self.network.parameters()).dtype)


class ZoeDepth(MetricDepth):
    """ZoeDepth (Bhat et al., arXiv 2302.12288): `Intel/zoedepth-nyu`, `-kitti` and `-nyu-kitti`.

    As its transformers image processor does: the image is padded by its own mirror image, shrunk or
    enlarged to about 384x512 with its aspect kept, and the border is cut off the result. The raw prediction
    of `infer` still has the border. Resolution and scale have no effect.

    Args:
        source, license, revision, training_sets: see `MetricDepth`.
    """

    model_type = "zoedepth"
    network_class = ZoeDepthForDepthEstimation
    processor_class = ZoeDepthImageProcessor

    def _read(self, stored: dict[str, Any]) -> None:
        size = stored.get("size") or {"height": 384, "width": 512}
        self.size = (int(size["height"]), int(size["width"]))
        self.multiple = int(stored.get("ensure_multiple_of") or 32)
        self.keep_aspect = bool(stored.get("keep_aspect_ratio", True))
        self.padded = bool(stored.get("do_pad", True))

    def predict_raw(self, image: Image) -> RawPrediction:
        """Metric depth, in meters, with the border, at the size that the network ran at."""
        rows, columns = self.border(*image.shape[-2:])
        pixels = F.pad(image.float(), (columns, columns, rows, rows), mode="reflect")
        size = self.network_size(*pixels.shape[-2:])
        pixels = F.interpolate(pixels, size, mode="bilinear", align_corners=True)
        # A network for indoors and outdoors takes one vote on the whole batch.
        several = len(self.network.config.bin_configurations) > 1
        parts = torch.split(self.normalized(pixels), 1 if several else len(pixels))
        return torch.cat([self.network(part).predicted_depth for part in parts]).float()

    def resize_to(self, raw: RawPrediction, size: tuple[int, int]) -> Float[Tensor, "batch height width"]:
        """The prediction at the padded image's size, bicubic, without the border."""
        (height, width), (rows, columns) = size, self.border(*size)
        padded = (height + 2 * rows, width + 2 * columns)
        depth = F.interpolate(raw[:, None], padded, mode="bicubic", align_corners=False)[:, 0]
        return depth[:, rows : rows + height, columns : columns + width]

    def runs_at(
        self, height: int, width: int, resolution: Asked = None, scale: float = 1.0
    ) -> tuple[int, int] | None:
        """Of the padded image, whatever is asked for."""
        rows, columns = self.border(height, width)
        return self.network_size(height + 2 * rows, width + 2 * columns)

    def border(self, height: int, width: int) -> tuple[int, int]:
        """Rows above and below, and columns left and right, that pad an image of this size."""
        return (int(3 * math.sqrt(height / 2)), int(3 * math.sqrt(width / 2))) if self.padded else (0, 0)

    def network_size(self, height: int, width: int) -> tuple[int, int]:
        """The size at which a padded image runs: scaled as little as possible, in multiples."""
        down, across = self.size[0] / height, self.size[1] / width
        if self.keep_aspect:
            down = across = across if abs(1 - across) < abs(1 - down) else down
        m = self.multiple
        return max(m, round(down * height / m) * m), max(m, round(across * width / m) * m)

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        """The backbone's."""
        parameters: Iterator[nn.Parameter] = self.network.backbone.parameters()
        return parameters


class DepthPro(MetricDepth):
    """Depth Pro (Bochkovskii et al., arXiv 2410.02073): `apple/DepthPro-hf`.

    The network runs at 1536x1536 and estimates inverse depth for a focal length of one image width,
    and the field of view, which makes it metric. The raw prediction of `infer` is metric disparity, in 1/m.
    Without a head for the field of view the space is "scale depth". Resolution and scale have no
    effect.

    Args:
        source, license, revision, training_sets: see `MetricDepth`.
    """

    model_type = "depth_pro"
    network_class = DepthProForDepthEstimation
    processor_class = DepthProImageProcessor

    def _read(self, stored: dict[str, Any]) -> None:
        config = self.network.config
        if not config.use_fov_model:
            self.space = DepthSpace(Quantity.DEPTH, Ambiguity.SCALE)
        side = round(config.patch_size / min(config.scaled_images_ratios))
        size = stored.get("size") or {"height": side, "width": side}
        self.fixed_size = (int(size["height"]), int(size["width"]))

    def predict_raw(self, image: Image) -> RawPrediction:
        """Disparity, in 1/m, at the size that the network ran at."""
        pixels = self.normalized(image.float())
        output = self.network(F.interpolate(pixels, self.fixed_size, mode="bilinear", align_corners=False))
        disparity: Tensor = output.predicted_depth.float()
        if output.field_of_view is None:
            return disparity
        # Image width over focal length, whatever the width.
        factor = 2 * torch.tan(torch.deg2rad(output.field_of_view.float()) / 2)
        return disparity * factor.view(-1, 1, 1)

    def resize_to(self, raw: RawPrediction, size: tuple[int, int]) -> Float[Tensor, "batch height width"]:
        """Depth at the image's size: disparity is resized, then inverted; 0.1 mm to 10 km."""
        return 1 / resize_map(raw, size).clamp(FARTHEST, NEAREST)

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        """Those of the encoders of patches, image and field of view."""
        yield from self.network.depth_pro.encoder.parameters()
        if self.network.config.use_fov_model:
            yield from self.network.fov_model.fov_encoder.parameters()
