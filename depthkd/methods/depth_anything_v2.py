"""Depth Anything V2 (arXiv 2406.09414): its first stage, a teacher trained on labelled synthetic images, and
its last, metric depth. The stage between them is in depth_anything_v2_students.py."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from depthkd.alignment import convert
from depthkd.batch import METRIC_DEPTH, Batch, DepthSpace, Quantity, TrainingBatch
from depthkd.errors import UserError
from depthkd.losses.gradient import normalized_gradient_matching
from depthkd.losses.normalization import Normalization, NormalizationName, distillation_loss
from depthkd.losses.scale_invariant_log import (
    LOG_LOSSES,
    SMALLEST,
    VARIANCE_FOCUS,
    LogLoss,
    Per,
    as_one_image,
)
from depthkd.methods.method import Method
from depthkd.methods.optimization import Optimization
from depthkd.methods.perturbation import ColorPerturbation, GammaBrightnessColor
from depthkd.models.model import DepthModel
from depthkd.shapes import Map, Mask


@dataclass(frozen=True)
class SupervisedWeights:
    """Depth Anything V2, section 7.1: L_ssi : L_gm = 1 : 2."""

    scale_shift_invariant: float = 1.0
    gradient: float = 2.0


Sky = Literal["masked", "zero"]


def checked_sky(sky: Sky, student: DepthModel) -> Sky:
    """The setting, if it suits the student.

    Raises:
        UserError: it is "zero", and the student predicts depth.
    """
    if sky == "zero" and student.space.quantity is not Quantity.DISPARITY:
        raise UserError(
            f"model.init_args.sky is 'zero', but the student predicts {student.space}, in which the sky "
            "has no finite value: leave it 'masked'"
        )
    return sky


def with_sky(disparity: Map, mask: Mask, sky: Mask) -> tuple[Map, Mask]:
    """Depth Anything (arXiv 2401.10891), section 4.1: the sky's disparity is 0, the farthest.

    Args:
        disparity: of an image, without its sky.
        mask: where it is valid.
        sky: where depth is infinite.

    Returns:
        The disparity with 0 in the sky, and where it is valid now. An image that is nothing but sky stays
        without valid pixels: it has no depths to compare.
    """
    sky = sky & mask.flatten(1).any(1)[:, None, None]
    return disparity.masked_fill(sky, 0), mask | sky


class SupervisedDepth(Method):
    """Trains a student on labelled images with the scale-and-shift-invariant loss and gradient matching.

    The truth is brought into the student's quantity first; a disparity student learns from 1/depth.

    Args:
        student: the network that learns.
        weights: of the two terms.
        optimization: optimizer, schedule and moving average.
        normalization: of the scale-and-shift-invariant term. The paper's is "global"; "hybrid" (hierarchical
            depth normalization) minds what is far away too, where disparities are small.
        scales: of gradient matching.
        sky: pixels whose depth is known to be infinite are "masked", or have the disparity "zero", as Depth
            Anything's first version (arXiv 2401.10891) sets it. Rendered data sets know their sky, and
            shards keep it.
        perturbation: of the student's input; the paper's first stage has none.
        seed: of everything random in training.

    Raises:
        UserError: a source has no labels, or labels that cannot become the student's quantity; or `sky` is
            "zero" and the student predicts depth.
    """

    def __init__(
        self,
        student: DepthModel,
        weights: SupervisedWeights = SupervisedWeights(),
        optimization: Optimization = Optimization(),
        normalization: NormalizationName = "global",
        scales: int = 4,
        perturbation: ColorPerturbation | None = None,
        seed: int = 0,
        sky: Sky = "masked",
    ) -> None:
        super().__init__(student, optimization, weights, {}, seed)
        self.sky = checked_sky(sky, student)
        self.normalization = Normalization(normalization)
        self.scales = scales
        self.perturbation = perturbation

    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """Both terms over all labelled sources."""
        return self.mean_over_images([self._per_image(name, part) for name, part in batch.items()])

    def _per_image(self, name: str, part: Batch) -> dict[str, Tensor]:
        if part.depth is None or part.mask is None or part.space is None:
            raise UserError(
                f"data.train.{name} has no depth, but SupervisedDepth learns from labels: use labelled shards"
            )
        depth, mask = self.usable(name, part, "the label", part.depth, part.mask)
        truth, mask = in_quantity_of(self.student, f"data.train.{name}", depth, part.space, mask)
        if self.sky == "zero":
            truth, mask = with_sky(truth, mask, part.depth.isposinf() & ~part.mask)
        image = part.images()
        if self.perturbation is not None:
            image = self.perturbation(image, [(self.seed, position) for position in part.positions or []])
        depth = self.student_depth(image)
        self.keep_picture(image, truth, depth, mask)
        terms = {}
        if self.used("scale_shift_invariant"):
            terms["scale_shift_invariant"] = distillation_loss(depth, truth, mask, self.normalization)
        if self.used("gradient"):
            terms["gradient"] = normalized_gradient_matching(depth, truth, mask, self.scales)
        return terms


def in_quantity_of(
    student: DepthModel, whose: str, label: Map, space: DepthSpace, mask: Mask
) -> tuple[Map, Mask]:
    """Labels as the student's quantity, and where they count: 1/x is none where x is 0 or less.

    Args:
        student: depth or disparity is what it predicts.
        whose: labels, in words.
        label: the map.
        space: of the label.
        mask: where it is valid.

    Raises:
        UserError: the quantity is another, and the label's offset is not known.
    """
    quantity = student.space.quantity
    if space.quantity is quantity:
        return label, mask
    if not space.invertible:
        raise UserError(
            f"{whose} has labels of '{space}', and the student ({student.source}) predicts "
            f"'{student.space}': 1/x means nothing while an offset is unknown, so take a student or "
            "labels of the other kind"
        )
    return convert(label, space, quantity), mask & (label > 0)


@dataclass(frozen=True)
class MetricWeights:
    """The weight of the one term."""

    scale_invariant_log: float = 1.0


class MetricFineTune(Method):
    """Trains a metric student on images with metric depth, with the scale-invariant logarithmic loss.

    As in Depth Anything V2's released code, truth nearer than 1 mm or farther than `max_depth` does not
    count: the student could not predict it. With the loss "zoedepth" and a student under ZoeDepth's head
    (`MetricBinsDepth`) it is the paper's fine-tuning on NYUv2 and KITTI (section 7.3, Table 4).

    Args:
        student: a network of metric depth, such as a DepthAnything with `metric_max_depth`.
        optimization: optimizer, schedule and moving average; the released code's are the defaults.
        variance_focus: lambda of the loss; that of its owners where None, .5 and .85.
        max_depth: the largest depth that counts, in meters; the student's own `max_depth` where None, and
            any depth where that is not known either.
        loss: "depth_anything", sqrt(mean(g^2) - lambda mean(g)^2), or "zoedepth",
            10 sqrt(var(g) + (1 - lambda) mean(g)^2).
        per: what g's means are over: the pixels of each "image", whose losses are then averaged, so that the
            number of ranks does not matter; or, as in both released codes, those of all images that a rank
            has of a "batch".
        perturbation: of the student's input; Depth Anything V2's code has none, ZoeDepth's
            `GammaBrightnessColor`.
        seed: of everything random in training.

    Raises:
        UserError: the student is not metric, `max_depth` is more than it can predict or not above 1 mm,
            `variance_focus` is not 0 to 1, or a source has no metric labels.
    """

    def __init__(
        self,
        student: DepthModel,
        optimization: Optimization = Optimization(),
        variance_focus: float | None = None,
        max_depth: float | None = None,
        seed: int = 0,
        loss: LogLoss = "depth_anything",
        per: Per = "image",
        perturbation: ColorPerturbation | GammaBrightnessColor | None = None,
    ) -> None:
        super().__init__(student, optimization, MetricWeights(), {}, seed)
        if student.space != METRIC_DEPTH:
            raise UserError(
                f"model.init_args.student predicts {student.space}; MetricFineTune trains {METRIC_DEPTH}, "
                "such as a depthkd.models.DepthAnything with metric_max_depth"
            )
        own = student.max_depth
        self.max_depth = own if max_depth is None else max_depth
        if max_depth is not None and not SMALLEST < max_depth <= (own or torch.inf):
            most = "" if own is None else f", and no more than the student's {own:g} m"
            raise UserError(
                f"model.init_args.max_depth must be above {SMALLEST:g} m{most}, not {max_depth:g}"
            )
        self.variance_focus = VARIANCE_FOCUS[loss] if variance_focus is None else variance_focus
        if not 0 <= self.variance_focus <= 1:
            raise UserError(f"model.init_args.variance_focus must be from 0 to 1, not {variance_focus}")
        self.loss = loss
        self.per = per
        self.perturbation = perturbation

    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """The term over all labelled sources."""
        maps = [self._maps(name, part) for name, part in batch.items()]
        if self.per == "batch":
            depths, truths, masks = map(list, zip(*maps, strict=True))
            maps = [(as_one_image(depths), as_one_image(truths), as_one_image(masks))]
        loss = LOG_LOSSES[self.loss]
        return self.mean_over_images(
            [{"scale_invariant_log": loss(*sample, self.variance_focus)} for sample in maps]
        )

    def _maps(self, name: str, part: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """The student's depth of a source's images, the truth, and where that counts."""
        if part.depth is None or part.mask is None or part.space != METRIC_DEPTH:
            raise UserError(
                f"data.train.{name} has no {METRIC_DEPTH}, but {part.space}: MetricFineTune learns from that"
            )
        farthest = torch.inf if self.max_depth is None else self.max_depth
        answerable = part.mask & (part.depth >= SMALLEST) & (part.depth <= farthest)
        wanted = f"finite and between {SMALLEST:g} and {farthest:g} m"
        truth, mask = self.usable(name, part, "the label", part.depth, answerable, wanted)
        image = part.images()
        if self.perturbation is not None:
            image = self.perturbation(image, [(self.seed, position) for position in part.positions or []])
        depth = self.student_depth(image)
        self.keep_picture(image, truth, depth, mask)
        return depth, truth, mask
