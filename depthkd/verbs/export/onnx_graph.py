"""A network as an ONNX graph: RGB in [0, 1], [batch, 3, height, width], to depth, [batch, height, width].

The exporter is torch's that traces (`dynamo=False`). The newer one needs onnxscript, which depthkd does not
depend on, takes thirty times as long for a Depth Anything, and does not come to an end within minutes for
networks whose padding depends on their input's size (EfficientNet with TensorFlow's "same" padding); tried
with torch 2.15. What tracing may freeze, `parity` finds.
"""

import io
import json
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path
from typing import Any
from unittest import mock

import jaxtyping
import torch
from torch import Tensor, nn
from torch.onnx import symbolic_helper
from torch.onnx.errors import OnnxExporterError
from torch.onnx.utils import register_custom_op_symbolic, unregister_custom_op_symbolic
from transformers.models.depth_anything import modeling_depth_anything

from depthkd.errors import UserError
from depthkd.models.model import DepthModel
from depthkd.models.onnx import METADATA
from depthkd.shapes import Image, Map
from depthkd.verbs.export.half_precision import Precision, to_float16

OPSET = 18
INPUT, OUTPUT = "image", "depth"
AXES = {INPUT: {0: "batch", 2: "height", 3: "width"}, OUTPUT: {0: "batch", 1: "height", 2: "width"}}
BATCH = 2  # of the traced example: a size of 1 could be taken for a constant
INT64 = 7  # onnx.TensorProto.INT64
CUBIC = -0.5  # of torch's antialiased bicubic, as Pillow's
UNTRACED = (OnnxExporterError, RuntimeError, TypeError, ValueError, NotImplementedError)


class Graph(nn.Module):
    """What is traced: depth alone, at the size of the image, which is not rounded."""

    def __init__(self, model: DepthModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Image) -> Map:
        """RGB in [0, 1] -> depth in the model's space."""
        depth: Tensor = self.model(image).depth
        return depth


def write_graph(
    model: DepthModel,
    path: Path,
    size: tuple[int, int] | None,
    about: dict[str, Any],
    precision: Precision = "fp32",
) -> None:
    """Write a network as ONNX.

    Args:
        model: on the CPU, in eval mode.
        path: of the file; weights of more than 2 GB come to lie beside it.
        size: height and width of the only size; None: any, in multiples of the model's `multiple`.
        about: what `OnnxDepth` reads in the metadata; see `OnnxDepth.stated`.
        precision: "fp16" is float16 with the head, input and output in float32.

    Raises:
        UserError: the network cannot be traced; the sentence says what torch says.
    """
    axes = {
        name: {k: v for k, v in named.items() if size is None or v == "batch"} for name, named in AXES.items()
    }
    try:
        with traceable(model), torch.no_grad():
            torch.onnx.export(
                Graph(model).eval(),
                (example_of(model, size),),
                str(path),
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_axes=axes,
                opset_version=OPSET,
                dynamo=False,
            )
    except UNTRACED as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        advice = "" if size else "; at one size (--size HEIGHTxWIDTH) it may go"
        raise UserError(
            f"torch cannot write {type(model).__name__} as an ONNX graph: {reason[:300]}{advice}"
        ) from error
    if precision == "fp16":
        to_float16(path)
    with path.open("ab") as file:
        file.write(metadata_entry(METADATA, json.dumps(about)))


def example_of(model: DepthModel, size: tuple[int, int] | None) -> Image:
    """Images to trace a network with; of a size that is neither square nor the one of its training where any
    size is wanted."""
    height, width = size or (5 * model.multiple, 7 * model.multiple)
    return torch.rand(BATCH, 3, height, width, generator=torch.Generator().manual_seed(0))


@contextmanager
def traceable(model: DepthModel) -> Iterator[None]:
    """Nothing freezes the size, and torch keeps its warnings and its pages about a graph to itself."""
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stack.enter_context(redirect_stdout(io.StringIO()))
        # The sizes that a trace carries are tensors, of which int() would make constants; and annotations of
        # shapes, if they are checked, ask for int.
        stack.enter_context(mock.patch.object(jaxtyping.config, "jaxtyping_disable", True))
        stack.enter_context(mock.patch.object(modeling_depth_anything, "int", lambda size: size, create=True))
        stack.enter_context(mock.patch.object(model, "fit_input", lambda image: image))
        register_custom_op_symbolic("aten::_upsample_bicubic2d_aa", antialiased_bicubic, OPSET)
        try:
            yield
        finally:
            unregister_custom_op_symbolic("aten::_upsample_bicubic2d_aa", OPSET)


def antialiased_bicubic(g: Any, maps: Any, size: Any, align_corners: Any, *scales: Any) -> Any:
    """torch's antialiased bicubic resampling as ONNX's Resize, which torch's exporter does not know.

    timm resamples the position embeddings of vision transformers with it.
    """

    def constant(*values: int) -> Any:
        return g.op("Constant", value_t=torch.tensor(values))

    if symbolic_helper._is_packed_list(size):
        sides = [g.op("Unsqueeze", side, constant(0)) for side in symbolic_helper._unpack_list(size)]
        size = g.op("Concat", *sides, axis_i=0)
    head = g.op("Slice", g.op("Shape", maps), constant(0), constant(2), constant(0))
    nothing = symbolic_helper._optional_input_placeholder_tensor(g)  # type: ignore[no-untyped-call]
    return g.op(
        "Resize",
        maps,
        nothing,
        nothing,
        g.op("Concat", head, g.op("Cast", size, to_i=INT64), axis_i=0),
        antialias_i=1,
        mode_s="cubic",
        cubic_coeff_a_f=CUBIC,
        exclude_outside_i=1,
        coordinate_transformation_mode_s="half_pixel",
    )


def metadata_entry(key: str, value: str) -> bytes:
    """One entry of a model's `metadata_props`, as bytes that are put behind the file of a graph.

    A protocol buffer's fields may stand in any order, and those that repeat anywhere (onnx/onnx.proto:
    ModelProto.metadata_props is field 14, of StringStringEntryProto: key 1, value 2).
    """
    entry = b"".join(_field(number, text.encode()) for number, text in ((1, key), (2, value)))
    return _field(14, entry)


def _field(number: int, content: bytes) -> bytes:
    length, digits = len(content), bytearray()
    while length > 127:
        digits.append(length & 127 | 128)
        length >>= 7
    return bytes([number << 3 | 2, *digits, length]) + content
