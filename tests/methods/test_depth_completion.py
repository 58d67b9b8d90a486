"""Training of depth completion: its loss written out, what is refused, and that it learns."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from depthkd.batch import METRIC_DEPTH, SCALE_DISPARITY, Batch
from depthkd.errors import UserError
from depthkd.methods import CompletionWeights, SupervisedCompletion
from depthkd.methods.depth_completion import difference, without_unit
from depthkd.models import AlignedToPoints, DepthCompletion, DepthModel, Frozen
from tests.models.test_completion import Brightness, view


def part(points: int = 30, **changes: Any) -> Batch:
    image, depth, sparse = view(points)
    labels = {"depth": depth, "mask": depth > 2.2, "space": METRIC_DEPTH, "sparse": sparse}
    return Batch(image, ["a", "b"], **(labels | changes))  # type: ignore[arg-type]


def method(**options: Any) -> SupervisedCompletion:
    torch.manual_seed(0)
    built = SupervisedCompletion(DepthCompletion(Brightness, widths=(8, 16)), **options)
    built.teachers = {"relative": Frozen(Brightness)}
    return built


def written_out(
    ours: Tensor, truth: Tensor, sparse: Tensor, mask: Tensor, compared: str, norm: str
) -> list[np.ndarray]:
    """Both terms, image by image and pixel by pixel, in float64."""
    terms = []
    for depth, t, points, m in zip(*(x.detach().numpy() for x in (ours, truth, sparse, mask)), strict=True):
        mean = points[points > 0].astype(np.float64).mean()
        a, b = (x.astype(np.float64) / mean for x in (depth, t))
        if compared == "log":
            a, b = np.log(a), np.log(b)
        residual = a - b
        gradient = 0.0
        for k in range(2):
            r, valid = residual[:: 2**k, :: 2**k], m[:: 2**k, :: 2**k]
            total = sum(
                abs(r[y, x] - r[y + dy, x + dx])
                for dy, dx in ((0, 1), (1, 0))
                for y in range(r.shape[0] - dy)
                for x in range(r.shape[1] - dx)
                if valid[y, x] and valid[y + dy, x + dx]
            )
            gradient += total / valid.sum()
        root = np.sqrt((residual[m] ** 2).mean())
        terms.append(np.array([root if norm == "root_mean_square" else abs(residual[m]).mean(), gradient]))
    return terms


@pytest.mark.parametrize(
    ("compared", "norm"), [("scaled", "root_mean_square"), ("scaled", "absolute"), ("log", "absolute")]
)
def test_the_loss_is_what_is_written_out(compared: Any, norm: Any) -> None:
    training, batch = method(compared=compared, norm=norm, scales=2), part()
    found = training.losses({"x": batch})
    assert batch.depth is not None and batch.sparse is not None and batch.mask is not None
    depth = training.student.complete(batch.images(), batch.sparse)  # type: ignore[operator]
    expected = np.mean(written_out(depth, batch.depth, batch.sparse, batch.mask, compared, norm), axis=0)
    assert [found[name].item() for name in ("difference", "gradient")] == pytest.approx(
        expected.tolist(), rel=1e-4
    )
    only = method(weights=CompletionWeights(gradient=0.0)).losses({"x": batch})
    assert list(only) == ["difference"]


@pytest.mark.parametrize("compared", ["scaled", "log"])
def test_gradients_of_what_is_compared(compared: Any) -> None:
    _, depth, sparse = (x.double()[:, :4, :5] for x in view(400))
    truth, mask = depth * 1.1, depth > 0
    for norm in ("absolute", "root_mean_square"):

        def loss(d: Tensor, norm: Any = norm) -> Tensor:
            ours, theirs = (without_unit(x, sparse, compared) for x in (d, truth))
            return difference(ours, theirs, mask, norm)

        assert torch.autograd.gradcheck(loss, (depth.clone().requires_grad_(),))
    exact = depth.clone().requires_grad_()
    difference(exact, exact.detach(), mask, "root_mean_square").sum().backward()  # type: ignore[no-untyped-call]
    assert exact.grad is not None and exact.grad.isfinite().all()


def test_the_unit_of_depth_does_not_matter() -> None:
    training, batch = method(), part()
    assert batch.depth is not None and batch.sparse is not None
    larger = part(depth=batch.depth * 100, sparse=batch.sparse * 100)
    one, other = (training.losses({"x": b})["difference"].item() for b in (batch, larger))
    assert other == pytest.approx(one, rel=1e-3)


def test_images_without_a_point_do_not_count() -> None:
    training, batch = method(), part()
    assert batch.sparse is not None
    batch.sparse[1] = 0
    loss = training.losses({"x": batch})
    total = torch.stack(list(loss.values())).sum()
    assert total.isfinite()
    alone = part()
    half = Batch(alone.image[:1], ["a"], alone.depth[:1], alone.mask[:1], None, METRIC_DEPTH)  # type: ignore[index]
    half.sparse = alone.sparse[:1]  # type: ignore[index]
    first = training.losses({"x": half})
    for name, value in first.items():
        assert loss[name].item() == pytest.approx(value.item() / 2, rel=1e-4)
    total.backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is None or p.grad.isfinite().all() for p in training.parameters())


def test_it_learns_what_the_aligned_depth_lacks() -> None:
    """Here a factor that the points do not know."""
    training, batch = method(), part()
    assert batch.depth is not None
    batch.depth *= 1.5
    optimizer = torch.optim.Adam(training.parameters(), 2e-2)
    losses = []
    for _ in range(15):
        loss = training.losses({"x": batch})["difference"]
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


def test_the_relative_model_is_a_teacher_and_no_weight() -> None:
    training = method()
    assert list(training.teacher_factories) == ["relative"]
    assert training.taught_by()["relative"].source == Brightness.source
    assert all(".network." in name for name in training.state_dict())


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"space": SCALE_DISPARITY}, "learns from labelled shards of metric depth"),
        ({"depth": None, "mask": None, "space": None}, "has no depth"),
        ({"sparse": None}, "ends in a depthkd.data.SparsePoints"),
    ],
)
def test_data_that_it_cannot_learn_from(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        method().losses({"x": part(**changes)})


def test_settings_that_cannot_be() -> None:
    other: DepthModel = AlignedToPoints(Brightness())
    for student, options, sentence in (
        (other, {}, "is a AlignedToPoints; SupervisedCompletion trains a depthkd.models.DepthCompletion"),
        (DepthCompletion(widths=(8,)), {}, "student.init_args.relative is missing"),
        (DepthCompletion(Brightness, widths=(8,)), {"max_depth": 0.0}, "max_depth must be above"),
    ):
        with pytest.raises(UserError, match=sentence):
            SupervisedCompletion(student, **options)  # type: ignore[arg-type]


def test_validation_gives_points_to_the_student() -> None:
    """As Lightning asks it, of a batch with sparse depth."""
    training, batch = method(), part()
    seen: dict[str, Any] = {}

    def score(depth: Tensor, *rest: Any) -> Any:
        seen["depth"] = depth
        raise StopIteration

    protocol = SimpleNamespace(resolution=None, scale=1.0, flip=False, score=score)
    training.validation.benchmarks = lambda: {"x": SimpleNamespace(protocol=protocol)}  # type: ignore[assignment,method-assign,dict-item,return-value]
    with pytest.raises(StopIteration):
        training.validation_step(batch, 0)
    torch.testing.assert_close(
        seen["depth"], AlignedToPoints(Brightness()).predict(batch.images(), sparse=batch.sparse)
    )
