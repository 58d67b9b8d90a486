"""Assistant-guided distillation: who teaches when, what is averaged, and what is refused."""

import copy
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from depthkd.batch import AFFINE_DISPARITY, METRIC_DISPARITY, Batch
from depthkd.data.stream import ShardSource
from depthkd.errors import UserError
from depthkd.losses.disagreement import agreement_weighted_mean
from depthkd.methods.distill_any_depth import (
    AssistantGuided,
    CrossContextDistill,
    CrossContextWeights,
    drawn_teacher,
)
from depthkd.methods.method import Method
from depthkd.models.dinov2 import Dinov2Features
from depthkd.models.dpt.depth_anything import DepthAnything
from depthkd.models.frozen import Frozen, FrozenNetwork
from depthkd.models.model import DepthModel, DepthOutput
from tests.methods.test_distill_any_depth import ColumnReader

PAPER = {"primary": 0.7, "assistant": 0.3}


class Featured(ColumnReader):
    """A column reader with features of so many channels; the width in tokens is that of the image / 4."""

    def __init__(self, channels: int | None = 8, scale: float = 1.0) -> None:
        super().__init__(scale)
        self.channels = channels

    @property
    def feature_channels(self) -> int | None:
        return self.channels

    def forward(self, image: Tensor) -> DepthOutput:
        depth = super().forward(image).depth
        if self.channels is None:
            return DepthOutput(depth)
        tokens = image[:, :1, ::4, ::4].flatten(2).transpose(1, 2)
        waves = torch.arange(1, self.channels + 1, dtype=image.dtype)
        return DepthOutput(depth, torch.sin(tokens * waves) * self.scale)


def guided(student: DepthModel, teachers: dict[str, DepthModel], **options: Any) -> AssistantGuided:
    """With the teachers built, as `setup` would."""
    factories = {name: partial(_itself, teacher) for name, teacher in teachers.items()}
    probabilities = dict(zip(factories, PAPER.values(), strict=False))
    method = AssistantGuided(student, factories, probabilities, **options)  # type: ignore[arg-type]
    method.teachers = {name: Frozen(make) for name, make in factories.items()}
    method.setup("fit")
    return method


def test_labels_of_whole_images_are_refused() -> None:
    method = guided(Featured(), {"primary": Featured()}, strategy="select")
    trainer: Any = SimpleNamespace(datamodule=SimpleNamespace(train={"photos": ShardSource("x", labels="y")}))
    method._trainer = trainer
    with pytest.raises(UserError, match=r"^data\.train\.photos\.labels: AssistantGuided asks its teacher"):
        method.setup("fit")


def test_teachers_with_random_weights_are_the_same_on_every_rank() -> None:
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    trainer: Any = SimpleNamespace(strategy=strategy, precision="32-true", datamodule=None)
    factories = {name: partial(DepthAnything, "tiny") for name in PAPER}
    built = []
    for state in (1, 2):  # what was drawn before may differ from rank to rank
        torch.manual_seed(state)
        method = AssistantGuided(DepthAnything("tiny"), factories, PAPER)  # type: ignore[arg-type]
        method._trainer = trainer
        drawn = torch.get_rng_state()
        method.setup("fit")
        assert torch.equal(drawn, torch.get_rng_state())
        built.append([teacher.model.identity() for teacher in method.teachers.values()])
    assert built[0] == built[1] and len(set(built[0])) == 2


def test_what_the_device_draws_does_not_depend_on_teachers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The generator of a GPU is seeded with the CPU's, and brought back with it: here it is a mark alone."""
    brought_back: list[Any] = []

    @contextmanager
    def fork_rng(devices: list[torch.device]) -> Iterator[None]:
        brought_back.append(devices)
        yield

    monkeypatch.setattr(torch.random, "fork_rng", fork_rng)
    monkeypatch.setattr("depthkd.methods.method.Frozen", lambda make, device, autocast: make())
    for kind in ("cpu", "cuda"):
        method = AssistantGuided(
            DepthAnything("tiny"), {name: partial(DepthAnything, "tiny") for name in PAPER}, PAPER
        )
        strategy = SimpleNamespace(root_device=torch.device(kind))
        method._trainer = SimpleNamespace(  # type: ignore[assignment]
            strategy=strategy, precision="32-true", datamodule=None
        )
        Method.setup(method, "fit")
    assert brought_back == [[], [], [torch.device("cuda")], [torch.device("cuda")]]


