"""One teacher, or a relative and a metric one, as they label a batch of images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from depthkd.alignment import convert, fit_least_absolute, thin_out
from depthkd.batch import METRIC_DEPTH, DepthSpace, Quantity
from depthkd.errors import UserError
from depthkd.formats.depth import CODECS, LOGARITHMIC, Number
from depthkd.formats.images import RGB
from depthkd.formats.sample import BadSample
from depthkd.formats.shard_samples import IMAGE_SIZE
from depthkd.geometry import resize_intrinsics
from depthkd.models.frozen import Frozen
from depthkd.models.inference import NARROWEST, image_tensor, is_enlarged_strip, says_nothing
from depthkd.models.model import Cameras, resize_map
from depthkd.resolution import Resolution
from depthkd.shapes import DepthArray, Map, MaskArray
from depthkd.verbs.label.views import Maps, Pictures, Size, View, input_sizes, predict, resized

Camera = Float64[np.ndarray, "3 3"]

FIT_SIDE = 256  # pixels of the longer side of what the metric depth is fitted on
WHOLE = View()


@dataclass(frozen=True)
class Asked:
    """How teachers are asked, apart from who they are; all of it is in a manifest's settings.

    Attributes:
        view: what of an image the teacher sees; the metric one sees the whole.
        resolution: the size at which they run, as in `depthkd predict`.
        batch_size: images that run at a time.
        flip: whether the mean with the mirrored image's prediction is taken.
        codec: how labels are stored.
        farthest: meters beyond which a fitted pixel is not valid.
        seed: of networks that draw noise.
        copy_images: whether labels' tars hold the images, too.
        scaled_decoding: whether large JPEGs are decoded at a part of their size.
    """

    view: View = WHOLE
    resolution: str = "own"
    batch_size: int = 16
    flip: bool = False
    codec: str | None = None
    farthest: Number = 1000.0
    seed: int = 0
    copy_images: bool = False
    scaled_decoding: bool = True

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UserError(f"batch_size must be at least 1, not {self.batch_size}")
        if not self.farthest > 0:
            raise UserError(f"farthest is in meters and must be above 0, not {self.farthest:g}")
        if self.codec is not None and self.codec not in CODECS:
            raise UserError(f"codec '{self.codec}' would be one of {', '.join(CODECS)}")
        Resolution.parse(self.resolution)


class Prepared(NamedTuple):
    """A decoded image: its size as its file has it, what teachers are shown of it, and its camera."""

    size: Size
    inputs: list[Pictures]
    camera: Tensor | None

    def group(self) -> tuple[object, ...]:
        """Images of one group may run together."""
        sizes = tuple(tuple(part.shape[-2:]) for part in self.inputs)
        return (sizes, self.camera is None)


class Label(NamedTuple):
    """An image's depth, where it is valid, and what its json tells; or why there is none."""

    depth: DepthArray
    mask: MaskArray | None
    record: dict[str, Any]
    fault: str | None = None


