"""What white is in the input of an ONNX graph, read off its first nodes."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from depthkd.models import OnnxDepth
from depthkd.models.onnx_input import white_of
from depthkd.runs.named_models import load_model

Node = tuple[str, list[float] | float | None]


def graph(path: Path, nodes: list[Node], kind: str = "initializer") -> Path:
    """Steps one after the other, each with a constant or with none, and the mean over channels at the end."""
    made, held, name = [helper.make_node("Shape", ["image"], ["size"])], [], "image"
    for i, (operation, value) in enumerate(nodes):
        names = [name] if value is None else [name, f"c{i}"]
        if value is not None:
            layout = np.float64 if kind == "double" else np.float32
            array = np.array(value, layout).reshape(-1, 1, 1) if np.ndim(value) else np.array(value, layout)
            if kind == "node":
                tensor = numpy_helper.from_array(array, "held")
                made.append(helper.make_node("Constant", [], [f"c{i}"], value=tensor))
            else:
                tensor = helper.make_tensor(f"c{i}", TensorProto.FLOAT, array.shape, array.ravel().tolist())
                held.append(tensor if kind == "listed" else numpy_helper.from_array(array, f"c{i}"))
        more = {"to": TensorProto.DOUBLE if kind == "double" else TensorProto.FLOAT}
        made.append(helper.make_node(operation, names, [f"x{i}"], **(more if operation == "Cast" else {})))
        name = f"x{i}"
    made.append(helper.make_node("ReduceMean", [name, "axes"], ["depth"]))
    held.append(numpy_helper.from_array(np.array([1]), "axes"))
    of = TensorProto.DOUBLE if kind == "double" else TensorProto.FLOAT
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, "h", "w"])
    depth = helper.make_tensor_value_info("depth", of, ["n", 1, "h", "w"])
    size = helper.make_tensor_value_info("size", TensorProto.INT64, [4])
    whole = helper.make_graph(made, "g", [image], [depth, size], held)
    onnx.save(helper.make_model(whole, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


@pytest.mark.parametrize("kind", ["initializer", "listed", "node", "double"])
@pytest.mark.parametrize(
    ("nodes", "white"),
    [
        ([("Div", 255.0)], 255),
        ([("Mul", 1 / 255)], 255),
        ([("Identity", None), ("Div", 127.5), ("Sub", 1.0)], 255),
        ([("Sub", [123.7, 116.3, 103.5]), ("Div", [58.4, 57.1, 57.4])], 255),
        ([("Div", 255.0), ("Sub", [0.485, 0.456, 0.406]), ("Div", [0.229, 0.224, 0.225])], 255),
        ([("Sub", [0.485, 0.456, 0.406]), ("Div", [0.229, 0.224, 0.225])], 1),
        ([("Mul", 2.0), ("Sub", 1.0)], 1),
        ([("Relu", None), ("Div", 255.0)], 1),
        ([], 1),
    ],
)
def test_white_is_what_the_first_nodes_expect(
    nodes: list[Node], white: float, kind: str, tmp_path: Path
) -> None:
    cast: list[Node] = [("Cast", None)] if kind == "double" else []
    path = graph(tmp_path / "a.onnx", cast + nodes, kind)
    assert white_of(path, "image") == white == OnnxDepth(str(path), threads=1).input_range
    assert OnnxDepth(str(path), input_range=7.0, threads=1).input_range == 7


def test_a_graph_that_divides_is_given_as_much(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = graph(tmp_path / "a.onnx", [("Div", 255.0)])
    image = torch.rand(1, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(load_model(str(path)).predict(image), image.mean(1))
    assert "affine disparity of RGB in [0, 255], by which it divides itself;" in capsys.readouterr().out


def test_what_divides_by_something_that_is_calculated_is_left_alone(tmp_path: Path) -> None:
    path = graph(tmp_path / "a.onnx", [("Relu", None)])
    model = onnx.load(path)
    model.graph.node[1].op_type = "Div"
    model.graph.node[1].input.append("image")
    onnx.save(model, path)
    assert white_of(path, "image") == 1


WHOLE = helper.make_tensor("", TensorProto.INT64, [], [255])
HALVES = helper.make_tensor("", TensorProto.FLOAT16, [3], [58.4, 57.1, 57.4])


@pytest.mark.parametrize(
    ("held", "more", "white"),
    [
        ({"value_float": 255.0}, [], 255),
        ({"value_floats": [255.0]}, [], 255),
        ({"value_int": 255}, ["Cast"], 255),
        ({"value_int": -2}, ["Cast"], 1),
        ({"value_ints": [-255]}, ["Cast"], 255),
        ({"value": WHOLE}, ["Cast"], 255),
        ({"value": numpy_helper.from_array(np.array(255))}, ["Cast"], 255),
        ({"value": HALVES}, ["Cast", "Unsqueeze"], 255),
    ],
)
@pytest.mark.parametrize(("before", "argument"), [("Clip", []), ("Gather", [2, 1, 0]), ("Identity", None)])
def test_a_constant_may_be_held_in_many_ways(
    held: dict[str, Any],
    more: list[str],
    white: float,
    before: str,
    argument: list[int] | None,
    tmp_path: Path,
) -> None:
    path = graph(tmp_path / "a.onnx", [(before, None), ("Div", 1.0)])
    model = onnx.load(path)
    step, division = model.graph.node[1:3]
    if argument:
        step.input.append("channels")
        step.attribute.append(helper.make_attribute("axis", 1))
        model.graph.initializer.append(numpy_helper.from_array(np.array(argument), "channels"))
    nodes, name = [helper.make_node("Constant", [], ["held"], **held)], "held"
    for operation in more:
        axes = [] if operation == "Cast" else ["sides"]
        to = {"to": TensorProto.FLOAT} if operation == "Cast" else {}
        nodes.append(helper.make_node(operation, [name, *axes], [f"{name}_"], **to))
        name += "_"
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 2]), "sides"))
    division.input[1] = name
    for node in reversed(nodes):
        model.graph.node.insert(0, node)
    onnx.save(model, path)
    assert white_of(path, "image") == white == OnnxDepth(str(path), threads=1).input_range
