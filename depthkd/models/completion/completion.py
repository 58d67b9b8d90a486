"""Depth completion in three steps: relative depth, its alignment to measured points, and a refining network.

As in the poster of "Robust Lightweight Depth Estimation Model via Data-free Distillation" (Gao et al., ICASSP
2024). It says that a completion module outputs dense depth with the guidance of the image and the aligned
depth; what that module is made of is ours.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from depthkd.errors import UserError
from depthkd.models.completion.network import EncoderDecoder
from depthkd.models.completion.points import CompletesPoints, checked_numbers
from depthkd.models.described import builder, described
from depthkd.models.frozen import Frozen
from depthkd.models.model import Cameras, DepthModel
from depthkd.models.own_folder import OwnFolder
from depthkd.resolution import Asked, Resolution, checked
from depthkd.shapes import Image, Map
from depthkd.sparse_depth.fits import BEYOND, SHRINKAGE, PointFit, align_to_points
from depthkd.sparse_depth.interpolation import interpolate_points, nearest_points
from depthkd.sparse_depth.neighbors import NEIGHBORS

RelativeModel = Callable[[], DepthModel]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
CHANNELS, MAPS = 10, 2
LINEAR = -1  # its channel of the linear interpolation
MOST = 2.0  # of the logarithm of the refined depth over the aligned one: a factor of 7.4


class DepthCompletion(CompletesPoints, OwnFolder):
    """Dense depth in meters from an image and sparse points.

    A relative model's depth is aligned to the points, and a small encoder-decoder predicts at each pixel the
    share of the way from there to the points' linear interpolation, and the logarithm of the factor by which
    what comes of it is wrong. It sees the image, the aligned depth, the points and how far away they are, the
    nearest point's depth, their linear interpolation, and what a single scale and shift would give; all
    depths as logarithms of ratios, so that the unit of depth does not matter. Before training its answer is
    the aligned depth.

    The relative model may be any: a student before or after distillation, a teacher. It is loaded when it is
    first asked, does not learn, and is no part of the weights.

    Args:
        relative: how to build the relative model.
        relative_resolution: the size at which that runs where nobody asks for another, see
            `DepthModel.infer`; None: its own default.
        fit: how its depth is aligned, see `AlignedToPoints`.
        shrinkage, neighbors, beyond: of the fit.
        widths: channels of the encoder-decoder's levels, the finest first; multiples of 8.

    Raises:
        UserError: an argument is out of its range; or there is no relative model when it is asked.
    """

    kind = "depth_completion"
    saved = frozenset(
        ("relative", "relative_resolution", "fit", "shrinkage", "neighbors", "beyond", "widths")
    )
    mean, std = MEAN, STD

    def __init__(
        self,
        relative: RelativeModel | None = None,
        relative_resolution: int | str | None = None,
        fit: PointFit = "local",
        shrinkage: float = SHRINKAGE,
        neighbors: int = NEIGHBORS,
        beyond: float = BEYOND,
        widths: Sequence[int] = (32, 48, 64, 96, 128),
    ) -> None:
        super().__init__()
        self.make_relative = relative
        self._relative: Frozen | None = None
        self.relative_resolution = checked(relative_resolution, "relative_resolution")
        self.fit: PointFit = fit
        self.shrinkage, self.neighbors, self.beyond = checked_numbers(shrinkage, neighbors, beyond)
        self.widths = list(widths)
        self.network = EncoderDecoder(CHANNELS, MAPS, widths)
        self.source = f"random completion network of {len(widths)} levels"

    def arguments_saved(self) -> dict[str, Any]:
        """See `OwnFolder`; the relative model is no part of the folder, and is named in it.

        Raises:
            UserError: it cannot be named in a file.
        """
        at = self.relative_resolution
        return {
            "relative": described(self.relative.model),
            "relative_resolution": None if at is None else str(at),
            "fit": self.fit,
            "shrinkage": self.shrinkage,
            "neighbors": self.neighbors,
            "beyond": self.beyond,
            "widths": self.widths,
        }

    @classmethod
    def built_with(cls, arguments: dict[str, Any]) -> "OwnFolder":
        """See `OwnFolder`."""
        relative = builder(arguments["relative"], "config.json: relative")
        return cls(**{**arguments, "relative": relative})

    @property
    def relative(self) -> Frozen:
        """The relative model, built on first use; never part of the weights.

        Raises:
            UserError: there is none.
        """
        if self._relative is None:
            if self.make_relative is None:
                raise UserError(
                    "DepthCompletion aligns a relative model's depth and has none: give `relative`, such as "
                    "{class_path: depthkd.models.Embedded}"
                )
            self._relative = Frozen(self.make_relative, next(self.network.parameters()).device)
        return self._relative

    @relative.setter
    def relative(self, teacher: Frozen) -> None:
        self._relative = teacher

    def companions(self) -> list[DepthModel]:
        """The relative model, where there is one."""
        return [] if self._relative is None and self.make_relative is None else [self.relative.model]

    def runs_at(
        self, height: int, width: int, resolution: Asked = None, scale: float = 1.0
    ) -> tuple[int, int] | None:
        """The relative model's."""
        asked = Resolution.parse(resolution).times(scale)
        return self.relative.model.runs_at(height, width, self._at(asked))

    def _at(self, asked: Resolution | None) -> Resolution:
        if asked is None or asked.side == "own":
            return Resolution.parse(self.relative_resolution).times(1.0 if asked is None else asked.scale)
        return asked

    @torch.no_grad()
    def aligned(self, image: Image, sparse: Map, intrinsics: Cameras | None = None) -> tuple[Map, Map]:
        """The relative depth in meters: aligned by `fit`, and by a single scale and shift an image."""
        relative = self.relative
        depth = relative(image, intrinsics, self._at(self._request)).depth.float()
        how = self.shrinkage, self.neighbors, self.beyond
        fits: tuple[PointFit, PointFit] = self.fit, "least_squares"
        local, single = (align_to_points(depth, relative.space, sparse, fit, *how) for fit in fits)
        return local, single

    def complete(self, image: Image, sparse: Map, intrinsics: Cameras | None = None) -> Map:
        """See `CompletesPoints`; with gradients of the encoder-decoder alone."""
        aligned, single = self.aligned(image, sparse, intrinsics)
        maps = guidance(image, sparse, aligned, single)
        residual, share = self.network(maps).float().unbind(1)
        return refined(aligned, maps[:, LINEAR], residual, share)

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        """None: the encoder-decoder begins at random, and learns as a whole."""
        return iter(())


