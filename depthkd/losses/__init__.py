"""Loss terms, one idea a file."""

from typing import TYPE_CHECKING

from depthkd.lazy import lazy_exports

if TYPE_CHECKING:
    from depthkd.losses.anchor import magnitude_anchor
    from depthkd.losses.disagreement import (
        agreement_weighted_mean,
        aligned_difference,
        relative_disagreement,
    )
    from depthkd.losses.features import feature_alignment_loss, resample_tokens
    from depthkd.losses.gradient import gradient_matching, normalized_gradient_matching
    from depthkd.losses.normalization import Normalization, distillation_loss, global_normalization
    from depthkd.losses.scale_invariant_log import scale_invariant_log_loss

__all__ = [
    "Normalization",
    "agreement_weighted_mean",
    "aligned_difference",
    "distillation_loss",
    "feature_alignment_loss",
    "global_normalization",
    "gradient_matching",
    "magnitude_anchor",
    "normalized_gradient_matching",
    "relative_disagreement",
    "resample_tokens",
    "scale_invariant_log_loss",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "Normalization": "normalization",
        "agreement_weighted_mean": "disagreement",
        "aligned_difference": "disagreement",
        "distillation_loss": "normalization",
        "feature_alignment_loss": "features",
        "global_normalization": "normalization",
        "gradient_matching": "gradient",
        "magnitude_anchor": "anchor",
        "normalized_gradient_matching": "gradient",
        "relative_disagreement": "disagreement",
        "resample_tokens": "features",
        "scale_invariant_log_loss": "scale_invariant_log",
    },
)
