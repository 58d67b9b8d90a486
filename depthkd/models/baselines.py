"""Simple ways to metric depth with details, which a sharpener has to beat."""

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torchvision.transforms.v2.functional import gaussian_blur  # type: ignore[import-untyped]

from depthkd.alignment import Fit, align
from depthkd.batch import METRIC_DEPTH, Quantity
from depthkd.errors import UserError
from depthkd.models.model import Cameras, DepthModel, DepthOutput, RawPrediction
from depthkd.resolution import Asked, Resolution, checked
from depthkd.shapes import Image, Map

SMALLEST_DEPTH = 1e-3  # m


class AlignedDepth(DepthModel):
    """A relative model's depth, fitted by least squares to a metric model's on all pixels.

    "UniDepth-aligned Lotus" of SharpDepth's Table 1: the naive way to metric depth with details. The fit is
    in the relative model's own quantity. Pixels to which the metric model gives no depth, because it is
    infinite there, are left out: MoGe's valid mask, in Distill Any Depth's appendix C.5.

    Attributes:
        turned: of each image that was predicted last, whether the fitted scale is negative: the two models
            do not agree there on what is near, and what the relative one says is turned around.

    Args:
        relative: the model of unknown scale and shift, whose details are wanted; it runs at the size that
            is asked for.
        metric: the model whose meters are wanted.
        metric_resolution: the size at which that runs, see `DepthModel.infer`; None: its own default.
        intrinsics: whether known cameras reach the metric model.

    Raises:
        UserError: `metric` is not metric.
    """

    caches = ("turned",)
    chooses_size = True
    space = METRIC_DEPTH

    def __init__(
        self,
        relative: DepthModel,
        metric: DepthModel,
        metric_resolution: int | str | None = None,
        intrinsics: bool = True,
    ) -> None:
        super().__init__()
        if metric.space != METRIC_DEPTH:
            raise UserError(f"AlignedDepth needs {METRIC_DEPTH} of `metric`, which gives {metric.space}")
        self.relative, self.metric = relative, metric
        self.turned: list[bool] = []
        self.metric_resolution = checked(metric_resolution, "metric_resolution")
        self.takes_camera = intrinsics and metric.takes_camera
        self.takes_sparse_depth = relative.takes_sparse_depth or metric.takes_sparse_depth
        self.needs_sparse_depth = relative.needs_sparse_depth or metric.needs_sparse_depth
        self.source = f"{relative.source} aligned to {metric.source}"
        self.license = ", ".join(dict.fromkeys((relative.license, metric.license)))
        sets = (relative.training_sets, metric.training_sets)
        self.training_sets = None if None in sets else tuple(name for known in sets for name in known or ())

    def companions(self) -> list[DepthModel]:
        """Both."""
        return [self.relative, self.metric]

    def estimated_cameras(self, image: Image) -> Cameras | None:
        """The metric model's."""
        return self.metric.estimated_cameras(image)

    def runs_at(
        self, height: int, width: int, resolution: Asked = None, scale: float = 1.0
    ) -> tuple[int, int] | None:
        """The relative model's."""
        return self.relative.runs_at(height, width, resolution, scale)

    def forward(self, image: Image) -> DepthOutput:
        """RGB in [0, 1] -> depth in meters at the image's size."""
        return DepthOutput(self.predict_raw(image))

    def predict_raw(self, image: Image) -> RawPrediction:
        """Depth in meters at the image's size."""
        return self._aligned(image, None)

    def predict_raw_with_camera(self, image: Image, intrinsics: Cameras) -> RawPrediction:
        """`predict_raw`, whose metric model knows the cameras."""
        return self._aligned(image, intrinsics)

    def predict_raw_with_sparse_depth(
        self, image: Image, sparse: Map, intrinsics: Cameras | None = None
    ) -> RawPrediction:
        """`predict_raw`, where both models are given the points, if they take them."""
        return self._aligned(image, intrinsics, sparse)

    def _aligned(self, image: Image, intrinsics: Cameras | None, sparse: Map | None = None) -> RawPrediction:
        at = self.metric_resolution
        metric = self.metric.predict(image, at, intrinsics=intrinsics, sparse=sparse)
        relative, space = self.relative.predict(image, self._request, sparse=sparse), self.relative.space
        known = metric.isfinite()
        fitted = align(relative, space, metric, METRIC_DEPTH, known, Fit.SCALE_AND_SHIFT, space.quantity)
        self.turned = _falls(relative.flatten(1), fitted.flatten(1)).tolist()
        if space.quantity is Quantity.DISPARITY:
            farthest = torch.where(known, metric, 0).flatten(1).amax(1)[:, None, None]
            return 1.0 / fitted.maximum(1.0 / farthest.clamp(min=SMALLEST_DEPTH))
        return fitted.clamp(min=SMALLEST_DEPTH)

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        """All: nothing here is trained."""
        return self.parameters()


