from collections.abc import Iterator
from dataclasses import fields
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from depthkd.batch import AFFINE_DEPTH, AFFINE_DISPARITY, METRIC_DEPTH, Batch, DepthSpace
from depthkd.data.stream import ShardSource
from depthkd.losses.channel_wise import channel_norm_mse, channel_wise_loss, normalized_mse
from depthkd.losses.geometric import assumed_intrinsics, drawn_pixels, in_unit_ball, points_at, position_maps
from depthkd.losses.gradient import normalized_gradient_matching
from depthkd.losses.image_level import image_level_regression
from depthkd.methods.lightweight import Geometry, LabelFreeDistill, LabelFreeWeights
from depthkd.models.frozen import Frozen, FrozenModule
from depthkd.models.model import DepthModel, DepthOutput
from depthkd.models.pointnet import PointNet

TERMS = [field.name for field in fields(LabelFreeWeights)]
GEOMETRY = Geometry(points=40)


class Blend(DepthModel):
    """A 'network' that answers a blend of the colors."""

    space = AFFINE_DISPARITY

    def __init__(self, red: float = 1.0, green: float = 0.3) -> None:
        super().__init__()
        self.blend = nn.Parameter(torch.tensor([red, green]))

    def forward(self, image: Tensor) -> DepthOutput:
        return DepthOutput((image[:, :2] * self.blend[:, None, None]).sum(1))

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        return iter(())


class OfDepth(Blend):
    space = AFFINE_DEPTH


def teacher() -> Blend:
    return Blend(0.2, 1.0)


def only(*terms: str) -> LabelFreeWeights:
    return LabelFreeWeights(**{term: float(term in terms) for term in TERMS})


def batch(count: int = 4, first: int = 0, space: DepthSpace | None = None, cameras: bool = False) -> Batch:
    images, depths = [], []
    for place in range(first, first + count):
        generator = torch.Generator().manual_seed(place)
        images.append(torch.randint(0, 256, (3, 12, 10), generator=generator, dtype=torch.uint8))
        depths.append(torch.rand(12, 10, generator=generator) + 0.5)
    keys, positions = [f"k{i}" for i in range(count)], list(range(first, first + count))
    intrinsics = assumed_intrinsics(12, 10, 20.0, torch.stack(depths)).clone() if cameras else None
    part = Batch(torch.stack(images), keys, positions=positions, intrinsics=intrinsics)
    if space is not None:
        part.depth, part.space = torch.stack(depths), space
        part.mask = part.depth > 0.6
    return part


def prepared(student: DepthModel | None = None, **options: Any) -> LabelFreeDistill:
    """A method as it is after `setup`."""
    options = {"teacher": teacher, "geometry": GEOMETRY, "pointnet": PointNet} | options
    method = LabelFreeDistill(student or Blend(), **options)
    if options["teacher"] is not None:
        method.teachers = {"teacher": Frozen(options["teacher"])}
    if method.used("geometric_feature"):
        method.pointnet = FrozenModule(options["pointnet"])
    return method


def test_terms_are_those_of_the_functions() -> None:
    student = Blend(0.9, 0.1)
    method = prepared(student, weights=LabelFreeWeights(*[1.0] * 7), seed=3)
    part = batch(space=METRIC_DEPTH)
    found = method.losses({"x": part})
    image, mask = part.images(), torch.ones(4, 12, 10, dtype=torch.bool)
    maps = (student(image).depth, teacher()(image).depth, mask)
    assert part.depth is not None and part.mask is not None
    expected = {
        "channel_wise": channel_wise_loss(*maps, "mean_deviation", 4.0),
        "channel_norm_mse": channel_norm_mse(*maps, "mean_deviation"),
        "normalized_mse": normalized_mse(*maps, "mean_deviation"),
        "image_level": image_level_regression(maps[0], 1 / part.depth, part.mask),
        "gradient": normalized_gradient_matching(maps[0], 1 / part.depth, part.mask),
    }
    camera = assumed_intrinsics(12, 10, 60.0, maps[0])
    positions = position_maps(*maps, camera, student.space.quantity)
    drawn = drawn_pixels(mask, method.generators("x", part), 40)
    clouds = in_unit_ball(*(points_at(p, drawn) for p in positions))
    features = [PointNet().eval().features(cloud) for cloud in clouds]
    expected["geometric_input"] = (clouds[0] - clouds[1]).square().mean((1, 2))
    expected["geometric_feature"] = sum(
        (one - other).square().flatten(1).mean(1) for one, other in zip(*features, strict=True)
    )
    assert found.keys() == expected.keys() == set(TERMS)
    for term, values in expected.items():
        torch.testing.assert_close(found[term], values.mean())


