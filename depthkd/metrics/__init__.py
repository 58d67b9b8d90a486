"""Metrics: a function and its torchmetrics class side by side."""

from depthkd.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
