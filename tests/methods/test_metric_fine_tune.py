"""Metric fine-tuning: what is learned from, and what is refused."""

from typing import Any

import pytest
import torch

from depthkd.batch import METRIC_DEPTH, SCALE_DISPARITY, Batch
from depthkd.losses import scale_invariant_log_loss
from depthkd.methods.depth_anything_v2 import MetricFineTune
from depthkd.models.depth_anything import DepthAnything


def part(**changes: Any) -> Batch:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 3, 16, 24), dtype=torch.uint8, generator=generator)
    depth = 1 + 9 * torch.rand(2, 16, 24, generator=generator)
    labels: dict[str, Any] = {"depth": depth, "mask": depth > 3, "space": METRIC_DEPTH}
    return Batch(images, ["a", "b"], **(labels | changes))


def test_its_loss_is_that_of_the_students_depth_in_metres() -> None:
    torch.manual_seed(0)
    student = DepthAnything(size="tiny", metric_max_depth=20)
    method, batch = MetricFineTune(student), part()
    loss = method.losses({"fog": batch})["scale_invariant_log"]
    assert batch.depth is not None and batch.mask is not None
    depth = student.predict(batch.images()) if not student.training else method.student_depth(batch.images())
    expected = scale_invariant_log_loss(depth, batch.depth, batch.mask).mean()
    torch.testing.assert_close(loss, expected)
    loss.backward()  # type: ignore[no-untyped-call]
    assert any(p.grad is not None and bool(p.grad.any()) for p in student.parameters())
    assert "train/latest" in method.pictures()


def test_mistakes_are_sentences() -> None:
    with pytest.raises(ValueError, match=r"predicts affine disparity; MetricFineTune trains metric depth"):
        MetricFineTune(DepthAnything(size="tiny"))
    method = MetricFineTune(DepthAnything(size="tiny", metric_max_depth=20))
    with pytest.raises(ValueError, match=r"data\.train\.x has no metric depth, but scale disparity"):
        method.losses({"x": part(space=SCALE_DISPARITY)})
    with pytest.raises(ValueError, match=r"data\.train\.x has no metric depth, but None"):
        method.losses({"x": part(depth=None, mask=None, space=None)})