def refined(aligned: Map, to_linear: Map, residual: Map, share: Map) -> Map:
    """The aligned depth times exp(share * to_linear + residual), within a factor of 7.4.

    Args:
        aligned: depth, in meters.
        to_linear: log(linear interpolation / aligned).
        residual: of the logarithm.
        share: of the way to the linear interpolation.
    """
    return aligned * (MOST * torch.tanh((share * to_linear + residual) / MOST)).exp()


def guidance(
    image: Image, sparse: Map, aligned: Map, single: Map
) -> Float[Tensor, "batch channels height width"]:
    """What the encoder-decoder sees; every depth is the logarithm of a ratio, and has no unit.

    Args:
        image: RGB in [0, 1].
        sparse: measured depth; images without any get 0 in the channels that need one.
        aligned: the relative depth, aligned to it.
        single: the same, by one scale and shift.
    """
    known = sparse > 0
    some = known.flatten(1).any(1)[:, None, None]
    points = torch.where(some, sparse, aligned)  # where there are none, nothing below differs from `aligned`
    nearest, distance = nearest_points(points)
    log_aligned = aligned.log()
    middle = torch.where(known, sparse, torch.nan).flatten(1).nanmedian(1).values.log()[:, None, None]
    mean, std = (image.new_tensor(x)[:, None, None] for x in (MEAN, STD))
    maps = [
        torch.where(some, log_aligned - middle, 0.0),
        torch.where(known, torch.where(known, sparse, 1.0).log() - log_aligned, 0.0),
        known.to(aligned.dtype),
        distance.log1p() / 4,
        nearest.log() - log_aligned,
        single.log() - log_aligned,
        interpolate_points(points, "linear").log() - log_aligned,  # the last: see LINEAR
    ]
    return torch.cat([(image - mean) / std, torch.stack(maps, 1)], 1)
