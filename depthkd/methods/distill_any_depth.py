"""Distill Any Depth (arXiv 2502.19204): cross-context and assistant-guided distillation, section 3.2."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from depthkd.batch import Ambiguity, Batch, TrainingBatch
from depthkd.errors import UserError
from depthkd.geometry import crop_boxes, paste_boxes
from depthkd.losses.anchor import magnitude_anchor
from depthkd.losses.disagreement import agreement_weighted_mean
from depthkd.losses.gradient import normalized_gradient_matching
from depthkd.losses.normalization import Normalization, NormalizationName, distillation_loss
from depthkd.methods.feature_alignment import FeatureAligned
from depthkd.methods.method import Teacher
from depthkd.methods.optimization import Optimization
from depthkd.models.model import DepthModel, DepthOutput, FeatureModel, resize_map
from depthkd.shapes import Image, Map, Mask, PerImage

Windows = Float[Tensor, "batch count window_height window_width"]
WindowMask = Bool[Tensor, "batch count window_height window_width"]
Boxes = Float[Tensor, "batch count 4"]
Side = Literal["student", "teacher"]


@dataclass(frozen=True)
class CrossContextWeights:
    """Distill Any Depth, Eq. 9, with section 4.1's lambda_1 = 0.5, lambda_2 = 1.0 and lambda_3 = 2.0.

    `anchor` is ours: it holds the magnitude that the others leave free.
    """

    shared_context: float = 1.0
    local_global: float = 0.5
    features: float = 1.0
    gradient: float = 2.0
    anchor: float = 0.0


def shared_context_loss(student: Map, teacher: Map, mask: Mask, normalization: Normalization) -> PerImage:
    """Distill Any Depth, Eq. 7: both saw the same crop."""
    return distillation_loss(student, teacher, mask, normalization)


def local_global_loss(
    student: Map,
    windows: Windows,
    boxes: Boxes,
    normalization: Normalization,
    resampled: Side = "student",
    mask: WindowMask | None = None,
) -> PerImage:
    """Distill Any Depth, Eq. 8: the teacher saw windows of what the student saw whole.

    Either the student's map is cropped to each window's box and resampled to the teacher's finer
    grid, which keeps all that the teacher saw, or the teacher's window is resampled to the pixels
    that the student has there. The mean over the N windows of each image, without those that have no
    valid pixel.

    Args:
        student: its map of the whole.
        windows: the teacher's maps; what stands at invalid pixels does not matter.
        boxes: where each window lies: (top, left, height, width) as fractions of the whole.
        normalization: of L_Dis.
        resampled: which side is brought to the other's grid.
        mask: the windows' valid pixels; None: all are. Of a resampled window a pixel is valid if all that it
            is made of are.
    """
    batch, count = windows.shape[:2]
    valid = torch.ones_like(windows, dtype=torch.bool) if mask is None else mask
    windows = torch.where(valid, windows, 0)
    if resampled == "student":
        crops, labels = crop_boxes(student, boxes, (windows.shape[2], windows.shape[3])), windows
    else:
        size = (student.shape[1], student.shape[2])
        crops = student[:, None].expand(-1, count, -1, -1)
        labels, inside = paste_boxes(windows, boxes, size)
        spoilt, _ = paste_boxes((~valid).to(windows.dtype), boxes, size)
        valid = inside & (spoilt == 0)
    losses = distillation_loss(crops.flatten(0, 1), labels.flatten(0, 1), valid.flatten(0, 1), normalization)
    learned = valid.flatten(2).any(2).sum(1)
    return losses.view(batch, count).sum(1) / learned.clamp(min=1)


def drawn_teacher(probabilities: dict[str, float], seed: int, step: int) -> str:
    """Section 3.2's probabilistic sampling: the one teacher of an iteration, the same on every rank."""
    draw = np.random.default_rng([seed, step]).random() * sum(probabilities.values())
    for name, probability in probabilities.items():
        draw -= probability
        if draw < 0:
            return name
    return name


