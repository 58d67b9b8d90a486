"""Edges of depth against edges of truth: iBims-1's depth boundary errors, and SharpDepth's pseudo ones.

NumPy on one image of `[height, width]` at a time, for worker processes beside the model. Errors are
in pixels. Edges are found by scikit-image's Canny in float32, as in the owners' scripts; distances are
exact.
"""

from typing import Any, Literal

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float
from skimage.feature import canny
from torch import Tensor

from depthkd.metrics.canny import canny_edges
from depthkd.metrics.mean import MeanByName
from depthkd.shapes import ArrayMap

Edges = Bool[np.ndarray, "height width"]
Maps = Float[Tensor, "batch height width"]

SIGMA = 2**0.5
NEAR = 10.0  # px: edges farther from a true one are not inaccurate but wrong, and count as missing
SMALLEST_DEPTH = 1e-6

Toolbox = Literal["current", "paper"]
THRESHOLDS: dict[Toolbox, tuple[float, float]] = {"current": (0.15, 0.3), "paper": (0.1, 0.2)}


def normalized(values: ArrayMap) -> ArrayMap:
    """Minimum to 0 and maximum to 1, in the values' precision; a constant map is 0. NaN are left out and
    stay."""
    if np.isnan(values).all():
        return values
    low, high = np.nanmin(values), np.nanmax(values)
    scaled: ArrayMap = (values - low) / ((high - low) if high > low else 1)
    return scaled


def depth_edges(depth: ArrayMap) -> Edges:
    """Canny edges of depth, or of its inverse: near edges show in one, far ones in the other (SharpDepth)."""
    depth = depth.astype(np.float32)
    inverse = np.float32(1) / np.clip(depth, np.float32(SMALLEST_DEPTH), None)
    low, high = THRESHOLDS["paper"]
    of_depth, of_inverse = (canny_edges(normalized(d), SIGMA, low, high) for d in (depth, inverse))
    edges: Edges = of_depth | of_inverse
    return edges


def distance_to(edges: Edges) -> ArrayMap:
    """Euclidean distance of every pixel to the nearest edge; infinite where there is none.

    OpenCV's squares are whole numbers in float32, so that rounding them makes the roots exact.
    """
    if not edges.any():
        return np.full(edges.shape, np.inf)
    distance = cv2.distanceTransform((~edges).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    exact: ArrayMap = np.sqrt(np.rint(np.square(distance.astype(np.float64))))
    return exact


def edge_distances(estimated: Edges, true: Edges) -> tuple[float, float]:
    """Accuracy and completeness of estimated edges, as both SharpDepth's and iBims-1's older script have it.

    Accuracy is the mean distance of the estimated edges to true ones nearer than 10 px, completeness the
    mean distance of the true edges to estimated ones, without an upper end. Both are 10 where no estimated
    edge is nearer than 10 px to a true one. (Where there is no true edge, the scripts' distances mean
    nothing, and completeness may be 0 / 0; here both are 10.)
    """
    distances = distance_to(true)[estimated]
    near = distances[distances < NEAR]
    if not near.size:
        return NEAR, NEAR
    return float(near.mean()), float(distance_to(estimated)[true].mean())


def pseudo_boundary_errors(prediction: ArrayMap, target: ArrayMap) -> dict[str, float]:
    """PDBE accuracy and completeness (SharpDepth, section 5.1): true edges are those of the true depth.

    Both maps are depth, whole and at native resolution; valid masks play no part. In px; see
    `edge_distances`.
    """
    accuracy, completeness = edge_distances(depth_edges(prediction), depth_edges(target))
    return {"pdbe_accuracy": accuracy, "pdbe_completeness": completeness}


def boundary_errors(prediction: ArrayMap, edges: Edges, version: Toolbox = "current") -> dict[str, float]:
    """DBE accuracy and completeness of iBims-1, against its annotated edges.

    "current" is today's toolbox: completeness is truncated at 10 px and symmetric. "paper" is the
    older script (Koch et al. 2018): lower Canny thresholds, completeness one-sided and not truncated (see
    `edge_distances`). NaN where the image has no annotated edge; 10 where the prediction has no edge, or
    none nearer than 10 px to an annotated one.

    Args:
        prediction: depth; 0 where there is none.
        edges: the annotated edges.
        version: which of the two scripts.
    """
    names = ("dbe_accuracy", "dbe_completeness")
    if not edges.any():
        return dict.fromkeys(names, float("nan"))
    depth = np.where(prediction == 0, np.float32(np.nan), prediction.astype(np.float32))
    low, high = THRESHOLDS[version]
    estimated = canny(normalized(depth), SIGMA, low, high)
    accuracy, completeness = edge_distances(estimated, edges)
    if version == "current" and estimated.any():
        distances = np.concatenate([distance_to(edges)[estimated], distance_to(estimated)[edges]])
        completeness = float(np.minimum(distances, NEAR).mean())
    return dict(zip(names, (accuracy, completeness), strict=True))


def _as_tensors(rows: list[dict[str, float]]) -> dict[str, Float[Tensor, " batch"]]:
    return {name: torch.tensor([row[name] for row in rows], dtype=torch.float64) for name in rows[0]}


class PseudoBoundaryErrors(MeanByName):
    """PDBE: the means of `pseudo_boundary_errors` over images."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(("pdbe_accuracy", "pdbe_completeness"), **settings)

    def update(self, prediction: Maps, target: Maps) -> None:
        """Add a batch of depth maps."""
        pairs = zip(prediction.cpu().numpy(), target.cpu().numpy(), strict=True)
        self.add(_as_tensors([pseudo_boundary_errors(p, t) for p, t in pairs]))


class BoundaryErrors(MeanByName):
    """DBE: the means of `boundary_errors` over images that have annotated edges."""

    def __init__(self, version: Toolbox = "current", **settings: Any) -> None:
        super().__init__(("dbe_accuracy", "dbe_completeness"), version, **settings)
        self.version: Toolbox = version

    def update(self, prediction: Maps, edges: Bool[Tensor, "batch height width"]) -> None:
        """Add a batch of depth maps with their annotated edges."""
        pairs = zip(prediction.cpu().numpy(), edges.cpu().numpy(), strict=True)
        self.add(_as_tensors([boundary_errors(p, e, self.version) for p, e in pairs]))
