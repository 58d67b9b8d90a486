"""Metric fine-tuning: what is learned from, and what is refused."""

from typing import Any

import pytest
import torch

from depthkd.batch import METRIC_DEPTH, SCALE_DISPARITY, Batch
from depthkd.losses import scale_invariant_log_loss, zoedepth_log_loss
from depthkd.methods.depth_anything_v2 import MetricFineTune
from depthkd.methods.perturbation import GammaBrightnessColor
from depthkd.models.dpt.depth_anything import DepthAnything


def part(**changes: Any) -> Batch:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 3, 16, 24), dtype=torch.uint8, generator=generator)
    depth = 1 + 9 * torch.rand(2, 16, 24, generator=generator)
    labels: dict[str, Any] = {"depth": depth, "mask": depth > 3, "space": METRIC_DEPTH}
    return Batch(images, ["a", "b"], **(labels | changes))


def test_its_loss_is_that_of_the_students_depth_in_meters() -> None:
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


def test_its_loss_is_that_of_its_settings() -> None:
    torch.manual_seed(0)
    student = DepthAnything(size="tiny", metric_max_depth=20).eval()
    few = part()
    assert few.depth is not None and few.mask is not None
    few.mask[1, 1:] = False
    depth = student.predict(few.images())
    whole = [one.reshape(1, 1, -1) for one in (depth, few.depth, few.mask)]
    for loss, owner, focus in (
        ("depth_anything", scale_invariant_log_loss, 0.5),
        ("zoedepth", zoedepth_log_loss, 0.85),
    ):
        found = {
            per: MetricFineTune(student, loss=loss, per=per).losses({"x": few})["scale_invariant_log"]  # type: ignore[arg-type]
            for per in ("image", "batch")
        }
        torch.testing.assert_close(found["image"], owner(depth, few.depth, few.mask, focus).mean())
        torch.testing.assert_close(found["batch"], owner(*whole, focus).mean())
        assert found["image"].item() != pytest.approx(found["batch"].item(), rel=1e-3)
    sources = {"a": few, "b": part()}
    joined = MetricFineTune(student, per="batch").losses(sources)["scale_invariant_log"]
    both = [torch.cat([getattr(sources[name], key) for name in "ab"]) for key in ("depth", "mask")]
    said = torch.cat([student.predict(sources[name].images()) for name in "ab"])
    expected = scale_invariant_log_loss(*(one.reshape(1, 1, -1) for one in (said, *both)))
    torch.testing.assert_close(joined, expected.mean())


def test_the_student_sees_perturbed_images() -> None:
    student = DepthAnything(size="tiny", metric_max_depth=20).eval()
    change = GammaBrightnessColor(brightness=0.25, probability=1.0)
    batch = part(positions=[3, 4])
    trained = MetricFineTune(student, perturbation=change, seed=5)
    trained.losses({"x": batch})
    seen = trained.pictures()["train/latest"][0]
    torch.testing.assert_close(seen, change(batch.images(), [(5, 3), (5, 4)]))
    assert not torch.equal(seen, batch.images())


def test_mistakes_are_sentences() -> None:
    with pytest.raises(ValueError, match=r"predicts affine disparity; MetricFineTune trains metric depth"):
        MetricFineTune(DepthAnything(size="tiny"))
    student = DepthAnything(size="tiny", metric_max_depth=20)
    with pytest.raises(ValueError, match=r"variance_focus must be from 0 to 1, not 1\.5"):
        MetricFineTune(student, variance_focus=1.5)
    method = MetricFineTune(student)
    with pytest.raises(ValueError, match=r"data\.train\.x has no metric depth, but scale disparity"):
        method.losses({"x": part(space=SCALE_DISPARITY)})
    with pytest.raises(ValueError, match=r"data\.train\.x has no metric depth, but None"):
        method.losses({"x": part(depth=None, mask=None, space=None)})


def test_truth_that_the_student_cannot_answer_does_not_count() -> None:
    torch.manual_seed(0)
    depth = torch.linspace(-5, 60, 2 * 16 * 24).view(2, 16, 24)
    depth[0, 0, :4] = torch.tensor([1e-3, 9e-4, 20.0, 20.01])  # both ends count
    everywhere = torch.ones_like(depth, dtype=torch.bool)
    batch = part(depth=depth, mask=everywhere)
    for max_depth, farthest in ((None, 20.0), (7.5, 7.5)):
        method = MetricFineTune(DepthAnything(size="tiny", metric_max_depth=20), max_depth=max_depth)
        method.student.eval()
        loss = method.losses({"fog": batch})["scale_invariant_log"]
        expected = []
        for truth, said in zip(depth, method.student_depth(batch.images()), strict=True):
            counts = (truth >= 1e-3) & (truth <= farthest)
            g = truth[counts].double().log() - said[counts].double().log()
            expected.append(
                (g.square().mean() - 0.5 * g.mean().square()).sqrt() if counts.any() else 0 * said.sum()
            )
        assert loss.item() == pytest.approx(float(sum(expected).detach()) / 2, rel=1e-4)  # type: ignore[union-attr]
        method.finiteness.note({"fog": batch}, {"loss": loss})
        (found,) = method.finiteness.read(1, method.student, False)
        sentence = f"sample 'b': the label has no pixel that is finite and between 0.001 and {farthest:g} m"
        assert found.samples == 2 and found.sentences == [f"data.train.fog: {sentence}"]


def test_the_farthest_depth_is_the_students_or_said() -> None:
    student = DepthAnything(size="tiny", metric_max_depth=20)
    assert student.max_depth == 20.0 and DepthAnything(size="tiny").max_depth is None
    for max_depth in (21.0, 0.001, -3.0):
        with pytest.raises(
            ValueError, match=r"max_depth must be above 0.001 m, and no more than the student's 20 m"
        ):
            MetricFineTune(student, max_depth=max_depth)
    student.max_depth = None  # a network that does not say
    assert MetricFineTune(student).max_depth is None
    assert MetricFineTune(student, max_depth=300.0).max_depth == 300.0
