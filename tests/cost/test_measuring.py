"""Latency, memory and the size at which a model is measured."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depthkd.batch import AFFINE_DISPARITY
from depthkd.cost import memory
from depthkd.cost.cost import counted, digits
from depthkd.cost.forward import Setting, forward_of
from depthkd.cost.latency import FEWEST, WARM_UP, latency
from depthkd.cost.memory import NotMeasuredError, growth_in_fresh_process, peak_memory, recipe
from depthkd.errors import UserError
from depthkd.models import DepthAnything, PromptDepthAnything
from depthkd.models.model import DepthModel, DepthOutput
from depthkd.models.wrapper import Wrapper
from tests.models.smallest import Level
from tests.models.test_prompt_depth_anything import prompt_depth_anything

CPU = torch.device("cpu")


class Wide(DepthModel):
    """Holds 64 MB beside its input for a moment."""

    space = AFFINE_DISPARITY
    multiple = 8

    def __init__(self, inner: object = None) -> None:
        super().__init__()

    def forward(self, image: Tensor) -> DepthOutput:
        return DepthOutput(F.pad(image[:, :1], (0, 0, 0, 0, 0, 31_250)).sum(1))

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        return iter(())


def test_latency_counts_runs_after_the_warm_up() -> None:
    runs: list[int] = []
    found = latency(lambda: runs.append(0), CPU, 7)
    assert len(runs) == WARM_UP + 7 and found.repeats == 7
    assert 0 < found.low <= found.median <= found.high
    assert latency(lambda: None, CPU, 100, most_seconds=0.0).repeats == FEWEST


@pytest.mark.parametrize("size", [(60, 60), (28, 41)])
def test_an_image_is_rounded_as_the_model_rounds_it(size: tuple[int, int]) -> None:
    model, setting = DepthAnything(size="tiny").eval(), Setting(size, CPU, batch_size=2)
    run = forward_of(model, setting)
    assert tuple(run.image.shape) == (2, 3, *model.rounded(*size))
    assert tuple(run().shape) == (2, *model.rounded(*size))
    assert setting.runs_at(model) == counted("tiny", model, setting).size == model.rounded(*size)
    half = forward_of(model, Setting(size, CPU, precision="bf16-mixed"))()
    assert half.dtype == torch.float32 and not torch.equal(half, run()[:1])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (0.0161, "0.0161"), (3.5324, "3.53"), (19.96, "20.0"), (99.96, "100.0"), (151.07, "151"),
        (12345.6, "12,346"), (1e-9, "0.000000"),
    ],
)  # fmt: skip
def test_three_digits_without_exponents(value: float, text: str) -> None:
    assert digits(value) == text


def test_a_model_that_resizes_runs_at_the_size_that_is_asked_for(tmp_path: Path) -> None:
    model = PromptDepthAnything(source=prompt_depth_anything(tmp_path / "pda")).eval()
    setting = Setting((28, 42), CPU)
    at, raw = setting.runs_at(model), forward_of(model, setting)()
    assert at is not None and tuple(raw.shape[-2:]) == at
    larger = Setting((56, 84), CPU)
    assert counted("a", model, larger).multiply_adds > counted("a", model, setting).multiply_adds  # type: ignore[operator]


class Completing(Level):
    """Gives the mean of the points."""

    takes_sparse_depth, chooses_size = True, False

    def predict_raw(self, image: Tensor) -> Tensor:
        raise UserError("no points are given")

    def predict_raw_with_sparse_depth(
        self, image: Tensor, sparse: Tensor, intrinsics: object = None
    ) -> Tensor:
        known = sparse > 0
        assert known.flatten(1).sum(1).tolist() == [500] * len(image)
        assert float(sparse[known].min()) >= 1 and float(sparse.max()) <= 10
        return sparse


def test_a_model_that_completes_depth_is_given_points() -> None:
    assert forward_of(Completing(), Setting((30, 40), CPU, batch_size=2))().shape == (2, 30, 40)


def test_a_size_that_only_the_model_knows_is_not_stated() -> None:
    assert counted("level", Level(), Setting((30, 30), CPU)).size is None


def test_memory_grows_by_what_a_forward_pass_holds() -> None:
    setting = Setting((8, 64), CPU)
    grown = growth_in_fresh_process(recipe(Wide()), setting, 1)
    if grown is None:
        pytest.skip("this machine does not tell the peak of memory")
    held = 31_250 * 8 * 64 * 4  # bytes
    assert 0.98 * held < grown < 1.2 * held


class Renamed(Wrapper):
    """Built with another model."""


@pytest.mark.long
def test_memory_in_a_fresh_process() -> None:
    model = Renamed(DepthAnything(size="tiny")).eval()
    model.predict_raw(torch.rand(1, 3, 56, 56))  # after which a network of transformers cannot be pickled
    small, large = (peak_memory(model, Setting((side, side), CPU), 1) for side in (56, 448))
    assert 4 * sum(p.numel() for p in model.parameters()) < small < large


def test_memory_that_is_not_known_is_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = Wide(lambda: None)
    with pytest.raises(NotMeasuredError, match=r"cannot be built again in a fresh process: .*lambda"):
        peak_memory(model, Setting((8, 8), CPU), 1)
    monkeypatch.setattr(memory, "RESET", tmp_path / "none")
    with pytest.raises(NotMeasuredError, match="only Linux"):
        peak_memory(model, Setting((8, 8), CPU), 1)
