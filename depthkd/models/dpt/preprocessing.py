"""How the owners of a network's code resize images and predictions, for metrics that must equal theirs.

depthkd resizes bicubically, antialiased, and passes gradients. Depth Anything's authors and transformers
do it otherwise, and the predictions of one network then differ at the borders of things.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from types import MethodType
from typing import Any, Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from depthkd.errors import UserError
from depthkd.models.model import DepthModel, DepthOutput, RawPrediction, Resized
from depthkd.resolution import OWN, Asked, Resolution
from depthkd.shapes import Image, Map

Preprocessing = Literal["depthkd", "authors", "transformers"]
RECORDED = "depth_preprocessing"  # of config.json: whose it is where nobody says otherwise
ResizedMap = Float[Tensor, "batch new_height new_width"]


class OwnersPreprocessing(ABC):
    """How an image is resized for a network, and its prediction for the image."""

    @abstractmethod
    def size(self, height: int, width: int, asked: Resolution, side: int | None) -> tuple[int, int]:
        """Height and width at which an image of this height and width runs.

        Args:
            height, width: in pixels.
            asked: what a user or a protocol asks for.
            side: where that is left to the model, what takes the place of the owner's choice; None: that.
        """

    @abstractmethod
    def pixels(self, image: Image, asked: Resolution, side: int | None) -> Resized:
        """RGB in [0, 1] -> the network's input, normalized, float32."""

    @abstractmethod
    def restored(self, depth: Map, size: tuple[int, int]) -> ResizedMap:
        """The network's prediction at an image's height and width."""


class AuthorsPreprocessing(OwnersPreprocessing):
    """Depth Anything's `infer_image` (V2) and `run.py` (V1).

    OpenCV's cubic, not antialiased and not clipped, of a float64 image; the shorter side is at least the
    input size, and each side the nearest multiple, or the next one where that falls below the input size.
    The map comes back bilinearly, with aligned corners (V2) or without (V1).

    Args:
        mean, std: of the normalization of RGB in [0, 1].
        multiple: of the sides.
        side: the input size, the shorter side, in pixels.
        version: 1 or 2.
    """

    def __init__(
        self, mean: Sequence[float], std: Sequence[float], multiple: int, side: int, version: int
    ) -> None:
        self.mean, self.std = (np.array(values) for values in (mean, std))
        self.multiple, self.side, self.version = multiple, side, version

    def size(self, height: int, width: int, asked: Resolution, side: int | None) -> tuple[int, int]:
        """See `OwnersPreprocessing.size`; of a longer side, the shorter one is the input size."""
        if asked.side == "own":
            asked = Resolution("shorter", side or self.side).times(asked.scale)
        factor, m = asked.factor(height, width), self.multiple
        shorter = asked.side == "shorter"
        least = asked.scale * (asked.pixels or 0) if shorter else factor * min(height, width)

        def fitted(side: int) -> int:
            near = round(factor * side / m) * m
            return near if near >= least else math.ceil(factor * side / m) * m

        return fitted(height), fitted(width)

    def pixels(self, image: Image, asked: Resolution, side: int | None) -> Resized:
        """See `OwnersPreprocessing.pixels`."""
        height, width = self.size(image.shape[-2], image.shape[-1], asked, side)
        resized = [
            cv2.resize(one, (width, height), interpolation=cv2.INTER_CUBIC)
            for one in image.detach().double().permute(0, 2, 3, 1).cpu().contiguous().numpy()
        ]
        normalized = torch.from_numpy((np.stack(resized) - self.mean) / self.std)
        return normalized.permute(0, 3, 1, 2).float().contiguous().to(image.device)

    def restored(self, depth: Map, size: tuple[int, int]) -> ResizedMap:
        """See `OwnersPreprocessing.restored`."""
        corners = self.version == 2
        return F.interpolate(depth[:, None], size, mode="bilinear", align_corners=corners)[:, 0]


class TransformersPreprocessing(OwnersPreprocessing):
    """transformers' image processor, as its depth-estimation pipeline calls it, on images of 8 bits.

    Where nobody asks for a size, the processor's rule holds: of the two sides, the one that needs the
    least change gets its stored size. The map comes back bicubically.

    Args:
        processor: a DPTImageProcessor.
    """

    def __init__(self, processor: Any) -> None:
        self.processor = processor

    def _target(self, height: int, width: int, asked: Resolution, side: int | None) -> tuple[int, int]:
        """What takes the place of the processor's `size`."""
        if asked.side != "own":
            return asked.size(height, width)
        stored = self.processor.size
        sides = (side, side) if side else (stored["height"], stored["width"])
        return round(asked.scale * sides[0]), round(asked.scale * sides[1])

    def size(self, height: int, width: int, asked: Resolution, side: int | None) -> tuple[int, int]:
        """See `OwnersPreprocessing.size`."""
        processor = self.processor
        if not processor.do_resize:
            found = height, width
        else:
            tall, wide = self._target(height, width, asked, side)
            down, across = tall / height, wide / width
            if processor.keep_aspect_ratio:
                down = across = across if abs(1 - across) < abs(1 - down) else down
            m = processor.ensure_multiple_of
            found = round(down * height / m) * m, round(across * width / m) * m
        if not processor.do_pad:
            return found
        m = processor.size_divisor
        return math.ceil(found[0] / m) * m, math.ceil(found[1] / m) * m

    def pixels(self, image: Image, asked: Resolution, side: int | None) -> Resized:
        """See `OwnersPreprocessing.pixels`.

        Raises:
            UserError: the processor's rule leaves nothing of one side.
        """
        height, width = image.shape[-2:]
        if 0 in self.size(height, width, asked, side):
            raise UserError(
                f"transformers' image processor leaves nothing of an image of {height} x {width} pixels: "
                "take another resolution or preprocessing"
            )
        tall, wide = self._target(height, width, asked, side)
        whole = (image.detach().float() * 255).round().clamp(0, 255).to(torch.uint8).cpu()
        found: Tensor = self.processor(
            list(whole),
            size={"height": tall, "width": wide},
            input_data_format="channels_first",
            return_tensors="pt",
        ).pixel_values
        return found.to(image.device)

    def restored(self, depth: Map, size: tuple[int, int]) -> ResizedMap:
        """See `OwnersPreprocessing.restored`."""
        return F.interpolate(depth[:, None], size, mode="bicubic", align_corners=False)[:, 0]


