"""Depth Anything V2 (arXiv 2406.09414), stage 3: students trained on pseudo-labels (sections 5 and 7.1)."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple
from zlib import crc32

import torch
from torch import Tensor

from depthkd.alignment import masked_mean
from depthkd.batch import Batch, TrainingBatch
from depthkd.errors import UserError
from depthkd.losses.gradient import gradient_matching
from depthkd.losses.normalization import global_normalization
from depthkd.losses.trimmed import without_largest
from depthkd.methods.depth_anything_v2 import Sky, checked_sky, in_quantity_of, with_sky
from depthkd.methods.feature_alignment import FeatureAligned
from depthkd.methods.method import Teacher
from depthkd.methods.optimization import Optimization
from depthkd.methods.perturbation import ColorPerturbation, CutMix, Mixture
from depthkd.models.model import DepthModel, FeatureModel, resize_map
from depthkd.shapes import Image, Map, Mask, PerImage

TEACHER = "teacher"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PseudoLabelWeights:
    """Depth Anything V2, section 7.1: L_ssi : L_gm = 1 : 2. The features' weight is not said; V1 (section
    3.3) takes the mean of its losses, so that it is that of L_ssi.
    """

    scale_shift_invariant: float = 1.0
    gradient: float = 2.0
    features: float = 1.0


class Comparison(NamedTuple):
    """A student's maps beside their labels: two terms, and the pixels that count in the first."""

    scale_shift_invariant: PerImage
    gradient: PerImage
    kept: Mask


def compare(
    student: Map, label: Map, mask: Mask, drop: float, drop_from_gradient: bool, scales: int
) -> Comparison:
    """L_ssi without the largest losses (`trimmed_loss`) and L_gm, of one normalized pair.

    Args:
        student, label: maps of one quantity.
        mask: where the label is valid.
        drop: the share of the valid pixels of each image that L_ssi ignores; 0: none.
        drop_from_gradient: whether L_gm ignores them too.
        scales: of L_gm.
    """
    ours, theirs = (global_normalization(torch.where(mask, depth, 0), mask) for depth in (student, label))
    losses = (ours - theirs).abs()
    kept = without_largest(losses, mask, drop)
    gradient = gradient_matching(ours, theirs, kept if drop_from_gradient else mask, scales)
    return Comparison(masked_mean(losses, kept), gradient, kept)


class Region(NamedTuple):
    """A part of each image that is compared with a label of its own, and its share of the image's area."""

    label: Map
    mask: Mask
    area: PerImage


def regions_of(label: Map, mask: Mask, mixture: Mixture | None) -> list[Region]:
    """The whole images; or, of mixed ones, what is outside of the rectangle and what is inside.

    Depth Anything V1, section 3.2: in each, labels are those of the image that it is of.
    """
    if mixture is None:
        return [Region(label, mask, torch.ones_like(label[:, 0, 0]))]
    area = mixture.inside.flatten(1).float().mean(1)
    theirs, valid = label[mixture.partner], mask[mixture.partner]
    return [
        Region(label, mask & ~mixture.inside, 1 - area),
        Region(theirs, valid & mixture.inside, area),
    ]


