"""scikit-image's Canny edges, bit for bit, in half the time: for metrics that take hundreds of them.

What is saved: the smoothed border of an image's size is computed once, non-maxima are suppressed at
the pixels above the lower threshold alone, and OpenCV labels the components. The filters are SciPy's,
as scikit-image's are, because exact ties at straight edges must fall alike.
"""

from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import gaussian_filter  # type: ignore[attr-defined]  # its stubs forget it

from depthkd.shapes import ArrayMap

Unsized = Float[np.ndarray, "_ _"]
Edges = Bool[np.ndarray, "height width"]
Values = Float[np.ndarray, " candidates"]


def canny_edges(image: ArrayMap, sigma: float, low: float, high: float) -> Edges:
    """`skimage.feature.canny` with the default border (Canny 1986), in the image's own precision.

    Args:
        image: values in [0, 1], without NaN, in float32 or float64.
        sigma: of the Gaussian, px.
        low, high: thresholds of the gradient's magnitude.
    """
    smooth = gaussian_filter(image, sigma, mode="constant") / _border(image.shape, sigma, image.dtype)
    padded = np.pad(smooth, 1, mode="symmetric")
    down, right = _sobel(padded), _sobel(padded.T).T
    magnitude = np.sqrt(down * down + right * right)
    places = np.flatnonzero(magnitude >= np.float32(low))  # scikit-image's C code takes it as a float
    rows, columns = np.divmod(places, image.shape[1])
    inside = (rows > 0) & (rows < image.shape[0] - 1) & (columns > 0) & (columns < image.shape[1] - 1)
    places = places[inside]
    kept = places[_is_ridge(places, down.ravel(), right.ravel(), magnitude.ravel(), image.shape[1])]
    weak = np.zeros(image.size, dtype=np.uint8)
    weak[kept] = 1
    count, labels = cv2.connectedComponents(weak.reshape(image.shape), connectivity=8)
    strong = np.zeros(count, dtype=bool)
    strong[labels.ravel()[kept[magnitude.ravel()[kept] >= high]]] = True
    edges: Edges = strong[labels]
    return edges


@lru_cache(maxsize=16)
def _border(shape: tuple[int, int], sigma: float, kind: np.dtype) -> ArrayMap:
    """How much of the Gaussian lies inside the image."""
    inside: ArrayMap = gaussian_filter(np.ones(shape, kind), sigma, mode="constant") + np.finfo(kind).eps
    return inside


def _sobel(padded: Unsized) -> Unsized:
    """Derivative along axis 0 and [1, 2, 1] along axis 1, summed in SciPy's order and precision."""
    step = (padded[2:] - padded[:-2]).astype(np.float64)
    sobel: Unsized = step[:, 1:-1] * 2.0 + (step[:, :-2] + step[:, 2:])
    return sobel.astype(padded.dtype, copy=False)


def _is_ridge(
    places: np.ndarray, down: Values, right: Values, magnitude: Values, width: int
) -> Bool[np.ndarray, " places"]:
    """Whether each place is no smaller than its two neighbors along the gradient, interpolated."""
    i, j, here = down[places], right[places], magnitude[places]
    steep = np.abs(i) > np.abs(j)
    larger = np.where(steep, np.abs(i), np.abs(j))
    weight = np.where(steep, np.abs(j), np.abs(i)) / larger
    alike = ((i >= 0) & (j >= 0)) | ((i <= 0) & (j <= 0))
    straight = np.where(steep, width, 1)
    diagonal = np.where(alike, width + 1, np.where(steep, width - 1, 1 - width))
    ridge = np.ones(len(places), dtype=bool)
    rest = 1.0 - weight.astype(np.float64)  # of a C literal: this product alone is in double precision
    for sign in (1, -1):
        beyond = magnitude[places + sign * diagonal] * weight
        ridge &= beyond + magnitude[places + sign * straight] * rest <= here
    return ridge
