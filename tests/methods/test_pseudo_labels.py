from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from depthkd.batch import AFFINE_DEPTH, AFFINE_DISPARITY, METRIC_DEPTH, Batch, DepthSpace
from depthkd.data.stream import ShardSource
from depthkd.losses.gradient import gradient_matching, normalized_gradient_matching
from depthkd.losses.normalization import Normalization, distillation_loss, global_normalization
from depthkd.losses.trimmed import trimmed_loss, without_largest
from depthkd.methods.depth_anything_v2_students import PseudoLabelDistill, PseudoLabelWeights
from depthkd.methods.perturbation import ColorPerturbation, CutMix
from depthkd.models.frozen import Frozen, FrozenNetwork
from depthkd.models.model import DepthModel, DepthOutput


class Reader(DepthModel):
    """A 'network' that answers a blend of the colors, and has the image itself for features."""

    space = AFFINE_DISPARITY

    def __init__(self, red: float = 1.0, green: float = 0.3) -> None:
        super().__init__()
        self.blend = nn.Parameter(torch.tensor([red, green]))
        self.seen: list[Tensor] = []

    def forward(self, image: Tensor) -> DepthOutput:
        self.seen.append(image.detach())
        return DepthOutput((image[:, :2] * self.blend[:, None, None]).sum(1), self.features(image))

    def features(self, image: Tensor) -> Tensor:
        return image.flatten(2).transpose(1, 2)

    @property
    def feature_channels(self) -> int:
        return 3

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        return iter(())


class MetricReader(Reader):
    space = METRIC_DEPTH


class Encoder(Reader):
    def features(self, image: Tensor) -> Tensor:
        self.seen.append(image.detach())
        return image.roll(1, 1).flatten(2).transpose(1, 2)


NO_FEATURES = PseudoLabelWeights(features=0.0)


def batch(count: int = 4, seed: int = 0, space: DepthSpace | None = None, first: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, (count, 3, 12, 10), generator=generator, dtype=torch.uint8)
    keys, positions = [f"k{i}" for i in range(count)], list(range(first, first + count))
    if space is None:
        return Batch(image, keys, positions=positions)
    depth = 0.5 + torch.rand(count, 12, 10, generator=generator)
    mask = torch.rand(count, 12, 10, generator=generator) < 0.8
    return Batch(image, keys, depth, mask, space=space, positions=positions)


def prepared(student: DepthModel | None = None, teacher: DepthModel | None = None, **options: Any) -> Any:
    student = Reader() if student is None else student
    options = {"weights": NO_FEATURES} | options
    method = PseudoLabelDistill(student, None if teacher is None else lambda: teacher, **options)
    method.teachers = {} if teacher is None else {"teacher": Frozen(lambda: teacher)}
    return method


def test_terms_are_the_papers_for_labels_of_any_scale() -> None:
    part = batch(space=AFFINE_DISPARITY)
    method = prepared()
    losses = method.losses({"x": part})
    assert part.depth is not None and part.mask is not None
    depth = method.student_depth(part.images())
    torch.testing.assert_close(
        losses["scale_shift_invariant"], trimmed_loss(depth, part.depth, part.mask).mean()
    )
    gradient = normalized_gradient_matching(depth, part.depth, part.mask).mean()
    torch.testing.assert_close(losses["gradient"], gradient)
    assert method.weights == {"scale_shift_invariant": 1.0, "gradient": 2.0, "features": 0.0}
    part.depth = part.depth * 1e-3 + 40
    for term, loss in method.losses({"x": part}).items():
        torch.testing.assert_close(loss, losses[term], rtol=1e-2, atol=0)


def test_what_is_dropped_may_be_left_out_of_the_gradient_too() -> None:
    part = batch(space=AFFINE_DISPARITY)
    method = prepared(drop=0.25, drop_from_gradient=True)
    found = method.losses({"x": part})["gradient"]
    assert part.depth is not None and part.mask is not None
    ours, theirs = (
        global_normalization(d, part.mask) for d in (method.student_depth(part.images()), part.depth)
    )
    kept = without_largest((ours - theirs).abs(), part.mask, 0.25)
    torch.testing.assert_close(found, gradient_matching(ours, theirs, kept).mean())


