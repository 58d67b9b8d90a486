"""Parity in metrics: what a form is worth on pictures whose depth is known, before and after."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from math import inf, nan
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from depthkd.batch import Ambiguity, DepthSpace
from depthkd.benchmarks.motorcycle import Motorcycle
from depthkd.benchmarks.protocol import Protocol
from depthkd.datasets.scenes import Style, scene
from depthkd.evaluation.scoring import fitted
from depthkd.formats.sample import Sample
from depthkd.models.dpt.dpt import HuggingFaceDepth
from depthkd.models.dpt.preprocessing import Preprocessing
from depthkd.models.inference import image_tensor
from depthkd.models.model import DepthModel, resize_image, resize_map
from depthkd.models.torch_program import TorchProgram
from depthkd.resolution import NATIVE
from depthkd.resolution import Asked as AskedSize
from depthkd.runs.named_models import GRAPH, PROGRAM, named_model
from depthkd.shapes import Image, Map
from depthkd.sparse_depth.patterns import Points
from depthkd.verbs.export.forms import HUB, ONNX, TORCH, Asked
from depthkd.verbs.export.parity import FLOAT32, SIDE, WITHIN, Bounds, compare, nothing_in

ORIGINAL = "original"
SCENES, SEED, HEIGHT, WIDTH = 2, 2026, 192, 256  # lifelike ones, which no training of depthkd's has seen
FARTHEST = 80.0  # meters: what is beyond in a scene is sky
PROTOCOL = "marigold"
AnyMap = Float[Tensor, "1 _ _"]  # each of its picture's size
Predict = Callable[[Image, Map | None], Map]
POINTS = 200  # of a picture's depth, that completion is given


@dataclass(frozen=True)
class Scored:
    """One way to run a network, on the test pictures.

    Args:
        form: what it is called.
        abs_rel, delta1: means over the pictures, each fitted to its truth by a scale and a shift.
        within: shares of the pixels that are within each of `WITHIN` of the original.
        change: the larger of the changes of the two metrics.
        bounds: how far it may be from the original; None: it is only told how far.
        fault: what is wrong with a prediction; None: nothing.
    """

    form: str
    abs_rel: float = nan
    delta1: float = nan
    within: tuple[float, ...] = (1.0, 1.0)
    change: float = 0.0
    bounds: Bounds | None = None
    fault: str | None = None

    @property
    def agrees(self) -> bool:
        """Whether nothing speaks against it."""
        if self.bounds is None:
            return True
        near = self.change <= self.bounds.metric and self.within[0] >= self.bounds.enough
        return self.fault is None and near


@cache
def test_pictures() -> tuple[tuple[Sample, Protocol], ...]:
    """The photograph with measured depth that comes with scikit-image, and lifelike scenes, made here."""
    photograph = Motorcycle(PROTOCOL)
    scenes = [scene(SEED, index, Style.LIFELIKE, HEIGHT, WIDTH).sample for index in range(SCENES)]
    beside = Protocol.named(PROTOCOL, min_depth=1e-3, max_depth=FARTHEST)
    return ((photograph.sample(0), photograph.protocol), *((one, beside) for one in scenes))


class Scorer:
    """Scores ways to run a network by their depth of the test pictures.

    Args:
        model: the original, on the CPU, in eval mode.
        side: at which a folder's model is to run where nobody asks for another size; None: the model's own.
    """

    def __init__(self, model: DepthModel, side: int | None = None) -> None:
        self.model = model
        own = model.trained_at is not None or model.longest is not None
        self.asked: AskedSize = side if side is not None else None if own else SIDE
        self._known: dict[tuple[int, int] | None, tuple[list[AnyMap], Scored]] = {}

    def original(self, fixed: tuple[int, int] | None = None) -> Scored:
        """The original itself; at a fixed height and width, as graphs of one size run."""
        return self._asked_at(fixed)[1]

    def scored(
        self,
        form: str,
        model: DepthModel,
        bounds: Bounds | None = FLOAT32,
        fixed: tuple[int, int] | None = None,
    ) -> Scored:
        """A form, beside the original.

        Args:
            form: its name.
            model: it, loaded.
            bounds: how far it may be from the original; None: it is only told how far.
            fixed: the only height and width at which it runs.
        """
        maps, before = self._asked_at(fixed)
        depths = self._depths(form, self._as_asked(model))
        return scored(form, depths, maps, before, self.model.space, bounds)

    def _as_asked(self, model: DepthModel) -> Predict:
        return lambda image, points: model.predict(image, self.asked, sparse=points)

    def _asked_at(self, fixed: tuple[int, int] | None) -> tuple[list[AnyMap], Scored]:
        if fixed not in self._known:

            def stretched(image: Image, points: Map | None) -> Map:
                assert fixed is not None
                small = self.model.predict(resize_image(image, fixed), NATIVE)
                return resize_map(small, (image.shape[-2], image.shape[-1]))

            maps = self._depths(ORIGINAL, self._as_asked(self.model) if fixed is None else stretched)
            name = ORIGINAL if fixed is None else f"{ORIGINAL}, {fixed[0]} x {fixed[1]}"
            self._known[fixed] = maps, Scored(name, *means(maps, self.model.space))
        return self._known[fixed]

    def _depths(self, form: str, predict: Predict) -> list[AnyMap]:
        found = []
        bar = tqdm(test_pictures(), desc=f"score {form}", unit="image", leave=False, disable=None)
        with torch.random.fork_rng(), torch.no_grad():
            for sample, _ in bar:
                torch.manual_seed(0)  # of networks that draw noise
                points = measured(sample) if self.model.needs_sparse_depth else None
                found.append(predict(image_tensor(sample.image, torch.device("cpu")), points))
        return found


def measured(sample: Sample) -> Map:
    """A test picture's depth at pixels drawn at random, 0 elsewhere."""
    assert sample.depth is not None and sample.mask is not None
    known = sample.mask & (sample.depth <= FARTHEST)
    rng = np.random.default_rng(SEED)
    points = Points(POINTS)(sample.depth, known, sample.image, sample.intrinsics, rng)
    return torch.from_numpy(points)[None]


