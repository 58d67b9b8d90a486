"""Training of a depth completion network, the last step of two-stage completion.

The poster of "Robust Lightweight Depth Estimation Model via Data-free Distillation" (Gao et al., ICASSP 2024)
completes depth in two stages, and gives neither losses nor data of the second. These are ours: synthetic
images with exact depth, of which sensors' patterns are measured, a difference, and multi-scale gradients.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from depthkd.alignment import masked_mean
from depthkd.batch import METRIC_DEPTH, Batch, TrainingBatch
from depthkd.errors import UserError
from depthkd.losses.gradient import gradient_matching
from depthkd.methods.method import Method
from depthkd.methods.optimization import Optimization
from depthkd.methods.perturbation import ColorPerturbation
from depthkd.models.completion.completion import DepthCompletion
from depthkd.models.model import DepthModel
from depthkd.shapes import Map, Mask, PerImage

Compared = Literal["scaled", "log"]
Norm = Literal["absolute", "root_mean_square"]
SMALLEST = 1e-3  # m: truth below it does not count
VANISHING = 1e-12  # under the root, whose slope at 0 is infinite


@dataclass(frozen=True)
class CompletionWeights:
    """Difference and multi-scale gradients, of depth as `compared`."""

    difference: float = 1.0
    gradient: float = 0.1


def without_unit(depth: Map, sparse: Map, compared: Compared) -> Map:
    """Depth without its unit, so that rooms and streets count alike.

    Args:
        depth: in meters, above 0.
        sparse: the points.
        compared: "scaled": over the mean depth of the image's points, d / m; "log": log(d / m). Over their
            median, what is far would outweigh all other images where most points are near.
    """
    mean = masked_mean(sparse, sparse > 0).clamp(min=SMALLEST)[:, None, None]
    return depth / mean if compared == "scaled" else (depth.clamp(min=SMALLEST) / mean).log()


def difference(ours: Map, truth: Map, mask: Mask, norm: Norm) -> PerImage:
    """Of each image, over the mask: the mean of |d - t|, or the square root of the mean of (d - t)^2."""
    residual = torch.where(mask, ours - truth, 0.0)
    if norm == "absolute":
        return masked_mean(residual.abs(), mask)
    return (masked_mean(residual.square(), mask) + VANISHING).sqrt()


class SupervisedCompletion(Method):
    """Trains the network of a DepthCompletion on images with metric depth and sparse depth.

    Sparse depth is what `depthkd.data.SparsePoints`, the last of a source's transforms, measures of its
    depth; so each sample's pattern and points depend on its place in the stream alone. The student's relative
    model does not learn. Images without a point do not count.

    Args:
        student: the DepthCompletion; or a run of one that goes on.
        weights: of the two terms.
        optimization: optimizer, schedule and moving average. All of the network is new, and learns at the
            rate of a head.
        compared: what is compared: "scaled", depth over the mean of the points, which minds what is far; or
            "log", its logarithm, which minds relative errors.
        norm: of the difference in an image: "root_mean_square", or "absolute", its mean. With "scaled", the
            first is what RMSE measures.
        scales: of gradient matching.
        max_depth: the largest depth that counts, in meters; None: any.
        perturbation: of the colors of the network's and the relative model's images.
        seed: of everything random in training.

    Raises:
        UserError: the student is another model, or has no relative model; `max_depth` is not above 1 mm; or a
            source has no metric depth, or no sparse depth.
    """

    def __init__(
        self,
        student: DepthModel,
        weights: CompletionWeights = CompletionWeights(),
        optimization: Optimization = Optimization(),
        compared: Compared = "scaled",
        norm: Norm = "root_mean_square",
        scales: int = 4,
        max_depth: float | None = None,
        perturbation: ColorPerturbation | None = None,
        seed: int = 0,
    ) -> None:
        network = student.unwrapped()
        if not isinstance(network, DepthCompletion):
            raise UserError(
                f"model.init_args.student is a {type(network).__name__}; SupervisedCompletion trains a "
                "depthkd.models.DepthCompletion"
            )
        if network.make_relative is None:
            raise UserError(
                "model.init_args.student.init_args.relative is missing: the model whose depth is aligned to "
                "the points, such as {class_path: depthkd.models.Embedded}"
            )
        if max_depth is not None and not max_depth > SMALLEST:
            raise UserError(f"model.init_args.max_depth must be above {SMALLEST:g} m, not {max_depth:g}")
        super().__init__(student, optimization, weights, {"relative": network.make_relative}, seed)
        self.compared: Compared = compared
        self.norm: Norm = norm
        self.scales = scales
        self.max_depth = max_depth
        self.perturbation = perturbation

    def setup(self, stage: str) -> None:
        """Build the relative model on the device, for the student and its average."""
        super().setup(stage)
        if stage == "fit":
            for model in (self.student, getattr(self, "student_average", self.student)):
                self._completion(model).relative = self.teachers["relative"]

    @staticmethod
    def _completion(model: DepthModel) -> DepthCompletion:
        network: Any = model.unwrapped()
        assert isinstance(network, DepthCompletion)
        return network

    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """Both terms over all sources."""
        return self.mean_over_images([self._per_image(name, part) for name, part in batch.items()])

    def _per_image(self, name: str, part: Batch) -> dict[str, Tensor]:
        if part.depth is None or part.mask is None or part.space != METRIC_DEPTH:
            raise UserError(
                f"data.train.{name} has {part.space or 'no depth'}; SupervisedCompletion learns from "
                f"labelled shards of {METRIC_DEPTH}"
            )
        if part.sparse is None:
            raise UserError(
                f"data.train.{name} has no sparse depth: let its transform be a depthkd.data.Compose that "
                "ends in a depthkd.data.SparsePoints"
            )
        sparse = part.sparse
        farthest = torch.inf if self.max_depth is None else self.max_depth
        counts = part.mask & (part.depth >= SMALLEST) & (part.depth <= farthest)
        counts = counts & (sparse > 0).flatten(1).any(1)[:, None, None]
        wanted = f"between {SMALLEST:g} and {farthest:g} m, in an image with a measured point"
        truth, mask = self.usable(name, part, "the label", part.depth, counts, wanted)
        image = part.images()
        if self.perturbation is not None:
            image = self.perturbation(image, [(self.seed, position) for position in part.positions or []])
        depth = self._completion(self.student).complete(image, sparse, part.intrinsics)
        self.keep_picture(image, truth, depth, mask)
        ours, theirs = (without_unit(x, sparse, self.compared) for x in (depth, truth))
        terms = {}
        if self.used("difference"):
            terms["difference"] = difference(ours, theirs, mask, self.norm)
        if self.used("gradient"):
            terms["gradient"] = gradient_matching(ours, theirs, mask, self.scales)
        return terms
