"""Pictures of a model's predictions: a few samples of each benchmark, and photographs without truth."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from depthkd.batch import METRIC_DEPTH, DepthSpace
from depthkd.evaluation.measure import EvaluatedModel
from depthkd.evaluation.raw_predictions import RawPredictions
from depthkd.evaluation.reading import ahead
from depthkd.evaluation.records import Records
from depthkd.evaluation.scoring import fitted
from depthkd.evaluation.task import Task
from depthkd.formats.sample import Sample
from depthkd.geometry import resize_intrinsics, resize_sparse_depth
from depthkd.metrics.catalogue import higher_is_better, names_of
from depthkd.models.inference import WrongPredictionError
from depthkd.report.picks import picked
from depthkd.report.pictures import SheetRow, metrics_caption

PICTURE_SIDE = 480  # px, the longer one; a sheet's cells are smaller still

SmallMap = Float[np.ndarray, "small_height small_width"]


@dataclass(frozen=True)
class Drawn:
    """One model's prediction for one sample, small.

    Args:
        why: why this sample: "spread evenly", "best", "median", "worst".
        title: what the row of pictures is called.
        image: the sample's.
        truth: its depth; None: it has none.
        prediction: fitted depth, where there is a truth; else the raw prediction.
        space: of the prediction.
        caption: its metrics in words.
        camera: of the image as it is here, if it is known.
        points: the depth that the model was given of some pixels, 0 elsewhere; None: it was given none.
    """

    why: list[str]
    title: str
    image: np.ndarray
    truth: SmallMap | None
    prediction: SmallMap
    space: DepthSpace
    caption: str | None = None
    camera: Float64[np.ndarray, "3 3"] | None = None
    points: SmallMap | None = None


Drawings = dict[int, Drawn]  # by the sample's index


def picks(task: Task, models: Sequence[str], records: Records, count: int) -> dict[int, list[str]]:
    """Which samples are drawn, and why, by what the first of the models that has metrics reached on them."""
    by = names_of(task.benchmark.metrics)[0]
    best = "highest" if higher_is_better(by) else "lowest"
    found = (picked(records.of(task.name, model), count, by, best) for model in models)
    return next((chosen for chosen in found if chosen), {})


def draw(task: Task, predictions: RawPredictions, chosen: Mapping[int, list[str]]) -> Drawings:
    """Run a model once more on the samples that are drawn, and keep small copies of its predictions.

    A model that does not predict one map an image gets no picture: the remarks under its table say so.
    """
    space, drawn = predictions.model.space, Drawings()
    for index, sample in ahead(task.benchmark, sorted(chosen)):
        if not isinstance(sample, Sample):
            continue
        try:
            raw = predictions(index, sample)
        except WrongPredictionError:
            return drawn
        about = (chosen[index], f"{task.name}: {sample.key}", small_image(sample))
        if not task.fitted:
            drawn[index] = Drawn(*about, None, small(raw), space)
            continue
        one = fitted(raw, space, sample, task.protocol)
        caption = metrics_caption(task.metrics(one))
        truth = small(one.true_depth(task.protocol))
        camera, points = small_camera(sample, truth.shape), small_points(sample)
        drawn[index] = Drawn(*about, truth, small(one.aligned), METRIC_DEPTH, caption, camera, points)
    return drawn


def draw_photographs(model: EvaluatedModel, task: Task, photographs: Sequence[Sample], seed: int) -> Drawings:
    """A model's predictions for photographs, run as on a benchmark."""
    predictions, drawn = model.predictions(task, seed, None), Drawings()
    for index, sample in enumerate(photographs):
        try:
            depth = predictions(index, sample)
        except WrongPredictionError as error:
            print(f"no photographs by {model.name}: {error}")
            return drawn
        drawn[index] = Drawn([], sample.key, sample.image, None, depth[0].cpu().numpy(), model.model.space)
    return drawn


def sheet_rows(drawings: Iterable[tuple[str, Drawings]]) -> dict[int, SheetRow]:
    """The rows of pictures that several models' drawings of the same samples make.

    Args:
        drawings: model -> its drawings.
    """
    rows: dict[int, SheetRow] = {}
    for name, drawn in drawings:
        for index, one in drawn.items():
            whole = SheetRow(one.title, one.image, one.truth, camera=one.camera, points=one.points)
            row = rows.setdefault(index, whole)
            row.predictions[name], row.spaces[name] = one.prediction, one.space
            if one.caption is not None:
                row.captions[name] = one.caption
    return rows


def small_image(sample: Sample) -> np.ndarray:
    """A sample's image as pictures show it."""
    size = _small_size(*sample.image.shape[:2])
    return np.asarray(cv2.resize(sample.image, size, interpolation=cv2.INTER_AREA))


def small_camera(sample: Sample, size: tuple[int, int]) -> Float64[np.ndarray, "3 3"] | None:
    """A sample's camera, for its maps of that (height, width)."""
    if sample.intrinsics is None or sample.depth is None:
        return None
    height, width = sample.depth.shape
    camera = resize_intrinsics(torch.from_numpy(sample.intrinsics), size[0] / height, size[1] / width)
    return np.asarray(camera.numpy(), np.float64)


def small_points(sample: Sample) -> SmallMap | None:
    """A sample's measured points, as pictures show them; None where it has none."""
    if sample.sparse is None:
        return None
    height, width = sample.sparse.shape
    wide, tall = _small_size(height, width)
    return np.asarray(resize_sparse_depth(torch.tensor(sample.sparse)[None], (tall, wide))[0].numpy())


def small(depth: Float[Tensor, "1 height width"]) -> SmallMap:
    """A map as pictures show it. Nearest: a mean over an edge would be a depth that is nowhere."""
    size = _small_size(*depth.shape[1:])
    return np.asarray(cv2.resize(depth[0].cpu().numpy(), size, interpolation=cv2.INTER_NEAREST))


def _small_size(height: int, width: int) -> tuple[int, int]:
    scale = min(1.0, PICTURE_SIDE / max(height, width))
    return max(1, round(width * scale)), max(1, round(height * scale))