def scored(
    form: str,
    maps: Sequence[AnyMap],
    originals: Sequence[AnyMap],
    before: Scored,
    space: DepthSpace,
    bounds: Bounds | None,
) -> Scored:
    """Depth of the test pictures, beside the original's."""
    if (nothing := next((text for one in maps if (text := nothing_in(one))), None)) is not None:
        return Scored(
            form, within=(0.0,) * len(WITHIN), change=inf, bounds=bounds, fault=f"answers with {nothing}"
        )
    rows = [compare(form, ours, one, space) for ours, one in zip(originals, maps, strict=True)]
    if (fault := next((row.fault for row in rows if row.fault), None)) is not None:
        return Scored(form, within=(0.0,) * len(WITHIN), change=inf, bounds=bounds, fault=fault)
    abs_rel, delta1 = means(maps, space)
    change = max(abs(abs_rel - before.abs_rel), abs(delta1 - before.delta1))
    within = tuple(sum(row.within[i] for row in rows) / len(rows) for i in range(len(WITHIN)))
    return Scored(form, abs_rel, delta1, within, change, bounds)


def means(maps: Sequence[AnyMap], space: DepthSpace) -> tuple[float, float]:
    """AbsRel and delta1, means over the test pictures."""
    found = [
        fitted(raw, space, sample, protocol).metrics(protocol)
        for raw, (sample, protocol) in zip(maps, test_pictures(), strict=True)
    ]
    abs_rel, delta1 = (sum(one[name] for one in found) / len(found) for name in ("abs_rel", "delta1"))
    return abs_rel, delta1


def form_scores(
    scorer: Scorer, form: str, folder: Path, asked: Asked, before: Sequence[Scored]
) -> list[Scored]:
    """A form that was just written, loaded as depthkd loads it, with the original before it, where that does
    not stand there yet; and a folder's other ways of resizing images.

    Args:
        scorer: of the original.
        form: its name.
        folder: where it is.
        asked: what was asked for.
        before: the scores so far.
    """
    model = scorer.model
    loaded = _load(form, folder, model).eval()
    fixed = None if model.fixed_size is not None or form not in (ONNX, TORCH) else loaded.fixed_size
    original = scorer.original(fixed)
    found = [] if original in before else [original]
    half = form == ONNX and asked.precision == "fp16"
    name, bounds = (f"{form}, {asked.precision}", asked.bounds) if half else (form, FLOAT32)
    if loaded.space != model.space:
        fault = f"is read as {loaded.space}, and the original gives {model.space}"
        return [*found, Scored(name, within=(0.0,) * len(WITHIN), change=inf, bounds=bounds, fault=fault)]
    found.append(scorer.scored(name, loaded, bounds, fixed))
    return found + (other_preprocessing(scorer, folder) if form == HUB else [])


def _load(form: str, folder: Path, model: DepthModel) -> DepthModel:
    if form == TORCH:
        return TorchProgram(str(folder / PROGRAM), trusted=True)
    if form == HUB and isinstance(model, HuggingFaceDepth):
        return HuggingFaceDepth(source=str(folder), preprocessing=model.resizes_as)
    return named_model(str(folder / GRAPH if form == ONNX else folder)).load()


def other_preprocessing(scorer: Scorer, folder: Path) -> list[Scored]:
    """How a folder's network answers where images are resized otherwise than the original resizes them.

    Args:
        scorer: of the original.
        folder: of transformers, just written.
    """
    model = scorer.model
    if not isinstance(model, HuggingFaceDepth):
        return []
    ways: list[Preprocessing] = ["depthkd", "transformers"]
    if model.config.model_type == "depth_anything":
        ways.append("authors")
    return [
        scorer.scored(form_of(way), HuggingFaceDepth(source=str(folder), preprocessing=way).eval(), None)
        for way in ways
        if way != model.preprocessing
    ]


def form_of(way: Preprocessing) -> str:
    """What tables call a folder that is run with a way of resizing images."""
    return f"{HUB}, preprocessing: {way}"


def score_table(found: Sequence[Scored], space: DepthSpace) -> str:
    """The scores as text, for the terminal and for the card (Markdown)."""
    ratio = space.ambiguity != Ambiguity.AFFINE
    heads = [f"within {b}x" if ratio else f"within {round(100 * (b - 1))} % of the range" for b in WITHIN]
    lines = [f"| run as | AbsRel ↓ | delta1 ↑ | {heads[0]} | {heads[1]} |", "| --- | --- | --- | --- | --- |"]
    for one in found:
        shares = " | ".join(f"{100 * share:.2f} %" for share in one.within)
        if one.form.startswith(ORIGINAL):
            shares = " | "
        told = (
            f"{one.abs_rel:.4f} | {one.delta1:.4f} | {shares}" if one.fault is None else f"{one.fault} | | | "
        )
        lines.append(f"| {one.form} | {told} |")
    return "\n".join(lines)
