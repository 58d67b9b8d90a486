"""Names of the shapes that many functions take: tensors in batches, and arrays of one image."""

import numpy as np
from jaxtyping import Bool, Float, Float32
from torch import Tensor

Image = Float[Tensor, "batch 3 height width"]
"""RGB in [0, 1]."""
Map = Float[Tensor, "batch height width"]
"""Depth or disparity, one map an image."""
Mask = Bool[Tensor, "batch height width"]
"""Where a map counts."""
PerImage = Float[Tensor, " batch"]
"""One value an image."""
OneMap = Float[Tensor, "1 height width"]
"""A map of one image."""

ArrayMap = Float[np.ndarray, "height width"]
"""A map of one image, in any precision."""
DepthArray = Float32[np.ndarray, "height width"]
"""The depth or disparity of one image, as files hold it."""
MaskArray = Bool[np.ndarray, "height width"]
"""Where it counts."""
