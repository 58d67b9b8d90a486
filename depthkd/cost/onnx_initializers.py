"""How many numbers the weights of an ONNX file have, without the onnx package; field numbers are those of
onnx/onnx.proto."""

from collections.abc import Iterator
from math import prod
from pathlib import Path

from depthkd.formats.protobuf import fields, messages, whole_numbers
from depthkd.models.onnx_input import ATTRIBUTE, GRAPH, INITIALIZER, NODE, TYPE

SUBGRAPH, SUBGRAPHS = 6, 11  # AttributeProto.g, .graphs
DIMENSIONS = 1  # TensorProto.dims
WHOLE_NUMBERS = {6, 7, 12, 13}  # int32, int64, uint32, uint64: shapes, axes and indices


def initializer_sizes(path: Path) -> Iterator[int]:
    """How many elements each initializer of a graph and its subgraphs has, but for those of whole numbers of
    32 or 64 bits.

    Args:
        path: of an ONNX file; the data of its tensors may lie beside it.
    """
    for number, graph in fields(memoryview(path.read_bytes())):
        if number == GRAPH and not isinstance(graph, int):
            yield from _sizes(graph)


def _sizes(graph: memoryview) -> Iterator[int]:
    for number, value in fields(graph):
        if isinstance(value, int):
            continue
        if number == INITIALIZER and (size := _size(value)) is not None:
            yield size
        elif number == NODE:
            for inner in messages(value, ATTRIBUTE):
                for subgraph in messages(inner, SUBGRAPH, SUBGRAPHS):
                    yield from _sizes(subgraph)


def _size(tensor: memoryview) -> int | None:
    """The number of elements; None, where they are whole numbers."""
    sides, kind = list[int](), 0
    for number, value in fields(tensor):
        if number == TYPE and isinstance(value, int):
            kind = value
        elif number == DIMENSIONS:
            sides += whole_numbers(value)
    return None if kind in WHOLE_NUMBERS else prod(sides)
