import copy
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from depthkd.batch import AFFINE_DISPARITY
from depthkd.models import DepthModel, DepthOutput, Frozen
from depthkd.models.model import Image


class Moody(DepthModel):
    """A teacher whose answer depends on its mode, its neighbours and chance, if it is let."""

    space = AFFINE_DISPARITY

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Conv2d(4, 1, 1)
        )

    def forward(self, image: Image) -> DepthOutput:
        depth = self.layers(image)[:, 0]
        return DepthOutput(depth, depth.flatten(1)[..., None])

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        return self.layers[0].parameters()


class Student(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.own = nn.Linear(2, 2)
        self.teacher = Frozen(Moody)


def images() -> torch.Tensor:
    return torch.rand(4, 3, 12, 16, generator=torch.Generator().manual_seed(0))


def test_the_teacher_is_no_part_of_its_holder() -> None:
    student = Student()
    assert list(student.state_dict()) == ["own.weight", "own.bias"]
    assert len(list(student.parameters())) == 2
    assert [type(m) for m in student.modules()] == [Student, nn.Linear]


def test_a_deep_copy_of_the_holder_shares_the_teacher() -> None:
    student = Student()
    twin = copy.deepcopy(student)
    assert twin.own is not student.own
    assert twin.teacher is student.teacher


def test_the_holder_cannot_switch_the_teacher_to_training() -> None:
    student = Student().train()
    assert not any(module.training for module in student.teacher.model.modules())
    buffers = [b.clone() for b in student.teacher.model.buffers()]
    first, second = student.teacher(images()), student.teacher(images())
    assert torch.equal(first.depth, second.depth)
    assert all(torch.equal(a, b) for a, b in zip(buffers, student.teacher.model.buffers(), strict=True))


def test_nothing_carries_gradients() -> None:
    teacher = Frozen(Moody)
    output = teacher(images().requires_grad_())
    assert not output.depth.requires_grad
    assert output.features is not None
    assert not output.features.requires_grad
    assert not any(p.requires_grad for p in teacher.model.parameters())


def test_labels_can_enter_a_loss() -> None:
    """Inference tensors could not: autograd refuses to save them."""
    weight = torch.ones((), requires_grad=True)
    (weight * Frozen(Moody)(images()).depth).sum().backward()
    assert weight.grad is not None


def test_a_batch_answers_as_single_images_do() -> None:
    teacher = Frozen(Moody)
    with torch.no_grad():
        for parameter in teacher.model.parameters():
            parameter.normal_()
    batched = teacher(images()).depth
    single = torch.cat([teacher(image[None]).depth for image in images()])
    torch.testing.assert_close(batched, single, atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_inside_float32_outside(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    teacher = Frozen(Moody)
    half = Frozen(lambda: copy.deepcopy(teacher.model), dtype=dtype)
    assert {p.dtype for p in half.model.parameters()} == {dtype}
    expected, output = teacher(images()), half(images())
    assert output.depth.dtype == torch.float32
    assert output.features is not None
    assert output.features.dtype == torch.float32
    assert not torch.equal(output.depth, expected.depth)
    torch.testing.assert_close(output.depth, expected.depth, atol=0.03, rtol=0)


def test_autocast_around_it_does_not_change_its_precision() -> None:
    teacher = Frozen(Moody)
    expected = teacher(images()).depth
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(teacher(images()).depth, expected)