def test_nothing_of_precise_labels_is_dropped_and_all_images_weigh_the_same() -> None:
    synthetic, real = batch(2, 1, METRIC_DEPTH), batch(4, 2, AFFINE_DISPARITY)
    method = prepared(precise=["synthetic"])
    losses = method.losses({"synthetic": synthetic, "real": real})
    values = []
    for part, drop in ((synthetic, 0.0), (real, 0.1)):
        assert part.depth is not None and part.mask is not None
        label = 1 / part.depth if part is synthetic else part.depth
        values.append(trimmed_loss(method.student_depth(part.images()), label, part.mask, drop))
    torch.testing.assert_close(losses["scale_shift_invariant"], torch.cat(values).mean())
    assert synthetic.depth is not None and synthetic.mask is not None
    whole = distillation_loss(
        method.student_depth(synthetic.images()), 1 / synthetic.depth, synthetic.mask, Normalization.GLOBAL
    )
    torch.testing.assert_close(values[0], whole)


def test_the_sky_of_truth_has_disparity_0_where_it_is_asked_for() -> None:
    part = batch(2, 1, METRIC_DEPTH)
    assert part.depth is not None and part.mask is not None
    part.depth[:, :4], part.mask[:, :4] = torch.inf, False
    label, mask = torch.where(part.mask, 1 / part.depth, 0), part.mask.clone()
    for sky in ("masked", "zero"):
        mask[:, :4] = sky == "zero"
        method = prepared(precise=["x"], sky=sky)
        loss = method.losses({"x": part})["scale_shift_invariant"]
        expected = trimmed_loss(method.student_depth(part.images()), label, mask, 0.0).mean()
        torch.testing.assert_close(loss, expected)
    with pytest.raises(ValueError, match="sky is 'zero', but the student predicts metric depth"):
        prepared(MetricReader(), sky="zero")


def test_features_are_aligned_on_pseudo_labelled_images_alone() -> None:
    encoder, parts = (
        Encoder(),
        {"synthetic": batch(2, 1, METRIC_DEPTH), "real": batch(4, 2, AFFINE_DISPARITY)},
    )
    method = prepared(precise=["synthetic"], weights=PseudoLabelWeights(), feature_encoder=lambda: encoder)
    method.encoder = FrozenNetwork(lambda: encoder)
    losses = method.losses(parts)
    assert [len(image) for image in encoder.seen] == [4]
    torch.testing.assert_close(losses["features"], method.losses({"real": parts["real"]})["features"])
    assert losses["features"] > 0
    assert "features" not in method.losses({"synthetic": parts["synthetic"]})


def test_the_teacher_labels_what_has_no_labels_and_sees_it_unperturbed() -> None:
    teacher, student = Reader(0.2, 1.0), Reader()
    options = {"perturbation": ColorPerturbation(), "cut_mix": CutMix(1.0)}
    method = prepared(student, teacher, **options)
    method.losses({"x": batch(), "labelled": batch(2, 3, AFFINE_DISPARITY)})
    assert [len(image) for image in teacher.seen] == [4]
    assert torch.equal(teacher.seen[0], batch().images())
    assert not torch.equal(student.seen[0], batch().images())
    precise = prepared(Reader(), precise=["x"], **options)
    precise.losses({"x": batch(space=AFFINE_DISPARITY)})
    assert torch.equal(precise.student.seen[0], batch().images())


def test_a_metric_teacher_may_teach_disparity() -> None:
    method = prepared(Reader(), MetricReader())
    part = batch()
    loss = method.losses({"x": part})["scale_shift_invariant"]
    label = 1 / method.teachers["teacher"](part.images()).depth
    everywhere = torch.ones_like(label, dtype=torch.bool)
    torch.testing.assert_close(
        loss, trimmed_loss(method.student_depth(part.images()), label, everywhere).mean()
    )


def test_cut_mix_compares_each_region_with_its_own_label() -> None:
    part, mix = batch(space=AFFINE_DISPARITY), CutMix(1.0)
    method = prepared(cut_mix=mix)
    losses = method.losses({"x": part})
    assert part.depth is not None and part.mask is not None
    mixture = mix((12, 10), range(4), method._seed("x"))
    seen = part.images().clone()
    for i, partner in enumerate([1, 0, 3, 2]):
        seen[i][:, mixture.inside[i]] = part.images()[partner][:, mixture.inside[i]]
    assert torch.equal(method.student.seen[0], seen)
    depth, total = method.student_depth(seen), 0.0
    for i, partner in enumerate([1, 0, 3, 2]):
        for source, region in ((i, ~mixture.inside[i]), (partner, mixture.inside[i])):
            mask = (part.mask[source] & region)[None]
            area = region.float().mean()
            total += area * trimmed_loss(depth[i : i + 1], part.depth[source][None], mask)[0] / 4
    torch.testing.assert_close(losses["scale_shift_invariant"], total)


