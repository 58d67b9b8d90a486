"""Training methods, one paper a file."""

from typing import TYPE_CHECKING

from depthkd.lazy import lazy_exports

if TYPE_CHECKING:
    from depthkd.methods.depth_anything_v2 import SupervisedDepth, SupervisedWeights
    from depthkd.methods.distill_any_depth import AssistantGuided, CrossContextDistill, CrossContextWeights
    from depthkd.methods.fiffdepth import FiffDepthFeedForward, FiffDepthWeights
    from depthkd.methods.method import Method
    from depthkd.methods.optimization import Optimization

__all__ = [
    "AssistantGuided",
    "CrossContextDistill",
    "CrossContextWeights",
    "FiffDepthFeedForward",
    "FiffDepthWeights",
    "Method",
    "Optimization",
    "SupervisedDepth",
    "SupervisedWeights",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "AssistantGuided": "distill_any_depth",
        "CrossContextDistill": "distill_any_depth",
        "CrossContextWeights": "distill_any_depth",
        "FiffDepthFeedForward": "fiffdepth",
        "FiffDepthWeights": "fiffdepth",
        "Method": "method",
        "Optimization": "optimization",
        "SupervisedDepth": "depth_anything_v2",
        "SupervisedWeights": "depth_anything_v2",
    },
)
