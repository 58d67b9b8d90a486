"""What white is in an ONNX graph's input, as far as its first nodes say, without the onnx package.

Field numbers are those of onnx/onnx.proto.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from depthkd.formats.protobuf import fields, messages, whole_numbers

GRAPH, NODE, INITIALIZER = 7, 1, 5  # ModelProto.graph; GraphProto.node, .initializer
INPUT, OUTPUT, OPERATION, ATTRIBUTE = 1, 2, 4, 5  # of NodeProto
FLOAT, WHOLE, TENSOR, FLOATS, SEVERAL = 2, 3, 5, 7, 8  # AttributeProto.f, .i, .t, .floats, .ints
TYPE, NAME = 2, 8  # of TensorProto
VALUES = {4: "<f4", 9: None, 10: "<f8"}  # TensorProto.float_data, .raw_data, .double_data
CODES = (5, 7)  # TensorProto.int32_data, which holds the bits of 16-bit floats too, and .int64_data
HALF = 10  # TensorProto.data_type of such floats
TYPES = {1: "<f4", 2: "u1", 6: "<i4", 7: "<i8", 10: "<f2", 11: "<f8"}  # by TensorProto.data_type
SHAPED = ("Cast", "Identity", "Transpose", "Reshape", "Unsqueeze", "Squeeze", "Expand")
PASSES = (*SHAPED, "Resize", "Pad", "Slice", "Gather", "Clip", "Add", "Sub")  # they leave the scale as it is
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
            return _largest_of(_elements(tensor))
    maker = next((node for node in nodes if name in _texts(node, OUTPUT)), None)
    if maker is None:
        return None
    if _texts(maker, OPERATION) == ["Constant"]:
        return _largest_of(found for attribute in messages(maker, ATTRIBUTE) for found in _held(attribute))
    return _largest(graph, nodes, _texts(maker, INPUT)[0]) if _texts(maker, OPERATION)[0] in SHAPED else None


def _held(attribute: memoryview) -> Iterator[float]:
    """The numbers of a Constant's attribute."""
    for number, value in fields(attribute):
        if number in (WHOLE, SEVERAL):
            yield from _signed(value)
        elif number in (FLOAT, FLOATS) and not isinstance(value, int):
            yield from _read(value, "<f4")
        elif number == TENSOR and not isinstance(value, int):
            yield from _elements(value)


def _elements(tensor: memoryview) -> Iterator[float]:
    kind = next((value for n, value in fields(tensor) if n == TYPE and isinstance(value, int)), 0)
    for number, data in fields(tensor):
        if number in CODES and kind == HALF:
            yield from _read(memoryview(np.array(whole_numbers(data), "<u2").tobytes()), "<f2")
        elif number in CODES:
            yield from _signed(data)
        elif number in VALUES and not isinstance(data, int) and (layout := VALUES[number] or TYPES.get(kind)):
            yield from _read(data, layout)


def _signed(field: int | memoryview) -> list[float]:
    """Whole numbers, of which negative ones lie there as two's complements of 64 bits."""
    return [float(n - 2**64 if n >= 2**63 else n) for n in whole_numbers(field)]


def _read(data: memoryview, layout: str) -> list[float]:
    numbers: list[float] = np.frombuffer(data, layout).astype(np.float64).tolist()
    return numbers


def _largest_of(numbers: Iterable[float]) -> float | None:
    return max(map(abs, numbers), default=None)
