"""A model of a user's own that was written for version 0.1 still works, and is told what to rename."""

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from depthkd.batch import METRIC_DEPTH
from depthkd.models.model import DepthModel, DepthOutput
from depthkd.models.renamed import RENAMED
from depthkd.models.wrapper import Wrapper
from tests.models.smallest import Level


def old() -> type[DepthModel]:
    class Old(DepthModel):
        space = METRIC_DEPTH
        licence = "mit"
        own_size = True

        def __init__(self) -> None:
            super().__init__()
            self.half_but_head = True

        def forward(self, image: Tensor) -> DepthOutput:
            return DepthOutput(image[:, 0])

        def answer(self, image: Tensor) -> Any:
            return 2 * super().answer(image)  # type: ignore[misc]

        def restore(self, answer: Tensor, size: tuple[int, int]) -> Any:
            return super().restore(answer, size) + 1  # type: ignore[misc]

        def encoder_parameters(self) -> Any:
            return iter(nn.ParameterList())

    return Old


def test_overrides_of_old_names_count_and_warn() -> None:
    with pytest.warns(FutureWarning) as told:
        kind = old()
    said = {str(warning.message) for warning in told}
    assert "Old.answer is called predict_raw since version 0.2; the old name goes with 0.3" in said
    assert len(said) == 4
    with pytest.warns(FutureWarning, match="Old.half_but_head is called keeps_head_fp32"):
        model = kind()
    image = torch.rand(1, 3, 4, 6)
    with pytest.warns(FutureWarning, match=r"Old\.(answer|restore) is called"):
        torch.testing.assert_close(model.predict(image), 2 * image[:, 0] + 1)
    assert (model.license, model.chooses_size, model.keeps_head_fp32) == ("mit", True, True)
    with pytest.warns(FutureWarning, match="Old.answer is called predict_raw"):
        torch.testing.assert_close(model.answer(image), 2 * image[:, 0])
    assert Wrapper(model).license == "mit"


def test_an_old_name_in_a_mixin_counts() -> None:
    class Mixin:
        licence = "mit"

        def answer(self, image: Tensor) -> Tensor:
            return torch.full_like(image[:, 0], 7.0)

    with pytest.warns(FutureWarning) as told:

        class Mixed(Mixin, Level):
            pass

    assert len(told) == 2

    with warnings.catch_warnings():
        warnings.simplefilter("error")

        class Renamed(Mixed):  # its new name comes before the old one
            def predict_raw(self, image: Tensor) -> Tensor:
                return torch.full_like(image[:, 0], 8.0)

    image = torch.rand(1, 3, 2, 2)
    assert (Mixed().predict(image) == 7).all() and Mixed().license == "mit"
    assert (Renamed().predict(image) == 8).all()


def test_old_names_can_be_asked_for() -> None:
    model = Level(3.0)
    for name, new in RENAMED.items():
        if not callable(getattr(model, new)):
            with pytest.warns(FutureWarning, match=f"Level.{name} is called {new}"):
                assert getattr(model, name) == getattr(model, new)
    with pytest.warns(FutureWarning, match="Level.answer is called predict_raw"):
        assert (model.answer(torch.rand(1, 3, 2, 2)) == 3.0).all()
    with pytest.raises(AttributeError, match="nothing"):
        _ = model.nothing


def test_todays_names_do_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Level(2.0).predict(torch.rand(1, 3, 2, 2)).shape == (1, 2, 2)