class CrossContext(FeatureAligned):
    """What both methods share: Eq. 9 over the labels of one teacher or several.

    The crops are the data's: `CrossContextCrop` cuts the square region that both see and the
    windows that the teacher sees at native resolution.

    Args:
        student: the network that learns; its quantity must be the teachers'.
        teachers: name -> how to build it; they are built when training starts.
        weights: of the terms of Eq. 9; 0 switches one off, and its teacher passes with it.
        shared_context_normalization: of Eq. 7 (Table 1: hybrid is best).
        local_global_normalization: of Eq. 8 (Table 1: hybrid is best).
        optimization: optimizer, schedule and moving average.
        scales: of the gradient term, which compares the globally normalized pair.
        feature_margin: tokens whose cosine is above it are near enough (Depth Anything V1: .85).
        feature_encoder: a frozen network for the feature term alone, whichever teacher is drawn: a
            `Dinov2Features`, because Depth Anything V2 (section 5.2) keeps the semantics of *pre-trained
            DINOv2*; None: the teacher's own features, which say nothing to a student that starts from
            that teacher's encoder (all cosines are 1, above the margin).
        resampled: which side local-global distillation brings to the other's grid.
        seed: of everything random in training.

    Raises:
        UserError: teachers and student predict different quantities, no teacher has features for
            the feature term, or the data has no windows.
    """

    labels_crops = True

    def __init__(
        self,
        student: DepthModel,
        teachers: dict[str, Teacher],
        weights: CrossContextWeights = CrossContextWeights(),
        shared_context_normalization: NormalizationName = "hybrid",
        local_global_normalization: NormalizationName = "hybrid",
        optimization: Optimization = Optimization(),
        scales: int = 4,
        feature_margin: float = 0.85,
        feature_encoder: Callable[[], FeatureModel] | None = None,
        resampled: Side = "student",
        seed: int = 0,
    ) -> None:
        super().__init__(student, optimization, weights, teachers, seed, feature_margin, feature_encoder)
        self.shared_context_normalization = Normalization(shared_context_normalization)
        self.local_global_normalization = Normalization(local_global_normalization)
        self.scales = scales
        self.resampled: Side = resampled

    def setup(self, stage: str) -> None:
        """Build the teachers, see that they and the student speak of the same quantity, and join their
        features."""
        super().setup(stage)
        for teacher in self.teachers.values():
            if teacher.space.quantity is not self.student.space.quantity:
                raise UserError(
                    f"the teacher ({teacher.model.source}) predicts '{teacher.space}' and the student "
                    f"({self.student.source}) '{self.student.space}': distillation needs one quantity, so "
                    "take a teacher or a student of the other kind"
                )
        if stage == "fit":
            self.join_features()

    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """Distill Any Depth, Eq. 9, term by term, over all sources."""
        return self.mean_over_images([self._per_image(name, part) for name, part in batch.items()])

    def _per_image(self, name: str, part: Batch) -> dict[str, PerImage]:
        image = part.images()
        output = self.student(image)
        student = resize_map(output.depth.float(), (image.shape[-2], image.shape[-1]))
        self.latest = {"student": student[:4].detach()}  # all that there is without a label of the whole
        terms: dict[str, PerImage] = {}
        if any(self.used(term) for term in ("shared_context", "gradient", "features")):
            labels = self.labels(image)
            teacher, mask = self.usable(name, part, f"the label of {self.origin()}", labels.depth)
            self.keep_picture(image, teacher, student, mask)
            if self.used("shared_context"):
                terms["shared_context"] = shared_context_loss(
                    student, teacher, mask, self.shared_context_normalization
                )
            if self.used("gradient"):
                terms["gradient"] = normalized_gradient_matching(student, teacher, mask, self.scales)
            if self.used("features"):
                terms["features"] = self._features(name, part, image, output, labels)
        if self.used("local_global"):
            windows, boxes = self.window_labels(name, part)
            windows, mask = self.usable(name, part, f"the windows' labels of {self.origin()}", windows)
            self._keep_figure_5(part, windows, boxes)
            terms["local_global"] = local_global_loss(
                student, windows, boxes, self.local_global_normalization, self.resampled, mask
            )
        if self.used("anchor"):
            terms["anchor"] = magnitude_anchor(student, torch.ones_like(student, dtype=torch.bool))
        return terms

    def _keep_figure_5(self, part: Batch, windows: Windows, boxes: Boxes) -> None:
        """Figure 5 for the log: a window, and its labels from the whole image and from the window alone."""
        if "target" in self.latest and part.windows is not None:
            size = (windows.shape[2], windows.shape[3])
            cut = crop_boxes(self.latest["target"][:1], boxes[:1, :1], size)[:, 0]
            self.latest |= {"window": part.windows[:1, 0].float() / 255.0, "of_the_whole": cut}
            self.latest["of_the_window"] = windows[:1, 0].detach()

    def pictures(self) -> dict[str, tuple[Image, list[Map]]]:
        """The last batch, and Figure 5."""
        pictures, latest = super().pictures(), self.latest
        if "window" in latest:
            maps = [latest["of_the_whole"], latest["of_the_window"]]
            pictures["train/label_of_the_whole_and_of_the_window"] = (latest["window"], maps)
        return pictures

    def _features(
        self, name: str, part: Batch, image: Image, student: DepthOutput, teacher: DepthOutput
    ) -> PerImage:
        """The feature term, aligned to the feature encoder, or to the drawn teacher if it has features."""
        theirs, origin = teacher.features, self.origin()
        if self.encoder is not None:
            theirs, origin = self.encoded(image)
        return self.feature_alignment(name, part.keys, image, student.features, theirs, origin)

    def labels(self, image: Image) -> DepthOutput:
        """Pseudo-labels at the image's size, with the encoder's features where the teacher has them."""
        return self._label_of(next(iter(self.teachers)), image)

    def origin(self) -> str:
        """Who labels this step's images, in words."""
        return self.named(next(iter(self.teachers)))

    def _label_of(self, name: str, image: Image) -> DepthOutput:
        output = self.teachers[name](image)
        depth = resize_map(output.depth, (image.shape[-2], image.shape[-1]))
        return DepthOutput(depth, output.features)

    def window_labels(self, name: str, part: Batch) -> tuple[Windows, Boxes]:
        """Pseudo-labels of all windows of all images, in one call of the teacher."""
        if part.windows is None or part.boxes is None:
            raise UserError(
                f"data.train.{name} has no windows, but local-global distillation needs them: give it "
                "`transform: depthkd.data.CrossContextCrop`, or set model.init_args.weights.local_global to 0"
            )
        batch, count = part.windows.shape[:2]
        labels = self.labels(part.windows.flatten(0, 1).float().div_(255.0)).depth
        return labels.view(batch, count, *labels.shape[1:]), part.boxes


