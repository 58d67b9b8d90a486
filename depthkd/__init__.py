"""Distill monocular depth networks from other depth networks.

What a script needs is here by name, and imported when it is first used: `from depthkd import load_model`.
"""

from depthkd.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
