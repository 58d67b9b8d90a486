"""Depth networks behind one interface."""

from typing import TYPE_CHECKING

from depthkd.lazy import lazy_exports

if TYPE_CHECKING:
    from depthkd.models.depth_anything import DepthAnything
    from depthkd.models.frozen import Frozen
    from depthkd.models.huggingface import HuggingFaceDepth
    from depthkd.models.model import DepthModel, DepthOutput
    from depthkd.models.onnx import OnnxDepth

__all__ = ["DepthAnything", "DepthModel", "DepthOutput", "Frozen", "HuggingFaceDepth", "OnnxDepth"]

__getattr__ = lazy_exports(
    __name__,
    {
        "DepthAnything": "depth_anything",
        "DepthModel": "model",
        "DepthOutput": "model",
        "Frozen": "frozen",
        "HuggingFaceDepth": "huggingface",
        "OnnxDepth": "onnx",
    },
)
