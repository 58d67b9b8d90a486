"""Metric depth networks whose code is a torch.hub repository that the user has: UniDepth, Metric3D.

Such a repository is a program, and loading it runs that program with all your rights. So nothing is
ever fetched: `repo` is a clone that you made, or, with `trust: true`, one that torch.hub has in its
cache. Weights are read from a file that you name, as tensors alone; the repository's own download,
which would unpickle, is switched off.
"""

import re
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depthkd.errors import MissingFileError, UserError
from depthkd.geometry import crop_intrinsics
from depthkd.models.clones import (
    CameraEstimator,
    ClonedDepth,
    assumed_focal_length,
    check_camera,
    check_level,
    fill,
    refuse_shape,
)
from depthkd.models.model import Cameras, RawPrediction
from depthkd.models.provenance import stated_or_known
from depthkd.models.weights import read_weights
from depthkd.paths import user_path
from depthkd.shapes import Image

CANONICAL_FOCAL_LENGTH = 1000.0  # Metric3D's, in pixels
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


class HubDepth(ClonedDepth):
    """What the two share: a network that a clone's hubconf.py builds, with weights from a file."""

    def __init__(self, repo: str, entry: str, options: dict[str, Any], weights: str, trust: bool) -> None:
        super().__init__()
        tensors = read_weights(weights)  # before any of the repository's code runs
        self._code = find_clone(repo, trust)
        self.network = build(self._code, entry, options)
        fill(self.network, tensors, weights)
        self.source = f"{entry} of {repo} with {weights}"


class UniDepth(HubDepth, CameraEstimator):
    """UniDepth V1 and V2 (Piccinelli et al., arXiv 2403.18913 and 2502.20110).

    From a clone of lpiccinelli-eth/UniDepth. It estimates the camera too, unless the image's is known
    or a focal length is given. Resolution and scale have no effect.

    Args:
        repo: the clone's folder; or "lpiccinelli-eth/UniDepth" for the one in torch.hub's cache.
        weights: .safetensors, or .pth, .pt or .bin with nothing but tensors in it; from the hub's
            lpiccinelli/unidepth-v2-vitl14, for example.
        version: "v1", "v2" or "v2old".
        backbone: "vitl14", "vitb14", "vits14", or V1's "cnvnxtl".
        focal_length: of the images at their own size, in pixels; their center is the principal point.
        resolution_level: of V2, 0 (fewest pixels) to 9; its own default where None.
        trust: run code that torch.hub has cached.
        license: of the weights.
        training_sets: the data sets that the weights have learned from; what is publicly known where None.

    Raises:
        MissingFileError: there is no such clone, or no such file of weights.
        UserError: the clone's code does not run, lacks a package or has another interface; or the
            weights hold more than tensors or do not fit.
    """

    def __init__(
        self,
        repo: str,
        weights: str,
        version: Literal["v1", "v2", "v2old"] = "v2",
        backbone: str = "vitl14",
        focal_length: float | None = None,
        resolution_level: int | None = None,
        trust: bool = False,
        license: str = "cc-by-nc-4.0",
        training_sets: list[str] | None = None,
    ) -> None:
        options = {"version": version, "backbone": backbone, "pretrained": False}
        check_level("UniDepth", resolution_level)
        super().__init__(repo, "UniDepth", options, weights, trust)
        if resolution_level is not None:
            self.network.resolution_level = resolution_level
        self.focal_length, self.resolution_level = focal_length, resolution_level
        self.license = license
        self.training_sets = stated_or_known(training_sets, f"lpiccinelli/unidepth-{version}-{backbone}")

    def _infer(self, image: Image, intrinsics: Cameras | None) -> RawPrediction:
        height, width = image.shape[-2:]
        # Bytes: of floats, V1 guesses the range from the brightest pixel.
        pixels = (image.float() * 255).round().clamp(0, 255).to(torch.uint8)
        cameras: list[tuple[Tensor, ...]] = [()] * len(pixels)
        if intrinsics is not None:  # its principal point counts from the image's corner
            cameras = [(crop_intrinsics(camera, -0.5, -0.5),) for camera in intrinsics]
        outputs = [self.network.infer(one, *camera) for one, camera in zip(pixels, cameras, strict=True)]
        depths = [output["depth"].float() for output in outputs]
        for depth in depths:
            refuse_shape(self, depth, height, width)
        return torch.stack([depth.reshape(height, width) for depth in depths])


