"""Windows of an image, blended into one map."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from depthkd.batch import AFFINE_DISPARITY
from depthkd.errors import UserError
from depthkd.models.frozen import Frozen
from depthkd.models.model import DepthModel, DepthOutput
from depthkd.models.windows import blend, smooth_weights
from depthkd.resolution import Resolution
from depthkd.shapes import Image
from depthkd.verbs.label.views import View, input_sizes, predict, resized

AT = Resolution.parse(32)


class Moody(DepthModel):
    """What is bright, with another scale and shift each time it is asked."""

    space = AFFINE_DISPARITY
    multiple = 8

    def __init__(self, by_itself: bool = False) -> None:
        super().__init__()
        self.chooses_size = by_itself
        self.times = 0

    def forward(self, image: Image) -> DepthOutput:
        self.times += 1
        return DepthOutput(image.mean(1) * self.times + 3 * self.times)

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        return self.parameters()


def waves(height: int = 96, width: int = 128) -> torch.Tensor:
    rows, columns = torch.linspace(0, 9, height), torch.linspace(0, 11, width)
    one = (rows.sin()[:, None] + columns.cos()) / 4 + 0.5
    return torch.stack([one, one**2, one.sqrt()])[None]


def seen(image: torch.Tensor, view: View, model: DepthModel) -> torch.Tensor:
    size = (image.shape[-2], image.shape[-1])
    inputs = resized(image, input_sizes(model, view, AT, *size))
    return predict(Frozen(lambda: model), inputs, None, size, view, AT, False, 0)


def test_blended_windows_are_one_map_without_seams() -> None:
    image, view, model = waves(), View("windows", 0.4, 0.3), Moody()
    found = seen(image, view, model)[0]
    size = (round(32 / 0.4), int(np.ceil(40 / 0.4)))
    assert tuple(found.shape) == size and model.times == 1 + 4 * 4
    expected = resized(image, [size])[0][0].mean(0)
    design = torch.stack([expected.flatten(), torch.ones(expected.numel())], 1).double()
    scale, shift = torch.linalg.lstsq(design, found.flatten().double()[:, None]).solution[:, 0]
    error = (found.double() - scale * expected - shift).abs() / (scale * (expected.max() - expected.min()))
    assert float(error.max()) < 0.02  # what fitting to the coarser map costs
    assert float((found.double() / scale - expected).diff(dim=0).abs().max()) < 0.002


def test_a_network_that_resizes_by_itself_sees_windows_of_the_image() -> None:
    model = Moody(by_itself=True)
    found = seen(waves(), View("windows", 0.5, 0.0), model)
    assert tuple(found.shape) == (1, 96, 128) and model.times == 1 + 4


def test_a_window_that_is_upside_down_or_empty_is_not_used() -> None:
    whole = torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(0))
    parts = [whole[:, :, :6] * 2 + 1, -whole[:, :, 2:]]
    torch.testing.assert_close(blend(whole, iter(parts), [(0, 0), (0, 2)]), whole)


def test_pixels_that_a_window_leaves_out_are_those_of_the_others_or_of_the_whole() -> None:
    whole = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(0))
    parts = [whole[:, :, :6] * 2 + 1, whole[:, :, 2:] * 3]
    parts[0][:, 3, 3:5], parts[1][:, 3, 1] = torch.nan, torch.inf  # of both at column 3, of one at column 4
    for coarseness in (1, 2):
        blended = blend(whole, iter(parts), [(0, 0), (0, 2)], coarseness)
        torch.testing.assert_close(blended, whole)
    empty = [torch.full_like(part, torch.nan) for part in parts]
    torch.testing.assert_close(blend(whole, iter(empty), [(0, 0), (0, 2)]), whole)


@pytest.mark.parametrize(
    ("window", "whole", "overlap"), [(8, 16, 0.5), (7, 23, 0.3), (5, 99, 0.9), (9, 10, 0)]
)
def test_windows_cover_the_whole_and_overlap_enough(window: int, whole: int, overlap: float) -> None:
    starts = [left for _, left in View("windows", 0.5, overlap).boxes((whole, window), (whole, whole))]
    assert starts[0] == 0 and starts[-1] == whole - window
    steps = np.diff(starts)
    assert (steps > 0).all() and (steps <= max(1, np.ceil(window * (1 - overlap)))).all()


def test_weights_are_smooth_and_never_nothing() -> None:
    weights = smooth_weights(6, 9)
    assert (weights > 0).all() and weights.argmax() in (22, 31)
    torch.testing.assert_close(weights, weights.flip(0).flip(1))


@pytest.mark.parametrize("options", [{"window": 1.0}, {"window": 0}, {"overlap": 1.0}, {"overlap": -0.1}])
def test_shares_that_cannot_be(options: dict[str, float]) -> None:
    with pytest.raises(UserError, match="is a share of"):
        View("windows", **options)
