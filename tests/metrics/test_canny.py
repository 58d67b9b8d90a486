"""Our Canny is scikit-image's, to the last pixel."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.feature import canny

from depthkd.metrics.canny import canny_edges
from tests.metrics.test_edges import steps

RNG = np.random.default_rng(0)
ROWS, COLUMNS = np.mgrid[:50, :70]
IMAGES = {
    "noise": RNG.random((50, 70)),
    "smooth": gaussian_filter(RNG.random((90, 64)), 2.5),
    "steps": steps(0) / 9.0,
    "exact ties": (COLUMNS > 30).astype(np.float64),
    "exact ties, diagonal": (ROWS + COLUMNS > 60).astype(np.float64),
    "a square": ((abs(ROWS - 25) < 9) & (abs(COLUMNS - 35) < 9)).astype(np.float64),
    "at the border": (COLUMNS < 2).astype(np.float64),
    "a ramp": COLUMNS / 70.0,
    "constant": np.ones((20, 30)),
    "waves": 0.5 + 0.5 * np.sin(ROWS / 3.0) * np.cos(COLUMNS / 4.0),
}


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("low", [0.02, 0.1])
@pytest.mark.parametrize("sigma", [2**0.5, 1.0])
@pytest.mark.parametrize("name", IMAGES)
def test_equals_scikit_image(name: str, sigma: float, low: float, kind: type[np.floating]) -> None:
    image = IMAGES[name].astype(kind)
    image = (image - image.min()) / (np.ptp(image) or kind(1))
    expected = canny(image, sigma, low, 2 * low)
    np.testing.assert_array_equal(canny_edges(image, sigma, low, 2 * low), expected)
    assert expected.any() or name in ("constant", "a ramp", "at the border", "waves", "smooth")
