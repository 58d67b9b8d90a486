"""Depth networks behind one interface."""

from typing import TYPE_CHECKING

from depthkd.lazy import lazy_exports

if TYPE_CHECKING:
    from depthkd.models.baselines import AlignedDepth, UnsharpMask
    from depthkd.models.depth_anything import DepthAnything
    from depthkd.models.diffusion import GenPercept, Lotus, Marigold
    from depthkd.models.dinov2 import Dinov2Features
    from depthkd.models.fiffdepth import FiffDepth
    from depthkd.models.frozen import Frozen
    from depthkd.models.genpercept_dpt import GenPerceptDPT
    from depthkd.models.huggingface import HuggingFaceDepth
    from depthkd.models.latent import LatentDepth
    from depthkd.models.metric import DepthPro, ZoeDepth
    from depthkd.models.model import DepthModel, DepthOutput, FeatureModel
    from depthkd.models.onnx import OnnxDepth
    from depthkd.models.random_scale import RandomScaleShift
    from depthkd.models.sharpdepth import SharpDepth
    from depthkd.models.timm_depth import TimmDepth
    from depthkd.models.torch_hub import Metric3D, UniDepth

__all__ = [
    "AlignedDepth",
    "DepthAnything",
    "DepthModel",
    "DepthOutput",
    "DepthPro",
    "Dinov2Features",
    "FeatureModel",
    "FiffDepth",
    "Frozen",
    "GenPercept",
    "GenPerceptDPT",
    "HuggingFaceDepth",
    "LatentDepth",
    "Lotus",
    "Marigold",
    "Metric3D",
    "OnnxDepth",
    "RandomScaleShift",
    "SharpDepth",
    "TimmDepth",
    "UniDepth",
    "UnsharpMask",
    "ZoeDepth",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "AlignedDepth": "baselines",
        "DepthAnything": "depth_anything",
        "DepthModel": "model",
        "DepthOutput": "model",
        "DepthPro": "metric",
        "Dinov2Features": "dinov2",
        "FeatureModel": "model",
        "FiffDepth": "fiffdepth",
        "Frozen": "frozen",
        "GenPercept": "diffusion",
        "GenPerceptDPT": "genpercept_dpt",
        "HuggingFaceDepth": "huggingface",
        "LatentDepth": "latent",
        "Lotus": "diffusion",
        "Marigold": "diffusion",
        "Metric3D": "torch_hub",
        "OnnxDepth": "onnx",
        "RandomScaleShift": "random_scale",
        "SharpDepth": "sharpdepth",
        "TimmDepth": "timm_depth",
        "UniDepth": "torch_hub",
        "UnsharpMask": "baselines",
        "ZoeDepth": "metric",
    },
)