class Metric3D(HubDepth):
    """Metric3D (Yin et al., arXiv 2307.10984) and its v2 (Hu et al., arXiv 2404.15506).

    From a clone of YvanYin/Metric3D. The image is shrunk or enlarged into the network's size and
    padded; depth holds for a camera of 1000 pixels focal length and is scaled to the image's own. That
    is taken from the image's intrinsics, where they are known; for other images give `focal_length` or
    `fov`. Depth is cut at 300 m. Resolution and scale have no effect.

    Args:
        repo: the clone's folder; or "yvanyin/metric3d" for the one in torch.hub's cache.
        weights: .safetensors, or .pth, .pt or .bin with nothing but tensors in it; from the hub's
            JUGGHM/Metric3D.
        entry: metric3d_vit_small, _vit_large, _vit_giant2, _convnext_tiny or _convnext_large.
        focal_length: of the images at their own size, in pixels.
        fov: instead, the horizontal field of view, in degrees.
        size: [height, width] at which the network runs; [616, 1064], or [544, 1216] for ConvNeXt.
        trust: run code that torch.hub has cached.
        license: of the weights.
        training_sets: the data sets that the weights have learned from; what is publicly known where None.

    Raises:
        MissingFileError: there is no such clone, or no such file of weights.
        UserError: both of focal_length and fov, or neither when an image's camera is not known; the
            clone's code does not run, lacks a package or has another interface; or the weights hold
            more than tensors or do not fit.
    """

    def __init__(
        self,
        repo: str,
        weights: str,
        entry: str = "metric3d_vit_large",
        focal_length: float | None = None,
        fov: float | None = None,
        size: list[int] | None = None,
        trust: bool = False,
        license: str = "unknown",
        training_sets: list[str] | None = None,
    ) -> None:
        check_camera("Metric3D", focal_length, fov)
        super().__init__(repo, entry, {"pretrain": False}, weights, trust)
        height, width = size or ((544, 1216) if "convnext" in entry else (616, 1064))
        self.fixed_size = (int(height), int(width))
        self.focal_length, self.fov = focal_length, fov
        self.license = license
        self.training_sets = stated_or_known(training_sets, f"yvanyin/metric3d/{entry}")

    def predict_raw(self, image: Image) -> RawPrediction:
        """Depth in meters, at the size that the image has inside the network's."""
        focal_length = assumed_focal_length("Metric3D", image.shape[-1], self.focal_length, self.fov)
        return self._scaled(image, torch.tensor(focal_length, device=image.device))

    def predict_raw_with_camera(self, image: Image, intrinsics: Cameras) -> RawPrediction:
        """`predict_raw`, by the images' own cameras and not by `focal_length` or `fov`."""
        return self._scaled(image, intrinsics[:, 0, 0, None, None])

    def _scaled(self, image: Image, focal_length: Tensor) -> RawPrediction:
        scale, (height, width) = self._inside(*image.shape[-2:])
        pixels = F.interpolate(image.float() * 255, (height, width), mode="bilinear", align_corners=False)
        mean, std = (pixels.new_tensor(v).view(3, 1, 1) for v in (MEAN, STD))
        whole_height, whole_width = self._size()
        top, left = (whole_height - height) // 2, (whole_width - width) // 2
        borders = (left, whole_width - width - left, top, whole_height - height - top)
        pixels = F.pad((pixels - mean) / std, borders)  # the mean color is zero by now
        pixels = pixels.to(next(self.network.parameters()).dtype)
        depth: Tensor = self.network.inference({"input": pixels})[0].float()
        if depth.numel() != len(image) * whole_height * whole_width:
            raise UserError(
                f"{self.source} answered {list(depth.shape)} to {list(pixels.shape)}; it would be "
                f"[{len(image)}, 1, {whole_height}, {whole_width}]"
            )
        depth = depth.reshape(len(image), whole_height, whole_width)
        depth = depth[:, top : top + height, left : left + width]
        return (depth * (focal_length * scale / CANONICAL_FOCAL_LENGTH)).clamp(0, 300)

    def _size(self) -> tuple[int, int]:
        assert self.fixed_size is not None
        return self.fixed_size

    def _inside(self, height: int, width: int) -> tuple[float, tuple[int, int]]:
        """How much an image is enlarged to fit, and its size then."""
        scale = min(self._size()[0] / height, self._size()[1] / width)
        return scale, (max(1, int(height * scale)), max(1, int(width * scale)))


def find_clone(repo: str, trust: bool = False) -> Path:
    """The folder of a clone: the one named, or one in torch.hub's cache if its code is trusted.

    Raises:
        MissingFileError: there is none with a hubconf.py.
        UserError: it is in the cache, but not trusted.
    """
    folder = user_path(repo)
    if folder.is_dir():
        if not (folder / "hubconf.py").is_file():
            raise MissingFileError(f"the folder '{repo}' is no torch.hub repository: it has no hubconf.py")
        return folder
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise MissingFileError(f"there is no folder '{repo}'; it would be a clone with a hubconf.py")
    prefix = repo.lower().replace("/", "_") + "_"
    cache = Path(torch.hub.get_dir())
    cached = [f.parent for f in cache.glob("*/hubconf.py") if f.parent.name.lower().startswith(prefix)]
    if not cached:
        raise MissingFileError(
            f"there is no folder '{repo}', and no such repository in {cache}; depthkd fetches no code: "
            f"clone https://github.com/{repo} and give the clone's folder"
        )
    if not trust:
        raise UserError(
            f"'{repo}' is in {cache}, but loading it runs its code: read it, then set trust: true, or give "
            "a clone of your own"
        )
    return max(cached, key=lambda f: f.stat().st_mtime)


def build(folder: Path, entry: str, options: dict[str, Any]) -> Any:
    """The network that an entry point of a clone's hubconf.py builds, with random weights.

    Raises:
        UserError: its code does not run or lacks a package, or there is no such entry point.
    """
    load: Any = torch.hub.load
    try:
        network = load(str(folder), entry, source="local", **options)
    except ModuleNotFoundError as error:
        raise UserError(
            f"the code in '{folder}' needs the package '{error.name}', which is not installed: install "
            "what its README lists"
        ) from error
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"the code in '{folder}' could not build '{entry}': {reason}") from error
    if not isinstance(network, nn.Module):
        raise UserError(f"'{entry}' in '{folder}' is a {type(network).__name__}; it would be a torch module")
    return network
