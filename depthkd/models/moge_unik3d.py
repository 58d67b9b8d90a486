"""MoGe-2 and UniK3D: metric depth and the camera, from points that their networks predict."""

import warnings
from typing import Literal

import torch
from torch import Tensor

from depthkd.errors import UserError
from depthkd.geometry import crop_intrinsics
from depthkd.models.clones import (
    AuthorsCode,
    CameraEstimator,
    central_cameras,
    check_level,
    fill,
    find_weights,
    forgetful,
    refuse_shape,
)
from depthkd.models.model import Cameras
from depthkd.models.provenance import stated_or_known
from depthkd.models.weights import read_content, read_json_file, read_weights, tensors_of
from depthkd.shapes import Image, Map

Backbone = Literal["vitl", "vitb", "vits"]
BACKBONES: tuple[Backbone, ...] = ("vitl", "vitb", "vits")
UTILS3D = "3fab839f0be9931dac7c8488eb0e1600c236e183"  # the commit that MoGe's requirements name
MOGE = AuthorsCode(
    "MoGe",
    "microsoft/MoGe",
    "moge",
    "",
    f"git+https://github.com/EasternJournalist/utils3d.git@{UTILS3D}",
)
UNIK3D = AuthorsCode(
    "UniK3D",
    "lpiccinelli-eth/UniK3D",
    "unik3d",
    "",
    "einops matplotlib wandb 'setuptools<81'",  # of setuptools it imports pkg_resources
)


class MoGe(CameraEstimator):
    """MoGe-2 (Wang et al., arXiv 2507.02546): metric points, the camera, and where points are valid.

    From a clone of microsoft/MoGe. Its depth is z. Where an image's camera is known its horizontal field of
    view is used, and otherwise an estimated one; the principal point is taken to be the image's center.
    Resolution and scale have no effect.

    Args:
        weights: a hub id such as Ruicheng/moge-2-vitl-normal, a folder with model.pt, or such a file, which
            holds the network's configuration too.
        repo: the clone's folder; the installed package where None.
        focal_length: of the images at their own size, in pixels.
        resolution_level: 0 (fewest tokens) to 9; 9 where None.
        masked: give pixels that the network holds for invalid, such as the sky, an infinite depth, which
            training leaves out; as in the authors' evaluation all pixels keep their depth otherwise.
        license: of the weights.
        training_sets: the data sets that the weights have learned from; what is publicly known where None.

    Raises:
        MissingFileError: there is no such clone and no such package, or no such weights.
        UserError: the weights are of another kind, hold more than tensors and plain values or do not fit;
            the authors' code does not run or lacks a package.
    """

    def __init__(
        self,
        weights: str,
        repo: str | None = None,
        focal_length: float | None = None,
        resolution_level: int | None = None,
        masked: bool = False,
        license: str = "mit",
        training_sets: list[str] | None = None,
    ) -> None:
        super().__init__()
        check_level("MoGe", resolution_level)
        self._code = MOGE.folder(repo)
        file = find_weights(weights, ("model.pt",))
        content = read_content(file)  # before any of the authors' code runs
        config = content.get("model_config") if isinstance(content, dict) else None
        if not isinstance(config, dict):
            raise UserError(
                f"'{file}' holds no configuration of MoGe: model.pt as published has model_config"
            )
        if "scale_head" not in config:
            raise UserError(f"'{file}' is of MoGe-1, which has no metric scale; it would be of MoGe-2")
        tensors = tensors_of(content, str(file))
        with MOGE.importable(self._code):
            self.network = MOGE.module("model.v2", self._code).MoGeModel(**config).eval()
        fill(self.network, tensors, str(file))
        self.focal_length, self.resolution_level, self.masked = focal_length, resolution_level, masked
        self.source, self.license = f"MoGe with {weights}", license
        self.training_sets = stated_or_known(training_sets, "ruicheng/moge-2")

    @torch.no_grad()
    def estimated_cameras(self, image: Image) -> Cameras | None:
        """The camera that the network finds, or that of `focal_length`; one more pass of the network."""
        if self.focal_length is not None:
            return central_cameras(image, self.focal_length)
        height, width = image.shape[-2:]
        level = 9 if self.resolution_level is None else self.resolution_level
        output = self.network.infer(image.float(), resolution_level=level, apply_mask=False, use_fp16=False)
        shares: Tensor = output["intrinsics"].clone().float()  # of width and height, from the image's corner
        sides = shares.new_tensor([width, height, 1])
        return crop_intrinsics(shares * sides[:, None], 0.5, 0.5)

    def _infer(self, image: Image, intrinsics: Cameras | None) -> Map:
        height, width = image.shape[-2:]
        fov = None if intrinsics is None else fields_of_view(intrinsics, width)
        level = 9 if self.resolution_level is None else self.resolution_level
        output = self.network.infer(
            image.float(), resolution_level=level, apply_mask=self.masked, fov_x=fov, use_fp16=False
        )
        depth: Tensor = output["depth"].clone().float()  # outside of their inference mode
        refuse_shape(self, depth, len(image) * height, width)
        return depth


