"""Planarity errors of iBims-1 (Koch et al. 2018, section 4.2): walls, tables and floors should come out flat.

NumPy on one image at a time. Depth is in meters; each plane comes with its mask and true normal.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from depthkd.metrics.mean import MeanByName
from depthkd.shapes import ArrayMap

Planes = Bool[np.ndarray, "planes height width"]
Normals = Float[np.ndarray, "planes 3"]
Camera = Float[np.ndarray, "3 3"]
Points = Float[np.ndarray, "points 3"]

SMALLEST_SHARE = 0.05  # of the image; the toolbox skips smaller planes
NAMES = ("planarity_flatness", "planarity_orientation")
PlaneErrors = list[tuple[float, float]]


def back_project(depth: ArrayMap, mask: Bool[np.ndarray, "height width"], intrinsics: Camera) -> Points:
    """The mask's points in iBims-1's axes: right, forward and up; intrinsics as in `Sample`."""
    rows, columns = np.nonzero(mask)
    values = depth[rows, columns].astype(np.float64)
    right = (columns - intrinsics[0, 2]) * values / intrinsics[0, 0]
    up = -(rows - intrinsics[1, 2]) * values / intrinsics[1, 1]
    return np.stack([right, values, up], axis=1)


def fitted_plane(points: Points) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, " points"]]:
    """Unit normal of the plane of least squares, and every point's signed distance to it."""
    centered = points - points.mean(0)
    normal = np.linalg.eigh(centered.T @ centered)[1][:, 0]
    return normal, centered @ normal


def plane_errors(
    prediction: ArrayMap, target: ArrayMap, valid: Bool[np.ndarray, "height width"], planes: Planes,
    normals: Normals, intrinsics: Camera,
) -> PlaneErrors:  # fmt: skip
    """PE flatness (cm: deviation of the points from their plane) and PE orientation (degrees: angle
    between that plane's normal and the true one) of each plane.

    Each plane's depth is first scaled by the ratio of its medians, as the toolbox does. Planes under
    5 % of the image are skipped.

    Args:
        prediction: metric or aligned depth.
        target: true depth.
        valid: where both count.
        planes: one mask a plane.
        normals: their true normals, in the axes of `back_project`.
        intrinsics: the camera matrix in pixels, the center of the top-left pixel at (0, 0).
    """
    errors = []
    for plane, true_normal in zip(planes, normals, strict=True):
        mask = plane & valid & (prediction > 0)
        if mask.sum() < SMALLEST_SHARE * mask.size:
            continue
        scale = np.median(target[mask]) / np.median(prediction[mask])
        normal, distances = fitted_plane(back_project(prediction * scale, mask, intrinsics))
        cosine = abs(normal @ true_normal) / np.linalg.norm(true_normal)
        errors.append((float(100.0 * distances.std()), float(np.degrees(np.arccos(min(cosine, 1.0))))))
    return errors


def mean_plane_errors(errors: PlaneErrors) -> dict[str, float]:
    """Their means, by their names; NaN where there is no plane."""
    means = np.mean(errors, axis=0).tolist() if errors else [float("nan")] * len(NAMES)
    return dict(zip(NAMES, means, strict=True))


def planarity_errors(
    prediction: ArrayMap, target: ArrayMap, valid: Bool[np.ndarray, "height width"], planes: Planes,
    normals: Normals, intrinsics: Camera,
) -> dict[str, float]:  # fmt: skip
    """The means of `plane_errors` over one image's planes; NaN where it has none.

    A benchmark's metric is the mean over all planes of all images (iBims-1's evaluate_ibims.py), and not over
    these means: `PlanarityErrors`.
    """
    return mean_plane_errors(plane_errors(prediction, target, valid, planes, normals, intrinsics))


class PlanarityErrors(MeanByName):
    """The means of `plane_errors` over all planes of all images, as the owners' script has them.

    `compute` also counts "images", those that have planes, and "skipped", those that have none.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(NAMES, **settings)

    def update(
        self,
        prediction: Float[Tensor, "height width"],
        target: Float[Tensor, "height width"],
        valid: Bool[Tensor, "height width"],
        planes: Bool[Tensor, "planes height width"],
        normals: Float[Tensor, "planes 3"],
        intrinsics: Float[Tensor, "3 3"],
    ) -> None:
        """Add one image."""
        arrays = (x.cpu().numpy() for x in (prediction, target, valid, planes, normals, intrinsics))
        errors = plane_errors(*arrays)
        means = {name: torch.tensor([value]).double() for name, value in mean_plane_errors(errors).items()}
        self.add(means, torch.tensor([float(len(errors))]))