def test_only_what_has_a_weight_is_computed() -> None:
    for term in TERMS[:5]:
        assert set(prepared(weights=only(term)).losses({"x": batch()})) == {term}
    labelled = prepared(weights=only("image_level"), teacher=None, pointnet=None)
    assert set(labelled.losses({"x": batch(space=METRIC_DEPTH)})) == {"image_level"}
    assert "target" in labelled.latest  # the truth, for the log


def test_every_term_teaches_the_students_weights_and_no_others() -> None:
    for term in TERMS[:5]:
        student = Blend()
        method = prepared(student, weights=only(term))
        method.losses({"x": batch()})[term].backward()
        assert student.blend.grad is not None and (student.blend.grad != 0).all(), term
    assert [name for name, _ in method.named_parameters()] == ["student.blend"]
    full = prepared()
    assert full.state_dict().keys() == {"student.blend"}
    assert {p for p in full.parameters() if p.requires_grad} == set(full.student.parameters())


def test_no_image_knows_of_another_nor_of_the_ranks() -> None:
    method = prepared()
    whole = method.losses({"x": batch(4)})
    halves = [method.losses({"x": batch(2, first=first)}) for first in (0, 2)]
    for term, value in whole.items():
        torch.testing.assert_close(value, (halves[0][term] + halves[1][term]) / 2)
    assert method.losses({"x": batch(4)}) == whole  # the same pixels are drawn again
    assert method.losses({"x": batch(4, first=1)}) != whole
    assert prepared(seed=1).losses({"x": batch(4)})["geometric_input"] != whole["geometric_input"]


def test_a_labelled_source_beside_one_without_labels_has_the_supervised_terms_alone_to_itself() -> None:
    method = prepared(weights=only("channel_wise", "gradient"))
    labelled, plain = batch(2, space=METRIC_DEPTH), batch(2, first=2)
    both = method.losses({"x": labelled, "y": plain})
    alone = [method.losses({"x": part}) for part in (labelled, plain)]
    torch.testing.assert_close(both["gradient"], alone[0]["gradient"])
    torch.testing.assert_close(
        both["channel_wise"], (alone[0]["channel_wise"] + alone[1]["channel_wise"]) / 2
    )
    assert "gradient" not in alone[1]


def test_cameras_of_the_data_count_unless_they_are_not_to() -> None:
    term = only("geometric_input")
    assumed = prepared(weights=term).losses({"x": batch()})["geometric_input"]
    known = prepared(weights=term).losses({"x": batch(cameras=True)})["geometric_input"]
    passed_over = prepared(weights=term, geometry=Geometry(points=40, known_cameras=False))
    assert known != assumed
    assert passed_over.losses({"x": batch(cameras=True)})["geometric_input"] == assumed
    as_wide = prepared(weights=term, geometry=Geometry(points=40, field_of_view=20.0))
    torch.testing.assert_close(as_wide.losses({"x": batch()})["geometric_input"], known)


