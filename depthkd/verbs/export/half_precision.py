"""An ONNX graph in float16 whose head stays in float32.

The values of a depth head go past float16's 65,504, and what comes of that is black maps. So the nodes of the
head, and what stands around the network (normalization, the last resize), stay in float32, and so do input
and output. onnxruntime's own converter does the rest.
"""

from pathlib import Path
from typing import Any, Literal

from depthkd.errors import UserError
from depthkd.models.onnx import external_data

Precision = Literal["fp32", "fp16"]
FLOAT = 1  # of onnx.TensorProto
KEPT = {"head", "bins", "vae"}  # names of modules that compute in float32 in every precision
POSITIONS = "embeddings"  # of a vision transformer, whose resampling onnxruntime refuses behind a cast
LARGEST_FILE = 2_000_000_000  # bytes, of a graph that holds its weights itself
NEEDED = (
    "a graph in float16 needs the package onnx, which is not installed: pip install 'depthkd[onnx]', or "
    "leave --precision out"
)


def check_onnx() -> None:
    """See that graphs can be rewritten here.

    Raises:
        UserError: the package `onnx` is not installed.
    """
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise UserError(NEEDED) from error


def stays_float32(node: str) -> bool:
    """Whether a node computes in float32 in every precision, by the name that tracing gives it: the modules
    that it is in, such as "/model/head/conv1/Conv"."""
    _, *scope, _ = ["", *node.split("/")]
    modules = scope[2:]
    if scope[1:2] != ["model"]:
        return False
    in_head = modules[:1] != ["backbone"] and bool(KEPT & set(modules))
    return not modules or in_head or POSITIONS in modules


def to_float16(path: Path) -> None:
    """Rewrite a float32 graph; its head, input and output stay float32.

    Args:
        path: of the graph.

    Raises:
        UserError: the package `onnx` is not installed.
    """
    check_onnx()
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    large = path.stat().st_size > LARGEST_FILE
    graph = onnx.load(str(path))
    kept = [n.name for n in graph.graph.node if n.op_type == "Resize" or stays_float32(n.name)]
    half = convert_float_to_float16(  # type: ignore[no-untyped-call]
        graph, keep_io_types=True, node_block_list=kept, disable_shape_infer=large
    )
    nodes = without_detours(list(half.graph.node), {one.name for one in half.graph.output})
    del half.graph.node[:]
    half.graph.node.extend(nodes)
    for name in external_data(path):
        (path.parent / name).unlink()
    apart = half.ByteSize() > LARGEST_FILE
    onnx.save_model(
        half, str(path), save_as_external_data=apart, location=f"{path.name}.data" if apart else None
    )


def without_detours(nodes: list[Any], outputs: set[str]) -> list[Any]:
    """The nodes of a converted graph without casts to float16 and back.

    The converter puts such a pair between any two nodes that stay in float32, where the values of a head
    would be cut all the same; and it repeats the cast of a tensor that two nodes read.

    Args:
        nodes: of the graph.
        outputs: names of what the graph gives.
    """
    made = {node.output[0]: node for node in nodes if node.op_type == "Cast"}
    instead: dict[str, str] = {}  # tensor -> the same before it was cast to float16 and back
    for node in made.values():
        before = made.get(node.input[0])
        if _to(node) == FLOAT and before is not None and is_converters(before.name):
            instead[node.output[0]] = before.input[0]
    for node in nodes:
        for place, name in enumerate(node.input):
            node.input[place] = instead.get(name, name)
        if node.output[0] in outputs and node.op_type == "Cast" and node.output[0] in instead:
            node.input[0] = instead[node.output[0]]
    read = {name for node in nodes for name in node.input} | outputs
    found: dict[str, Any] = {}
    for node in nodes:
        if node.op_type != "Cast" or node.output[0] in read:
            found.setdefault(node.output[0] if node.output else node.name, node)
    return list(found.values())


def is_converters(name: str) -> bool:
    """Whether the name is that of a cast from float32 to float16 which the converter has put in."""
    return name.startswith("graph_input_cast") or name.endswith("_cast_to_fp16_node")


def _to(cast: Any) -> int:
    return next(int(attribute.i) for attribute in cast.attribute if attribute.name == "to")
