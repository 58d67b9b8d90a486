"""A Depth Anything network under ZoeDepth's metric-bins head."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depthkd.batch import METRIC_DEPTH
from depthkd.errors import UserError
from depthkd.models.arguments import named
from depthkd.models.dpt.depth_anything import DepthAnything, Size
from depthkd.models.dpt.dpt import Initialize, keep_precise
from depthkd.models.dpt.metric_bins import Attraction, CentersType, Joining, MetricBinsHead
from depthkd.models.model import DepthOutput, RawPrediction
from depthkd.models.own_folder import OwnFolder
from depthkd.resolution import Asked
from depthkd.shapes import Image, Map


class MetricBinsDepth(OwnFolder, DepthAnything):
    """A Depth Anything network under ZoeDepth's metric-bins head: in-domain metric depth.

    As Depth Anything does it for its tables on NYUv2 and KITTI (arXiv 2401.10891, appendix; 2406.09414,
    section 7.3, Table 4): ZoeDepth (arXiv 2302.12288) with its MiDaS replaced, encoder and decoder alike.
    Every image is resized to `image_size`, whatever its shape, and the depth is resized back, both bilinearly
    with aligned corners; resolution and scale have no effect. The encoder group of the optimizer is all of
    Depth Anything.

    Args:
        size, version, patch, license, gradient_checkpointing: see `DepthAnything`.
        weights: of a relative Depth Anything, as `DepthAnything` takes them; the bins begin at random.
        initialize: "encoder" lets the decoder begin at random too; the authors' code does not.
        image_size: height and width at which it runs, in pixels.
        keep_aspect: run at the size that needs the least change of one side instead, in multiples of a patch.
        bins: how many.
        embedding: channels of the bins' embedding.
        attractors: how many attractors the four scales have, the coarsest first.
        centers: of the bins: "softplus", without an upper bound, or "normed", inside the range of depths.
        attraction: "inv" or "exp", see `depthkd.models.dpt.metric_bins`.
        alpha, gamma: of the attraction.
        joining: of an attractor's points, "mean" or "sum".
        min_depth, max_depth: the range of normed centers, in meters; softplus centers have none.
        temperatures: the lowest and the highest, of the distribution over bins.

    Raises:
        UserError: no such size or version, weights that do not fit, or numbers that cannot be.
        MissingFileError: the weights cannot be found.
    """

    chooses_size = True
    space = METRIC_DEPTH
    kind = "metric_bins_depth"
    saved = frozenset({
        "size", "version", "patch", "image_size", "keep_aspect", "bins", "embedding", "attractors", "centers",
        "attraction", "alpha", "gamma", "joining", "min_depth", "max_depth", "temperatures",
    })  # fmt: skip

    def __init__(
        self,
        size: Size = "small",
        version: int = 2,
        patch: int | None = None,
        weights: str | None = None,
        license: str | None = None,
        gradient_checkpointing: bool = False,
        initialize: Initialize = "all",
        image_size: tuple[int, int] = (392, 518),
        keep_aspect: bool = False,
        bins: int = 64,
        embedding: int = 128,
        attractors: tuple[int, int, int, int] = (16, 8, 4, 1),
        centers: CentersType = "softplus",
        attraction: Attraction = "inv",
        alpha: float = 300.0,
        gamma: int = 2,
        joining: Joining = "mean",
        min_depth: float = 1e-3,
        max_depth: float = 10.0,
        temperatures: tuple[float, float] = (0.0212, 50.0),
    ) -> None:
        for name, value, least in (
            ("bins", bins, 2),
            ("embedding", embedding, 1),
            ("gamma", gamma, 1),
            ("attractors", min(attractors), 1),
            ("image_size", min(image_size), 1),
        ):
            if value < least:
                raise UserError(f"MetricBinsDepth's {name} must be {least} or more, not {value}")
        for name, low, high in (
            ("alpha", 0.0, alpha),
            ("min_depth and max_depth", min_depth, max_depth),
            ("temperatures", *temperatures),
        ):
            if not 0 <= low < high:
                raise UserError(
                    f"MetricBinsDepth's {name} must rise from 0 or more, not be {low:g}, {high:g}"
                )
        super().__init__(
            size, version, None, patch, weights, license, gradient_checkpointing, initialize=initialize
        )
        self.space = METRIC_DEPTH
        self.chooses_size = True
        self.max_depth = max_depth if centers == "normed" else None
        self.image_size = image_size
        self.keep_aspect = keep_aspect
        self.source = f"metric bins on {self.source}"
        self.bins = MetricBinsHead(
            self.config.fusion_hidden_size, self.config.head_hidden_size, bins, embedding, attractors,
            centers, attraction, alpha, gamma, joining, (min_depth, max_depth), temperatures,
        )  # fmt: skip

    def run(self, pixels: Image) -> DepthOutput:
        """The network's input -> depth in meters, float32, at its size, and the encoder's patch tokens.

        Encoder and decoder run in the ambient precision, what comes after them in float32.
        """
        rows, columns = (side // self.multiple for side in pixels.shape[-2:])
        stages = self._encode(pixels.to(next(self.network.parameters()).dtype))
        neck, head = self.network.neck, self.network.head
        maps = [
            conv(m) for conv, m in zip(neck.convs, neck.reassemble_stage(stages, rows, columns), strict=True)
        ]
        blocks = neck.fusion_stage(maps)
        with torch.autocast(pixels.device.type, enabled=False):
            precise = [m.to(next(head.parameters()).dtype) for m in (maps[-1], *blocks)]
            full = F.interpolate(
                head.conv1(precise[-1]), pixels.shape[-2:], mode="bilinear", align_corners=True
            )
            full = head.activation1(head.conv2(full))
            relative = head.activation2(head.conv3(full))
            depth = self.bins(full, precise[0], precise[1:], relative)
        return DepthOutput(depth[:, 0], stages[-1][:, 1:])

    def forward(self, image: Image) -> DepthOutput:
        """RGB in [0, 1] -> depth in meters, float32, at the image's size, and the encoder's patch tokens."""
        output = self._run_resized(image)
        return DepthOutput(self.resize_to(output.depth, (image.shape[-2], image.shape[-1])), output.features)

    def predict_raw(self, image: Image) -> RawPrediction:
        """See `DepthModel.predict_raw`."""
        return self._run_resized(image).depth

    def _run_resized(self, image: Image) -> DepthOutput:
        return self.run(self.normalized(bilinear(image, self.network_size(*image.shape[-2:]))))

    def resize_to(self, raw: RawPrediction, size: tuple[int, int]) -> Map:
        """See `DepthModel.resize_to`."""
        return bilinear(raw[:, None], size)[:, 0]

    def runs_at(
        self, height: int, width: int, resolution: Asked = None, scale: float = 1.0
    ) -> tuple[int, int] | None:
        """See `DepthModel.runs_at`; whatever is asked for."""
        return self.network_size(height, width)

    def network_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width at which an image of this height and width runs."""
        down, across = self.image_size[0] / height, self.image_size[1] / width
        if self.keep_aspect:
            down = across = across if abs(1 - across) < abs(1 - down) else down
        return self.rounded(round(down * height), round(across * width))

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        """Those of Depth Anything, which all learn slower than the bins."""
        parameters: Iterator[nn.Parameter] = self.network.parameters()
        return parameters

    def arguments_saved(self) -> dict[str, Any]:
        """See `OwnFolder`."""
        arguments, options = vars(self)["_arguments"]
        return {
            name: value for name, value in named(type(self), arguments, options).items() if name in self.saved
        }

    @classmethod
    def built_with(cls, arguments: dict[str, Any]) -> "MetricBinsDepth":
        """See `OwnFolder`; JSON knows no tuples."""
        plain: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in arguments.items()}
        return cls(**plain)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "MetricBinsDepth":
        super()._apply(fn, recurse)
        keep_precise(self.bins)
        return self


def bilinear(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps at a height and width, bilinearly with aligned corners."""
    return F.interpolate(maps, size, mode="bilinear", align_corners=True)