def test_labels_from_tars_are_the_teachers() -> None:
    weights = only("channel_wise")
    part = batch(space=AFFINE_DISPARITY)
    part.depth, part.mask = teacher()(part.images()).depth.detach(), torch.ones(4, 12, 10, dtype=torch.bool)
    told = prepared(weights=weights, teacher=None)
    told.told_in_tars = {"x"}
    torch.testing.assert_close(told.losses({"x": part}), prepared(weights=weights).losses({"x": batch()}))


def test_a_teacher_of_another_quantity_gets_a_sentence() -> None:
    method = prepared(teacher=OfDepth, weights=only("channel_wise"))
    with pytest.raises(ValueError, match=r"'affine depth', and the student.*'affine disparity'"):
        method.losses({"x": batch()})
    assert prepared(OfDepth(), teacher=OfDepth).losses({"x": batch()})["geometric_input"].isfinite()


def sourced(method: LabelFreeDistill, **sources: ShardSource) -> LabelFreeDistill:
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    datamodule = SimpleNamespace(train=sources)
    method._trainer = SimpleNamespace(  # type: ignore[assignment]
        datamodule=datamodule, strategy=strategy, precision="32-true"
    )
    return method


PLAIN, TRUTH = ShardSource("a.tar"), ShardSource("a.tar", labelled=True)
TOLD = ShardSource("a.tar", labels="b.tar")
LABELS = {"weights": only("image_level"), "teacher": None}


@pytest.mark.parametrize(
    ("options", "source", "sentence"),
    [
        ({}, TRUTH, r"data\.train\.x is labelled, and LabelFreeDistill looks at no label.*labelled: false"),
        ({"weights": only("channel_wise", "image_level")}, PLAIN, r"weights\.image_level needs labels"),
        ({"teacher": None, "weights": only("channel_wise")}, PLAIN, r"no model\.init_args\.teacher to make"),
        (LABELS, TOLD, r"weights\.image_level needs labels"),
    ],
)
def test_sources_that_do_not_fit_get_a_sentence(
    options: dict[str, Any], source: ShardSource, sentence: str
) -> None:
    method = LabelFreeDistill(Blend(), **{"teacher": teacher, "pointnet": PointNet} | options)
    with pytest.raises(ValueError, match=sentence):
        sourced(method, x=source).setup("fit")


def test_a_source_that_no_term_looks_at_gets_a_sentence() -> None:
    method = LabelFreeDistill(Blend(), **LABELS)
    with pytest.raises(ValueError, match=r"data\.train\.y is not labelled, and no term .* distills"):
        sourced(method, x=TRUTH, y=PLAIN).setup("fit")


def test_setup_builds_what_is_asked_and_nothing_else() -> None:
    method = sourced(LabelFreeDistill(Blend(), teacher, pointnet=PointNet), x=PLAIN)
    method.setup("validate")
    assert method.teachers == {} and method.pointnet is None
    method.setup("fit")
    assert set(method.taught_by()) == {"teacher", "pointnet"}
    assert method.taught_by()["pointnet"].source == "a random PointNet"
    nothing: Any = lambda: 1 / 0  # noqa: E731
    told = sourced(LabelFreeDistill(Blend(), nothing, only("channel_wise"), pointnet=nothing), x=TOLD)
    told.setup("fit")
    assert told.teachers == {} and set(told.taught_by()) == set()


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: prepared(temperature=0.0), r"temperature must be above 0, not 0\.0"),
        (lambda: prepared(pointnet=None), r"model\.init_args\.pointnet is missing.*depthkd pointnet"),
        (lambda: Geometry(points=0), r"geometry\.points must be 1 or more, not 0"),
        (lambda: Geometry(depth_ratio=1.0), r"geometry\.depth_ratio must be above 1, not 1\.0"),
        (lambda: Geometry(field_of_view=180.0), r"field_of_view must be between 0 and 180 degrees"),
        (lambda: prepared(weights=LabelFreeWeights(channel_wise=-1.0)), "'channel_wise' has -1"),
    ],
)
def test_settings_out_of_range_get_a_sentence(make: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make()
