"""What a model costs, and how tables say it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import floor, log10
from pathlib import Path

import torch

from depthkd.cost.counting import graphs, multiply_adds, parameter_count
from depthkd.cost.forward import Setting, forward_of
from depthkd.cost.latency import Latency, latency
from depthkd.models.model import DepthModel
from depthkd.resolution import size_range

PARAMETERS, MULTIPLY_ADDS = "parameters (M)", "multiply-adds (G)"
COUNTED = (
    "Multiply-adds are those of convolutions, linear layers, matrix products and attention for one image, "
    "half of the FLOPs of torch.utils.flop_counter; normalization, activations and resizing count as none."
)


@dataclass(frozen=True)
class Cost:
    """What one forward pass of a model costs.

    Args:
        size: height and width at which the network runs; None, where only it knows.
        machine: on what it ran, in words.
        parameters: of the model and the models that it asks; None: not known.
        multiply_adds: for one image; None: not known.
        latency: column -> seconds of one forward pass; None, where it cannot run so.
        memory: bytes of the weights and of one forward pass at its peak; None: not known.
        notes: sentences: what is not counted, and why figures are missing.
    """

    size: tuple[int, int] | None
    machine: str
    parameters: int | None
    multiply_adds: int | None
    latency: Mapping[str, Latency | None] = field(default_factory=dict)
    memory: int | None = None
    notes: tuple[str, ...] = ()


def counted(name: str, model: DepthModel, setting: Setting) -> Cost:
    """Parameters, and multiply-adds of one image.

    Args:
        name: what notes call the model.
        model: in eval mode, on the setting's device.
        setting: its batch size does not matter.
    """
    one = replace(setting, batch_size=1)
    parameters = parameter_count(model)
    about = one.runs_at(model), machine(setting.device), parameters
    notes = [f"{name}: its graph's weights are no initializers."] if parameters is None else []
    if graphs(model):
        notes.append(f"{name}: multiply-adds of an ONNX graph are not counted.")
        return Cost(*about, None, notes=tuple(notes))
    found = multiply_adds(forward_of(model, one))
    if found.uncounted:
        several = ", ".join(f"{operator} ({times}x)" for operator, times in found.uncounted.items())
        notes.append(f"{name}: not among its multiply-adds, for want of a formula: {several}.")
    return Cost(*about, found.count, notes=tuple(notes))


def eager(model: DepthModel, setting: Setting, repeats: int, most_seconds: float = float("inf")) -> Latency:
    """Time the forward pass as it is, without a compiler; arguments as in `latency`."""
    return latency(forward_of(model, setting), setting.device, repeats, most_seconds)


def millions(count: int | None) -> str:
    """Parameters in a table, in millions."""
    return "-" if count is None else digits(count / 1e6)


def billions(count: int | None) -> str:
    """Multiply-adds in a table, in G."""
    return "-" if count is None else digits(count / 1e9)


def milliseconds(found: Latency | None) -> str:
    """A latency in a table: the median and both quartiles."""
    if found is None:
        return "-"
    median, low, high = (digits(seconds * 1e3) for seconds in (found.median, found.low, found.high))
    return f"{median} ({low} to {high})"


def megabytes(size: int | None) -> str:
    """Memory in a table, in MB of 10^6 bytes."""
    return "-" if size is None else digits(size / 1e6)


def size_text(cost: Cost) -> str:
    """The size at which it ran."""
    return size_range([cost.size])


def machine(device: torch.device) -> str:
    """What a device is called; of processors, with how many threads torch computes."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    threads = torch.get_num_threads()
    return f"{names[0] if names else 'a CPU'}, {threads} thread{'s' if threads > 1 else ''}"


def digits(value: float) -> str:
    """Three significant digits, or all before the point."""
    decimals = 2 - floor(log10(value)) if value > 0 else 0
    return f"{value:,.{max(0, min(decimals, 6))}f}"
