"""Data sets as their owners ship them, one file each: layout, encoding, cameras and splits."""

from depthkd.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