class UniK3D(CameraEstimator):
    """UniK3D (Piccinelli et al., arXiv 2503.16591): metric points for cameras of any kind.

    From a clone of lpiccinelli-eth/UniK3D. The network predicts a ray and the distance along it for each
    pixel; depth is z, the distance times the ray's third component. Rays are a pinhole camera's where the
    image's camera is known, and the network's own otherwise. Pixels that look sideways or backward have no
    depth: it is infinite there. Resolution and scale have no effect.

    Args:
        weights: a hub id such as lpiccinelli/unik3d-vitl, a folder with model.safetensors or
            pytorch_model.bin, or such a file.
        repo: the clone's folder; the installed one where None.
        backbone: vitl, vitb or vits; where None, the one that `weights` name.
        focal_length: of the images at their own size, in pixels; their center is the principal point.
        resolution_level: 0 (fewest pixels) to 9; the network's own range where None.
        license: of the weights.
        training_sets: the data sets that the weights have learned from; what is publicly known where None.

    Raises:
        MissingFileError: there is no such clone and no such package, or no such weights.
        UserError: the weights do not say which backbone they have, hold more than tensors or do not fit; the
            authors' code does not run or lacks a package.
    """

    def __init__(
        self,
        weights: str,
        repo: str | None = None,
        backbone: Backbone | None = None,
        focal_length: float | None = None,
        resolution_level: int | None = None,
        license: str = "cc-by-nc-4.0",
        training_sets: list[str] | None = None,
    ) -> None:
        super().__init__()
        check_level("UniK3D", resolution_level)
        backbone = backbone or backbone_of(weights)
        self._code = UNIK3D.folder(repo)
        file = find_weights(weights, ("model.safetensors", "pytorch_model.bin"))
        tensors = read_weights(str(file))  # before any of the authors' code runs
        config = read_json_file(self._code.parent / "configs/eval" / f"{backbone}.json")
        with UNIK3D.importable(self._code):
            self._pinhole = UNIK3D.module("utils.camera", self._code).Pinhole
            self.network = UNIK3D.module("models", self._code).UniK3D(config).eval()
        fill(self.network, tensors, str(file))
        if resolution_level is not None:
            self.network.resolution_level = resolution_level
        self.focal_length, self.resolution_level = focal_length, resolution_level
        self.source, self.license = f"UniK3D with {weights}", license
        self.training_sets = stated_or_known(training_sets, f"lpiccinelli/unik3d-{backbone}")

    def _infer(self, image: Image, intrinsics: Cameras | None) -> Map:
        pixels = (image.float() * 255).round().clamp(0, 255).to(torch.uint8)
        cameras: list[Cameras | None] = [None] * len(pixels)
        if intrinsics is not None:  # whose principal point counts from the image's corner
            cameras = list(crop_intrinsics(intrinsics, -0.5, -0.5).float())
        depths = []
        for one, matrix in zip(pixels, cameras, strict=True):
            camera = None if matrix is None else self._pinhole(matrix[(0, 1, 0, 1), (0, 1, 2, 2)])
            with warnings.catch_warnings(), forgetful(self.network):  # it warns of no resolution_level
                warnings.simplefilter("ignore")
                depth = self.network.infer(one, camera)["depth"].float()
            refuse_shape(self, depth, one.shape[-2], one.shape[-1])
            depths.append(depth.reshape(one.shape[-2:]))
        z = torch.stack(depths)
        return torch.where(z > 0, z, torch.inf)


def fields_of_view(intrinsics: Cameras, width: int) -> Tensor:
    """Horizontal fields of view in degrees, of images of `width` pixels."""
    return torch.rad2deg(2 * torch.atan(width / (2 * intrinsics[:, 0, 0])))


def backbone_of(weights: str) -> Backbone:
    """The backbone that weights of UniK3D have, by their name.

    Raises:
        UserError: the name does not say it.
    """
    for backbone in BACKBONES:
        if backbone in weights.lower():
            return backbone
    raise UserError(f"'{weights}' does not say which backbone it has: give backbone, vitl, vitb or vits")