class PseudoLabelDistill(FeatureAligned):
    """Trains a student on pseudo-labelled images, without the pixels of each that disagree with it most.

    A source's labels are those that it brings (`labels` or `labelled` of the source); they are of whole
    images, as the paper's are, and seen through the same crop. A source without labels gets the teacher's, of
    the crop as it is before any perturbation. Either may be of any scale and shift. Labels are
    pseudo-labels, whose largest losses are ignored (section 5.2), unless their source is named in `precise`:
    on precisely labelled images the paper has L_ssi and L_gm alone, and removes nothing (Table 5's "both").

    Args:
        student: the network that learns.
        teacher: how to build what labels the sources without labels; None: all bring their own.
        weights: of the three terms.
        optimization: optimizer, schedule and moving average.
        drop: the share of a pseudo-labelled image's valid pixels that is ignored: those of the largest
            losses. A random head that ends in a ReLU needs a warm-up for it: where a large step leaves most
            pixels at 0, the few others have the largest losses, are ignored, and nothing learns.
        drop_from_gradient: leave these pixels out of gradient matching too. The paper does not say; by
            default they count there.
        precise: names of the sources whose labels are the truth.
        scales: of gradient matching.
        feature_margin: alpha of the feature term, .85 in V1.
        feature_encoder: how to build what features are aligned to, a `Dinov2Features` of the student's size;
            needed if the term has a weight. It sees images as the student does, but for the colors.
        perturbation: of the colors of pseudo-labelled images, for the student alone (V1, section 3.2).
        cut_mix: mixes pairs of pseudo-labelled images for the student; labels are those of the images before
            (V1, section 3.2). V2's author: with labels of a ViT-G neither perturbation is needed.
        seed: of everything random in training.
        sky: of labels that sources bring, see `SupervisedDepth`.

    Raises:
        UserError: a source has no labels and there is no teacher, labels cannot become the student's
            quantity, or `drop` or `precise` are not what they could be.
    """

    def __init__(
        self,
        student: DepthModel,
        teacher: Teacher | None = None,
        weights: PseudoLabelWeights = PseudoLabelWeights(),
        optimization: Optimization = Optimization(),
        drop: float = 0.1,
        drop_from_gradient: bool = False,
        precise: list[str] | None = None,
        scales: int = 4,
        feature_margin: float = 0.85,
        feature_encoder: Callable[[], FeatureModel] | None = None,
        perturbation: ColorPerturbation | None = None,
        cut_mix: CutMix | None = None,
        seed: int = 0,
        sky: Sky = "masked",
    ) -> None:
        teachers = {} if teacher is None else {TEACHER: teacher}
        super().__init__(student, optimization, weights, teachers, seed, feature_margin, feature_encoder)
        if not 0.0 <= drop < 1.0:
            raise UserError(f"model.init_args.drop is a share of the pixels, 0 to below 1, not {drop}")
        if self.used("features") and feature_encoder is None:
            raise UserError(
                "model.init_args.feature_encoder is missing, and the feature term aligns to it: name a "
                "depthkd.models.Dinov2Features of the student's size, or set weights.features to 0"
            )
        self.drop = drop
        self.drop_from_gradient = drop_from_gradient
        self.precise = frozenset(precise or ())
        self.scales = scales
        self.perturbation = perturbation
        self.cut_mix = cut_mix
        self.sky = checked_sky(sky, student)

    def setup(self, stage: str) -> None:
        """See where each source's labels come from, and build the teacher, if one needs it.

        Raises:
            UserError: a source has no labels and no teacher, or a precise one is none of the sources.
        """
        if stage == "fit":
            self._check_sources(getattr(getattr(self._trainer, "datamodule", None), "train", {}))
        super().setup(stage)
        if stage == "fit":
            self.join_features()

    def _check_sources(self, sources: dict[str, Any]) -> None:
        if not sources:  # batches that are no datamodule's
            return
        if unknown := sorted(self.precise - sources.keys()):
            raise UserError(
                f"model.init_args.precise names '{unknown[0]}', which is none of the sources of data.train: "
                f"they are {', '.join(sources)}"
            )
        unlabelled = [name for name, source in sources.items() if not source.labelled]
        for name in unlabelled:
            self._check_labelled(name)
        if not unlabelled and self.teacher_factories:
            log.warning("model.init_args.teacher is not built: every source of data.train brings labels")
            self.teacher_factories = {}
        if self.used("features") and self.precise >= sources.keys():
            raise UserError(
                "every source of data.train is precise, and the feature term is of pseudo-labelled images "
                "alone: set model.init_args.weights.features to 0"
            )

    def _check_labelled(self, name: str) -> None:
        """That a source without labels can have some."""
        if name in self.precise:
            raise UserError(
                f"data.train.{name} has no depth, but model.init_args.precise says that its labels are the "
                "truth: use labelled shards, or give it `labels`"
            )
        if TEACHER not in self.teacher_factories:
            raise UserError(
                f"data.train.{name} has no labels, and there is no teacher to make some: give the source "
                "`labels` (or `labelled: true`), or name a model.init_args.teacher"
            )

    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """The terms over all sources, which are "simply concatenated" (section 7.1); the feature term over
        the pseudo-labelled images."""
        return self.mean_over_images([self._per_image(name, part) for name, part in batch.items()])

    def _per_image(self, name: str, part: Batch) -> dict[str, PerImage]:
        image = self.sized(name, part)
        label, mask = self._labels(name, part, image)
        pseudo = name not in self.precise
        mixture = self._mixture(name, part, image) if pseudo else None
        seen = image
        if pseudo and self.perturbation is not None:
            seen = self.perturbation(image, [(*self._seed(name), place) for place in _places(part)])
        if mixture is not None:
            image, seen = mixture.mixed(image), mixture.mixed(seen)
        output = self.student(seen)
        depth = resize_map(output.depth.float(), (image.shape[-2], image.shape[-1]))
        regions = regions_of(label, mask, mixture)
        settings = (self.drop if pseudo else 0.0, self.drop_from_gradient, self.scales)
        compared = [compare(depth, region.label, region.mask, *settings) for region in regions]
        self._keep(seen, regions, compared, depth)
        terms: dict[str, PerImage] = {}
        for term in ("scale_shift_invariant", "gradient"):
            if self.used(term):  # V1, section 3.2: regions are weighted by their area
                parts = [r.area * getattr(c, term) for r, c in zip(regions, compared, strict=True)]
                terms[term] = torch.stack(parts).sum(0)
        if pseudo and self.used("features"):
            features, origin = self.encoded(image)
            terms["features"] = self.feature_alignment(
                name, part.keys, image, output.features, features, origin
            )
        return terms

    def _labels(self, name: str, part: Batch, image: Image) -> tuple[Map, Mask]:
        """Labels as the student's quantity, and where they count."""
        if part.depth is not None and part.mask is not None and part.space is not None:
            label, mask = self.usable(name, part, "the label", part.depth, part.mask)
            label, mask = in_quantity_of(self.student, f"data.train.{name}", label, part.space, mask)
            if self.sky == "zero":
                return with_sky(label, mask, part.depth.isposinf() & ~part.mask)
            return label, mask
        self._check_labelled(name)
        teacher = self.teachers[TEACHER]
        depth = resize_map(teacher(image).depth, (image.shape[-2], image.shape[-1]))
        label, mask = self.usable(name, part, f"the label of {self.named(TEACHER)}", depth)
        return in_quantity_of(self.student, self.named(TEACHER), label, teacher.space, mask)

    def _mixture(self, name: str, part: Batch, image: Image) -> Mixture | None:
        if self.cut_mix is None:
            return None
        size = (image.shape[-2], image.shape[-1])
        return self.cut_mix(size, _places(part), self._seed(name), image.device)

    def _seed(self, name: str) -> tuple[int, int]:
        """Of what is drawn for a source's images, besides their positions."""
        return self.seed, crc32(name.encode())

    def _keep(self, image: Image, regions: list[Region], compared: list[Comparison], student: Map) -> None:
        """For the log: labels, region by region brought near the student's scale, without what is ignored."""
        target = torch.full_like(student, torch.nan)[:4].detach()
        for region, comparison in zip(regions, compared, strict=True):
            label, kept = (x[:4] for x in (region.label, comparison.kept))
            scale = global_normalization(label, region.mask[:4]) if len(regions) > 1 else label
            target = torch.where(kept, scale, target)
        self.keep_picture(image, target, student)


def _places(part: Batch) -> list[int]:
    """Positions of the samples in their source's stream."""
    return list(range(len(part))) if part.positions is None else part.positions
