"""Depth from measured points without any training: the rows that a completion network has to beat."""

from abc import abstractmethod
from collections.abc import Iterator

import torch
from torch import nn

from depthkd.batch import METRIC_DEPTH
from depthkd.errors import UserError
from depthkd.models.model import Cameras, DepthModel, DepthOutput, RawPrediction
from depthkd.resolution import Asked
from depthkd.shapes import Image, Map
from depthkd.sparse_depth.fits import BEYOND, SHRINKAGE, PointFit, align_to_points
from depthkd.sparse_depth.interpolation import Interpolation, interpolate_points
from depthkd.sparse_depth.neighbors import NEIGHBORS


class CompletesPoints(DepthModel):
    """A model whose depth in meters comes of the points that were measured; it runs at the image's own size.

    Raises:
        UserError: (when it is asked) an image comes without sparse depth, or without a measured point.
    """

    chooses_size = True
    space = METRIC_DEPTH
    takes_sparse_depth = True
    needs_sparse_depth = True

    @abstractmethod
    def complete(self, image: Image, sparse: Map, intrinsics: Cameras | None = None) -> Map:
        """Depth in meters, above 0, at each pixel.

        Args:
            image: RGB in [0, 1].
            sparse: measured depth in meters, 0 where nothing was measured; one point an image or more.
            intrinsics: of the cameras, where they are known.
        """

    def forward(self, image: Image) -> DepthOutput:
        """Refuses: there are no points.

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
        return self.complete(image, sparse, intrinsics).float()

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        """None: what was trained before does not learn."""
        return iter(())


def given_none(model: DepthModel) -> UserError:
    """The sentence about a model that completes sparse depth, and is asked about an image alone."""
    return UserError(
        f"{type(model).__name__} completes sparse depth and was given none beside the image: test it on a "
        "depthkd.benchmarks.CompletionBenchmark, or give `depthkd predict` --sparse FILES, or predict(..., "
        "sparse=)"
    )


def refuse_without_points(model: DepthModel, sparse: Map) -> None:
    """Refuse sparse depth without a measured point.

    Raises:
        UserError: an image has none.
    """
    if not bool((sparse > 0).flatten(1).any(1).all()):
        raise UserError(
            f"no pixel has a measured depth: {type(model).__name__} completes one point or more, and two at "
            "least where scale and shift are unknown"
        )


class InterpolatedPoints(CompletesPoints):
    """The measured points interpolated, whatever the image shows.

    Args:
        interpolation: "nearest", "linear" or "linear_disparity"; see
            `depthkd.sparse_depth.interpolate_points`.

    Raises:
        UserError: it is another.
    """

    def __init__(self, interpolation: Interpolation = "linear") -> None:
        super().__init__()
        self.interpolation: Interpolation = interpolation
        self.source = f"{self.interpolation.replace('_', ' ')} interpolation of the points"
        self.license, self.training_sets = "apache-2.0", ()

    def complete(self, image: Image, sparse: Map, intrinsics: Cameras | None = None) -> Map:
        """See `CompletesPoints`."""
        return interpolate_points(sparse, self.interpolation)


class AlignedToPoints(CompletesPoints):
    """A relative model's depth fitted to the measured points.

    Args:
        relative: the model, of whatever space; it runs at the size that is asked for.
        fit: "least_squares" or "robust", one scale and shift an image; "local", one a pixel, as the coarse
            step of Prior Depth Anything; "residuals", what least squares leaves, interpolated. See
            `depthkd.sparse_depth.align_to_points`.
        shrinkage, neighbors, beyond: of the fit; a shrinkage of 0 makes "local" Prior Depth Anything's.

    Raises:
        UserError: the fit is another, or one of its numbers is out of its range.
    """

    def __init__(
        self,
        relative: DepthModel,
        fit: PointFit = "local",
        shrinkage: float = SHRINKAGE,
        neighbors: int = NEIGHBORS,
        beyond: float = BEYOND,
    ) -> None:
        super().__init__()
        self.relative = relative
        self.fit: PointFit = fit
        self.shrinkage, self.neighbors, self.beyond = checked_numbers(shrinkage, neighbors, beyond)
        self.takes_camera = relative.takes_camera
        self.source = f"{relative.source}, {self.fit.replace('_', ' ')} fit to the points"
        self.license, self.training_sets = relative.license, relative.training_sets

    def companions(self) -> list[DepthModel]:
        """The relative model."""
        return [self.relative]

    def runs_at(
        self, height: int, width: int, resolution: Asked = None, scale: float = 1.0
    ) -> tuple[int, int] | None:
        """The relative model's."""
        return self.relative.runs_at(height, width, resolution, scale)

    def complete(self, image: Image, sparse: Map, intrinsics: Cameras | None = None) -> Map:
        """See `CompletesPoints`."""
        relative = self.relative.predict(image, self._request, intrinsics=intrinsics)
        how = self.fit, self.shrinkage, self.neighbors, self.beyond
        return align_to_points(relative, self.relative.space, sparse, *how)


def checked_numbers(shrinkage: float, neighbors: int, beyond: float) -> tuple[float, int, float]:
    """The numbers of a fit to points, if they are in their ranges.

    Raises:
        UserError: one is not.
    """
    if not shrinkage >= 0:
        raise UserError(f"shrinkage must be 0 or more, not {shrinkage}")
    if neighbors < 1:
        raise UserError(f"neighbors must be 1 or more, not {neighbors}")
    if not 1 <= beyond < torch.inf:
        raise UserError(f"beyond is a factor of 1 or more, not {beyond}")
    return shrinkage, neighbors, beyond
