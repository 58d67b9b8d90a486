"""Models that complete sparse depth: equal to what they are made of, refusing what they cannot complete."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from depthkd.batch import AFFINE_DISPARITY
from depthkd.errors import UserError
from depthkd.formats.sample import Sample
from depthkd.models import AlignedToPoints, DepthCompletion, Frozen, InterpolatedPoints
from depthkd.models.completion.completion import guidance, refined
from depthkd.models.inference import Inference, WrongPredictionError, infer_sample
from depthkd.models.model import DepthModel, DepthOutput
from depthkd.sparse_depth import align_to_points, interpolate_points


class Brightness(DepthModel):
    """Disparity is the mean of the colors."""

    space, multiple = AFFINE_DISPARITY, 4

    def forward(self, image: Tensor) -> DepthOutput:
        return DepthOutput(self.fit_input(image).mean(1))

    def encoder_parameters(self) -> Any:
        return self.parameters()


def view(points: int = 40, batch: int = 2, size: tuple[int, int] = (24, 30)) -> tuple[Tensor, Tensor, Tensor]:
    """Images, the depth that they show, and points of it."""
    generator = torch.Generator().manual_seed(points)
    noise = torch.rand(batch, 3, *size, generator=generator) / 9
    image = 0.2 + 0.5 * torch.linspace(0, 1, size[1]) + noise
    depth = 2 / (0.3 + image.mean(1))
    sparse = torch.zeros_like(depth).flatten(1)
    places = torch.stack(
        [torch.randperm(sparse.shape[1], generator=generator)[:points] for _ in range(batch)]
    )
    sparse.scatter_(1, places, depth.flatten(1).gather(1, places))
    return image, depth, sparse.view_as(depth)


def completion(**options: Any) -> DepthCompletion:
    torch.manual_seed(0)
    return DepthCompletion(Brightness, **{"widths": (8, 16), **options})


def stirred(model: DepthCompletion) -> DepthCompletion:
    """With a head that is not 0."""
    torch.nn.init.normal_(model.network.head.weight, std=0.1)
    return model.eval()


def test_rows_without_training_are_the_functions_of_that_name() -> None:
    image, _, sparse = view()
    for how in ("nearest", "linear", "linear_disparity"):
        found = InterpolatedPoints(how).predict(image, sparse=sparse)  # type: ignore[arg-type]
        torch.testing.assert_close(found, interpolate_points(sparse, how))  # type: ignore[arg-type]
    relative = Brightness().predict(image)
    for fit in ("least_squares", "robust", "local", "residuals"):
        found = AlignedToPoints(Brightness(), fit).predict(image, sparse=sparse)  # type: ignore[arg-type]
        expected = align_to_points(relative, AFFINE_DISPARITY, sparse, fit)  # type: ignore[arg-type]
        torch.testing.assert_close(found, expected)


def test_before_training_completion_is_the_aligned_depth() -> None:
    image, _, sparse = view()
    torch.testing.assert_close(
        completion().predict(image, sparse=sparse),
        AlignedToPoints(Brightness(), "local").predict(image, sparse=sparse),
    )


def test_completion_reaches_the_linear_interpolation_and_stays_near_the_aligned_depth() -> None:
    image, _, sparse = view()
    model = completion()
    aligned, single = model.aligned(image, sparse)
    to_linear = guidance(image, sparse, aligned, single)[:, -1]
    torch.testing.assert_close(aligned * to_linear.exp(), interpolate_points(sparse, "linear"))
    nothing, whole = torch.zeros_like(aligned), torch.ones_like(aligned)
    near = to_linear.abs() < 0.1  # where the bound changes little
    found = refined(aligned, to_linear, nothing, whole)
    torch.testing.assert_close(found[near], (aligned * to_linear.exp())[near], rtol=1e-3, atol=0)
    assert (refined(aligned, to_linear, nothing + 99, whole) <= aligned * 7.4).all()
    with torch.no_grad():
        bias = model.network.head.bias
        assert bias is not None
        bias[:] = torch.tensor([0.0] * 4 + [1.0] * 4)  # of all pixels: no residual, the whole way
    torch.testing.assert_close(model.predict(image, sparse=sparse), found)


@pytest.mark.parametrize("size", [(24, 30), (17, 41), (5, 3)])
def test_any_size_and_any_unit_of_depth(size: tuple[int, int]) -> None:
    image, _, sparse = view(9, size=size)
    model = stirred(completion())
    found = model.predict(image, sparse=sparse)
    assert found.shape == sparse.shape
    assert (found > 0).all()
    assert not torch.equal(found, completion().predict(image, sparse=sparse))
    torch.testing.assert_close(model.predict(image, sparse=1000 * sparse), 1000 * found, rtol=2e-3, atol=1e-3)


def test_an_image_does_not_depend_on_those_beside_it() -> None:
    image, _, sparse = view()
    sparse[1, :, 9:] = 0
    model = stirred(completion())
    both = model.predict(image, sparse=sparse)
    each = torch.cat([model.predict(image[i : i + 1], sparse=sparse[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(both, each, rtol=1e-4, atol=1e-4)


def test_the_relative_model_is_no_part_of_the_weights_and_does_not_learn() -> None:
    model = completion()
    image, _, sparse = view()
    model.train()
    model.complete(image, sparse).sum().backward()
    head = model.network.head.weight.grad
    assert head is not None and head.abs().sum() > 0
    assert all(name.startswith("network.") for name in model.state_dict())
    assert list(model.head_parameters()) == list(model.parameters())
    assert isinstance(model.relative, Frozen)
    assert [type(one) for one in model.companions()] == [Brightness]


def test_gradients_are_those_of_differences() -> None:
    image, depth, sparse = (x[:1] for x in view(9, size=(6, 7)))
    model = stirred(completion(widths=(8,)))
    inputs = guidance(image, sparse, *model.aligned(image, sparse)).double()
    model.double()

    def loss(bias: Tensor) -> Tensor:
        residual, share = torch.func.functional_call(model.network, {"head.bias": bias}, (inputs,)).unbind(1)
        aligned = depth.double() * 1.1
        return (refined(aligned, inputs[:, -1], residual, share) - depth.double()).abs().sum()

    bias = model.network.head.bias
    assert bias is not None
    assert torch.autograd.gradcheck(loss, (bias.detach().requires_grad_(),))


def test_points_matter_and_few_of_them_give_depth() -> None:
    image = view()[0]
    for count in (1, 2, 10):
        _, _, sparse = view(count)
        for model in (stirred(completion()), AlignedToPoints(Brightness()), InterpolatedPoints("linear")):
            found = model.predict(image, sparse=sparse)
            assert found.isfinite().all() and (found > 0).all()
    few, many = (
        (AlignedToPoints(Brightness()).predict(view(n)[0], sparse=view(n)[2]) - view(n)[1]).abs().mean()
        for n in (2, 60)
    )
    assert many < few


@pytest.mark.parametrize(
    "model",
    [completion(), AlignedToPoints(Brightness()), InterpolatedPoints()],
    ids=lambda m: type(m).__name__,
)
def test_no_points_are_refused_in_a_sentence(model: DepthModel) -> None:
    image, _, sparse = view()
    with pytest.raises(UserError, match="given none beside the image"):
        model.predict(image)
    sparse[1] = 0
    with pytest.raises(UserError, match="no pixel has a measured depth"):
        model.predict(image, sparse=sparse)
    picture = np.zeros((24, 30, 3), np.uint8)
    sample = Sample("a", picture, sparse=np.zeros((24, 30), np.float32))
    with pytest.raises(WrongPredictionError, match="no pixel"):
        infer_sample(model, sample, Inference(), torch.device("cpu"))


def test_unknown_names_are_refused_with_those_that_exist() -> None:
    fits = "least_squares, robust, local, residuals"
    with pytest.raises(UserError, match=fits):
        AlignedToPoints(Brightness(), "lokal")  # type: ignore[arg-type]
    with pytest.raises(UserError, match=fits):
        DepthCompletion(fit="lokal")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="nearest, linear, linear_disparity"):
        InterpolatedPoints("cubic")  # type: ignore[arg-type]


def test_a_missing_relative_model_and_wrong_numbers_are_refused() -> None:
    image, _, sparse = view()
    with pytest.raises(UserError, match="give `relative`"):
        DepthCompletion(widths=(8,)).predict(image, sparse=sparse)
    for options in (
        {"widths": (12,)},
        {"widths": ()},
        {"beyond": 0.5},
        {"shrinkage": -1.0},
        {"neighbors": 0},
    ):
        with pytest.raises(UserError):
            completion(**options)
    with pytest.raises(UserError, match="nearest"):
        InterpolatedPoints("cubic")  # type: ignore[arg-type]
