"""Robust Lightweight Depth Estimation Model via Data-free Distillation (ICASSP 2024, a poster): a lightweight
student first learns from diverse labelled images, then from a teacher, last on images of the target domain
without any label."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from depthkd.batch import Batch, TrainingBatch
from depthkd.errors import UserError
from depthkd.losses.channel_wise import (
    MapNormalizationName,
    channel_norm_mse,
    channel_wise_loss,
    normalized_mse,
)
from depthkd.losses.geometric import (
    Alignment,
    Intrinsics,
    assumed_intrinsics,
    drawn_pixels,
    in_unit_ball,
    mean_square,
    points_at,
    position_maps,
)
from depthkd.losses.gradient import normalized_gradient_matching
from depthkd.losses.image_level import image_level_regression
from depthkd.methods.depth_anything_v2 import in_quantity_of
from depthkd.methods.method import Method, Teacher
from depthkd.methods.optimization import Optimization
from depthkd.methods.teachers import Origin
from depthkd.models.frozen import FrozenModule
from depthkd.models.model import DepthModel, resize_map
from depthkd.models.pointnet import PointNet
from depthkd.shapes import Image, Map, Mask, PerImage

TEACHER, POINTNET = "teacher", "pointnet"


@dataclass(frozen=True)
class LabelFreeWeights:
    """Weights of the terms; the poster gives none. 0 switches a term off. PointNet's features differ by far
    more than the maps do, so that they count a tenth.

    `channel_wise` is its (a); `geometric_input` and `geometric_feature` are its (b). `channel_norm_mse` is
    its baseline "CN + MSE", `normalized_mse` a plain one. `image_level` and `gradient` are of labelled
    sources alone, "additional supervision" that its own method does without: LeReS's losses.
    """

    channel_wise: float = 1.0
    geometric_input: float = 1.0
    geometric_feature: float = 0.1
    channel_norm_mse: float = 0.0
    normalized_mse: float = 0.0
    image_level: float = 0.0
    gradient: float = 0.0


SUPERVISED = ("image_level", "gradient")
GEOMETRIC = ("geometric_input", "geometric_feature")


@dataclass(frozen=True)
class Geometry:
    """How two depth maps become point clouds; what the poster does not say of its (b).

    Attributes:
        points: pixels of an image that are compared, drawn anew for every image of every step.
        alignment: of the student's map to the teacher's scale and shift: "median_deviation" normalizes both
            alike, "least_squares" minimizes their squared difference.
        depth_ratio: how many times as far as its nearest point a scene's farthest is taken to be, because the
            teacher's offset is unknown; see `positive_depth`.
        field_of_view: horizontal, in degrees, of images whose camera is not known.
        known_cameras: take the images' own intrinsics where the data brings them (`cameras` of a source
            without labels).

    Raises:
        UserError: one is out of its range.
    """

    points: int = 4096
    alignment: Alignment = "median_deviation"
    depth_ratio: float = 3.0
    field_of_view: float = 60.0
    known_cameras: bool = True

    def __post_init__(self) -> None:
        for name, good, wanted in (
            ("points", self.points >= 1, "1 or more"),
            ("depth_ratio", self.depth_ratio > 1, "above 1"),
            ("field_of_view", 0 < self.field_of_view < 180, "between 0 and 180 degrees"),
        ):
            if not good:
                raise UserError(
                    f"model.init_args.geometry.{name} must be {wanted}, not {getattr(self, name)}"
                )

    def intrinsics(self, part: Batch, like: Map) -> Intrinsics:
        """The cameras of a source's images, known or assumed."""
        if self.known_cameras and part.intrinsics is not None:
            return part.intrinsics.to(like)
        return assumed_intrinsics(like.shape[1], like.shape[2], self.field_of_view, like)


