"""Depth Anything 3's two networks for one image: DA3MONO-LARGE and DA3METRIC-LARGE."""

from collections.abc import Iterator
from typing import Literal, cast

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from depthkd.batch import AFFINE_DEPTH, METRIC_DEPTH
from depthkd.errors import UserError
from depthkd.models.clones import (
    AuthorsCode,
    ClonedDepth,
    assumed_focal_length,
    check_camera,
    fill,
    find_weights,
    refuse_shape,
    resize_known,
)
from depthkd.models.model import Cameras, RawPrediction, Resized
from depthkd.models.provenance import stated_or_known
from depthkd.models.weights import read_weights
from depthkd.resolution import OWN, Asked, Resolution
from depthkd.shapes import Image, Map

Variant = Literal["da3mono-large", "da3metric-large"]
VARIANTS: tuple[Variant, ...] = ("da3mono-large", "da3metric-large")
CANONICAL_FOCAL_LENGTH = 300.0  # of the metric network, in pixels of the image that it sees
SKY = 0.3  # from which the network's sky output counts as sky
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
AUTHORS = AuthorsCode(
    "DepthAnything3",
    "ByteDance-Seed/Depth-Anything-3",
    "depth_anything_3",
    "src",
    "addict einops omegaconf",
)


class DepthAnything3(ClonedDepth):
    """Depth Anything 3 (Lin et al., arXiv 2511.10647) for one image: DA3MONO-LARGE and DA3METRIC-LARGE.

    From a clone of ByteDance-Seed/Depth-Anything-3, of which only the network is imported: of what its
    package asks for, addict, einops and omegaconf are enough. Images are resized as the authors' code does
    it, to 504 pixels on the longer side unless another resolution is asked for.

    DA3MONO-LARGE predicts depth, not disparity, up to scale and shift. DA3METRIC-LARGE predicts depth for a
    camera of 300 pixels focal length; times f / 300 it is in meters, where f is the mean of fx and fy in
    pixels of the image as the network sees it. That is taken from the image's intrinsics, where they are
    known; for other images give `focal_length` or `fov`.

    Both networks also say where the sky is. As in the authors' code its depth is the 99th percentile of the
    depth elsewhere, or infinite, and so left out of training, with `masked`.

    Args:
        weights: a hub id such as depth-anything/DA3MONO-LARGE, a folder with model.safetensors, or a file.
        repo: the clone's folder; the installed package where None.
        variant: which of the two networks; where None, the one that `weights` name.
        focal_length: of the images at their own size, in pixels, for the metric network.
        fov: instead, the horizontal field of view, in degrees.
        masked: give the sky an infinite depth.
        license: of the weights.
        training_sets: the data sets that the weights have learned from; what is publicly known where None.

    Raises:
        MissingFileError: there is no such clone and no such package, or no such weights.
        UserError: both of focal_length and fov, or neither when the metric network meets an image whose
            camera is not known; the weights do not say which network they are of, hold more than tensors or
            do not fit; the authors' code does not run or lacks a package.
    """

    multiple = 14
    resizes = True
    longest = 504
    preprocessing = "authors"
    keeps_head_fp32 = True

    def __init__(
        self,
        weights: str,
        repo: str | None = None,
        variant: Variant | None = None,
        focal_length: float | None = None,
        fov: float | None = None,
        masked: bool = False,
        license: str = "apache-2.0",
        training_sets: list[str] | None = None,
    ) -> None:
        super().__init__()
        check_camera("Depth Anything 3", focal_length, fov)
        variant = variant or variant_of(weights)
        self._code = AUTHORS.folder(repo)
        file = find_weights(weights, ("model.safetensors",))
        tensors = read_weights(str(file))  # before any of the authors' code runs
        with AUTHORS.importable(self._code):
            AUTHORS.module("model.da3", self._code)
            config = AUTHORS.module("cfg", self._code)
            path = self._code / "configs" / f"{variant}.yaml"
            self.network = config.create_object(config.load_config(str(path))).eval()
        fill(self.network, tensors, str(file))
        self.metric = variant == "da3metric-large"
        self.space = METRIC_DEPTH if self.metric else AFFINE_DEPTH
        self.takes_camera = self.metric
        self.focal_length, self.fov, self.masked = focal_length, fov, masked
        self.source, self.license = f"{variant} with {weights}", license
        self.training_sets = stated_or_known(training_sets, f"depth-anything/{variant}")

    def predict_raw(self, image: Image) -> RawPrediction:
        """Depth at network resolution: in meters, or up to scale and shift."""
        if not self.metric:
            return self._depth(image)
        focal = assumed_focal_length("DA3METRIC-LARGE", image.shape[-1], self.focal_length, self.fov)
        return self._metric(image, image.new_full((len(image), 2), focal, dtype=torch.float32))

    def predict_raw_with_camera(self, image: Image, intrinsics: Cameras) -> RawPrediction:
        """`predict_raw`, by the images' own cameras and not by `focal_length` or `fov`."""
        if not self.metric:
            return self._depth(image)
        return self._metric(image, intrinsics[:, (0, 1), (0, 1)])

    def _metric(self, image: Image, focal_lengths: Float[Tensor, "batch 2"]) -> RawPrediction:
        depth = self._depth(image)
        enlarged = [depth.shape[-1] / image.shape[-1], depth.shape[-2] / image.shape[-2]]
        return metric_depth(depth, focal_lengths * focal_lengths.new_tensor(enlarged))

    def _depth(self, image: Image) -> RawPrediction:
        """The network's output, of each image by itself: the sky's depth hangs on all that run together."""
        size = self.network_size(image.shape[-2], image.shape[-1], self._request or OWN)
        parameter = next(self.network.parameters())
        found = []
        for pixels in network_input(image, self.resolve(self._request or OWN), size):
            # The percentile is drawn from a sample of 100,000 pixels, here of the same ones each time.
            devices = [image.device] if image.is_cuda else []
            with torch.random.fork_rng(devices):
                torch.manual_seed(0)
                output = self.network(pixels.to(parameter)[None, None])
            depth, sky = output["depth"].float(), output["sky"]
            refuse_shape(self, depth, *size)
            depth = torch.where(sky < SKY, depth, torch.inf) if self.masked else depth
            found.append(depth.reshape(size))
        return torch.stack(found)

    def resize_to(self, raw: RawPrediction, size: tuple[int, int]) -> Float[Tensor, "batch height width"]:
        """Bilinear; infinite where most of it is masked."""
        return resize_known(raw, size)

    def runs_at(
        self, height: int, width: int, resolution: Asked = None, scale: float = 1.0
    ) -> tuple[int, int] | None:
        """As in the authors' code: see `network_size`."""
        return self.network_size(height, width, Resolution.parse(resolution).times(scale))

    def network_size(self, height: int, width: int, asked: Resolution) -> tuple[int, int]:
        """Each side in whole pixels, and then at the nearest multiple of 14; the larger of two."""
        sides = bounded_size(height, width, self.resolve(asked))
        m = self.multiple
        return max(m, (sides[0] + m // 2) // m * m), max(m, (sides[1] + m // 2) // m * m)

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        """The backbone's."""
        parameters: Iterator[nn.Parameter] = self.network.backbone.parameters()
        return parameters


def metric_depth(canonical: Map, focal_lengths: Float[Tensor, "batch 2"]) -> Map:
    """Meters = output * f / 300, with f the mean of fx and fy (README of Depth Anything 3, Monocular Metric
    Depth; `apply_metric_scaling` in its code).

    Args:
        canonical: what the metric network says.
        focal_lengths: fx and fy of each image, in pixels of the image as the network sees it.
    """
    return canonical * (focal_lengths.float().mean(1) / CANONICAL_FOCAL_LENGTH)[:, None, None]


def bounded_size(height: int, width: int, resolution: Resolution) -> tuple[int, int]:
    """The size of an image of which one side is given, before sides are brought to multiples."""
    factor = resolution.factor(height, width)
    return max(1, round(height * factor)), max(1, round(width * factor))


def network_input(image: Image, resolution: Resolution, size: tuple[int, int]) -> Resized:
    """RGB in [0, 1] -> the network's input, as the authors' `InputProcessor` makes it.

    Images of 8 bits are resized twice, first to the side that is asked for and then to multiples of 14: by
    areas where they shrink, and cubically where they grow.

    Args:
        image: RGB.
        resolution: which side is given; not `own`.
        size: height and width of the network's input.
    """
    whole = (image.detach().float() * 255).round().clamp(0, 255).to(torch.uint8)
    bound = bounded_size(image.shape[-2], image.shape[-1], resolution)
    resized = []
    for one in whole.permute(0, 2, 3, 1).cpu().contiguous().numpy():
        grows = resolution.factor(image.shape[-2], image.shape[-1]) > 1
        one = _resized(one, bound, grows)
        resized.append(_resized(one, size, size[0] > bound[0] or size[1] > bound[1]))
    pixels = torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return ((pixels - mean) / std).to(image.device)


def _resized(image: np.ndarray, size: tuple[int, int], grows: bool) -> np.ndarray:
    if image.shape[:2] == size:
        return image
    how = cv2.INTER_CUBIC if grows else cv2.INTER_AREA
    return cast(np.ndarray, cv2.resize(image, (size[1], size[0]), interpolation=how))


def variant_of(weights: str) -> Variant:
    """The network that weights are of, by their name.

    Raises:
        UserError: the name says none of the two.
    """
    name = weights.lower()
    for variant in VARIANTS:
        if variant.partition("-")[0] in name:
            return variant
    raise UserError(
        f"'{weights}' does not say which network of Depth Anything 3 it is of: give variant, "
        f"{' or '.join(VARIANTS)}, the two that see one image"
    )
