from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from depthkd.batch import AFFINE_DEPTH, AFFINE_DISPARITY, Batch
from depthkd.data.transforms import CrossContextCrop
from depthkd.formats.sample import Sample
from depthkd.geometry import crop_boxes
from depthkd.losses.normalization import Normalization, distillation_loss
from depthkd.methods.distill_any_depth import CrossContextDistill, CrossContextWeights, local_global_loss
from depthkd.models.dpt.depth_anything import DepthAnything
from depthkd.models.frozen import Frozen
from depthkd.models.model import DepthModel, DepthOutput


class ColumnReader(DepthModel):
    """A 'network' that answers where in the original image a pixel lies: its red channel is the column."""

    space = AFFINE_DISPARITY

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(width))
        self.calls: list[int] = []

    def forward(self, image: Tensor) -> DepthOutput:
        self.calls.append(len(image))
        return DepthOutput(image[:, 0] * self.scale)

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        return iter(())


class DepthReader(ColumnReader):
    space = AFFINE_DEPTH


def painted(height: int, width: int) -> Sample:
    """Red grows with the column and green with the row, one gray level a pixel."""
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([columns, rows, np.zeros_like(rows)], axis=-1).astype(np.uint8)
    return Sample("painted", image)


def batch_of(samples: list[Sample]) -> Batch:
    def stacked(arrays: list[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.stack(arrays))

    windows = stacked([s.windows for s in samples if s.windows is not None]).permute(0, 1, 4, 2, 3)
    boxes = stacked([s.boxes for s in samples if s.boxes is not None])
    image = stacked([s.image for s in samples]).permute(0, 3, 1, 2)
    return Batch(image.contiguous(), [s.key for s in samples], windows=windows.contiguous(), boxes=boxes)


def prepared(
    student: DepthModel, teacher: type[DepthModel] = ColumnReader, **options: object
) -> CrossContextDistill:
    options = {"weights": CrossContextWeights(features=0.0)} | options  # these networks have none
    method = CrossContextDistill(student, teacher, **options)  # type: ignore[arg-type]
    method.teachers = {"teacher": Frozen(teacher)}
    return method


def test_student_and_teacher_pixels_correspond_to_within_half_a_pixel() -> None:
    crop = CrossContextCrop(size=60, smallest=120, windows=4, window=100, flip=0.5)
    samples = [crop(painted(200, 250), np.random.default_rng(seed)) for seed in range(6)]
    batch = batch_of(samples)
    method = prepared(ColumnReader(255.0))  # answers in columns of the original image
    assert batch.boxes is not None
    windows, boxes = method.window_labels("x", batch)
    student = crop_boxes(method.student_depth(batch.images()), boxes, (100, 100))
    inner = (student - windows * 255.0)[..., 3:-3, 3:-3]  # the border mixes in what lies outside the region
    assert inner.abs().max() < 0.5


def test_windows_of_a_batch_are_labelled_as_they_are_one_by_one() -> None:
    crop = CrossContextCrop(size=64, smallest=68, windows=3, window=32, flip=0.5)
    generator = np.random.default_rng(0)
    photos = [Sample("x", generator.integers(0, 256, (70, 80, 3), dtype=np.uint8)) for _ in range(2)]
    samples = [crop(photo, generator) for photo in photos]
    torch.manual_seed(0)
    teacher = DepthAnything("tiny").train()  # it is Frozen that sees to eval mode
    method = prepared(ColumnReader())
    method.teachers = {"teacher": Frozen(lambda: teacher)}
    together, _ = method.window_labels("x", batch_of(samples))
    assert together.shape == (2, 3, 32, 32) and together.std() > 1e-3
    for i, sample in enumerate(samples):
        assert sample.windows is not None
        for j, window in enumerate(sample.windows):
            image = torch.from_numpy(window).permute(2, 0, 1)[None].float() / 255.0
            alone = teacher(image).depth[0]
            torch.testing.assert_close(together[i, j], alone, rtol=1e-4, atol=1e-5)


def test_a_wrong_place_of_the_windows_would_be_seen() -> None:
    crop = CrossContextCrop(size=60, smallest=120, windows=2, window=100, flip=0.0)
    batch = batch_of([crop(painted(200, 250), np.random.default_rng(1))])
    method = prepared(ColumnReader(255.0))
    windows, boxes = method.window_labels("x", batch)
    moved = boxes + torch.tensor([0.0, 0.02, 0.0, 0.0])
    student = crop_boxes(method.student_depth(batch.images()), moved, (100, 100))
    assert (student - windows * 255.0).abs().mean() > 0.5


def test_local_global_loss_is_the_mean_over_windows() -> None:
    generator = torch.Generator().manual_seed(0)
    student = torch.rand(2, 20, 20, generator=generator)
    windows = torch.rand(2, 3, 8, 8, generator=generator)
    boxes = torch.tensor([[0.0, 0.0, 0.4, 0.4], [0.5, 0.5, 0.5, 0.5], [0.1, 0.3, 0.6, 0.2]]).expand(2, 3, 4)
    loss = local_global_loss(student, windows, boxes, Normalization.HYBRID)
    everywhere = torch.ones(1, 8, 8, dtype=torch.bool)
    for image in range(2):
        single = []
        for n in range(3):
            crop = crop_boxes(student[image : image + 1], boxes[image : image + 1, n : n + 1], (8, 8))[:, 0]
            single.append(distillation_loss(crop, windows[image, n][None], everywhere, Normalization.HYBRID))
        torch.testing.assert_close(loss[image], torch.stack(single).mean())


def test_gradient_check_through_the_crop() -> None:
    rng = np.random.default_rng(0)
    student = torch.from_numpy(rng.permutation(50).reshape(2, 5, 5) / 7.0).requires_grad_()
    windows = torch.from_numpy(rng.permutation(36).reshape(2, 2, 3, 3) / 5.0)
    boxes = torch.tensor([[0.1, 0.0, 0.5, 0.7], [0.3, 0.4, 0.5, 0.6]], dtype=torch.float64).expand(2, 2, 4)
    for normalization in (Normalization.GLOBAL, Normalization.NONE):
        assert torch.autograd.gradcheck(
            lambda s, n=normalization: local_global_loss(s, windows, boxes, n), (student,)
        )


@pytest.mark.parametrize("off", ["shared_context", "local_global", "gradient"])
def test_a_term_without_weight_is_not_computed(off: str) -> None:
    crop = CrossContextCrop(size=30, smallest=60, windows=3, window=50)
    batch = batch_of([crop(painted(90, 80), np.random.default_rng(i)) for i in range(2)])
    student = ColumnReader(0.5)
    method = prepared(student, weights=CrossContextWeights(features=0.0, **{off: 0.0}))
    losses = method.losses({"x": batch})
    assert set(losses) == {"shared_context", "local_global", "gradient"} - {off}
    assert all(loss.ndim == 0 and loss.isfinite() for loss in losses.values())
    teacher = method.teachers["teacher"].model
    assert isinstance(teacher, ColumnReader)
    # the shared view once, and all windows of all images in one call
    assert teacher.calls == ([2] if off == "local_global" else [2, 2 * 3])


def test_the_mean_is_over_images_not_over_sources() -> None:
    method = prepared(ColumnReader())
    parts = [{"a": torch.tensor([1.0, 2.0, 3.0])}, {"a": torch.tensor([10.0])}]
    assert method.mean_over_images(parts) == {"a": torch.tensor(4.0)}


def test_the_teacher_is_in_no_checkpoint_and_in_no_copy() -> None:
    import copy

    method = prepared(ColumnReader())
    assert list(method.state_dict()) == ["student.scale"]
    assert [name for name, _ in method.named_parameters()] == ["student.scale"]
    assert copy.deepcopy(method.teachers)["teacher"] is method.teachers["teacher"]


def test_data_without_windows_gets_a_sentence() -> None:
    method = prepared(ColumnReader())
    batch = Batch(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), ["k"])
    with pytest.raises(ValueError, match=r"data\.train\.sa1b has no windows.*CrossContextCrop"):
        method.losses({"sa1b": batch})
