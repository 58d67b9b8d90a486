"""How many numbers the weights of an ONNX file have, without the onnx package.

A protocol buffer is a sequence of fields, each a key, (number << 3) | wire type, and a value. The numbers are
those of onnx/onnx.proto.
"""

from collections.abc import Iterator
from math import prod
from pathlib import Path

GRAPH, NODE, INITIALIZER = 7, 1, 5  # ModelProto.graph; GraphProto.node, .initializer
ATTRIBUTE, SUBGRAPH, SUBGRAPHS = 5, 6, 11  # NodeProto.attribute; AttributeProto.g, .graphs
DIMENSIONS, TYPE = 1, 2  # TensorProto.dims, .data_type
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types
WHOLE_NUMBERS = {6, 7, 12, 13}  # int32, int64, uint32, uint64: shapes, axes and indices


def initializer_sizes(path: Path) -> Iterator[int]:
    """How many elements each initializer of a graph and its subgraphs has, but for those of whole numbers of
    32 or 64 bits.

    Args:
        path: of an ONNX file; the data of its tensors may lie beside it.
    """
    for number, graph in _fields(memoryview(path.read_bytes())):
        if number == GRAPH and not isinstance(graph, int):
            yield from _sizes(graph)


def _sizes(graph: memoryview) -> Iterator[int]:
    for number, value in _fields(graph):
        if isinstance(value, int):
            continue
        if number == INITIALIZER and (size := _size(value)) is not None:
            yield size
        elif number == NODE:
            for inner in _messages(value, ATTRIBUTE):
                for subgraph in _messages(inner, SUBGRAPH, SUBGRAPHS):
                    yield from _sizes(subgraph)


def _size(tensor: memoryview) -> int | None:
    """The number of elements; None, where they are whole numbers."""
    sides, kind = list[int](), 0
    for number, value in _fields(tensor):
        if number == TYPE and isinstance(value, int):
            kind = value
        elif number == DIMENSIONS and isinstance(value, int):
            sides.append(value)
        elif number == DIMENSIONS and not isinstance(value, int):  # packed
            place = 0
            while place < len(value):
                side, place = _varint(value, place)
                sides.append(side)
    return None if kind in WHOLE_NUMBERS else prod(sides)


def _messages(message: memoryview, *numbers: int) -> Iterator[memoryview]:
    for number, value in _fields(message):
        if number in numbers and not isinstance(value, int):
            yield value


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field: an int, or bytes."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        kind = key & 7
        if kind == VARINT:
            value, place = _varint(message, place)
            yield key >> 3, value
            continue
        length = {FIXED64: 8, FIXED32: 4}.get(kind, 0)
        if kind == BYTES:
            length, place = _varint(message, place)
        yield key >> 3, message[place : place + length]
        place += length


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first; and where it ends."""
    value = shift = 0
    while message[place] & 128:
        value |= (message[place] & 127) << shift
        place, shift = place + 1, shift + 7
    return value | message[place] << shift, place + 1
