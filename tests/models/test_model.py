from collections.abc import Iterator

import pytest
import torch
from torch import nn

from depthkd.batch import METRIC_DEPTH
from depthkd.models import DepthModel, DepthOutput
from depthkd.models.model import RawPrediction, resize_map
from depthkd.shapes import Image


class Mean(DepthModel):
    """Answers with the mean of RGB, and remembers the sizes and modes in which it ran."""

    space = METRIC_DEPTH

    def __init__(self, multiple: int = 1, fixed_size: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.multiple, self.fixed_size = multiple, fixed_size
        self.encoder, self.head = nn.Linear(1, 1), nn.Linear(1, 1)
        self.seen: list[tuple[int, int, bool]] = []

    def forward(self, image: Image) -> DepthOutput:
        image = self.fit_input(image)
        self.seen.append((*image.shape[-2:], self.training))
        return DepthOutput(image.mean(1))

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        return self.encoder.parameters()


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(70, 140, (70, 140)), (75, 79, (70, 84)), (3, 5, (14, 14)), (90, 600, (84, 602))],
)
def test_sides_round_to_the_nearest_multiple_and_never_to_nothing(
    height: int, width: int, expected: tuple[int, int]
) -> None:
    assert Mean(14).rounded(height, width) == expected


def test_a_fixed_size_wins() -> None:
    model = Mean(14, (24, 32))
    assert model(torch.rand(1, 3, 50, 50)).depth.shape == (1, 24, 32)


def test_predict_restores_the_size_the_mode_and_float32() -> None:
    model = Mean(8).train()
    depth = model.predict(torch.rand(2, 3, 45, 67).double())
    assert (depth.shape, depth.dtype) == ((2, 45, 67), torch.float32)
    assert model.seen == [(48, 64, False)]
    assert model.training


@pytest.mark.parametrize(("shape", "ran_at"), [((60, 90), (32, 48)), ((90, 60), (48, 32))])
def test_the_resolution_is_the_shorter_side(shape: tuple[int, int], ran_at: tuple[int, int]) -> None:
    model = Mean(8)
    assert model.predict(torch.rand(1, 3, *shape), resolution=32).shape[-2:] == shape
    assert model.seen == [(*ran_at, False)]


def test_predict_leaves_the_values_in_place() -> None:
    """A ramp stays that ramp through the resize to the multiple and back."""
    ramp = torch.linspace(0.1, 0.9, 50).view(1, 1, 1, 50).expand(1, 3, 40, 50)
    depth = Mean(16).predict(ramp)
    torch.testing.assert_close(depth[:, :, 4:-4], ramp[:, 0, :, 4:-4], atol=0.01, rtol=0)


@pytest.mark.parametrize(
    ("resolution", "scale", "ran_at"),
    [(None, 2.0, (80, 128)), (32, 2.0, (64, 104)), (32, 1.0, (32, 48)), (None, 0.6, (24, 40))],
)
def test_the_scale_multiplies_the_side_at_which_it_runs(
    resolution: int | None, scale: float, ran_at: tuple[int, int]
) -> None:
    model = Mean(8)
    image = torch.rand(1, 3, 40, 64)
    assert model.infer(image, resolution, scale).shape == (1, *ran_at)
    assert model.predict(image, resolution, scale).shape == (1, 40, 64)
    assert model.seen == [(*ran_at, False)] * 2


def test_a_scale_of_nothing_is_refused() -> None:
    for scale in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match=r"must be above 0, not"):
            Mean().infer(torch.rand(1, 3, 8, 8), scale=scale)


def test_a_fixed_size_is_kept_at_any_resolution_and_scale() -> None:
    model = Mean(14, (24, 32))
    assert model.infer(torch.rand(1, 3, 50, 50), resolution=100, scale=4.0).shape == (1, 24, 32)


class Ramp(Mean):
    """Adds a ramp from left to right, as a network does that has learned where things are."""

    def forward(self, image: Image) -> DepthOutput:
        depth = super().forward(image).depth
        return DepthOutput(depth + torch.linspace(0, 1, depth.shape[-1]))


def test_flips_are_averaged_at_the_size_of_the_network() -> None:
    model, image = Ramp(8), torch.rand(2, 3, 40, 64)
    plain, mirrored = model.infer(image, 24), model.infer(image.flip(-1), 24)
    flipped = model.infer(image, 24, flip=True)
    assert flipped.shape == (2, 24, 40)
    torch.testing.assert_close(flipped, (plain + mirrored.flip(-1)) / 2)
    torch.testing.assert_close(model.predict(image, 24, flip=True), resize_map(flipped, (40, 64)))
    assert not torch.allclose(flipped, plain, atol=0.1)


def test_flipping_a_symmetric_image_changes_nothing() -> None:
    half = torch.rand(1, 3, 16, 12)
    image = torch.cat([half, half.flip(-1)], dim=-1)
    model = Mean(8)
    torch.testing.assert_close(model.predict(image, flip=True), model.predict(image))
    assert len(model.seen) == 3


class Reciprocal(Mean):
    """Answers in another quantity than its space, and knows how to read that."""

    def predict_raw(self, image: Image) -> RawPrediction:
        return 1 / (1 + self(image).depth)

    def resize_to(self, raw: RawPrediction, size: tuple[int, int]) -> RawPrediction:
        return 1 / resize_map(raw, size) - 1


def test_what_a_network_answers_is_restored_by_the_model() -> None:
    model, image = Reciprocal(8), torch.rand(1, 3, 16, 16)
    answer = model.infer(image)
    torch.testing.assert_close(model.resize_to(answer, (16, 16)), model.predict(image))
    torch.testing.assert_close(model.predict(image), image.mean(1))


def test_predict_restores_the_mode_after_a_failure() -> None:
    def refuse(module: nn.Module, inputs: object) -> None:
        raise RuntimeError("no room")

    model = Mean().train()
    model.register_forward_pre_hook(refuse)
    with pytest.raises(RuntimeError, match="no room"):
        model.predict(torch.rand(1, 3, 8, 8))
    assert model.training


def test_head_parameters_are_the_rest() -> None:
    model = Mean()
    assert {id(p) for p in model.head_parameters()} == {id(p) for p in model.head.parameters()}


def test_a_model_that_says_nothing_has_no_features_to_align() -> None:
    model = Mean()
    assert model(torch.rand(1, 3, 8, 8)).features is None
    assert model.feature_channels is None