def _falls(
    before: Float[Tensor, "batch pixels"], after: Float[Tensor, "batch pixels"]
) -> Bool[Tensor, " batch"]:
    """Whether a fitted line falls: where the highest value was, the lowest is."""
    highest, lowest = before.argmax(1, keepdim=True), before.argmin(1, keepdim=True)
    return (after.gather(1, highest) < after.gather(1, lowest))[:, 0]


class UnsharpMask(DepthModel):
    """Another model's metric depth with steeper edges: depth + amount * (depth - blurred depth).

    Args:
        model: the other one.
        radius: the blur's standard deviation, as a part of the image's longer side.
        amount: how much of what the blur took is added again.
        resolution: the size at which the model runs where nobody asks for another, see
            `DepthModel.infer`; None: its own default.

    Raises:
        UserError: `model` is not metric, or `radius` or `amount` is not above 0.
    """

    chooses_size = True
    space = METRIC_DEPTH

    def __init__(
        self,
        model: DepthModel,
        radius: float = 0.02,
        amount: float = 1.0,
        resolution: int | str | None = None,
    ) -> None:
        super().__init__()
        if model.space != METRIC_DEPTH:
            raise UserError(f"UnsharpMask needs {METRIC_DEPTH} of `model`, which gives {model.space}")
        if not (radius > 0 and amount > 0):
            raise UserError(f"radius and amount must be above 0, not {radius} and {amount}")
        self.model, self.radius, self.amount = model, radius, amount
        self.resolution = checked(resolution)
        self.takes_camera, self.takes_sparse_depth = model.takes_camera, model.takes_sparse_depth
        self.needs_sparse_depth = model.needs_sparse_depth
        self.source = f"{model.source}, unsharp mask {radius:g} {amount:g}"
        self.license, self.training_sets = model.license, model.training_sets

    def companions(self) -> list[DepthModel]:
        """The other model."""
        return [self.model]

    def forward(self, image: Image) -> DepthOutput:
        """RGB in [0, 1] -> depth in meters at the image's size."""
        return DepthOutput(self.predict_raw(image))

    def predict_raw(self, image: Image) -> RawPrediction:
        """Depth in meters at the image's size."""
        return self._sharper(self.model.predict(image, self._at(self._request)))

    def predict_raw_with_camera(self, image: Image, intrinsics: Cameras) -> RawPrediction:
        """`predict_raw`, whose model knows the cameras."""
        at = self._at(self._request)
        return self._sharper(self.model.predict(image, at, intrinsics=intrinsics))

    def predict_raw_with_sparse_depth(
        self, image: Image, sparse: Map, intrinsics: Cameras | None = None
    ) -> RawPrediction:
        """`predict_raw`, whose model is given the points."""
        at = self._at(self._request)
        return self._sharper(self.model.predict(image, at, intrinsics=intrinsics, sparse=sparse))

    def runs_at(
        self, height: int, width: int, resolution: Asked = None, scale: float = 1.0
    ) -> tuple[int, int] | None:
        """The other model's."""
        asked = Resolution.parse(resolution).times(scale)
        return self.model.runs_at(height, width, self._at(asked))

    def _at(self, asked: Resolution | None) -> Resolution:
        if asked is None or asked.side == "own":
            return Resolution.parse(self.resolution).times(1.0 if asked is None else asked.scale)
        return asked

    def _sharper(self, depth: RawPrediction) -> RawPrediction:
        sigma = self.radius * max(depth.shape[-2:])
        side = min(2 * int(3 * sigma) + 1, 2 * min(depth.shape[-2:]) - 1)
        blurred: torch.Tensor = gaussian_blur(depth[:, None], [side, side], [sigma, sigma])[:, 0]
        return (depth + self.amount * (depth - blurred)).clamp(min=SMALLEST_DEPTH)

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        """All: nothing here is trained."""
        return self.parameters()
