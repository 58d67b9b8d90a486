"""RandomScaleShift: a teacher whose every prediction has a scale and a shift of its own."""

from collections.abc import Iterator
from zlib import crc32

import torch
from torch import nn

from depthkd.alignment import median_and_deviation
from depthkd.batch import Ambiguity, DepthSpace
from depthkd.errors import UserError
from depthkd.models.model import DepthModel, DepthOutput
from depthkd.shapes import Image, PerImage


class RandomScaleShift(DepthModel):
    """Another model's depth, of which every image's map is scaled and shifted at random.

    The predictions of an affine-invariant network are of unknown scale and shift, so that those for two
    windows of one image need not fit each other: they "come from distinct depth domains" (Distill Any Depth,
    section 4.2), and without a normalization local-global distillation collapses (Table 1). A small teacher
    that has only met one kind of scene predicts in one domain and shows none of that; this makes it show it.
    Each image of a call, which for local-global distillation is each window, gets

        scale * (depth + shift * deviation)

    where log(scale) and shift are uniform, and the deviation is the map's mean absolute deviation from its
    median. What is drawn depends on the seed and the image's pixels (to 8 bits) alone: an image gets the
    same map again, whatever batch, step or rank asks.

    Args:
        model: whose depth.
        scale: the largest factor, from 1 / scale to which factors are drawn.
        shift: the largest shift, in deviations, up or down.
        seed: what they are drawn from, besides the image.

    Raises:
        UserError: scale is below 1, or shift below 0.
    """

    def __init__(self, model: DepthModel, scale: float = 10.0, shift: float = 10.0, seed: int = 0) -> None:
        super().__init__()
        if scale < 1 or shift < 0:
            raise UserError(
                f"RandomScaleShift takes a scale of 1 or more and a shift of 0 or more, not {scale:g} and "
                f"{shift:g}"
            )
        self.model, self.scale, self.shift, self.seed = model, scale, shift, seed
        self.space = DepthSpace(model.space.quantity, Ambiguity.AFFINE)
        self.multiple, self.fixed_size, self.chooses_size = (
            model.multiple,
            model.fixed_size,
            model.chooses_size,
        )
        self.keeps_head_fp32 = model.keeps_head_fp32
        self.source = f"{model.source}, each prediction of a random scale and shift"
        self.license, self.training_sets = model.license, model.training_sets

    def companions(self) -> list[DepthModel]:
        """The other model."""
        return [self.model]

    def forward(self, image: Image) -> DepthOutput:
        """RGB in [0, 1] -> depth in `self.space`, and the other model's features."""
        output: DepthOutput = self.model(image)
        depth = output.depth.float()
        _, deviation = median_and_deviation(depth, torch.ones_like(depth, dtype=torch.bool))
        scale, shift = self.draw(image)
        moved = depth + (shift * deviation)[:, None, None]
        return DepthOutput(scale[:, None, None] * moved, output.features)

    def draw(self, image: Image) -> tuple[PerImage, PerImage]:
        """The scale and the shift of each image's map."""
        levels = (image.detach() * 255).round().byte().cpu().numpy()
        seeds = [crc32(f"{self.seed}".encode(), crc32(one.tobytes())) for one in levels]
        uniform = torch.stack([torch.rand(2, generator=torch.Generator().manual_seed(s)) for s in seeds])
        signed = (2 * uniform - 1).to(image.device)
        return self.scale ** signed[:, 0], self.shift * signed[:, 1]

    @property
    def feature_channels(self) -> int | None:
        """As the other model's."""
        return self.model.feature_channels

    @property
    def feature_family(self) -> str:
        """As the other model's."""
        return self.model.feature_family

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        """As the other model's."""
        return self.model.encoder_parameters()