class LabelFreeDistill(Method):
    """Distills a teacher into a lightweight student on unlabelled images: channel-wise and geometric terms.

    Sources bring images alone, or also `labels`, tars of what the teacher has said of them. Where a
    supervised term has a weight, labelled sources may stand among them, or alone: rows of the poster's
    ablation, whose other methods "exploit labeled data for additional supervision".

    Args:
        student: the network that learns.
        teacher: how to build the teacher; None: no term asks it, or all sources bring its `labels`.
        weights: of the terms.
        optimization: optimizer, schedule and moving average.
        normalization: of both maps in channel-wise distillation and the two baselines: "mean_deviation",
            "median_deviation" or "min_max".
        temperature: T of channel-wise distillation.
        geometry: how maps become point clouds.
        pointnet: how to build the PointNet whose features are compared, a `PointNet`; it never learns, and is
            in no checkpoint. Needed if `geometric_feature` has a weight.
        seed: of everything random in training.

    Raises:
        UserError: a setting is out of its range, what a term needs is missing, a source has labels that no
            term looks at, or teacher and student predict different quantities.
    """

    def __init__(
        self,
        student: DepthModel,
        teacher: Teacher | None = None,
        weights: LabelFreeWeights = LabelFreeWeights(),
        optimization: Optimization = Optimization(),
        normalization: MapNormalizationName = "mean_deviation",
        temperature: float = 4.0,
        geometry: Geometry = Geometry(),
        pointnet: Callable[[], PointNet] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(student, optimization, weights, {} if teacher is None else {TEACHER: teacher}, seed)
        if not temperature > 0:
            raise UserError(f"model.init_args.temperature must be above 0, not {temperature}")
        if self.used("geometric_feature") and pointnet is None:
            raise UserError(
                "model.init_args.pointnet is missing, and weights.geometric_feature compares its features: "
                "name a depthkd.models.PointNet, with a file of `depthkd pointnet` or random weights, or set "
                "that weight to 0"
            )
        self.normalization: MapNormalizationName = normalization
        self.temperature = temperature
        self.geometry = geometry
        self.make_pointnet = pointnet
        self.pointnet: FrozenModule[PointNet] | None = None
        self.supervised = [term for term in SUPERVISED if self.used(term)]
        self.distills = any(self.used(term) for term in self.weights.keys() - set(SUPERVISED))
        self.told_in_tars: set[str] = set()  # sources that bring what the teacher says

    def setup(self, stage: str) -> None:
        """See where labels come from, and build teacher and PointNet, if terms ask for them.

        Raises:
            UserError: a source has labels that nothing looks at, or lacks what is needed.
        """
        if stage == "fit":
            self._check_sources(getattr(getattr(self._trainer, "datamodule", None), "train", {}))
        super().setup(stage)
        if stage == "fit" and self.used("geometric_feature") and self.pointnet is None:
            assert self.make_pointnet is not None  # the constructor has seen to it
            self.pointnet = FrozenModule(self.make_pointnet, self.trainer.strategy.root_device)

    def _check_sources(self, sources: Mapping[str, Any]) -> None:
        self.told_in_tars = {name for name, source in sources.items() if source.labels is not None}
        truth = {name for name, source in sources.items() if source.labelled} - self.told_in_tars
        if truth and not self.supervised:
            raise UserError(
                f"data.train.{min(truth)} is labelled, and LabelFreeDistill looks at no label unless "
                "model.init_args.weights has image_level or gradient: set `labelled: false` (and `cameras: "
                "true`, to keep the intrinsics)"
            )
        if self.supervised and sources and not truth:
            raise UserError(
                f"model.init_args.weights.{self.supervised[0]} needs labels, and no source of data.train is "
                "`labelled: true`"
            )
        untold = sorted(sources.keys() - self.told_in_tars)
        if self.distills and untold and TEACHER not in self.teacher_factories:
            raise UserError(
                f"data.train.{untold[0]} has no `labels`, and there is no model.init_args.teacher to make "
                "some"
            )
        if not self.distills and (unused := sorted(sources.keys() - truth)):
            raise UserError(
                f"data.train.{unused[0]} is not labelled, and no term of model.init_args.weights distills"
            )
        if not (self.distills and untold) and sources:
            self.teacher_factories = {}  # nobody asks it

    def taught_by(self) -> Mapping[str, Origin]:
        """The teacher, and the PointNet."""
        pointnet = {} if self.pointnet is None else {POINTNET: self.pointnet.model}
        return {**super().taught_by(), **pointnet}

    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """All terms that have a weight, over all sources."""
        return self.mean_over_images([self._per_image(name, part) for name, part in batch.items()])

    def _per_image(self, name: str, part: Batch) -> dict[str, PerImage]:
        image = self.sized(name, part)
        student = self.student_depth(image)
        terms: dict[str, PerImage] = {}
        if self.distills:
            teacher, mask = self._told(name, part, image)
            self.keep_picture(image, teacher, student, mask)
            terms |= self._channel_wise(student, teacher, mask)
            if any(self.used(term) for term in GEOMETRIC):
                terms |= self._geometric(name, part, student, teacher, mask)
        if self.supervised and name not in self.told_in_tars and part.depth is not None:
            terms |= self._supervised(name, part, image, student)
        return terms

    def _told(self, name: str, part: Batch, image: Image) -> tuple[Map, Mask]:
        """What the teacher says of the images, as the student's quantity, and where it counts."""
        if name in self.told_in_tars:
            whose = f"data.train.{name}.labels"
            assert part.depth is not None and part.mask is not None and part.space is not None
            label, mask = self.usable(name, part, "the label", part.depth, part.mask)
            return in_quantity_of(self.student, whose, label, part.space, mask)
        teacher = self.teachers[TEACHER]
        depth = resize_map(teacher(image).depth, (image.shape[-2], image.shape[-1]))
        label, mask = self.usable(name, part, f"the label of {self.named(TEACHER)}", depth)
        return in_quantity_of(self.student, self.named(TEACHER), label, teacher.space, mask)

    def _channel_wise(self, student: Map, teacher: Map, mask: Mask) -> dict[str, PerImage]:
        """(a): "first normalize the depth and then compute KL divergence loss"; and the baselines."""
        maps = (student, teacher, mask, self.normalization)
        terms = {}
        if self.used("channel_wise"):
            terms["channel_wise"] = channel_wise_loss(*maps, self.temperature)
        if self.used("channel_norm_mse"):
            terms["channel_norm_mse"] = channel_norm_mse(*maps)
        if self.used("normalized_mse"):
            terms["normalized_mse"] = normalized_mse(*maps)
        return terms

    def _geometric(
        self, name: str, part: Batch, student: Map, teacher: Map, mask: Mask
    ) -> dict[str, PerImage]:
        """(b): "first convert the 2D depth map into 3D position map, then use PointNet to extract features
        (input and feature), then compute the MSE loss". The input are the points themselves, the features are
        those of each point and that of the whole cloud."""
        g = self.geometry
        drawn = drawn_pixels(mask, self.generators(name, part), g.points)
        positions = position_maps(
            student,
            teacher,
            mask,
            g.intrinsics(part, student),
            self.student.space.quantity,
            g.alignment,
            g.depth_ratio,
        )
        ours, theirs = in_unit_ball(*(points_at(position, drawn) for position in positions))
        terms = {}
        if self.used("geometric_input"):
            terms["geometric_input"] = mean_square(ours, theirs, mask)
        if self.pointnet is not None:
            seen, wanted = (self.pointnet.model.features(cloud) for cloud in (ours, theirs))
            local = mean_square(seen.local, wanted.local, mask)
            terms["geometric_feature"] = local + mean_square(seen.whole, wanted.whole, mask)
        return terms

    def _supervised(self, name: str, part: Batch, image: Image, student: Map) -> dict[str, PerImage]:
        """LeReS's losses of labelled images (arXiv 2012.09365): image-level normalized regression, and
        multi-scale gradients of normalized maps."""
        assert part.depth is not None and part.mask is not None and part.space is not None
        label, mask = self.usable(name, part, "the label", part.depth, part.mask)
        truth, mask = in_quantity_of(self.student, f"data.train.{name}", label, part.space, mask)
        if not self.distills:
            self.keep_picture(image, truth, student, mask)
        terms = {}
        if self.used("image_level"):
            terms["image_level"] = image_level_regression(student, truth, mask)
        if self.used("gradient"):
            terms["gradient"] = normalized_gradient_matching(student, truth, mask)
        return terms
