import copy
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import nn

from depthkd.batch import AFFINE_DISPARITY
from depthkd.errors import UserError
from depthkd.methods import CrossContextDistill
from depthkd.models import DepthAnything, DepthModel, DepthOutput, Frozen
from depthkd.shapes import Image


class Moody(DepthModel):
    """A teacher whose answer depends on its mode, its neighbors and chance, if it is let."""

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


def images(height: int = 12, width: int = 16) -> torch.Tensor:
    return torch.rand(4, 3, height, width, generator=torch.Generator().manual_seed(0))


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


def test_half_precision_stops_at_the_head() -> None:
    """A network that keeps its head in float32 runs the rest in half precision, another one nothing."""
    torch.manual_seed(0)
    network = DepthAnything("tiny")
    torch.nn.init.normal_(network.network.head.conv3.bias, mean=3.0)  # random heads answer 0
    seen: list[torch.dtype] = []
    network.network.neck.register_forward_hook(lambda *_: seen.append(_[2][-1].dtype))
    image = images(64, 64)
    expected = Frozen(lambda: network)(image).depth
    depth = Frozen(lambda: network, autocast=torch.bfloat16)(image).depth
    assert seen == [torch.float32, torch.bfloat16]
    assert depth.dtype == torch.float32 and not torch.equal(depth, expected)
    torch.testing.assert_close(depth, expected, rtol=0.02, atol=0.02)
    assert len(depth.unique()) > 1000 > 256  # not the few values of bfloat16
    plain = Frozen(Moody, autocast=torch.bfloat16)
    assert plain.autocast is None


def test_teachers_run_in_the_precision_of_the_run(tmp_path: Path) -> None:
    precisions: list[tuple[Any, torch.dtype | None]] = [("bf16-mixed", torch.bfloat16), ("32-true", None)]
    for precision, half in precisions:
        trainer = pl.Trainer(
            accelerator="cpu", precision=precision, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
        )  # fmt: skip
        method = CrossContextDistill(DepthAnything("tiny"), partial(DepthAnything, "tiny"))
        trainer.strategy.connect(method)
        method.trainer = trainer
        method.setup("fit")
        assert method.teachers["teacher"].autocast == half


class Folded(Moody):
    """Answers in another shape than a depth network's."""

    def __init__(self, shape: list[int]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, image: Image) -> DepthOutput:
        return DepthOutput(
            super().forward(image).depth.expand(*self.shape[:-3], -1, -1, -1)[..., : self.shape[-1]]
        )


@pytest.mark.parametrize(("shape", "found"), [([1, 4, 12, 16], "[1, 4, 12, 16]"), ([4, 12, 0], "[4, 12, 0]")])
def test_a_teacher_that_answers_in_another_shape_is_told(shape: list[int], found: str) -> None:
    with pytest.raises(UserError) as caught:
        Frozen(partial(Folded, shape))(images())
    assert str(caught.value) == f"Folded answers 4 images with {found}; it would be [4, height, width]"
