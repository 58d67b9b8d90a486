import pytest
import torch

from depthkd.batch import (
    AFFINE_DEPTH,
    AFFINE_DISPARITY,
    METRIC_DEPTH,
    METRIC_DISPARITY,
    SCALE_DISPARITY,
    Ambiguity,
    Batch,
    DepthSpace,
    Quantity,
    Skipped,
)


@pytest.mark.parametrize("quantity", Quantity)
@pytest.mark.parametrize("ambiguity", Ambiguity)
def test_a_space_reads_back_from_its_name(quantity: Quantity, ambiguity: Ambiguity) -> None:
    space = DepthSpace(quantity, ambiguity)
    assert DepthSpace.parse(str(space)) == space
    assert DepthSpace.parse(space) is space


def test_a_space_is_written_as_people_say_it() -> None:
    assert str(AFFINE_DISPARITY) == "affine disparity"
    assert str(METRIC_DEPTH) == "metric depth"


@pytest.mark.parametrize("text", ["", "depth", "disparity affine", "affine inverse", "metric depth map"])
def test_what_is_no_space_is_refused_with_the_list(text: str) -> None:
    with pytest.raises(ValueError, match=f"^'{text}' is not a depth space.*'scale disparity'") as caught:
        DepthSpace.parse(text)
    assert str(caught.value).count(", ") == 5


def test_a_space_includes_those_of_which_more_is_known() -> None:
    scale_depth = DepthSpace.parse("scale depth")
    assert scale_depth.includes(METRIC_DEPTH) and scale_depth.includes(scale_depth)
    assert AFFINE_DEPTH.includes(scale_depth) and AFFINE_DISPARITY.includes(METRIC_DISPARITY)
    assert not scale_depth.includes(AFFINE_DEPTH) and not METRIC_DEPTH.includes(scale_depth)
    assert not AFFINE_DISPARITY.includes(METRIC_DEPTH)


def test_metric_and_scale_values_invert_and_return() -> None:
    assert METRIC_DEPTH.inverse() == METRIC_DISPARITY
    assert SCALE_DISPARITY.inverse() == DepthSpace(Quantity.DEPTH, Ambiguity.SCALE)
    assert METRIC_DEPTH.inverse().inverse() == METRIC_DEPTH


@pytest.mark.parametrize("space", [AFFINE_DEPTH, AFFINE_DISPARITY])
def test_affine_values_do_not_invert(space: DepthSpace) -> None:
    assert not space.invertible
    with pytest.raises(ValueError, match=f"^'{space}' cannot be inverted: align it first"):
        space.inverse()


def test_uint8_images_become_floats_from_0_to_1() -> None:
    image = torch.tensor([0, 51, 255], dtype=torch.uint8).expand(3, 3).reshape(1, 3, 1, 3)
    batch = Batch(image=image, keys=["a"])
    expected = torch.tensor([0.0, 0.2, 1.0]).expand(1, 3, 1, 3)
    torch.testing.assert_close(batch.images(), expected)
    assert batch.image.dtype == torch.uint8
    assert torch.equal(batch.image, image)


def test_float_images_stay_as_they_are() -> None:
    image = torch.rand(2, 3, 4, 5)
    assert torch.equal(Batch(image=image, keys=["a", "b"]).images(), image)


def test_moving_a_batch_moves_every_tensor_and_keeps_the_rest() -> None:
    batch = Batch(
        image=torch.zeros(2, 3, 4, 5, dtype=torch.uint8),
        keys=["a", "b"],
        depth=torch.ones(2, 4, 5),
        mask=torch.ones(2, 4, 5, dtype=torch.bool),
        intrinsics=torch.eye(3).expand(2, 3, 3),
        space=METRIC_DEPTH,
        positions=[7, 9],
        windows=torch.zeros(2, 1, 3, 4, 4, dtype=torch.uint8),
        boxes=torch.zeros(2, 1, 4),
        skipped=[Skipped("image", "sample c: no image")],
    )
    moved = batch.to("meta")
    for name in ("image", "depth", "mask", "intrinsics", "windows", "boxes"):
        assert getattr(moved, name).device.type == "meta", name
        assert getattr(batch, name).device.type == "cpu", name
    for name in ("keys", "space", "positions", "skipped"):
        assert getattr(moved, name) == getattr(batch, name), name
    assert len(moved) == 2
