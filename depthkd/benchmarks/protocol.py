"""Protocol: how a prediction is fitted to the truth and scored against it, as data; and the presets."""

from dataclasses import dataclass, replace
from functools import partial
from math import inf
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

from depthkd.alignment import (
    Fit,
    Select,
    Step,
    check_alignment,
    convert,
    find_alignment,
    map_pixels,
    unchanged,
)
from depthkd.batch import DepthSpace, Quantity
from depthkd.errors import UserError
from depthkd.metrics.depth import completion_metrics, depth_metrics
from depthkd.pixels import Pixels, clamp_, nan_where_not_finite_, reciprocal_
from depthkd.resolution import Resolution, checked
from depthkd.shapes import Map, Mask, PerImage

Unsized = Float[Tensor, "batch own_height own_width"]

FIT_NAMES = {
    Fit.SCALE_AND_SHIFT: "least-squares scale and shift",
    Fit.SCALE: "least-squares scale",
    Fit.MEDIAN: "median and mean-deviation scale and shift",
    Fit.MEDIAN_SCALE: "median scale",
    Fit.LOG_SCALE_AND_SHIFT: "least-squares scale and shift of logarithms",
    Fit.NONE: "no fit",
}
SMALLEST_DEPTH = 1e-6  # Marigold's, where no range says otherwise
COMPLETION = "completion"  # the preset of depth completion, under which "metric" is without its clipping


