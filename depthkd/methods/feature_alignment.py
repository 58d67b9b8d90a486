"""A student's encoder features held to those of a frozen network: what several methods share."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from depthkd.errors import UserError
from depthkd.losses.features import feature_alignment_loss, resample_tokens, token_grid
from depthkd.methods.method import Method, Teacher
from depthkd.methods.optimization import Optimization
from depthkd.methods.teachers import Origin
from depthkd.models.frozen import HALF, FrozenNetwork
from depthkd.models.model import DepthModel, FeatureModel
from depthkd.shapes import Image, PerImage

ENCODER = "feature encoder"


class FeatureAligned(Method):
    """A method with a term "features" (Depth Anything V1, section 3.3; see `feature_alignment_loss`).

    Args:
        student: the network that learns.
        optimization: optimizer, schedule and moving average.
        term_weights: as those of a `Method`; `features` among them.
        teachers: name -> how to build it.
        seed: of everything random in training.
        feature_margin: tokens whose cosine is above it are near enough.
        feature_encoder: how to build the frozen network that is aligned to; None: the teachers' own.
    """

    def __init__(
        self,
        student: DepthModel,
        optimization: Optimization,
        term_weights: Any,
        teachers: dict[str, Teacher],
        seed: int,
        feature_margin: float,
        feature_encoder: Callable[[], FeatureModel] | None,
    ) -> None:
        super().__init__(student, optimization, term_weights, teachers, seed)
        self.feature_margin = feature_margin
        self.make_encoder = feature_encoder
        self.encoder: FrozenNetwork[FeatureModel] | None = None
        self.feature_projection: nn.Linear | None = None

    def taught_by(self) -> Mapping[str, Origin]:
        """The teachers, and the feature encoder."""
        encoder = {} if self.encoder is None else {ENCODER: self.encoder.model}
        return {**super().taught_by(), **encoder}

    def join_features(self) -> None:
        """Build the feature encoder, if the term has a weight, and what joins its features to the student's.

        That is a linear projection of the student's features where widths or encoders differ (Depth Anything
        V1's author; channels of two architectures do not mean the same, even if they are as many). Called in
        `setup`, after the teachers are built.

        Raises:
            UserError: a side has no features, or the teachers' are of several widths.
        """
        if not self.used("features"):
            return
        if self.make_encoder is not None and self.encoder is None:
            half = HALF.get(str(self.trainer.precision))
            device = self.trainer.strategy.root_device
            self.encoder = FrozenNetwork(self.make_encoder, device, autocast=half)
        ours = (self.student.feature_family, self.student.feature_channels)
        models: dict[str, FeatureModel] = {name: teacher.model for name, teacher in self.teachers.items()}
        models = models if self.encoder is None else {ENCODER: self.encoder.model}
        widths = {name: model.feature_channels for name, model in models.items()}
        theirs = [(m.feature_family, m.feature_channels) for m in models.values() if m.feature_channels]
        several = {width for _, width in theirs}
        if ours[1] is None or len(several) != 1:
            whose = "the student has none" if ours[1] is None else "no teacher has any"
            whose = f"the teachers' widths are {sorted(several)}" if len(several) > 1 else whose
            raise UserError(
                f"feature alignment needs encoder features of one width on either side, but {whose} "
                f"({self.student.source}: {ours[1]}; {', '.join(f'{n}: {w}' for n, w in widths.items())}): "
                "set model.init_args.weights.features to 0, or name a feature_encoder"
            )
        if any(kind != ours for kind in theirs) and self.feature_projection is None:
            with torch.random.fork_rng():
                torch.manual_seed(self.seed)
                self.feature_projection = nn.Linear(ours[1], several.pop())

    def encoded(self, image: Image) -> tuple[Tensor | None, str]:
        """The feature encoder's features of the images, and whose they are, in words."""
        assert self.encoder is not None  # `setup` has built it
        return self.encoder.features(image), f"the {ENCODER} ({self.encoder.model.source})"

    def feature_alignment(
        self,
        source: str,
        keys: list[str],
        image: Image,
        ours: Tensor | None,
        theirs: Tensor | None,
        origin: str,
    ) -> PerImage:
        """The feature term; where there is nothing to align to, 0, but DDP sees its parameters.

        Args:
            source: name of the images' source in `data.train`.
            keys: of the samples.
            image: what the features are of.
            ours: the student's features.
            theirs: what they are aligned to; tokens of another grid are aligned to after resampling.
            origin: whose those are, in words.
        """
        assert ours is not None  # `setup` has seen to it
        projected = ours.float()
        if self.feature_projection is not None:
            projected = self.feature_projection(projected)
        if theirs is None:
            return 0.0 * projected.flatten(1).sum(1)
        if theirs.shape[1] != projected.shape[1]:
            aspect = image.shape[-2] / image.shape[-1]
            grids = (token_grid(tokens.shape[1], aspect) for tokens in (projected, theirs))
            projected = resample_tokens(projected, *grids)
        _, mask = self.finiteness.usable(source, f"the features of {origin}", keys, theirs.sum(-1))
        return feature_alignment_loss(projected, theirs, self.feature_margin, mask)
