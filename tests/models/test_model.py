from collections.abc import Iterator

import pytest
import torch
from torch import nn

from depthkd.batch import METRIC_DEPTH
from depthkd.models import DepthModel, DepthOutput
from depthkd.models.model import Image


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