@dataclass(frozen=True)
class Protocol:
    """How a prediction is fitted to the truth and scored against it, as data.

    Args:
        name: what tables call it.
        fit: what is fitted per image over the valid pixels.
        fit_quantity: where the fit happens; None: in the model's own quantity.
        score_quantity: where the fitted prediction and the truth are compared.
        min_depth, max_depth: a pixel is valid strictly between them, and the fitted prediction is
            clipped to them; in the truth's unit (meters, where it is metric). None: no bound.
        clip_only: the range clips predictions, but leaves no pixel out.
        clip_predictions: whether it clips predictions, as Marigold's and ZoeDepth's evaluations do;
            SharpDepth's does not. A fitted disparity is raised to `min_disparity` either way.
        fit_side: the fit sees maps whose sides are at most so many pixels, by nearest neighbor;
            None: the whole maps.
        min_disparity: a fitted disparity is raised to it before it is inverted, in 1 / the truth's unit.
        skip_zeros: leave pixels whose predicted disparity is exactly 0 out of the fit (not out of
            the score). Networks that end in a ReLU put the sky there. Marigold's code leaves out
            all that is not positive, which is the same for those networks, but would drop half an
            image of a network whose disparities are signed.
        resolution: the size at which models run: the shorter side in pixels, such as 518; "longer 756" for
            the longer side; "native" for the image's own size (see `Resolution`). It moves all models
            but those that choose their size themselves. None: each model's own, which is the image's for
            most (`DepthModel.default_resolution`).
        scale: a further factor on that side (Depth Anything V2 runs at 1, 2 and 4 times its own).
        flip: average each prediction with that of the mirrored image.
        scales: several factors on the size besides: the mean of the predictions at all of them, brought to
            the image's size. Without any, the size is taken as it is.
        stand_in: what takes the place of depth in ratio-based boundary metrics: the fitted, clipped
            prediction ("aligned"), or the model's own numbers ("raw"; of a disparity their inverse),
            which are not invariant to the offset that an affine model leaves open.
    """

    name: str
    fit: Fit
    fit_quantity: Quantity | None
    score_quantity: Quantity
    min_depth: float | None = 1e-3
    max_depth: float | None = 80.0
    min_disparity: float = 1e-3
    skip_zeros: bool = False
    resolution: int | str | None = None
    clip_only: bool = False
    fit_side: int | None = None
    scale: float = 1.0
    flip: bool = False
    stand_in: Literal["aligned", "raw"] = "aligned"
    clip_predictions: bool = True
    scales: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        lowest = SMALLEST_DEPTH if self.min_depth is None else self.min_depth
        if lowest <= 0 or (self.max_depth is not None and self.max_depth <= lowest):
            raise UserError(
                f"protocol '{self.name}': depths must lie in 0 < min_depth < max_depth, not "
                f"min_depth={self.min_depth}, max_depth={self.max_depth}"
            )
        if self.min_disparity <= 0:
            raise UserError(
                f"protocol '{self.name}': min_disparity must be above 0, not {self.min_disparity}"
            )
        try:
            object.__setattr__(self, "resolution", checked(self.resolution))
        except UserError as error:
            raise UserError(f"protocol '{self.name}': {error}") from error
        for scale in (self.scale, *self.scales):
            if not scale > 0:
                raise UserError(f"protocol '{self.name}': scale must be above 0, not {scale}")

    @classmethod
    def named(cls, name: "str | Protocol", **changes: Any) -> "Protocol":
        """The preset of that name (see `PROTOCOLS`), with some of its fields changed.

        Raises:
            UserError: there is none; the sentence lists those that exist.
        """
        if isinstance(name, Protocol):
            return replace(name, **changes)
        if name not in PROTOCOLS:
            known = ", ".join(f"'{n}'" for n in PROTOCOLS)
            raise UserError(f"'{name}' is not a protocol; it would be one of {known}")
        return replace(PROTOCOLS[name], **changes)

    def check(self, prediction_space: DepthSpace, truth_space: DepthSpace) -> None:
        """Whether predictions in that space can be scored under this protocol.

        Raises:
            UserError: they cannot; the sentence names the protocol, both spaces and the reason.
        """
        try:
            check_alignment(prediction_space, truth_space, self.fit, self._fit_quantity(prediction_space))
            for quantity in Quantity:
                if truth_space.quantity is not quantity:
                    truth_space.inverse()
        except UserError as error:
            raise UserError(f"protocol '{self.name}': {error}") from error

    def valid(self, truth: Map, truth_space: DepthSpace, mask: Mask) -> Mask:
        """The mask's pixels whose truth is finite, positive and strictly within the range of depths."""
        valid: Mask = self._in_range(truth_space)(truth, mask)
        return valid

    def _in_range(self, truth_space: DepthSpace) -> Select:
        low, high = (None, None) if self.clip_only else (self.min_depth, self.max_depth)

        def select(truth: Pixels, mask: Pixels) -> Pixels:
            depth = convert(truth, truth_space, Quantity.DEPTH)
            valid = depth > (low or 0.0)
            valid &= mask
            valid &= depth < (inf if high is None else high)
            return valid if truth_space.quantity is Quantity.DEPTH else valid & (truth > 0)

        return select

    def aligned(
        self,
        prediction: Unsized,
        prediction_space: DepthSpace,
        truth: Map,
        truth_space: DepthSpace,
        mask: Mask,
    ) -> Map:
        """The prediction as depth in the truth's unit: fitted, inverted where it was disparity, clipped
        if `clip_predictions`. NaN where the prediction is not finite, and where that breaks the fit.

        Raises:
            UserError: the spaces do not fit the protocol, or the maps have different sizes.
        """
        return map_pixels(self._alignment(prediction, prediction_space, truth, truth_space, mask), prediction)

    def _alignment(
        self,
        prediction: Unsized,
        prediction_space: DepthSpace,
        truth: Map,
        truth_space: DepthSpace,
        mask: Mask,
    ) -> Step:
        self.check(prediction_space, truth_space)
        if prediction.shape != truth.shape:
            raise UserError(
                f"protocol '{self.name}': the prediction is {list(prediction.shape)}, but the truth "
                f"is {list(truth.shape)}; resize the prediction first"
            )
        quantity = self._fit_quantity(prediction_space)
        fitted = find_alignment(
            prediction,
            prediction_space,
            truth,
            truth_space,
            mask,
            self.fit,
            quantity,
            self.fit_side,
            self._in_range(truth_space),
            self.skip_zeros and quantity is Quantity.DISPARITY,
        )
        low, high = self.min_depth or SMALLEST_DEPTH, inf if self.max_depth is None else self.max_depth

        def depth(pixels: Pixels) -> Pixels:
            values = fitted(pixels)
            if quantity is Quantity.DISPARITY:
                values = reciprocal_(clamp_(values, self.min_disparity))
            return nan_where_not_finite_(
                clamp_(values, low, high) if self.clip_predictions else values, pixels
            )

        return depth

    def score(
        self,
        prediction: Unsized,
        prediction_space: DepthSpace,
        truth: Map,
        truth_space: DepthSpace,
        mask: Mask,
    ) -> dict[str, PerImage]:
        """Every depth metric of each image (see `depth_metrics`); NaN for images without a valid pixel.

        An image whose prediction is not finite at a valid pixel has infinite errors and accuracies of 0,
        whether anything is fitted or clipped. `truth` and `mask` are the sample's; the range of depths is
        applied here.

        Raises:
            UserError: the spaces do not fit the protocol, or the maps have different sizes.
        """
        step = self._alignment(prediction, prediction_space, truth, truth_space, mask)
        return self._compare(prediction, truth, truth_space, mask, step)

    def compare(self, depth: Map, truth: Map, truth_space: DepthSpace, mask: Mask) -> dict[str, PerImage]:
        """The metrics of what `aligned` returned."""
        return self._compare(depth, truth, truth_space, mask)

    def _compare(
        self, prediction: Map, truth: Map, truth_space: DepthSpace, mask: Mask, step: Step = unchanged
    ) -> dict[str, PerImage]:
        of_truth = partial(convert, space=truth_space, quantity=Quantity.DEPTH)
        inverse = self.score_quantity is Quantity.DISPARITY
        select = self._in_range(truth_space)
        return depth_metrics(prediction, truth, mask, step, of_truth, select, inverse)

    def compare_completion(
        self, depth: Map, truth: Map, truth_space: DepthSpace, mask: Mask
    ) -> dict[str, PerImage]:
        """`completion_metrics` of what `aligned` returned, of depth whatever the protocol scores in."""
        of_truth = partial(convert, space=truth_space, quantity=Quantity.DEPTH)
        return completion_metrics(depth, truth, mask, of_truth, self._in_range(truth_space))

    def _fit_quantity(self, prediction_space: DepthSpace) -> Quantity:
        return self.fit_quantity or prediction_space.quantity

    def __str__(self) -> str:
        parts = [FIT_NAMES[self.fit]]
        if self.fit is not Fit.NONE:
            parts[0] += f" in {self.fit_quantity or 'the quantity that the model predicts'}"
        parts.append(f"scored in {self.score_quantity}")
        low = 0 if self.min_depth is None else self.min_depth
        parts.append(
            f"valid depth {low:g} to {'infinity' if self.max_depth is None else f'{self.max_depth:g}'}"
        )
        if self.clip_only and self.clip_predictions:
            parts[-1] = parts[-1].replace("valid depth", "no pixel left out, predictions clipped to")
        elif self.clip_only:
            parts[-1] = "no pixel left out"
        if not self.clip_predictions:
            parts.append("predictions not clipped")
        if self.fit_side is not None:
            parts[0] += f" (at most {self.fit_side} px)"
        return f"{self.name}: " + ", ".join([*parts, self.run()])

    def run(self) -> str:
        """At which size models run, and whether twice."""
        size = Resolution.parse(self.resolution).times(self.scale)
        times = ", ".join(f"{scale:g}" for scale in self.scales)
        several = f", averaged over {times} times that" if times else ""
        mirrored = ", averaged with the mirrored image" if self.flip else ""
        return f"run at {size.words}{several}{mirrored}"


PROTOCOLS = {
    "marigold": Protocol("marigold", Fit.SCALE_AND_SHIFT, None, Quantity.DEPTH, skip_zeros=True),
    "depth_anything": Protocol("depth_anything", Fit.SCALE_AND_SHIFT, Quantity.DISPARITY, Quantity.DISPARITY),
    # A disparity under 1 / max_depth becomes max_depth, as MiDaS floors it.
    "midas": Protocol("midas", Fit.SCALE_AND_SHIFT, Quantity.DISPARITY, Quantity.DEPTH),
    "metric": Protocol("metric", Fit.NONE, Quantity.DEPTH, Quantity.DEPTH),
    "median": Protocol("median", Fit.MEDIAN_SCALE, Quantity.DEPTH, Quantity.DEPTH),
    # YOLO-depth's headline numbers, there with the means of mirrored images and several scales
    "log_affine": Protocol("log_affine", Fit.LOG_SCALE_AND_SHIFT, Quantity.DEPTH, Quantity.DEPTH),
    COMPLETION: Protocol(
        COMPLETION, Fit.NONE, Quantity.DEPTH, Quantity.DEPTH, max_depth=None, clip_predictions=False
    ),
}
