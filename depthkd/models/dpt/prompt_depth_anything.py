"""Prompt Depth Anything through transformers: metric depth from an image and a coarse depth map of it."""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PromptDepthAnythingForDepthEstimation, PromptDepthAnythingImageProcessor

from depthkd.batch import AFFINE_DEPTH, METRIC_DEPTH
from depthkd.errors import UserError
from depthkd.models.completion.points import given_none, refuse_without_points
from depthkd.models.dpt.preprocessing import TransformersPreprocessing
from depthkd.models.model import Cameras, RawPrediction
from depthkd.models.zoedepth_depthpro import MetricDepth
from depthkd.resolution import OWN, Asked, Resolution
from depthkd.shapes import Image, Map
from depthkd.sparse_depth.interpolation import nearest_points

Prompt = Float[Tensor, "prompts prompt_height prompt_width"]
OfPrompt = Float[Tensor, "prompts 1 1"]
PROCESSOR: dict[str, Any] = {  # of the published checkpoints, where a folder has none
    "size": {"height": 756, "width": 756},
    "keep_aspect_ratio": True,
    "ensure_multiple_of": 14,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}
SMALLEST_RANGE = 1e-6  # meters, of a prompt that is the same everywhere, as transformers' processor has it


class PromptDepthAnything(MetricDepth):
    """Prompt Depth Anything (Lin et al., arXiv 2412.14015): `depth-anything/prompt-depth-anything-vits-hf`.

    `predict_with` takes an image and a prompt: a depth map of the same view in meters, of any size, such as
    the 192 x 256 pixels of a phone's LiDAR; its depth is in meters. `predict`, and so all that is asked of
    any model, has no prompt: its depth is the network's output in [0, 1], up to scale and shift, and farther
    from the truth, for the network was trained with prompts.

    Images are resized as transformers' image processor does it.

    Args:
        source, license, revision, training_sets: see `MetricDepth`.
    """

    space = AFFINE_DEPTH
    resizes = True
    preprocessing = "transformers"
    model_type = "prompt_depth_anything"
    network_class = PromptDepthAnythingForDepthEstimation

    def _read(self, stored: dict[str, Any]) -> None:
        processor = PromptDepthAnythingImageProcessor.from_dict({**PROCESSOR, **stored})
        self.mean, self.std = tuple(processor.image_mean), tuple(processor.image_std)
        self.multiple = int(processor.ensure_multiple_of)
        self._owner = TransformersPreprocessing(processor)

    def predict_raw(self, image: Image) -> RawPrediction:
        """Depth in [0, 1] up to scale and shift, at network resolution, without a prompt."""
        return self._run(image, self._request or OWN, None)

    @torch.no_grad()
    def predict_with(
        self,
        image: Image,
        prompt: Prompt,
        resolution: Asked = None,
        scale: float = 1.0,
        flip: bool = False,
    ) -> Map:
        """Depth in meters at the image's own size, float32, in eval mode.

        Args:
            image: RGB in [0, 1].
            prompt: depth of the same view in meters, of any size, known everywhere; without holes.
            resolution, scale, flip: as in `infer`.

        Raises:
            UserError: the prompt has holes, or is of other images.
        """
        refuse_holes(image, prompt)
        asked = Resolution.parse(resolution).times(scale)
        relative, low, extent = normalized_prompt(prompt.float())
        was_training = self.training
        self.eval()
        try:
            raw = self._run(image, asked, relative)
            if flip:
                raw = (raw + self._run(image.flip(-1), asked, relative.flip(-1)).flip(-1)) / 2
        finally:
            self.train(was_training)
        return low + extent * self.resize_to(raw, (image.shape[-2], image.shape[-1]))

    def _run(self, image: Image, asked: Resolution, prompt: Prompt | None) -> RawPrediction:
        pixels = self._owner.pixels(image, asked, None).to(next(self.network.parameters()))
        given = None if prompt is None else prompt[:, None].to(pixels)
        output: Tensor = self.network(pixels, prompt_depth=given).predicted_depth
        return output.float()

    def resize_to(self, raw: RawPrediction, size: tuple[int, int]) -> Float[Tensor, "batch height width"]:
        """Bicubic, as transformers' image processor does it."""
        return self._owner.restored(raw, size)

    def runs_at(
        self, height: int, width: int, resolution: Asked = None, scale: float = 1.0
    ) -> tuple[int, int] | None:
        """By the image processor's rule."""
        return self._owner.size(height, width, Resolution.parse(resolution).times(scale), None)

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        """The backbone's."""
        parameters: Iterator[nn.Parameter] = self.network.backbone.parameters()
        return parameters


class PromptedByPoints(PromptDepthAnything):
    """Prompt Depth Anything whose prompt is sparse depth, filled from the nearest points.

    The published networks have learned from phones' LiDARs, so that scattered points are not what they know.

    Args:
        source, license, revision, training_sets: see `MetricDepth`.

    Raises:
        UserError: (when it is asked) an image comes without sparse depth, or without a measured point.
    """

    space = METRIC_DEPTH
    takes_sparse_depth = True
    needs_sparse_depth = True

    def predict_raw(self, image: Image) -> RawPrediction:
        """Refuses: there is no prompt.

        Raises:
            UserError: always.
        """
        raise given_none(self)

    def predict_raw_with_sparse_depth(
        self, image: Image, sparse: Map, intrinsics: Cameras | None = None
    ) -> RawPrediction:
        """Depth in meters at the image's size.

        Raises:
            UserError: an image has no point.
        """
        refuse_without_points(self, sparse)
        return self.predict_with(image, nearest_points(sparse)[0], self._request or OWN)


def normalized_prompt(prompt: Prompt) -> tuple[Prompt, OfPrompt, OfPrompt]:
    """Each prompt at 0 where it is least and 1 where it is greatest; its least value, and its range
    (Lin et al., arXiv 2412.14015, section 3.2).

    Where a prompt is the same everywhere its first pixel becomes 1, and its range a millionth of a meter.
    """
    low, high = (
        torch.stack([bound(one) for one in prompt])[:, None, None] for bound in (torch.min, torch.max)
    )
    constant = high == low
    first = torch.zeros_like(prompt)
    first[:, 0, 0] = 1.0
    extent = torch.where(constant, SMALLEST_RANGE, high - low)
    return torch.where(constant, first, (prompt - low) / extent), low, extent


def refuse_holes(image: Image, prompt: Prompt) -> None:
    """Refuse a prompt that is not of these images, or does not know the depth somewhere.

    The network takes a prompt's least and greatest values for the range of its answer, so that a hole
    counted as depth would spoil all of it.

    Raises:
        UserError: it is one.
    """
    if prompt.ndim != 3 or len(prompt) != len(image) or 0 in prompt.shape:
        raise UserError(
            f"a prompt would be one depth map an image, [{len(image)}, height, width], not "
            f"{list(prompt.shape)}"
        )
    holes = int((~(prompt.isfinite() & (prompt > 0))).sum())
    if holes:
        raise UserError(
            f"a prompt has {holes} pixels of {prompt.numel()} without a depth above 0: fill them first, from "
            "the nearest pixels that have one"
        )