class CrossContextDistill(CrossContext):
    """Distills one teacher into a student with shared-context and local-global distillation.

    Args:
        student: the network that learns; its quantity must be the teacher's.
        teacher: how to build the teacher; it is built when training starts.
        settings: see `CrossContext`.
    """

    def __init__(self, student: DepthModel, teacher: Teacher, **settings: Any) -> None:
        super().__init__(student, {"teacher": teacher}, **settings)


class AssistantGuided(CrossContext):
    """Cross-context distillation from several teachers, one of them drawn for each iteration.

    Args:
        student: the network that learns; its quantity must be the teachers'.
        teachers: name -> how to build it; the first is the primary one.
        probabilities: name -> how often it is drawn; the paper draws the primary teacher 7 times of 10.
        strategy: "select" draws one teacher for each iteration; "average" takes the mean of all labels,
            weighted by how far they agree (Table 4; its formula is ours).
        mixed_scales: allow losses without normalization although the teachers' scales differ.
        settings: see `CrossContext`.

    Raises:
        UserError: probabilities and teachers do not go together, or a loss without normalization
            would mix the scales of several teachers.
    """

    def __init__(
        self,
        student: DepthModel,
        teachers: dict[str, Teacher],
        probabilities: dict[str, float],
        strategy: Literal["select", "average"] = "select",
        mixed_scales: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(student, teachers, **settings)
        if set(probabilities) != set(teachers) or min(probabilities.values(), default=0.0) <= 0.0:
            raise UserError(
                "model.init_args.probabilities must name every teacher with a number above 0: the teachers "
                f"are {', '.join(teachers) or 'none'}, the probabilities {probabilities}"
            )
        if strategy == "average" and len(teachers) < 2:
            raise UserError("model.init_args.strategy: an average needs two teachers or more")
        self.probabilities = {name: probabilities[name] for name in teachers}
        self.strategy = strategy
        self.mixed_scales = mixed_scales

    def setup(self, stage: str) -> None:
        """As `CrossContext`, and see that no loss mixes scales."""
        super().setup(stage)
        raw = [
            term
            for term, normalization in (
                ("shared_context", self.shared_context_normalization),
                ("local_global", self.local_global_normalization),
            )
            if self.used(term) and normalization is Normalization.NONE
        ]
        loose = [n for n in self.probabilities if self._ambiguous(n)]
        if stage == "fit" and raw and loose and len(self.probabilities) > 1 and not self.mixed_scales:
            raise UserError(
                f"model.init_args.{raw[0]}_normalization is 'none', but the teachers' scales have nothing to "
                f"do with each other ({', '.join(f'{n}: {self.teachers[n].space}' for n in loose)}): take "
                "another normalization, one teacher, or set mixed_scales to true"
            )

    def _ambiguous(self, name: str) -> bool:
        return name in self.teachers and self.teachers[name].space.ambiguity is not Ambiguity.METRIC

    def labels(self, image: Image) -> DepthOutput:
        """Pseudo-labels of the teacher that this step draws, or the average of all."""
        names = list(self.probabilities)
        if self.strategy == "select":
            return self._label_of(self.drawn(), image)
        outputs = [self._label_of(name, image) for name in names]
        finite = torch.stack([a.depth.isfinite() for a in outputs]).all(0)
        mean = agreement_weighted_mean([a.depth for a in outputs], finite)
        return DepthOutput(torch.where(finite, mean, torch.nan), outputs[0].features)

    def origin(self) -> str:
        """The teacher that this step draws, or all."""
        if self.strategy == "select":
            return self.named(self.drawn())
        return f"the average of {', '.join(self.probabilities)}"

    def drawn(self) -> str:
        """The name of this optimizer step's teacher."""
        return drawn_teacher(self.probabilities, self.seed, self.global_step)
