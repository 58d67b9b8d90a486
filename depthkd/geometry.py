"""Pinhole cameras: intrinsics and points that follow crops, resizes, flips; distance <-> z; back-projection.

Pixel coordinates put the *center* of the top-left pixel at (0, 0), as OpenCV and KITTI do. Where a
data set puts the image's corner there (Hypersim), subtract 0.5 from its principal point first.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float64
from torch import Tensor

Intrinsics = Float[Tensor, "*batch 3 3"]
Map = Float[Tensor, "*batch height width"]


def intrinsics_matrix(fx: float, fy: float, cx: float, cy: float) -> Float[Tensor, "3 3"]:
    """The 3x3 pinhole matrix; focal lengths and principal point in pixels."""
    return torch.tensor([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])


def camera_matrix(fx: float, fy: float, cx: float, cy: float) -> Float64[np.ndarray, "3 3"]:
    """`intrinsics_matrix` as an array, in float64."""
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], np.float64)


def focal_length(width: int, field_of_view: float | int) -> float:
    """Of an image of `width` pixels with that horizontal field of view, in degrees; in pixels."""
    return 0.5 * width / math.tan(math.radians(field_of_view) / 2)


def crop_intrinsics(intrinsics: Intrinsics, top: float | int, left: float | int) -> Intrinsics:
    """The camera of the crop whose top-left pixel was at row `top` and column `left`."""
    cropped = intrinsics.clone()
    cropped[..., 0, 2] -= left
    cropped[..., 1, 2] -= top
    return cropped


def resize_intrinsics(intrinsics: Intrinsics, scale_y: float | int, scale_x: float | int) -> Intrinsics:
    """The camera after a resize by `scale_y` (new height / old) and `scale_x`.

    The image's corner stays where it is, so pixel centers move by half a pixel.
    """
    resized = intrinsics.clone()
    resized[..., 0, 0] *= scale_x
    resized[..., 1, 1] *= scale_y
    resized[..., 0, 2] = (resized[..., 0, 2] + 0.5) * scale_x - 0.5
    resized[..., 1, 2] = (resized[..., 1, 2] + 0.5) * scale_y - 0.5
    return resized


def flip_intrinsics(intrinsics: Intrinsics, width: int) -> Intrinsics:
    """The camera of the horizontally mirrored image of `width` pixels."""
    flipped = intrinsics.clone()
    flipped[..., 0, 2] = (width - 1) - flipped[..., 0, 2]
    return flipped


def resize_sparse_depth(
    sparse: Float[Tensor, "batch height width"], size: tuple[int, int]
) -> Float[Tensor, "batch new_height new_width"]:
    """Sparse depth at another size, of the same points: each goes to the one pixel in which it lies.

    Nothing is interpolated, and no point is repeated where the map grows. Of several points that fall into
    one pixel the one nearest to the camera stays, because it hides the others.

    Args:
        sparse: depth, 0 where nothing was measured.
        size: height and width of the result.
    """
    height, width = sparse.shape[-2:]
    if (height, width) == size:
        return sparse
    image, row, column = sparse.nonzero(as_tuple=True)
    depth = sparse[image, row, column]
    row = torch.div(
        (2 * row + 1) * size[0], 2 * height, rounding_mode="floor"
    )  # the center's, in whole numbers
    column = torch.div((2 * column + 1) * size[1], 2 * width, rounding_mode="floor")
    resized = sparse.new_full((len(sparse) * size[0] * size[1],), torch.inf)
    resized.scatter_reduce_(0, (image * size[0] + row) * size[1] + column, depth, "amin")
    return torch.where(resized.isinf(), 0.0, resized).reshape(len(sparse), *size)


def turn_intrinsics(intrinsics: Intrinsics, height: int, width: int, turns: int) -> Intrinsics:
    """The camera of the image of this size after quarter turns to the left, as `numpy.rot90` makes them."""
    for _ in range(turns % 4):
        turned = intrinsics.clone()
        turned[..., 0, 0], turned[..., 1, 1] = intrinsics[..., 1, 1], intrinsics[..., 0, 0]
        turned[..., 0, 2], turned[..., 1, 2] = intrinsics[..., 1, 2], (width - 1) - intrinsics[..., 0, 2]
        intrinsics, height, width = turned, width, height
    return intrinsics


def pixel_rays(intrinsics: Intrinsics, height: int, width: int) -> Float[Tensor, "*batch 3 height width"]:
    """Each pixel's viewing ray, scaled to z = 1: x to the right, y down, z forward."""
    rows = torch.arange(height, dtype=intrinsics.dtype, device=intrinsics.device)
    columns = torch.arange(width, dtype=intrinsics.dtype, device=intrinsics.device)
    fx, fy, cx, cy = (intrinsics[..., i, j, None] for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    x = ((columns - cx) / fx)[..., None, :].expand(*intrinsics.shape[:-2], height, width)
    y = ((rows - cy) / fy)[..., :, None].expand(*intrinsics.shape[:-2], height, width)
    return torch.stack([x, y, torch.ones_like(x)], dim=-3)


def distance_to_z(distance: Map, intrinsics: Intrinsics) -> Map:
    """Distance from the camera's center (Hypersim's "depth") -> z, both in the same unit."""
    return distance / _ray_length(intrinsics, distance)


def back_project(z: Map, intrinsics: Intrinsics) -> Float[Tensor, "*batch 3 height width"]:
    """z-depth -> points in the camera's frame (x right, y down, z forward), in the unit of z."""
    return pixel_rays(intrinsics, *z.shape[-2:]) * z[..., None, :, :]


def crop_boxes(
    depth: Float[Tensor, "batch height width"], boxes: Float[Tensor, "batch count 4"], size: tuple[int, int]
) -> Float[Tensor, "batch count new_height new_width"]:
    """Each box of each map, resampled bilinearly to `size`.

    A box is (top, left, height, width) as fractions of the map; a pixel of the result stands for
    the same place in the scene as the pixel of an image that was cropped to the box and resized
    to `size` by its corners.
    """
    top, left, tall, wide = boxes.unbind(-1)
    rows = (torch.arange(size[0], device=depth.device, dtype=depth.dtype) + 0.5) / size[0]
    columns = (torch.arange(size[1], device=depth.device, dtype=depth.dtype) + 0.5) / size[1]
    y = (top[..., None] + rows * tall[..., None]) * 2 - 1
    x = (left[..., None] + columns * wide[..., None]) * 2 - 1
    batch, count = boxes.shape[:2]
    shape = (batch, count, *size)
    grid = torch.stack([x[..., None, :].expand(shape), y[..., :, None].expand(shape)], dim=-1)
    grid = grid.reshape(batch, count * size[0], size[1], 2)
    sampled = F.grid_sample(depth[:, None], grid, mode="bilinear", padding_mode="border", align_corners=False)
    return sampled.reshape(shape)


def paste_boxes(
    windows: Float[Tensor, "batch count window_height window_width"],
    boxes: Float[Tensor, "batch count 4"],
    size: tuple[int, int],
) -> tuple[
    Float[Tensor, "batch count new_height new_width"], Bool[Tensor, "batch count new_height new_width"]
]:
    """Each window resampled bilinearly onto the pixels of a whole map of `size`, and where its box lies.

    The reverse of `crop_boxes`, with the same boxes; outside its box a window's map is meaningless.
    """
    top, left, tall, wide = boxes.unbind(-1)
    rows = (torch.arange(size[0], device=windows.device, dtype=windows.dtype) + 0.5) / size[0]
    columns = (torch.arange(size[1], device=windows.device, dtype=windows.dtype) + 0.5) / size[1]
    y = (rows - top[..., None]) / tall[..., None]
    x = (columns - left[..., None]) / wide[..., None]
    shape = (*boxes.shape[:2], *size)
    y, x = y[..., :, None].expand(shape), x[..., None, :].expand(shape)
    grid = torch.stack([x * 2 - 1, y * 2 - 1], dim=-1).flatten(0, 1)
    pasted = F.grid_sample(
        windows.flatten(0, 1)[:, None], grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    inside = (y > 0) & (y < 1) & (x > 0) & (x < 1)
    return pasted.reshape(shape), inside


def _ray_length(intrinsics: Intrinsics, like: Map) -> Map:
    rays = pixel_rays(intrinsics, *like.shape[-2:])
    length: Tensor = torch.linalg.vector_norm(rays, dim=-3)
    return length
