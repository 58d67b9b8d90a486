"""Training methods, one paper a file."""

from typing import TYPE_CHECKING

from depthkd.lazy import lazy_exports

if TYPE_CHECKING:
    from depthkd.methods.depth_anything_v2 import MetricFineTune, SupervisedDepth, SupervisedWeights
    from depthkd.methods.distill_any_depth import AssistantGuided, CrossContextDistill, CrossContextWeights
    from depthkd.methods.fiffdepth import FiffDepthFeedForward, FiffDepthWeights
    from depthkd.methods.latent_diffusion import LatentDiffusion, LatentDiffusionWeights
    from depthkd.methods.method import Method
    from depthkd.methods.optimization import Optimization
    from depthkd.methods.sharpdepth import SharpDepthRefiner, SharpDepthWeights

__all__ = [
    "AssistantGuided",
    "CrossContextDistill",
    "CrossContextWeights",
    "FiffDepthFeedForward",
    "FiffDepthWeights",
    "LatentDiffusion",
    "LatentDiffusionWeights",
    "Method",
    "MetricFineTune",
    "Optimization",
    "SharpDepthRefiner",
    "SharpDepthWeights",
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
        "LatentDiffusion": "latent_diffusion",
        "LatentDiffusionWeights": "latent_diffusion",
        "Method": "method",
        "MetricFineTune": "depth_anything_v2",
        "Optimization": "optimization",
        "SharpDepthRefiner": "sharpdepth",
        "SharpDepthWeights": "sharpdepth",
        "SupervisedDepth": "depth_anything_v2",
        "SupervisedWeights": "depth_anything_v2",
    },
)
