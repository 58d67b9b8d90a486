"""A teacher whose every answer has a scale and a shift of its own."""

import pytest
import torch

from depthkd.batch import AFFINE_DISPARITY, METRIC_DISPARITY
from depthkd.models import RandomScaleShift
from depthkd.models.dpt.depth_anything import DepthAnything


def images(count: int = 12) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, 16, 24), generator=generator).float() / 255


def network() -> DepthAnything:
    torch.manual_seed(0)
    return DepthAnything("tiny").eval()


@torch.no_grad()
def test_each_answer_is_the_other_model_s_scaled_and_shifted() -> None:
    model = RandomScaleShift(network(), scale=3.0, shift=2.0, seed=5).eval()
    plain, moved = model.model(images()), model(images())
    assert moved.features is not None
    torch.testing.assert_close(moved.features, plain.features)
    scale, shift = model.draw(images())
    assert 1 / 3 <= float(scale.min()) < 0.8 < 1.25 < float(scale.max()) <= 3
    assert -2 <= float(shift.min()) < -0.5 < 0.5 < float(shift.max()) <= 2
    for i, depth in enumerate(plain.depth):
        deviation = (depth - depth.median()).abs().mean()
        torch.testing.assert_close(moved.depth[i], scale[i] * (depth + shift[i] * deviation))


@torch.no_grad()
def test_what_is_drawn_depends_on_the_seed_and_the_pixels_alone() -> None:
    model = RandomScaleShift(network()).eval()
    first = model(images()).depth
    alone = torch.cat([model(one[None]).depth for one in images().flip(0)]).flip(0)
    torch.testing.assert_close(alone, first, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(RandomScaleShift(network()).eval()(images()).depth, first)
    other = RandomScaleShift(network(), seed=1).draw(images())
    assert not any(torch.equal(a, b) for a, b in zip(other, model.draw(images()), strict=True))


def test_it_says_what_it_is() -> None:
    metric = network()
    metric.space = METRIC_DISPARITY
    model = RandomScaleShift(metric)
    assert model.space == AFFINE_DISPARITY and model.multiple == metric.multiple
    assert (model.feature_channels, model.feature_family) == (48, "dinov2")
    assert model.companions() == [metric] and "random scale and shift" in model.source
    for arguments in ({"scale": 0.5}, {"shift": -1.0}):
        with pytest.raises(ValueError, match="a scale of 1 or more and a shift of 0 or more"):
            RandomScaleShift(metric, **arguments)
