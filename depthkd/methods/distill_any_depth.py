"""Distill Any Depth (arXiv 2502.19204): cross-context distillation, section 3.2."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from depthkd.batch import Batch, TrainingBatch
from depthkd.geometry import crop_boxes
from depthkd.losses.gradient import normalized_gradient_matching
from depthkd.losses.normalization import Normalization, NormalizationName, distillation_loss
from depthkd.methods.method import Method, Teacher
from depthkd.methods.optimization import Optimization
from depthkd.models.model import DepthModel, resize_map

Map = Float[Tensor, "batch height width"]
Mask = Bool[Tensor, "batch height width"]
Windows = Float[Tensor, "batch count window_height window_width"]
PerImage = Float[Tensor, " batch"]


@dataclass(frozen=True)
class CrossContextWeights:
    """Distill Any Depth, Eq. 9, with section 4.1's lambda_1 = 0.5 and lambda_3 = 2.0."""

    shared_context: float = 1.0
    local_global: float = 0.5
    gradient: float = 2.0


def shared_context_loss(student: Map, teacher: Map, mask: Mask, normalization: Normalization) -> PerImage:
    """Distill Any Depth, Eq. 7: both saw the same crop."""
    return distillation_loss(student, teacher, mask, normalization)


def local_global_loss(
    student: Map, windows: Windows, boxes: Float[Tensor, "batch count 4"], normalization: Normalization
) -> PerImage:
    """Distill Any Depth, Eq. 8: the teacher saw windows of what the student saw whole.

    The student's map is cropped to each window's box and resampled to the teacher's finer grid;
    the mean over the N windows of each image.
    """
    batch, count, height, width = windows.shape
    crops = crop_boxes(student, boxes, (height, width)).flatten(0, 1)
    labels = windows.flatten(0, 1)
    everywhere = torch.ones_like(labels, dtype=torch.bool)
    return distillation_loss(crops, labels, everywhere, normalization).view(batch, count).mean(1)


class CrossContextDistill(Method):
    """Distils a teacher into a student with shared-context and local-global distillation.

    The crops are the data's: `CrossContextCrop` cuts the square region that both see and the
    windows that the teacher sees at native resolution.

    Args:
        student: the network that learns; its quantity must be the teacher's.
        teacher: how to build the teacher; it is built when training starts.
        weights: of the terms of Eq. 9; 0 switches one off, and its teacher passes with it.
        shared_context_normalization: of Eq. 7 (Table 1: hybrid is best).
        local_global_normalization: of Eq. 8 (Table 1: hybrid is best).
        optimization: optimiser, schedule and moving average.
        scales: of the gradient term, which compares the globally normalised pair.
        seed: of everything random in training.

    Raises:
        ValueError: teacher and student predict different quantities, or the data has no windows.
    """

    def __init__(
        self,
        student: DepthModel,
        teacher: Teacher,
        weights: CrossContextWeights = CrossContextWeights(),
        shared_context_normalization: NormalizationName = "hybrid",
        local_global_normalization: NormalizationName = "hybrid",
        optimization: Optimization = Optimization(),
        scales: int = 4,
        seed: int = 0,
    ) -> None:
        super().__init__(student, optimization, weights, {"teacher": teacher}, seed)
        self.shared_context_normalization = Normalization(shared_context_normalization)
        self.local_global_normalization = Normalization(local_global_normalization)
        self.scales = scales

    def setup(self, stage: str) -> None:
        """Build the teacher, and see that it and the student speak of the same quantity."""
        super().setup(stage)
        for teacher in self.teachers.values():
            if teacher.space.quantity is not self.student.space.quantity:
                raise ValueError(
                    f"the teacher ({teacher.model.source}) predicts '{teacher.space}' and the student "
                    f"({self.student.source}) '{self.student.space}': distillation needs one quantity, so "
                    "take a teacher or a student of the other kind"
                )

    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """Distill Any Depth, Eq. 9, term by term, over all sources."""
        return self.mean_over_images([self._per_image(name, part) for name, part in batch.items()])

    def _per_image(self, name: str, part: Batch) -> dict[str, PerImage]:
        image = part.images()
        student = self.student_depth(image)
        terms: dict[str, PerImage] = {}
        if self.used("shared_context") or self.used("gradient"):
            teacher = self.teacher_depth(image)
            everywhere = torch.ones_like(teacher, dtype=torch.bool)
            self.keep_picture(image, teacher, student)
            if self.used("shared_context"):
                normalization = self.shared_context_normalization
                terms["shared_context"] = shared_context_loss(student, teacher, everywhere, normalization)
            if self.used("gradient"):
                terms["gradient"] = normalized_gradient_matching(student, teacher, everywhere, self.scales)
        if self.used("local_global"):
            windows, boxes = self.window_labels(name, part)
            terms["local_global"] = local_global_loss(
                student, windows, boxes, self.local_global_normalization
            )
        return terms

    def teacher_depth(self, image: Float[Tensor, "batch 3 height width"]) -> Map:
        """Pseudo-labels at the image's size."""
        return resize_map(self.teachers["teacher"](image).depth, (image.shape[-2], image.shape[-1]))

    def window_labels(self, name: str, part: Batch) -> tuple[Windows, Float[Tensor, "batch count 4"]]:
        """Pseudo-labels of all windows of all images, in one call of the teacher."""
        if part.windows is None or part.boxes is None:
            raise ValueError(
                f"data.train.{name} has no windows, but local-global distillation needs them: give it "
                "`transform: depthkd.data.CrossContextCrop`, or set model.init_args.weights.local_global to 0"
            )
        batch, count = part.windows.shape[:2]
        labels = self.teacher_depth(part.windows.flatten(0, 1).float().div_(255.0))
        return labels.view(batch, count, *labels.shape[1:]), part.boxes
