"""The network that predicts: a model by its word or its class, in tiles, aligned to a metric one."""

from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch

from depthkd.batch import METRIC_DEPTH
from depthkd.errors import UserError
from depthkd.formats.sample import Sample
from depthkd.models.baselines import AlignedDepth
from depthkd.models.dpt.packaged_weights import EMBEDDED
from depthkd.models.inference import (
    Inference,
    WrongPredictionError,
    image_tensor,
    is_enlarged_strip,
    predict_sample,
)
from depthkd.models.model import DepthModel
from depthkd.models.tiles import TiledDepth
from depthkd.runs.named_models import named_model
from depthkd.runs.student import TrainedDepth
from depthkd.shapes import OneMap
from depthkd.verbs.predict.cameras import Camera
from depthkd.verbs.predict.pictures import Picture

TURNED = "near and far are turned around: the scale that fits the model to the one of --align_to is negative"
OWN = "depthkd"  # preprocessing that every model has
WAYS = ("depthkd", "authors", "transformers")


def build(
    model: str | DepthModel,
    preprocessing: str | None,
    tiles: int | str | None,
    align_to: str | DepthModel | None,
) -> DepthModel:
    """The network that a user asks for.

    Raises:
        UserError, MissingFileError: a model cannot be found, cannot be preprocessed or tiled so, or the one
            to align to is not metric.
    """
    network = _preprocessed(model, preprocessing)
    if tiles is not None:
        network = TiledDepth(network, tiles)
    if align_to is None:
        return network
    metric = named_model(align_to).load() if isinstance(align_to, str) else align_to
    if metric.space != METRIC_DEPTH:
        raise UserError(
            f"align_to would be a model of {METRIC_DEPTH}, and {metric.source} gives {metric.space}"
        )
    print(
        f"aligned to {metric.source}: each image's scale and shift by least squares in "
        f"{network.space.quantity}, on all pixels of which that model gives a depth"
    )
    return AlignedDepth(network, metric)


def _preprocessed(model: str | DepthModel, way: str | None) -> DepthModel:
    """The model, which resizes images in the way that is asked for."""
    if way is not None and way not in WAYS:
        raise UserError(f"preprocessing would be one of {', '.join(WAYS)}, not '{way}'")
    if not isinstance(model, str):
        network = model
    else:
        named = named_model(model)
        if named.run is not None and way is not None:
            return TrainedDepth(model, settings={"preprocessing": way})
        network = named.load()
        if model == EMBEDDED:
            print(
                f"model: {network.source}, which has learned from synthetic scenes alone; --model takes "
                "another"
            )
    return network if way in (None, network.preprocessing) else _rebuilt(network, way)


def _rebuilt(network: DepthModel, way: str | None) -> DepthModel:
    """A model with its own arguments, but for `preprocessing`."""
    kind = type(network)
    arguments, options = vars(network)["_arguments"]
    known = signature(kind).parameters
    changed: dict[str, Any]
    if "preprocessing" in known:
        changed = {"preprocessing": way}
    elif "settings" in known and isinstance(network, TrainedDepth):
        named = dict(zip(known, arguments, strict=False)) | options
        arguments, options = (), named
        changed = {"settings": (named.get("settings") or {}) | {"preprocessing": way}}
    else:
        raise UserError(
            f"preprocessing '{way}': {kind.__name__} has none but '{network.preprocessing}'; those of "
            "Depth Anything and DPT have others (see docs/models.md)"
        )
    rebuilt: DepthModel = kind(*arguments, **{**options, **changed})
    return rebuilt


@dataclass(frozen=True)
class Answer:
    """What a network says of a picture.

    Attributes:
        depth: in its space, at the picture's size, float32.
        doubt: what is wrong with it, though it can be used; None: nothing is known.
    """

    depth: OneMap
    doubt: str | None = None


class Predictor:
    """Depth of pictures of one size, several at a time.

    A network that draws noise is asked one picture at a time, because every picture's draws begin anew from
    the seed; so is one that refuses a batch. What it answers does not depend on the batch.

    Args:
        network: on the device, in eval mode.
        how: it is run.
        device: where.
    """

    def __init__(self, network: DepthModel, how: Inference, device: torch.device) -> None:
        self.network, self.how, self.device = network, how, device
        self.together = True

    def __call__(self, pictures: Sequence[Picture]) -> list[Answer | WrongPredictionError]:
        """Each picture's depth, or why there is none; pictures have one size."""
        height, width = int(pictures[0].image.shape[0]), int(pictures[0].image.shape[1])
        run = self.network.runs_at(height, width, self.how.resolution, self.how.scale)
        if run is not None and is_enlarged_strip((height, width), [run]):
            return [
                WrongPredictionError(
                    f"an image of {width} x {height} would be enlarged to {run[1]} x {run[0]}, for the model "
                    f"runs by the shorter side: --resolution 'longer {max(height, width)}' keeps it as it is"
                )
                for _ in pictures
            ]
        if len(pictures) > 1 and self.together:
            found = self._batch(pictures)
            if found is not None:
                return found
        return [self._one(picture) for picture in pictures]

    def camera_of(self, picture: Picture) -> Camera:
        """The camera for a picture's points: where nobody knows it, the one that the network estimates."""
        if picture.camera.source != "assumed":
            return picture.camera
        found = self.network.estimated_cameras(image_tensor(picture.image, self.device))
        return picture.camera if found is None else Camera(found[0].double().cpu().numpy(), "estimated")

    def _batch(self, pictures: Sequence[Picture]) -> list[Answer | WrongPredictionError] | None:
        images = torch.cat([image_tensor(picture.image, self.device) for picture in pictures])
        known = [picture.camera.known for picture in pictures]
        cameras = None
        if self.network.takes_camera and known[0] is not None:
            cameras = torch.stack([torch.tensor(matrix) for matrix in known]).float().to(self.device)
        sparse = None
        if pictures[0].sparse is not None:
            sparse = torch.stack([torch.from_numpy(picture.sparse) for picture in pictures]).to(self.device)
        torch.manual_seed(self.how.seed)
        before = torch.get_rng_state()
        try:
            how = self.how
            raw = self.network.infer(images, how.resolution, how.scale, how.flip, cameras, sparse)
        except UserError:
            return None
        if not torch.equal(before, torch.get_rng_state()):
            self.together = False
            return None
        if raw.ndim != 3 or len(raw) != len(pictures) or not raw.numel():
            return None
        height, width = pictures[0].image.shape[:2]
        depth = self.network.resize_to(raw, (height, width))
        return [Answer(depth[i : i + 1], self._doubt(i)) for i in range(len(depth))]

    def _one(self, picture: Picture) -> Answer | WrongPredictionError:
        known = picture.camera.known
        sample = Sample(picture.title, picture.image, intrinsics=known, sparse=picture.sparse)
        try:
            return Answer(predict_sample(self.network, sample, self.how, self.device), self._doubt(0))
        except WrongPredictionError as error:
            return error

    def _doubt(self, number: int) -> str | None:
        """Of a picture by its place in the batch that was predicted last."""
        turned = isinstance(self.network, AlignedDepth) and self.network.turned[number]
        return TURNED if turned else None


def group_of(picture: Picture) -> tuple[object, ...]:
    """Pictures of one group may run together."""
    return (*picture.image.shape, picture.camera.known is None)
