"""Graphs as they are found: batches, layouts and outputs of other kinds, and the sentences about the rest."""

import copy
import pickle
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto
from torch import Tensor

from depthkd.errors import UserError
from depthkd.models import Frozen, OnnxDepth
from depthkd.models.onnx import maps_of, nature
from tests.models.graphs import ALL_BUT_HW, FIRST, LAST, MEAN, SQUEEZE, Step, mixer

RESHAPE_ONE: Step = ("Reshape", {}, [[1, 1, 8, 12]])  # a batch of 1 built in: several images are an error
RESHAPE_MERGED: Step = ("Reshape", {}, [[1, -1, 12]])  # ... or one map of them all
SHARED: list[Step] = [("Softmax", {"axis": 0}, [])]  # ... or maps that depend on each other


def picture(height: int, width: int, count: int = 2) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))


def mix(image: Tensor) -> Tensor:
    return image[:, 0] + 10 * image[:, 1] + 100 * image[:, 2]


class Counting(OnnxDepth):
    """Notes how many images it is asked at a time."""

    def __init__(self, path: str) -> None:
        super().__init__(path, threads=1)
        self.asked: list[int] = []

    def _run(self, pixels: Tensor) -> Tensor:
        self.asked.append(len(pixels))
        return super()._run(pixels)


@pytest.mark.parametrize("steps", [[RESHAPE_ONE], [SQUEEZE, RESHAPE_MERGED], SHARED, [ALL_BUT_HW]])
def test_a_batch_of_one_that_is_built_in_is_found_out_once(steps: Sequence[Step], tmp_path: Path) -> None:
    model = Counting(mixer(tmp_path / "one.onnx", steps=steps))
    image = picture(8, 12, 3)
    expected = torch.ones(3, 8, 12) if steps is SHARED else mix(image)
    torch.testing.assert_close(model(image).depth, expected)
    assert model.asked == [3, 1, 1, 1]
    for twin in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        torch.testing.assert_close(twin(image[:2]).depth, expected[:2])
        assert twin.asked[-2:] == [1, 1] and twin.asked.count(2) == 0
    teacher = Frozen(lambda: Counting(mixer(tmp_path / "one.onnx", steps=steps)))
    torch.testing.assert_close(teacher(image).depth, expected)


def test_a_graph_that_takes_batches_gets_them(tmp_path: Path) -> None:
    model = Counting(mixer(tmp_path / "any.onnx"))
    for count in (1, 3, 3, 2):
        torch.testing.assert_close(model(picture(8, 12, count)).depth, mix(picture(8, 12, count)))
    assert model.asked == [1, 3, 1, 1, 1, 3, 2]


@pytest.mark.parametrize("shape", [("n", "h", "w", 3), (1, 8, 12, 3), (2, 8, 12, 3)])
@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8])
def test_channels_may_come_last_and_numbers_be_bytes(shape: Any, kind: int, tmp_path: Path) -> None:
    model = OnnxDepth(mixer(tmp_path / "last.onnx", shape, before=[FIRST], kind=kind), threads=1)
    image, white = picture(8, 12, 3), 255.0 if kind == TensorProto.UINT8 else 1.0
    pixels = (image * white).round() if white > 1 else image
    assert model.fixed_size == (None if shape[1] == "h" else (8, 12))
    torch.testing.assert_close(model(image).depth, mix(pixels), rtol=5e-3, atol=0.1)
    assert model(image).depth.dtype == torch.float32


def test_bytes_are_rounded_and_cut(tmp_path: Path) -> None:
    model = OnnxDepth(mixer(tmp_path / "bytes.onnx", kind=TensorProto.UINT8), input_range=255.0, threads=1)
    image = torch.tensor([-0.1, 0.0, 0.999, 1.0, 1.3]).view(1, 1, 1, 5).expand(1, 3, 1, 5)
    expected = torch.tensor([0.0, 0.0, 255.0, 255.0, 255.0]) * 111
    torch.testing.assert_close(model(image).depth[0, 0], expected)
    with pytest.raises(UserError, match="takes bytes, which know no mean and std: leave them out"):
        OnnxDepth(model.path, mean=[1.0, 2.0, 3.0])


@pytest.mark.parametrize("steps", [[], [SQUEEZE], [LAST], [ALL_BUT_HW], [LAST, ("Squeeze", {}, [[0]])]])
@pytest.mark.parametrize("batch", ["n", 1])
def test_one_map_an_image_in_any_shape(steps: Sequence[Step], batch: Any, tmp_path: Path) -> None:
    model = OnnxDepth(mixer(tmp_path / "map.onnx", (batch, 3, "h", "w"), steps), threads=1)
    for count in (1, 2):
        torch.testing.assert_close(model(picture(5, 7, count)).depth, mix(picture(5, 7, count)))


VECTOR: Step = ("Reshape", {}, [[-1]])
NO_MAPS: dict[str, tuple[dict[str, Any], str]] = {
    "a number an image": ({"steps": [MEAN]}, "has shape [1, 1]"),
    "numbers an image": ({"steps": [("Flatten", {}, [])]}, "has shape [1, 20]"),
    "numbers in all": ({"steps": [VECTOR]}, "has shape [20]"),
    "classes": (
        {"channels": 4, "steps": [("GlobalAveragePool", {}, [])]},
        "has shape [1, 4, 1, 1]",
    ),
}


