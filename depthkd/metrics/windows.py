"""Error in windows, fitted over the whole image or inside each alone (Distill Any Depth, Figure 2).

The gap between the two is what a normalization over the whole map costs in small regions. The maps
are `[batch, height, width]` in one quantity, disparity or depth; the prediction may be affine, the
truth is positive. Fits are least squares of scale and shift, over the mask.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from depthkd.alignment import solve_scale_and_shift
from depthkd.errors import UserError
from depthkd.metrics.mean import MeanByName
from depthkd.shapes import Map, Mask, PerImage

PerWindow = Float[Tensor, "batch divisions divisions"]

DIVISIONS = (1, 2, 4)  # of each side
NO_ERROR = 1e-6  # an AbsRel under it is the rounding of float32 input


class Grid:
    """A map cut into `divisions` x `divisions` windows, whose sides differ by a pixel where it has to be."""

    def __init__(self, height: int, width: int, divisions: int, device: torch.device) -> None:
        self.rows, self.columns = (
            torch.arange(size, device=device) * divisions // size for size in (height, width)
        )
        windows = torch.arange(divisions, device=device)
        self.of_rows, self.of_columns = (
            (windows[:, None] == place).double() for place in (self.rows, self.columns)
        )

    def sums(self, values: Map) -> PerWindow:
        """Over each window, in float64."""
        return self.of_rows @ values.double() @ self.of_columns.T

    def spread(self, values: PerWindow) -> Map:
        """Each window's value at all its pixels."""
        return values[:, self.rows[:, None], self.columns]


def window_names(divisions: Sequence[int] = DIVISIONS) -> list[str]:
    """The names of `window_errors`."""
    return [
        f"{what}_{n}" for n in divisions for what in ("global_abs_rel", "local_abs_rel", "abs_rel_change")
    ]


def _fitted(prediction: Map, target: Map, mask: Map, grid: Grid) -> Map:
    """The prediction after a fit in each window, over the 1s of the mask; the maps are 0 at its 0s."""
    maps = (mask, prediction, target, prediction.square(), prediction * target)
    scale, shift = solve_scale_and_shift(*map(grid.sums, maps))
    return grid.spread(scale) * prediction + grid.spread(shift)


def _relative_error(fitted: Map, target: Map, mask: Mask) -> Map:
    return torch.where(mask, (fitted - target).abs() / target, 0.0)


def _mean_over_windows(error: Map, mask: Map, grid: Grid) -> PerImage:
    count = grid.sums(mask)
    means = grid.sums(error) / count.clamp(min=1)
    mean = means.sum((1, 2)) / (count > 0).sum((1, 2)).clamp(min=1)
    return torch.where(torch.isnan(mean), torch.inf, mean)


def window_errors(
    prediction: Map, target: Map, mask: Mask, divisions: Sequence[int] = DIVISIONS
) -> dict[str, PerImage]:
    """AbsRel in the windows of each grid, after a fit over the image and after one inside each window.

    For a grid of n x n windows: "global_abs_rel_n" and "local_abs_rel_n", means over its windows that
    have a valid pixel, and "abs_rel_change_n", local over global less 1: -0.2 where the local fit
    takes away a fifth of the error, 0 where the global one leaves none. NaN without a valid pixel, infinity
    where the prediction is NaN at one. Two pixels alone are always fitted exactly, so that windows
    far smaller than what is measured mean little.

    Raises:
        UserError: a grid has more windows than the map has rows or columns, or none.
    """
    height, width = mask.shape[1:]
    for n in divisions:
        if not 1 <= n <= min(height, width):
            raise UserError(f"a map of {height} x {width} pixels cannot be cut into {n} x {n} windows")
    p, t = (torch.where(mask, x, 0.0).double() for x in (prediction, target))
    m = mask.double()
    whole = _fitted(p, t, m, Grid(height, width, 1, mask.device))
    metrics = []
    for n in divisions:
        grid = Grid(height, width, n, mask.device)
        once, inside = (
            _mean_over_windows(_relative_error(fitted, t, mask), m, grid)
            for fitted in (whole, _fitted(p, t, m, grid))
        )
        change = torch.where(once < NO_ERROR, 0.0, inside / once - 1.0)
        metrics += [once, inside, torch.where(torch.isnan(change), torch.inf, change)]
    seen = mask.flatten(1).any(1)
    metrics = [torch.where(seen, metric, torch.nan).float() for metric in metrics]
    return dict(zip(window_names(divisions), metrics, strict=True))


class WindowErrors(MeanByName):
    """The means of `window_errors` over images."""

    def __init__(self, divisions: Sequence[int] = DIVISIONS, **settings: Any) -> None:
        super().__init__(window_names(divisions), **settings)
        self.divisions = tuple(divisions)

    def update(self, prediction: Map, target: Map, mask: Mask) -> None:
        """Add a batch of maps in one quantity."""
        self.add(window_errors(prediction, target, mask, self.divisions))
