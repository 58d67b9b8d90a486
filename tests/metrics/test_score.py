"""A protocol's fit, clipping and metrics at full size, against the NumPy that our speed is measured with."""

import numpy as np
import pytest
import torch

from depthkd.batch import AFFINE_DISPARITY, METRIC_DEPTH
from depthkd.metrics.catalogue import FORMULAS
from tests.metrics.test_depth import agree
from tests.speed.metrics import MARIGOLD, fitted_pixels, images


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_score_equals_float64_to_1e_6(batch: int, scale: float) -> None:
    data = [((p * np.float32(scale)), t, m) for p, t, m in images(batch)]
    for prediction, truth, _ in data:
        prediction[240, 300:310] = 0.0  # left out of the fit
        truth[200, 100:110] = 11.0  # out of range
    p, t, m = (torch.from_numpy(np.stack(maps)) for maps in zip(*data, strict=True))
    scores = MARIGOLD.score(p, AFFINE_DISPARITY, t, METRIC_DEPTH, m)
    again = MARIGOLD.compare(MARIGOLD.aligned(p, AFFINE_DISPARITY, t, METRIC_DEPTH, m), t, METRIC_DEPTH, m)
    assert list(scores) == list(FORMULAS)
    for i, maps in enumerate(data):
        depth, truth = (torch.from_numpy(pixels)[None, None] for pixels in fitted_pixels(maps))
        for name, values in scores.items():
            agree(name, values[i : i + 1], depth, truth, truth > 0)
            assert again[name][i] == values[i]


def test_a_nan_breaks_its_image_alone() -> None:
    p, t, m = (torch.from_numpy(np.stack(maps)) for maps in zip(*images(2), strict=True))
    clean = MARIGOLD.score(p, AFFINE_DISPARITY, t, METRIC_DEPTH, m)
    p[0, 240, 0], m[0, 240, 0] = torch.nan, True
    broken = MARIGOLD.score(p, AFFINE_DISPARITY, t, METRIC_DEPTH, m)
    for name, values in broken.items():
        assert values[0] == (0.0 if name.startswith("delta") else torch.inf)
        assert values[1] == pytest.approx(clean[name][1].item(), rel=1e-7)
