"""Sparse depth: which pixels a sensor measures, and dense depth from them."""

from depthkd.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
