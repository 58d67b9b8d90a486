"""Figures: a function and its torchmetrics class side by side."""

from typing import TYPE_CHECKING

from depthkd.lazy import lazy_exports

if TYPE_CHECKING:
    from depthkd.metrics.boundary import BoundaryF1, BoundaryRecall, boundary_f1, boundary_recall
    from depthkd.metrics.depth import (
        AbsoluteRelativeError,
        Delta1,
        Delta2,
        Delta3,
        DeltaAccuracy,
        DepthMetrics,
        InverseRootMeanSquaredError,
        Log10Error,
        RootMeanSquaredError,
        RootMeanSquaredLogError,
        ScaleInvariantLogError,
        SquaredRelativeError,
        depth_metrics,
    )
    from depthkd.metrics.edges import (
        BoundaryErrors,
        PseudoBoundaryErrors,
        boundary_errors,
        pseudo_boundary_errors,
    )
    from depthkd.metrics.magnitude import OutputMagnitude, output_magnitude
    from depthkd.metrics.mean import MeanOverImages
    from depthkd.metrics.ordinal import PairAccuracy, closer_is_first
    from depthkd.metrics.planarity import PlanarityErrors, planarity_errors
    from depthkd.metrics.windows import WindowErrors, window_errors

__all__ = [
    "AbsoluteRelativeError",
    "BoundaryErrors",
    "BoundaryF1",
    "BoundaryRecall",
    "Delta1",
    "Delta2",
    "Delta3",
    "DeltaAccuracy",
    "DepthMetrics",
    "InverseRootMeanSquaredError",
    "Log10Error",
    "MeanOverImages",
    "OutputMagnitude",
    "PairAccuracy",
    "PlanarityErrors",
    "PseudoBoundaryErrors",
    "RootMeanSquaredError",
    "RootMeanSquaredLogError",
    "ScaleInvariantLogError",
    "SquaredRelativeError",
    "WindowErrors",
    "boundary_errors",
    "boundary_f1",
    "boundary_recall",
    "closer_is_first",
    "depth_metrics",
    "output_magnitude",
    "planarity_errors",
    "pseudo_boundary_errors",
    "window_errors",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "AbsoluteRelativeError": "depth",
        "BoundaryErrors": "edges",
        "BoundaryF1": "boundary",
        "BoundaryRecall": "boundary",
        "Delta1": "depth",
        "Delta2": "depth",
        "Delta3": "depth",
        "DeltaAccuracy": "depth",
        "DepthMetrics": "depth",
        "InverseRootMeanSquaredError": "depth",
        "Log10Error": "depth",
        "MeanOverImages": "mean",
        "OutputMagnitude": "magnitude",
        "PairAccuracy": "ordinal",
        "PlanarityErrors": "planarity",
        "PseudoBoundaryErrors": "edges",
        "RootMeanSquaredError": "depth",
        "RootMeanSquaredLogError": "depth",
        "ScaleInvariantLogError": "depth",
        "SquaredRelativeError": "depth",
        "WindowErrors": "windows",
        "boundary_errors": "edges",
        "boundary_f1": "boundary",
        "boundary_recall": "boundary",
        "closer_is_first": "ordinal",
        "depth_metrics": "depth",
        "output_magnitude": "magnitude",
        "planarity_errors": "planarity",
        "pseudo_boundary_errors": "edges",
        "window_errors": "windows",
    },
)