@pytest.mark.parametrize("name", NO_MAPS)
def test_what_is_no_map_is_refused_and_other_outputs_are_named(name: str, tmp_path: Path) -> None:
    arguments, shape = NO_MAPS[name]
    model = OnnxDepth(mixer(tmp_path / "graph.onnx", **arguments), threads=1)
    with pytest.raises(
        UserError, match=re.escape(f"the output 'depth' of '{model.path}' {shape}; ")
    ) as caught:
        model(picture(4, 5, 1))
    assert str(caught.value).endswith(
        "depth would be [1, height, width] or [1, 1, height, width]; `output` may name another one: mixed"
    )


def sentence(capfd: pytest.CaptureFixture[str], ask: Any) -> str:
    """Of the mistake that is made; nothing else is printed, whoever would print it."""
    capfd.readouterr()
    with pytest.raises(UserError) as caught:
        ask()
    assert capfd.readouterr() == ("", "")
    assert "\n" not in str(caught.value) and ".cc" not in str(caught.value) and ".h:" not in str(caught.value)
    return str(caught.value)


def test_a_size_that_is_built_in_is_said_in_a_whole_sentence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """As of a transformer whose positions were exported for one grid of patches."""
    grid: Step = ("Add", {}, [np.zeros((1, 1, 8, 12), np.float32)])
    model = OnnxDepth(mixer(tmp_path / "grid.onnx", steps=[grid]), threads=1)
    for shape, said in (((10, 12), "8 by 10"), ((8, 13), "12 by 13")):
        text = sentence(capfd, lambda shape=shape: model(picture(*shape)))
        assert text.startswith(
            f"'{model.path}' cannot run on 2x3x{shape[0]}x{shape[1]}: Non-zero status code"
        )
        assert said in text or "broadcast" in text
        assert text.endswith("; where its size is built in, give `size` or `multiple`")
    torch.testing.assert_close(OnnxDepth(model.path, size=[8, 12])(picture(8, 12)).depth, mix(picture(8, 12)))
    half = OnnxDepth(mixer(tmp_path / "half.onnx", ("n", 3, 8, "w")), threads=1)
    assert "index: 2 Got: 4 Expected: 8; where" in sentence(capfd, lambda: half(picture(4, 5)))


def test_files_that_are_no_graphs_are_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path, refused = tmp_path / "m.onnx", f"'{tmp_path}/m.onnx' is not an ONNX graph that runs: "
    whole = Path(mixer(path)).read_bytes()
    for content, said in (
        (b"", "it is empty"),
        (b"<!doctype html><html>", "it is an HTML page, probably one to log in"),
        (b"version https://git-lfs.github.com/spec/v1\n", "it is a Git LFS pointer"),
        (whole[: len(whole) // 2], "Load model from .* failed: ?Protobuf parsing failed"),
        (bytes(range(200)), "Load model from .* failed"),
    ):
        path.write_bytes(content)
        assert re.match(re.escape(refused) + said, sentence(capfd, lambda: OnnxDepth(str(path))))
    path.write_bytes(whole)
    folder = sentence(capfd, lambda: OnnxDepth(str(tmp_path)))
    assert folder == f"'{tmp_path}' is a folder; it would be an ONNX file, such as '{path}'"


def test_external_data_is_looked_for_and_part_of_the_identity(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path, data = tmp_path / "m.onnx", tmp_path / "m.onnx_data"
    model = OnnxDepth(mixer(path, external=data.name), threads=1)
    assert model.files() == [path, data]
    before = model.identity()
    data.write_bytes(np.float32([1, 10, 200]).tobytes())
    assert OnnxDepth(str(path), threads=1).identity() != before
    data.unlink()
    assert sentence(capfd, lambda: OnnxDepth(str(path))) == (
        f"'{path}' keeps weights in 'm.onnx_data', and there is no '{data}': copy that file to there"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"shape": ("n", 1, "h", "w")}, "it has 'image' ['n', 1, 'h', 'w'] (the 3 could come last, too)"),
        ({"shape": ("n", "h", "w", 4), "before": [FIRST]}, "it has 'image' ['n', 'h', 'w', 4]"),
        ({"shape": (3, "h", "w"), "before": [("Unsqueeze", {}, [[0]])]}, "it has 'image' [3, 'h', 'w']"),
        ({"kind": TensorProto.INT64}, "is tensor(int64); it would be float or float16, or uint8 for bytes"),
    ],
)
def test_inputs_of_other_kinds_are_refused(arguments: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        OnnxDepth(mixer(tmp_path / "m.onnx", **arguments))


def test_an_output_that_is_no_map_is_named_by_its_nature() -> None:
    for answer, said in (
        (np.ones((1, 4, 5), bool), "holds no numbers, but truth values"),
        (np.full((1, 4, 5), "x", object), "holds no numbers, but text"),
        (np.ones((1, 4), np.float32), "has shape [1, 4]"),
        ([1.0], "is a list"),
    ):
        assert maps_of(answer, 1) is None and nature(answer) == said