def test_cut_mix_draws_the_same_however_ranks_share_a_batch() -> None:
    part, mix = batch(8, space=AFFINE_DISPARITY, first=16), CutMix()
    whole = mix((12, 10), list(range(16, 24)), (3,))
    halves = [mix((12, 10), list(range(first, first + 4)), (3,)) for first in (16, 20)]
    assert torch.equal(whole.inside, torch.cat([half.inside for half in halves]))
    assert whole.partner.tolist() == [1, 0, 3, 2, 5, 4, 7, 6]
    assert all(half.partner.tolist() == [1, 0, 3, 2] for half in halves)
    drawn = [
        mix((40, 60), range(2 * i, 2 * i + 2), (0,)).inside.flatten(1).float().mean(1) for i in range(200)
    ]
    areas = torch.cat(drawn)
    assert 0.4 < (areas > 0).float().mean() < 0.6
    assert areas.max() <= 0.41 and areas[areas > 0].min() > 0.015
    odd = mix((12, 10), [15, 16, 17], (3,))  # whose first image's partner is elsewhere
    assert odd.partner.tolist() == [0, 2, 1] and not odd.inside[0].any()
    assert len(part) == 8


@pytest.mark.parametrize("options", [{"probability": 1.5}, {"smallest": 0.5}, {"aspect": 0.0}])
def test_a_cut_mix_out_of_range_gets_a_sentence(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="CutMix's"):
        CutMix(**options)


def trainer(**sources: ShardSource) -> Any:
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    return SimpleNamespace(datamodule=SimpleNamespace(train=sources), strategy=strategy, precision="32-true")


@pytest.mark.parametrize(
    ("options", "labels", "sentence"),
    [
        ({}, None, r"data\.train\.real has no labels, and there is no teacher.*`labels`"),
        ({"precise": ["reel"]}, "x.tar", r"precise names 'reel', .* they are real"),
        ({"precise": ["real"]}, None, r"data\.train\.real has no depth, but .*precise says"),
        (
            {"precise": ["real"], "weights": PseudoLabelWeights(), "feature_encoder": Encoder},
            "x.tar",
            r"every source of data\.train is precise.*weights\.features to 0",
        ),
    ],
)
def test_sources_without_labels_get_a_sentence_before_anything_is_built(
    options: dict[str, Any], labels: str | None, sentence: str
) -> None:
    method = PseudoLabelDistill(Reader(), **({"weights": NO_FEATURES} | options))
    method._trainer = trainer(real=ShardSource("real.tar", labels=labels))
    with pytest.raises(ValueError, match=sentence):
        method.setup("fit")


def test_a_teacher_that_nobody_asks_is_not_built(caplog: pytest.LogCaptureFixture) -> None:
    method = PseudoLabelDistill(Reader(), lambda: 1 / 0, weights=NO_FEATURES)  # type: ignore[arg-type, return-value]
    method._trainer = trainer(real=ShardSource("real.tar", labels="labels.tar"))
    method.setup("fit")
    assert method.teachers == {}
    assert "teacher is not built: every source" in caplog.text


def test_what_cannot_be_gets_a_sentence() -> None:
    with pytest.raises(ValueError, match=r"drop is a share.*not 1\.0"):
        prepared(drop=1.0)
    with pytest.raises(ValueError, match="feature_encoder is missing"):
        prepared(weights=PseudoLabelWeights())
    with pytest.raises(ValueError, match=r"data\.train\.x has labels of 'affine depth'.*1/x means nothing"):
        prepared().losses({"x": batch(space=AFFINE_DEPTH)})
    with pytest.raises(ValueError, match=r"data\.train\.x has no labels"):
        prepared().losses({"x": batch()})


def test_the_log_shows_the_label_without_what_was_dropped() -> None:
    method = prepared(drop=0.5)
    part = batch(space=AFFINE_DISPARITY)
    method.losses({"x": part})
    _, (target, _) = method.pictures()["train/latest"]
    assert part.mask is not None
    assert (target.isfinite().flatten(1).sum(1) == part.mask.flatten(1).sum(1).div(2).ceil()).all()
