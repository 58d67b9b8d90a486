"""Loss terms, one idea a file."""

from typing import TYPE_CHECKING

from depthkd.lazy import lazy_exports

if TYPE_CHECKING:
    from depthkd.losses.gradient import gradient_matching, normalized_gradient_matching
    from depthkd.losses.normalization import Normalization, distillation_loss, global_normalization

__all__ = [
    "Normalization",
    "distillation_loss",
    "global_normalization",
    "gradient_matching",
    "normalized_gradient_matching",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "Normalization": "normalization",
        "distillation_loss": "normalization",
        "global_normalization": "normalization",
        "gradient_matching": "gradient",
        "normalized_gradient_matching": "gradient",
    },
)