class Teachers:
    """Who labels.

    Args:
        relative: the teacher; with a metric one, that of a depth's shape.
        metric: the teacher of its scale and shift, or None.
        asked: how.
        device: where both are.

    Raises:
        UserError: the metric teacher gives no metric depth, or the codec does not suit the labels' space.
    """

    def __init__(self, relative: Frozen, metric: Frozen | None, asked: Asked, device: torch.device) -> None:
        if metric is not None and metric.space != METRIC_DEPTH:
            raise UserError(
                f"metric would be a model of {METRIC_DEPTH}, and {metric.model.source} gives {metric.space}"
            )
        self.relative, self.metric, self.asked, self.device = relative, metric, asked, device
        self.space = relative.space if metric is None else METRIC_DEPTH
        if asked.codec in LOGARITHMIC and not self.space.invertible:
            raise UserError(f"codec {asked.codec} takes values above 0, and {self.space} may have others")
        self.codec = asked.codec or ("log16_blosc" if self.space.invertible else "linear16_blosc")
        self.at = Resolution.parse(asked.resolution)
        self.told = {"teacher": told(relative)}
        if metric is not None:
            self.told["metric_teacher"] = told(metric)

    @property
    def takes_camera(self) -> bool:
        """Whether a prediction depends on a camera, where it is known."""
        return any(t.model.takes_camera for t in (self.relative, self.metric) if t is not None)

    def settings(self) -> dict[str, Any]:
        """What labels depend on besides their images."""
        return {
            **self.told,
            "view": self.asked.view.record(),
            "resolution": str(self.asked.resolution),
            "batch_size": self.asked.batch_size,
            "flip": self.asked.flip,
            "codec": self.codec,
            "farthest": self.asked.farthest if self.metric is not None else None,
            "seed": self.asked.seed,
            "copy_images": self.asked.copy_images,
            "scaled_decoding": self.asked.scaled_decoding,
        }

    def sizes(self, height: int, width: int) -> list[Size]:
        """Those to which an image of this height and width is brought."""
        sizes = input_sizes(self.relative.model, self.asked.view, self.at, height, width)
        if self.metric is not None:
            sizes += input_sizes(self.metric.model, WHOLE, self.at, height, width)
        return sizes

    def needed(self, height: int, width: int) -> int | None:
        """The shorter side of an image that suffices: twice that of its largest input, which hides how a JPEG
        is decoded."""
        if not self.asked.scaled_decoding or (height, width) in (sizes := self.sizes(height, width)):
            return None
        return 2 * max(min(size) for size in sizes)

    def check_shape(self, size: Size, name: str) -> None:
        """Check that an image does not become far larger, because its shorter side is brought to a network's.

        Raises:
            BadSample: it is too narrow; the sentence begins with `name`.
        """
        if is_enlarged_strip(size, self.sizes(*size)):
            raise BadSample(
                f"{name} is of {size[1]} x {size[0]}: images may be {NARROWEST} times as long as wide, where "
                "they are enlarged for the model"
            )

    def prepare(self, image: RGB, size: Size, intrinsics: Camera | None = None) -> Prepared:
        """An image, ready for a batch.

        Args:
            image: RGB, perhaps decoded at a part of its size.
            size: height and width as its file has them.
            intrinsics: of its camera, in pixels of the file.
        """
        known = None if intrinsics is None or not self.takes_camera else torch.tensor(intrinsics)
        camera = None if known is None else known.float().to(self.device)
        return Prepared(size, resized(image_tensor(image, self.device), self.sizes(*size)), camera)

    def label(self, batch: Sequence[Prepared]) -> list[Label]:
        """Labels of images of one group.

        An image that a network refuses (a `UserError`) has none, and those beside it are asked about alone.
        """
        try:
            return self._label(batch)
        except UserError as error:
            if len(batch) == 1:
                return [Label(np.zeros((1, 1), np.float32), None, {}, str(error))]
        return [label for one in batch for label in self.label([one])]

    def _label(self, batch: Sequence[Prepared]) -> list[Label]:
        inputs = [torch.cat(parts) for parts in zip(*(one.inputs for one in batch), strict=True)]
        cameras = cameras_of(batch)
        own = len(inputs) - (self.metric is not None)
        depth = self._predict(self.relative, inputs[:own], cameras, batch, self.asked.view)
        valid, records = None, [self._record(one) for one in batch]
        faults = [says_nothing(one[None], self.relative.space) for one in depth]
        if self.metric is not None:
            metric = self._predict(self.metric, inputs[own:], cameras, batch, WHOLE)
            theirs = (says_nothing(one[None], METRIC_DEPTH) for one in metric)
            faults = [a or b for a, b in zip(faults, theirs, strict=True)]
            depth, valid, fits = to_metric(depth, self.relative.space, metric, self.asked.farthest)
            for record, (scale, shift) in zip(records, fits, strict=True):
                record["metric_teacher"] |= {"scale": scale, "shift": shift}
        elif not bool((known := torch.isfinite(depth)).all()):
            depth, valid = torch.where(known, depth, 0), known
        labels = []
        for i, (one, record) in enumerate(zip(depth.cpu().numpy(), records, strict=True)):
            mask = None if valid is None else valid[i].cpu().numpy()
            fault = None if faults[i] is None else f"the model answers with {faults[i]}"
            if fault is None and self.metric is not None and record["metric_teacher"]["scale"] <= 0:
                fault = "what is near for one model is far for the other"
            labels.append(Label(one, mask, record, fault))
        return labels

    def _predict(
        self,
        teacher: Frozen,
        inputs: Sequence[Pictures],
        cameras: Cameras | None,
        batch: Sequence[Prepared],
        view: View,
    ) -> Maps:
        size = batch[0].size
        return predict(teacher, inputs, cameras, size, view, self.at, self.asked.flip, self.asked.seed)

    def _record(self, one: Prepared) -> dict[str, Any]:
        """What a label's json tells besides its depth."""
        told = {name: dict(known) for name, known in self.told.items()}
        return {
            **told,
            "view": self.asked.view.record(),
            "ran_at": list(one.inputs[0].shape[-2:]),
            IMAGE_SIZE: list(one.size),
        }


def cameras_of(batch: Sequence[Prepared]) -> Cameras | None:
    """Intrinsics of images that may have several sizes, in pixels of the first one."""
    height, width = batch[0].size
    found = [
        resize_intrinsics(one.camera, height / one.size[0], width / one.size[1])
        for one in batch
        if one.camera is not None
    ]
    return torch.stack(found) if found else None


def told(teacher: Frozen) -> dict[str, Any]:
    """Where a teacher is from."""
    model, sets = teacher.model, teacher.model.training_sets
    return {
        "name": model.source,
        "license": model.license,
        "training_sets": None if sets is None else list(sets),
        "identity": teacher.identity(),
    }


def to_metric(
    relative: Map, space: DepthSpace, metric: Maps, farthest: Number
) -> tuple[Map, Tensor, list[tuple[float, float]]]:
    """A relative prediction in meters: its scale and shift are those with which it agrees with a metric one
    at most pixels, see `fit_least_absolute`.

    Args:
        relative: the prediction, which is fitted in its own quantity.
        space: of it.
        metric: metric depth, of any size.
        farthest: in meters; what the fit puts beyond, or nowhere (a disparity of 0 or less), is not valid.

    Returns:
        depth, where it is valid, and each image's scale and shift.
    """
    target = resize_map(metric, (relative.shape[-2], relative.shape[-1]))
    p, t = thin_out(relative, FIT_SIDE), thin_out(target, FIT_SIDE)
    mask = torch.isfinite(p) & torch.isfinite(t) & (t > 0)
    goal = convert(torch.where(mask, t, 1.0), METRIC_DEPTH, space.quantity)
    scale, shift = fit_least_absolute(p, goal, mask)
    fitted = scale[:, None, None] * relative + shift[:, None, None]
    depth = 1 / fitted if space.quantity is Quantity.DISPARITY else fitted
    valid = torch.isfinite(depth) & (fitted > 0) & (depth <= farthest)
    fits = list(zip(scale.tolist(), shift.tolist(), strict=True))
    return torch.where(valid, depth, 0), valid, fits
