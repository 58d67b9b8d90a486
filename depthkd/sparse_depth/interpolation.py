"""Interpolation of measured points, without any network: what completion has to beat.

Sparse depth is in meters, 0 where nothing was measured, with one point or more in each image.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.interpolate import LinearNDInterpolator
from scipy.ndimage import distance_transform_edt  # type: ignore[attr-defined]  # its stubs forget it
from scipy.spatial import QhullError
from torch import Tensor

from depthkd.shapes import ArrayMap, Map
from depthkd.sparse_depth.neighbors import LARGEST_ON_DEVICE, PAIRS

Interpolation = Literal["nearest", "linear", "linear_disparity"]


def interpolate_points(sparse: Map, how: Interpolation) -> Map:
    """Depth at every pixel, from that at the points.

    Args:
        sparse: the points.
        how: "nearest": that of the nearest point; "linear": linear on each triangle of Delaunay's
            triangulation of the points, and that of the nearest point outside of all triangles, or where
            the points lie on one line; "linear_disparity": the same of 1 / depth, which is linear on planes.
    """
    if how == "nearest":
        return nearest_points(sparse)[0]
    values = [one.double().cpu().numpy() for one in sparse]
    if how == "linear_disparity":
        values = [np.divide(1, one, out=np.zeros_like(one), where=one > 0) for one in values]
    at_once = min(len(values), torch.get_num_threads())  # SciPy lets go of Python's lock
    with ThreadPoolExecutor(at_once) as threads:
        found = np.stack(list(threads.map(linear, values)))
    return torch.from_numpy(found if how == "linear" else 1 / found).to(sparse)


def nearest_points(sparse: Map) -> tuple[Map, Map]:
    """Depth at the point nearest to each pixel, any of several as near, and its distance in pixels."""
    pairs = [_nearest_on_cpu(one) if _needs_cpu(one) else _nearest_on_device(one) for one in sparse]
    place, distance = (torch.stack(x) for x in zip(*pairs, strict=True))
    return sparse.flatten(1).gather(1, place).view_as(sparse), distance.view_as(sparse).to(sparse.dtype)


Flat = tuple[Int[Tensor, " pixels"], Float[Tensor, " pixels"]]


def _needs_cpu(sparse: Float[Tensor, "height width"]) -> bool:
    return sparse.is_cpu or int((sparse > 0).sum()) > LARGEST_ON_DEVICE


def _nearest_on_cpu(sparse: Float[Tensor, "height width"]) -> Flat:
    distance, (row, column) = distance_transform_edt(sparse.cpu().numpy() <= 0, return_indices=True)
    place = torch.from_numpy(row.astype(np.int64) * sparse.shape[1] + column)
    return place.flatten().to(sparse.device), torch.from_numpy(distance).flatten().to(sparse.device)


def _nearest_on_device(sparse: Float[Tensor, "height width"]) -> Flat:
    places = (sparse > 0).nonzero().float()
    pixels = torch.ones_like(sparse).nonzero().float()
    several = torch.split(pixels, PAIRS // len(places))
    parts = [(some[:, None] - places).square().sum(-1).min(1) for some in several]
    nearest = torch.cat([part.indices for part in parts])
    row, column = places.long()[nearest].unbind(1)
    return row * sparse.shape[1] + column, torch.cat([part.values for part in parts]).sqrt()


def linear(values: ArrayMap) -> ArrayMap:
    """What is above 0 interpolated over the triangles of its pixels, and the nearest outside of them."""
    known = values > 0
    _, (row, column) = distance_transform_edt(~known, return_indices=True)
    nearest: ArrayMap = values[row, column]
    places = np.argwhere(known)
    if len(places) < 3:
        return nearest
    try:
        surface = LinearNDInterpolator(places, values[known])
    except QhullError:  # they lie on one line
        return nearest
    rows, columns = np.indices(values.shape)
    inside = surface(rows, columns)
    found: ArrayMap = np.where(np.isfinite(inside), inside, nearest)
    return found
