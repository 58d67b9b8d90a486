"""Small ONNX graphs whose answers can be worked out by hand."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT
Step = tuple[str, dict[str, Any], Sequence[Any]]  # an operation, its attributes, its constant inputs

SQUEEZE: Step = ("Squeeze", {}, [[1]])  # [N, 1, H, W] -> [N, H, W]
ALL_BUT_HW: Step = ("Squeeze", {}, [[0, 1]])  # -> [H, W], of one image
LAST: Step = ("Transpose", {"perm": [0, 2, 3, 1]}, [])  # -> [N, H, W, 1]
FIRST: Step = ("Transpose", {"perm": [0, 3, 1, 2]}, [])  # [N, H, W, 3] -> [N, 3, H, W]
MEAN: Step = ("ReduceMean", {"axes": [2, 3], "keepdims": 0}, [])  # -> [N, 1]


def mixer(
    path: Path,
    shape: Sequence[int | str | None] = ("n", 3, "h", "w"),
    steps: Sequence[Step] = (),
    before: Sequence[Step] = (),
    inputs: int = 1,
    kind: int = FLOAT,
    channels: int = 1,
    gain: float = 1.0,
    external: str | None = None,
) -> str:
    """Write a network whose depth is 1 x red + 10 x green + 100 x blue; returns its path.

    Args:
        path: of the file.
        shape: of the input.
        steps: what comes after that; "depth" is the last one's output, and "mixed" the first's input.
        before: what comes first of all.
        inputs: how many.
        kind: of the input's numbers.
        channels: copies of the depth.
        gain: of the depth.
        external: a file beside it for the weights.
    """
    inner = kind if kind in (FLOAT, TensorProto.FLOAT16) else FLOAT
    weights = gain * np.repeat(np.array([1.0, 10.0, 100.0], np.float32).reshape(1, 3, 1, 1), channels, 0)
    weight = numpy_helper.from_array(weights.astype(helper.tensor_dtype_to_np_dtype(inner)), "weight")
    nodes, constants, name = [helper.make_node("Cast", ["image"], ["cast"], to=inner)], [weight], "cast"

    def add(step: Step, output: str) -> str:
        operation, attributes, values = step
        arrays = [np.asarray(value) for value in values]
        kept = [numpy_helper.from_array(one, f"{output}.{i}") for i, one in enumerate(arrays)]
        constants.extend(kept)
        nodes.append(helper.make_node(operation, [name, *(one.name for one in kept)], [output], **attributes))
        return output

    for i, step in enumerate(before):
        name = add(step, f"before{i}")
    nodes.append(helper.make_node("Conv", [name, "weight"], ["mixed"]))
    name = "mixed"
    for i, step in enumerate(steps):
        name = add(step, f"step{i}")
    nodes.append(helper.make_node("Identity", [name], ["depth"]))
    graph = helper.make_graph(
        nodes,
        "mixer",
        [helper.make_tensor_value_info(n, kind, shape) for n in ("image", "other")[:inputs]],
        [helper.make_tensor_value_info(n, inner, None) for n in ("depth", "mixed")],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = {"save_as_external_data": True, "location": external, "size_threshold": 0} if external else {}
    onnx.save(model, path, **options)
    return str(path)
