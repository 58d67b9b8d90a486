"""What white is in an ONNX graph's input, as far as its first nodes say, without the onnx package.

Field numbers are those of onnx/onnx.proto.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from depthkd.formats.protobuf import fields, messages

GRAPH, NODE, INITIALIZER = 7, 1, 5  # ModelProto.graph; GraphProto.node, .initializer
INPUT, OUTPUT, OPERATION, ATTRIBUTE = 1, 2, 4, 5  # of NodeProto
TENSOR = 5  # AttributeProto.t
TYPE, NAME = 2, 8  # of TensorProto
VALUES = {4: "<f4", 9: None, 10: "<f8"}  # TensorProto.float_data, .raw_data, .double_data
TYPES = {1: "<f4", 2: "u1", 6: "<i4", 7: "<i8", 10: "<f2", 11: "<f8"}  # by TensorProto.data_type
PASSES = ("Cast", "Identity", "Transpose", "Resize", "Add", "Sub")  # they leave the scale as it is
SHAPE = "Shape"  # it looks at sizes alone
BYTES, ONE = 255.0, 1.0
BETWEEN = 0.1  # a graph that makes its input smaller than that expects more than [0, 1]


def white_of(path: Path, name: str) -> float:
    """255 where the graph's first nodes divide its input by 255, or by standard deviations in that range, and
    1 otherwise.

    Args:
        path: of the ONNX file.
        name: of its input.
    """
    graphs = [value for n, value in fields(memoryview(path.read_bytes())) if n == GRAPH]
    graph = next((value for value in graphs if not isinstance(value, int)), memoryview(b""))
    nodes, scale = list(messages(graph, NODE)), 1.0
    while True:
        users = [node for node in nodes if name in _texts(node, INPUT) and _texts(node, OPERATION) != [SHAPE]]
        if len(users) != 1:
            break
        (operation,), (first, *others) = _texts(users[0], OPERATION), _texts(users[0], INPUT)
        if operation in ("Div", "Mul"):
            other = others[0] if first == name else first
            factor = _largest(graph, nodes, other)
            if not factor or (operation == "Div" and first != name):
                break
            scale = scale / factor if operation == "Div" else scale * factor
        elif operation not in PASSES:
            break
        name = _texts(users[0], OUTPUT)[0]
    return BYTES if scale < BETWEEN else ONE


def _texts(message: memoryview, number: int) -> list[str]:
    return [bytes(value).decode("utf-8", "replace") for value in messages(message, number)]


def _largest(graph: memoryview, nodes: list[memoryview], name: str) -> float | None:
    """The largest value of a constant; None where the graph calculates it."""
    for tensor in messages(graph, INITIALIZER):
        if name in _texts(tensor, NAME):
            return _value(tensor)
    for node in nodes:
        if name in _texts(node, OUTPUT) and _texts(node, OPERATION) == ["Constant"]:
            tensors = [one for attribute in messages(node, ATTRIBUTE) for one in messages(attribute, TENSOR)]
            return _value(tensors[0]) if tensors else None
    return None


def _value(tensor: memoryview) -> float | None:
    kind = next((value for n, value in fields(tensor) if n == TYPE and isinstance(value, int)), 0)
    values = [found for number, data in fields(tensor) for found in _numbers(number, data, kind)]
    return max(map(abs, values)) if values else None


def _numbers(number: int, data: int | memoryview, kind: int) -> Iterator[float]:
    if number in VALUES and not isinstance(data, int) and (layout := VALUES[number] or TYPES.get(kind)):
        yield from np.frombuffer(data, layout).astype(np.float64).tolist()
