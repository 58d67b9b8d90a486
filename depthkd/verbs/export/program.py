"""A network as a program of torch.export: RGB in [0, 1], [batch, 3, height, width], to depth."""

import json
from pathlib import Path
from typing import Any

import torch
from timm.layers.conv2d_same import Conv2dSame
from torch.export import Dim

from depthkd.errors import UserError
from depthkd.models.model import DepthModel
from depthkd.models.weights import FACTS
from depthkd.verbs.export.onnx_graph import Graph, example_of, traceable


def write_program(model: DepthModel, path: Path, size: tuple[int, int] | None, about: dict[str, Any]) -> None:
    """Write a network as a .pt2 file, with any batch, and any height and width where no size is given.

    Args:
        model: on the CPU, in eval mode.
        path: of the file.
        size: height and width of the only size; None: any, in multiples of the model's `multiple`.
        about: what `TorchProgram` reads of it.

    Raises:
        UserError: the network cannot be traced; the sentence says what torch says.
    """
    if size is None and any(isinstance(module, Conv2dSame) for module in model.modules()):
        raise UserError(
            f"{type(model).__name__}'s convolutions pad by the image's size (TensorFlow's 'same'), and "
            "torch.export does not come to an end with that: give one size (--size HEIGHTxWIDTH)"
        )
    sides = {} if size is not None else {2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    try:
        with traceable(model), torch.no_grad():
            program = torch.export.export(
                Graph(model).eval(),
                (example_of(model, size),),
                dynamic_shapes={"image": {0: Dim.DYNAMIC, **sides}},
                prefer_deferred_runtime_asserts_over_guards=True,
            )
            torch.export.save(program, path, extra_files={FACTS: json.dumps(about)})
    except Exception as error:  # torch's tracer raises whatever the traced code does
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        advice = "" if size else "; at one size (--size HEIGHTxWIDTH) it may go"
        raise UserError(
            f"torch cannot export {type(model).__name__} as a program: {reason[:300]}{advice}"
        ) from error