def authors_positions(embeddings: Any, tokens: Tensor, height: int, width: int) -> Tensor:
    """DINOv2's position embeddings for an image of this height and width, as its own code resamples them.

    It tells the bicubic resampling a size of .1 patches more than there are, so that rounding leaves no patch
    out; transformers' code does not.

    Args:
        embeddings: transformers' Dinov2Embeddings.
        tokens: of the class and the patches.
        height, width: in pixels.
    """
    known: Tensor = embeddings.position_embeddings
    count = known.shape[1] - 1
    if tokens.shape[1] - 1 == count and height == width:
        return known
    side, patch = math.isqrt(count), embeddings.patch_embeddings.patch_size[0]
    grid = known[:, 1:].float().reshape(1, side, side, -1).permute(0, 3, 1, 2)
    factors = (height // patch + 0.1) / side, (width // patch + 0.1) / side
    grid = F.interpolate(grid, scale_factor=factors, mode="bicubic", align_corners=False)
    patches = grid.permute(0, 2, 3, 1).reshape(1, -1, known.shape[-1]).to(known.dtype)
    return torch.cat([known[:, :1], patches], dim=1)


def depth_anything_version(network: Any) -> int:
    """1 where the neck of transformers' network reads the last four of more than four layers; else 2."""
    encoder = network.config.backbone_config
    layers, last = encoder.num_hidden_layers, list(encoder.out_indices)
    return 1 if layers > 4 and last == list(range(layers - 3, layers + 1)) else 2


class PreprocessedDepth(DepthModel):
    """A model that resizes images and predictions in depthkd's way, or in that of its authors' code."""

    _owner: OwnersPreprocessing | None = None

    resizes_as: Preprocessing = "depthkd"  # `preprocessing`, of which these three are known here
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def preprocess_as(
        self, owner: Preprocessing, network: Any, side: int, processor: Callable[[], Any]
    ) -> None:
        """Resize as an owner does from now on, to sizes of the model's own where nobody asks for others.

        Args:
            owner: "authors" or "transformers"; "depthkd" changes nothing.
            network: the transformers network.
            side: at which the authors run it, in pixels.
            processor: makes transformers' image processor for it.

        Raises:
            UserError: that owner has none for this network.
        """
        if owner == "authors":
            if network.config.model_type != "depth_anything":
                raise UserError(
                    "preprocessing 'authors' is that of Depth Anything's authors, and this network is a "
                    f"'{network.config.model_type}': it would be 'depthkd' or 'transformers'"
                )
            version = depth_anything_version(network)
            self._owner = AuthorsPreprocessing(self.mean, self.std, self.multiple, side, version)
            embeddings = network.backbone.embeddings
            embeddings.interpolate_pos_encoding = MethodType(authors_positions, embeddings)
        elif owner == "transformers":
            self._owner = TransformersPreprocessing(processor())
        elif owner != "depthkd":
            raise UserError(f"preprocessing would be 'depthkd', 'authors' or 'transformers', not '{owner}'")
        self.preprocessing, self.resizes_as = owner, owner
        self.chooses_size = self.resizes = self._owner is not None

    @abstractmethod
    def normalized(self, image: Image) -> Image:
        """RGB in [0, 1] -> the network's input."""

    @abstractmethod
    def run(self, pixels: Image) -> DepthOutput:
        """The network's input -> depth at its size, and features."""

    def forward(self, image: Image) -> DepthOutput:
        """RGB in [0, 1] -> float32 depth at the rounded size, and the last stage's patch tokens.

        Preprocessed as an owner does it, the depth is of the image's size, and passes no gradients to it.
        """
        if self._owner is None:
            return self.run(self.normalized(self.fit_input(image)))
        output = self.run(self._owner.pixels(image, *self._asked()))
        depth = self.resize_to(output.depth.float(), (image.shape[-2], image.shape[-1]))
        return DepthOutput(depth, output.features)

    def predict_raw(self, image: Image) -> RawPrediction:
        """See `DepthModel.predict_raw`."""
        if self._owner is None:
            return super().predict_raw(image)
        return self.run(self._owner.pixels(image, *self._asked())).depth.float()

    def resize_to(self, raw: RawPrediction, size: tuple[int, int]) -> Map:
        """See `DepthModel.resize_to`."""
        return super().resize_to(raw, size) if self._owner is None else self._owner.restored(raw, size)

    def runs_at(
        self, height: int, width: int, resolution: Asked = None, scale: float = 1.0
    ) -> tuple[int, int] | None:
        """See `DepthModel.runs_at`."""
        if self._owner is None:
            return super().runs_at(height, width, resolution, scale)
        asked = OWN if self.fixed_size is not None else Resolution.parse(resolution).times(scale)
        return self._owner.size(height, width, asked, self._asked()[1])

    def _asked(self) -> tuple[Resolution, int | None]:
        if self.fixed_size is not None:
            return OWN, None
        return self._request or OWN, None if self.trained_at is None else min(self.trained_at)
