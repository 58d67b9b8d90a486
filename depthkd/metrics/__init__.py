"""Figures: a function and its torchmetrics class side by side."""

from typing import TYPE_CHECKING

from depthkd.lazy import lazy_exports

if TYPE_CHECKING:
    from depthkd.metrics.depth import (
        AbsoluteRelativeError,
        Delta1,
        Delta2,
        Delta3,
        DepthMetrics,
        InverseRootMeanSquaredError,
        Log10Error,
        MeanOverImages,
        RootMeanSquaredError,
        RootMeanSquaredLogError,
        ScaleInvariantLogError,
        SquaredRelativeError,
        depth_metrics,
    )

__all__ = [
    "AbsoluteRelativeError",
    "Delta1",
    "Delta2",
    "Delta3",
    "DepthMetrics",
    "InverseRootMeanSquaredError",
    "Log10Error",
    "MeanOverImages",
    "RootMeanSquaredError",
    "RootMeanSquaredLogError",
    "ScaleInvariantLogError",
    "SquaredRelativeError",
    "depth_metrics",
]

__getattr__ = lazy_exports(__name__, dict.fromkeys(__all__, "depth"))
