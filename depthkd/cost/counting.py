"""How many parameters a model has, and how many multiply-adds one forward pass takes."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from depthkd.cost.onnx_initializers import initializer_sizes
from depthkd.models.model import DepthModel

if TYPE_CHECKING:
    from depthkd.models.onnx import OnnxDepth

# Operators that multiply and add nothing, or so little that the field's tables leave them out, besides views
# and those that torch tags as pointwise or as reductions.
FREE = re.compile(
    r"""
    .*softmax | .*norm.* | .*pool.* | .*pad.* | .*upsample.* | grid_sampler.* | .*dropout.* | .*embedding.*
    | .*copy.* | .*view.* | .*reshape.* | clone | detach.* | lift.* | contiguous | cat | stack | .*split.*
    | .*repeat.* | roll | flip | rot90 | im2col | col2im | pixel_(un)?shuffle | channel_shuffle
    | index.* | gather | scatter.* | slice_scatter | select.* | masked_.* | where | take.* | nonzero.*
    | unique.* | sort | topk | kthvalue | searchsorted | bucketize | tril.* | triu.* | cum.*
    | max | min | aminmax | arg.* | any | all | sum | prod | mean | median | var.* | std.* | equal | isin
    | histc | bincount | .*rand.* | normal.* | uniform.* | bernoulli.* | multinomial
    | empty.* | new_.* | zeros.* | ones.* | full.* | fill.* | zero.* | arange | linspace | eye | scalar_tensor
    | floor_divide.* | local_scalar_dense | resize.* | set.* | assert.*
    """,
    re.VERBOSE,
)


@dataclass(frozen=True)
class MultiplyAdds:
    """The multiply-adds of one forward pass.

    Args:
        count: of convolutions, linear layers, matrix products and attention, without biases.
        uncounted: operator -> how often it ran, of those that have no formula and are not known to be free:
            their multiply-adds are not in `count`.
    """

    count: int
    uncounted: dict[str, int] = field(default_factory=dict)


class _Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes every operator that runs."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: Counter[Any] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run it."""
        self.seen[func] += 1
        return func(*args, **(kwargs or {}))


def multiply_adds(run: Callable[[], object]) -> MultiplyAdds:
    """Count what a function multiplies and adds: half of the FLOPs that `torch.utils.flop_counter` counts.

    Args:
        run: a forward pass in torch.
    """
    operators, flops = _Operators(), FlopCounterMode(display=False)
    with operators, flops:  # in this order operators are seen after they have been taken apart
        run()
    unknown = {str(op): n for op, n in operators.seen.items() if not (_counted(op) or _is_free(op))}
    return MultiplyAdds(flops.get_total_flops() // 2, dict(sorted(unknown.items())))


def _counted(operator: Any) -> bool:
    return getattr(operator, "_overloadpacket", operator) in flop_registry


def _is_free(operator: Any) -> bool:
    if not isinstance(operator, OpOverload):
        return False
    if operator.namespace not in ("aten", "prim"):
        return False  # of somebody else, who alone knows what it does
    if operator.is_view or {torch.Tag.pointwise, torch.Tag.reduction} & set(operator.tags):
        return True
    name = operator._schema.name.rpartition("::")[2].strip("_")
    return operator.namespace == "prim" or FREE.fullmatch(name) is not None


def networks(model: DepthModel) -> Iterator[DepthModel]:
    """A model, and all others that it asks."""
    yield model
    for companion in model.companions():
        yield from networks(companion)


def graphs(model: DepthModel) -> "list[OnnxDepth]":
    """The ONNX graphs among a model's parts and companions."""
    from depthkd.models.onnx import OnnxDepth  # not before: it brings onnxruntime

    found = [part for one in networks(model) for part in one.modules() if isinstance(part, OnnxDepth)]
    return list(dict.fromkeys(found))


def parameter_count(model: DepthModel) -> int | None:
    """How many parameters a model and its companions have; of an ONNX graph its initializers, but for whole
    numbers of 32 and 64 bits. None where a graph's weights are no initializers."""
    in_graphs = [sum(initializer_sizes(Path(graph.path))) for graph in graphs(model)]
    if 0 in in_graphs:
        return None
    return sum(in_graphs) + sum(p.numel() for p in _unique(model, lambda one: one.parameters()))


def weight_bytes(model: DepthModel) -> int:
    """How many bytes the parameters and buffers of a model and its companions take; of an ONNX graph, its
    files."""
    tensors = [
        *_unique(model, lambda one: one.parameters()),
        *_unique(model, lambda one: one.buffers()),
    ]
    files = {file for graph in graphs(model) for file in graph.files()}
    return sum(t.numel() * t.element_size() for t in tensors) + sum(file.stat().st_size for file in files)


def _unique(model: DepthModel, tensors: Callable[[nn.Module], Iterator[torch.Tensor]]) -> list[torch.Tensor]:
    return list({id(t): t for one in networks(model) for t in tensors(one)}.values())