def _itself(model: DepthModel) -> DepthModel:
    return model


def batch(count: int = 2) -> Batch:
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (count, 3, 16, 16), dtype=torch.uint8, generator=generator)
    windows = torch.randint(0, 256, (count, 2, 3, 12, 12), dtype=torch.uint8, generator=generator)
    boxes = torch.tensor([[0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5]]).expand(count, 2, 4)
    return Batch(image, [str(i) for i in range(count)], windows=windows, boxes=boxes)


def test_the_primary_teacher_is_drawn_seven_times_of_ten() -> None:
    names = Counter(drawn_teacher(PAPER, 0, step) for step in range(10_000))
    assert names["primary"] / 10_000 == pytest.approx(0.70, abs=0.02)
    others = [[drawn_teacher(PAPER, seed, step) for step in range(50)] for seed in (0, 0, 1)]
    assert others[0] == others[1] != others[2]


def test_any_number_of_teachers_with_any_weights() -> None:
    counts = Counter(drawn_teacher({"a": 2.0, "b": 1.0, "c": 1.0}, 3, step) for step in range(8000))
    assert [round(counts[name] / 8000, 1) for name in "abc"] == [0.5, 0.2, 0.2] or counts["a"] > 3800


def test_one_teacher_answers_all_of_a_step() -> None:
    primary, assistant = Featured(), Featured()
    method = guided(Featured(), {"primary": primary, "assistant": assistant})
    method.losses({"x": batch()})
    drawn = method.drawn()
    asked = {"primary": primary.calls, "assistant": assistant.calls}
    assert asked.pop(drawn) == [2, 2 * 2]
    assert next(iter(asked.values())) == []


def test_the_average_is_weighted_by_agreement() -> None:
    one, other = Featured(scale=1.0), Featured(scale=3.0)
    method = guided(Featured(), {"primary": one, "assistant": other}, strategy="average")
    image = batch().images()
    labels = method.labels(image)
    everywhere = torch.ones(2, 16, 16, dtype=torch.bool)
    expected = agreement_weighted_mean([one(image).depth, other(image).depth], everywhere)
    torch.testing.assert_close(labels.depth, expected)
    assert labels.features is not None


def test_losses_without_normalization_do_not_mix_scales() -> None:
    teachers: dict[str, DepthModel] = {"primary": Featured(), "assistant": Featured(scale=9.0)}
    raw: dict[str, Any] = {"shared_context_normalization": "none"}
    with pytest.raises(ValueError, match=r"shared_context_normalization is 'none', but the teachers' scales"):
        guided(Featured(), teachers, **raw)
    guided(Featured(), teachers, **raw, mixed_scales=True)
    guided(Featured(), teachers, **raw, weights=CrossContextWeights(shared_context=0.0))

    class Metric(Featured):
        space = METRIC_DISPARITY

    guided(Featured(), {"primary": Metric(), "assistant": Metric()}, **raw)
    assert Featured.space == AFFINE_DISPARITY


