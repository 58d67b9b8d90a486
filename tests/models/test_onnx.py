import copy
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from onnx import TensorProto

from depthkd.batch import AFFINE_DISPARITY, METRIC_DEPTH
from depthkd.models import Frozen, OnnxDepth
from tests.models.graphs import SQUEEZE, Step, mixer

Maker = Callable[..., str]


@pytest.fixture
def network(tmp_path: Path) -> Maker:
    """Writes a network whose depth is 1 x red + 10 x green + 100 x blue."""
    return partial(mixer, tmp_path / "network.onnx")


def picture(height: int, width: int, count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))


def pooled(side: int) -> Step:
    return "AveragePool", {"kernel_shape": [side, side], "strides": [side, side]}, []


def mix(image: torch.Tensor) -> torch.Tensor:
    return image[:, 0] + 10 * image[:, 1] + 100 * image[:, 2]


@pytest.mark.parametrize("squeeze", [False, True])
@pytest.mark.parametrize("shape", [("n", 3, "h", "w"), (1, 3, 8, 12), (2, 3, 8, 12), (3, 3, 8, 12)])
def test_any_batch_size_and_either_output_shape(network: Maker, shape: Any, squeeze: bool) -> None:
    model = OnnxDepth(network(shape, [SQUEEZE] if squeeze else []), threads=1)
    for count in (1, 2, 5):
        output = model(picture(8, 12, count))
        assert output.features is None
        torch.testing.assert_close(output.depth, mix(picture(8, 12, count)))


def test_the_channels_are_red_green_blue_in_the_given_range_then_normalized(network: Maker) -> None:
    model = OnnxDepth(network(), input_range=255.0, mean=[100.0, 50.0, 0.0], std=[2.0, 4.0, 8.0], threads=1)
    pixels = picture(4, 5) * 255
    wanted = (pixels[:, 0] - 100) / 2 + 10 * (pixels[:, 1] - 50) / 4 + 100 * pixels[:, 2] / 8
    torch.testing.assert_close(model(picture(4, 5)).depth, wanted)


def test_a_static_size_is_read_from_the_graph(network: Maker) -> None:
    model = OnnxDepth(network((1, 3, 8, 12)), threads=1)
    assert model.fixed_size == (8, 12)
    assert model(picture(20, 20)).depth.shape == (2, 8, 12)
    assert model.predict(picture(20, 20)).shape == (2, 20, 20)


def test_a_free_size_is_the_image_s_rounded_to_the_multiple(network: Maker) -> None:
    path = network()
    assert OnnxDepth(path, threads=1)(picture(13, 21)).depth.shape == (2, 13, 21)
    assert OnnxDepth(path, multiple=8, threads=1)(picture(13, 21)).depth.shape == (2, 16, 24)
    assert OnnxDepth(path, size=[16, 8], threads=1)(picture(13, 21)).depth.shape == (2, 16, 8)


@pytest.mark.parametrize(("size", "inner"), [((24, 40), (12, 40)), ((40, 20), (20, 20))])
@pytest.mark.parametrize("pool", [1, 2])
def test_the_aspect_is_kept_by_a_border_that_the_depth_does_not_show(
    network: Maker, size: tuple[int, int], inner: tuple[int, int], pool: int
) -> None:
    """A ramp across the image must come out from edge to edge; a stretched or padded one would not."""
    model = OnnxDepth(network(steps=[pooled(pool)]), size=size, keep_aspect=True, threads=1)
    height, width = (30, 100) if inner[0] < inner[1] else (30, 30)
    ramp = torch.linspace(0, 1, width).expand(1, 3, height, width)
    depth = model(ramp).depth
    assert depth.shape == (1, inner[0] // pool, inner[1] // pool)
    assert depth[0, :, 0].max() < 6
    assert depth[0, :, -1].min() > 105
    assert model.predict(ramp).shape == (1, height, width)


def test_half_precision_graphs_answer_in_float32(network: Maker) -> None:
    model = OnnxDepth(network(kind=TensorProto.FLOAT16), threads=1)
    depth = model(picture(4, 5)).depth
    assert depth.dtype == torch.float32
    torch.testing.assert_close(depth, mix(picture(4, 5)), atol=0.1, rtol=0)


def test_an_output_can_be_named(network: Maker) -> None:
    path = network(steps=[pooled(2)])
    assert OnnxDepth(path, threads=1)(picture(4, 6)).depth.shape == (2, 2, 3)
    assert OnnxDepth(path, output="mixed", threads=1)(picture(4, 6)).depth.shape == (2, 4, 6)
    with pytest.raises(ValueError, match=r"has no output 'disparity'; it has depth, mixed$"):
        OnnxDepth(path, output="disparity")


def test_it_says_what_it_is(network: Maker) -> None:
    path = network()
    assert OnnxDepth(path).space == AFFINE_DISPARITY
    assert OnnxDepth(path).training_sets is None
    assert OnnxDepth(path, training_sets=["KITTI"]).training_sets == ("KITTI",)
    model = OnnxDepth(path, space="metric depth", license="mit")
    assert (model.space, model.license, model.source) == (METRIC_DEPTH, "mit", path)
    assert list(model.parameters()) == list(model.encoder_parameters()) == []
    assert model.state_dict() == {}


def test_copies_and_pickles_open_the_file_anew(network: Maker) -> None:
    model = OnnxDepth(network(), threads=1)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        torch.testing.assert_close(twin(picture(4, 5)).depth, mix(picture(4, 5)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_can_be_a_frozen_teacher(network: Maker, dtype: torch.dtype) -> None:
    teacher = Frozen(lambda: OnnxDepth(network(), threads=1), dtype=dtype)
    torch.testing.assert_close(teacher(picture(4, 5)).depth, mix(picture(4, 5)), atol=0.5, rtol=0)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=f"^there is no ONNX file '{tmp_path}/none.onnx'$"):
        OnnxDepth(str(tmp_path / "none.onnx"))


def test_a_broken_file_is_named(network: Maker, tmp_path: Path) -> None:
    whole = Path(network()).read_bytes()
    for content in (b"", b"hello, this is no graph", whole[: len(whole) // 2]):
        path = tmp_path / "broken.onnx"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"^'{path}' is not an ONNX graph that runs: .+") as caught:
            OnnxDepth(str(path))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"inputs": 2}, r"would have one input \[batch, 3, height, width\]; it has 'image' .*; 'other'"),
        ({"kind": TensorProto.DOUBLE}, "tensor\\(double\\); it would be float or float16"),
    ],
)
def test_other_inputs_are_refused(network: Maker, arguments: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        OnnxDepth(network(**arguments))


def test_a_size_that_the_graph_cannot_run_at_is_refused(network: Maker) -> None:
    with pytest.raises(ValueError, match=r"runs at \[8, 12\] only; size is \[16, 24\]$"):
        OnnxDepth(network((1, 3, 8, 12)), size=[16, 24])


def test_an_answer_that_is_no_map_is_refused(network: Maker) -> None:
    model = OnnxDepth(network(channels=2), threads=1)
    with pytest.raises(
        ValueError, match=r"'depth' of '.*' has shape \[2, 2, 4, 5\]; depth would be \[2, height"
    ):
        model(picture(4, 5))


def test_an_image_that_the_graph_chokes_on_is_named(network: Maker) -> None:
    model = OnnxDepth(network(("n", 3, 8, "w")), threads=1)
    with pytest.raises(ValueError, match=r"cannot run on 2x3x4x5: .+"):
        model(picture(4, 5))