@pytest.mark.parametrize(
    ("probabilities", "options", "sentence"),
    [
        ({"primary": 1.0}, {}, "must name every teacher"),
        ({"primary": 1.0, "assistant": 0.0}, {}, "with a number above 0"),
        ({"primary": 1.0, "other": 1.0}, {}, "the teachers are primary, assistant"),
    ],
)
def test_probabilities_that_do_not_fit(
    probabilities: dict[str, float], options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        AssistantGuided(Featured(), {"primary": Featured, "assistant": Featured}, probabilities, **options)
    with pytest.raises(ValueError, match="an average needs two teachers"):
        AssistantGuided(Featured(), {"a": Featured}, {"a": 1.0}, strategy="average")


def test_features_are_aligned_and_projected_where_widths_differ() -> None:
    torch.manual_seed(0)
    same = guided(Featured(), {"primary": Featured(), "assistant": Featured()})
    assert same.feature_projection is None
    losses = same.losses({"x": batch()})
    assert losses["features"].item() == pytest.approx(0.0, abs=1e-6)  # the same features: above the margin
    other = guided(Featured(5), {"primary": Featured(8), "assistant": Featured(8)})
    assert other.feature_projection is not None and other.feature_projection.weight.shape == (8, 5)
    loss = other.losses({"x": batch()})["features"]
    assert 0.0 < loss.item() < 2.0
    loss.backward()
    assert other.feature_projection.weight.grad is not None
    names = [name for name, _ in other.named_parameters()]
    assert any(name.startswith("feature_projection.") for name in names)
    repeated = guided(Featured(5), {"primary": Featured(8), "assistant": Featured(8)})
    assert repeated.feature_projection is not None
    torch.testing.assert_close(repeated.feature_projection.weight, other.feature_projection.weight)


def test_a_teacher_without_features_skips_the_term_but_not_its_parameters() -> None:
    method = guided(Featured(5), {"primary": Featured(8), "assistant": Featured(None)})
    for step in range(20):
        method.drawn = lambda step=step: drawn_teacher(PAPER, 0, step)  # type: ignore[method-assign]
        method.zero_grad()
        loss = method.losses({"x": batch()})["features"]
        loss.backward()
        assert method.feature_projection is not None
        gradient = method.feature_projection.weight.grad
        assert gradient is not None  # or a rank would wait for it
        if method.drawn() == "assistant":
            assert loss.item() == 0.0 and not gradient.any()
        else:
            assert loss.item() > 0.0 and gradient.any()


def test_an_encoder_of_its_own_serves_every_teacher() -> None:
    encoder = Featured(8)
    factories = {"primary": partial(Featured, None), "assistant": partial(Featured, None)}
    method = AssistantGuided(Featured(8), factories, PAPER, feature_encoder=lambda: encoder)  # type: ignore[arg-type]
    method.teachers = {name: Frozen(make) for name, make in method.teacher_factories.items()}
    method.encoder = FrozenNetwork(lambda: encoder)
    method.setup("fit")
    assert method.losses({"x": batch()})["features"].item() == pytest.approx(0.0, abs=1e-6)
    assert encoder.calls == [2]
    assert list(method.taught_by()) == ["primary", "assistant", "feature encoder"]


@pytest.mark.parametrize(("ours", "theirs"), [(None, 8), (8, None)])
def test_features_that_are_not_there_get_a_sentence(ours: int | None, theirs: int | None) -> None:
    teachers: dict[str, DepthModel] = {"primary": Featured(theirs), "assistant": Featured(theirs)}
    with pytest.raises(ValueError, match=r"feature alignment needs .*weights\.features to 0"):
        guided(Featured(ours), teachers)
    guided(Featured(ours), teachers, weights=CrossContextWeights(features=0.0))


def test_the_anchor_is_a_term_of_its_own() -> None:
    weights = CrossContextWeights(anchor=0.1)
    method = guided(Featured(), {"primary": Featured(), "assistant": Featured()}, weights=weights)
    losses = method.losses({"x": batch()})
    assert set(losses) == {"shared_context", "local_global", "features", "gradient", "anchor"}
    assert np.isfinite(losses["anchor"].item())


class Foreign(Featured):
    """An encoder of another make."""

    feature_family = "beit"  # type: ignore[assignment]


def test_features_of_equal_width_are_projected_where_the_encoders_differ() -> None:
    for teachers in ((Featured(8), Foreign(8)), (Foreign(8), Foreign(8))):
        method = guided(Featured(8), dict(zip(PAPER, teachers, strict=True)))
        assert method.feature_projection is not None and method.feature_projection.weight.shape == (8, 8)
    assert guided(Foreign(8), {"primary": Foreign(8), "assistant": Foreign(None)}).feature_projection is None


def test_a_student_that_starts_from_its_teacher_learns_features_from_dinov2_alone() -> None:
    torch.manual_seed(0)
    network = DepthAnything("tiny").eval()
    dinov2 = {"model_type": "dinov2", "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    weights = CrossContextWeights(local_global=0.0, gradient=0.0, shared_context=0.0)
    losses = {}
    for name, encoder in (("teacher", None), ("dinov2", partial(Dinov2Features, config=dinov2))):
        method = CrossContextDistill(network, lambda: network, weights=weights, feature_encoder=encoder)
        method.teachers = {"teacher": Frozen(lambda: copy.deepcopy(network))}
        if encoder is not None:
            method.encoder = FrozenNetwork(encoder)
        method.setup("fit")
        assert method.feature_projection is None  # of one make, and as wide
        losses[name] = method.losses({"x": batch()})["features"].item()
    assert losses["teacher"] == 0.0
    assert 0.1 < losses["dinov2"] < 2.0  # whose patches are larger: its tokens are on another grid
