"""`depthkd cost`: parameters, multiply-adds, memory and latency of models, side by side."""

import copy
import gc
import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from depthkd.cluster.processors import processors
from depthkd.cost.cost import (
    COUNTED,
    MULTIPLY_ADDS,
    PARAMETERS,
    Cost,
    billions,
    counted,
    digits,
    eager,
    megabytes,
    millions,
    milliseconds,
    size_text,
)
from depthkd.cost.forward import Precision, Setting, forward_of
from depthkd.cost.latency import WARM_UP, Latency, latency
from depthkd.cost.memory import NotMeasuredError, peak_memory
from depthkd.errors import UserError
from depthkd.formats.whole_files import write_whole
from depthkd.models.dpt.packaged_weights import EMBEDDED
from depthkd.models.inference import device_of
from depthkd.models.model import DepthModel
from depthkd.models.onnx import OnnxDepth
from depthkd.paths import user_path
from depthkd.report.table import markdown_table
from depthkd.resolution import LARGEST
from depthkd.runs.named_models import GRAPH, as_options, named_model
from depthkd.runs.student import TrainedDepth
from depthkd.verbs.configs import Command
from depthkd.verbs.options import leading, parsed
from depthkd.versions import installed

USAGE = "depthkd cost [RUN|FILE.onnx|FOLDER|HUB_ID ...] [--config FILE] [--size 448] [options]"
EAGER, COMPILED, ONNX = "eager", "compiled", "ONNX Runtime"
PACKAGES = ("depthkd", "torch", "onnxruntime")
LONG = 300  # characters of what a compiler says
ONNX_PROVIDER = "CUDAExecutionProvider"


@dataclass(frozen=True)
class CostRequest:
    """What is measured, and how.

    Args:
        models: name -> a run folder, one of its checkpoints, an .onnx file, a folder or hub id of
            transformers, or any DepthModel.
        size: of the images: a side in pixels, or HEIGHTxWIDTH such as 392x518; rounded to each model's
            multiple.
        batch_size: images of one forward pass, in memory and latency.
        device: "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:1".
        precision: 32-true, or autocast to half precision: bf16-mixed or 16-mixed.
        threads: of torch and ONNX Runtime on a CPU; None: as many as there are processors, or
            OMP_NUM_THREADS.
        repeats: forward passes that are timed.
        compiled: whether to measure the model through torch.compile too.
        onnx: whether to measure it as an ONNX graph in ONNX Runtime too.
        memory: whether to measure the peak of memory, on a CPU in a process of its own.
        out: a folder for cost.json and cost.md; None: the tables are printed only.
    """

    models: dict[str, str | DepthModel]
    size: str = "448"
    batch_size: int = 1
    device: str = "auto"
    precision: Precision = "32-true"
    threads: int | None = None
    repeats: int = 20
    compiled: bool = True
    onnx: bool = True
    memory: bool = True
    out: Path | None = None

    def columns(self) -> list[str]:
        """The columns of latency."""
        return [EAGER, *([COMPILED] if self.compiled else []), *([ONNX] if self.onnx else [])]

    def setting(self) -> Setting:
        """Under what all models run.

        Raises:
            UserError: an option cannot be.
        """
        for option in ("batch_size", "repeats", "threads"):
            if (value := getattr(self, option)) is not None and value < 1:
                raise UserError(f"{option} must be at least 1, not {value}")
        return Setting(sides(self.size), device_of(self.device), self.batch_size, self.precision)


class NotRunError(Exception):
    """A model that cannot run in a column's way; the sentence says why."""


def cost(request: CostRequest) -> dict[str, Cost]:
    """Measure what models cost; print the tables, and write them where `out` is given.

    Raises:
        UserError, MissingFileError: one sentence on what does not fit.
    """
    setting = request.setting()
    if request.out is not None and user_path(request.out).is_file():
        raise UserError(f"out {request.out} is a file; it would be a folder")
    # a name that stands for nothing is told before the first model is measured
    models = {n: m if isinstance(m, DepthModel) else named_model(m) for n, m in request.models.items()}
    threads = request.threads or min(torch.get_num_threads(), processors())
    before = torch.get_num_threads()
    found: dict[str, Cost] = {}
    torch.set_num_threads(threads)
    try:
        steps = len(request.models) * (1 + request.memory + len(request.columns()))
        with tqdm(total=steps, desc="cost", unit="step", disable=None) as progress:
            for name, model in models.items():
                network = model if isinstance(model, DepthModel) else model.load()
                network = network.to(setting.device).eval()
                found[name] = _measured(name, network, setting, request, threads, progress)
                del network
                gc.collect()
    finally:
        torch.set_num_threads(before)
    text = tables(found, request, setting)
    print(text)
    if request.out is not None:
        _write(user_path(request.out), text, found, request, setting, threads)
    return found


def _measured(
    name: str, model: DepthModel, setting: Setting, request: CostRequest, threads: int, progress: Any
) -> Cost:
    """All that is asked for of one model."""

    def step(what: str) -> None:
        progress.set_postfix_str(f"{name}: {what}")

    step("counting")
    found = counted(name, model, setting)
    notes, memory = list(found.notes), None
    progress.update()
    if request.memory:
        step("memory")
        try:
            memory = peak_memory(model, setting, threads)
        except NotMeasuredError as error:
            notes.append(f"{name}: no peak of memory, because {error}.")
        progress.update()
    times: dict[str, Latency | None] = {}
    ways: dict[str, Callable[[DepthModel, Setting, int], Latency]]
    ways = {EAGER: _eager, COMPILED: _compiled, ONNX: _in_onnxruntime}
    for column in request.columns():
        step(column)
        try:
            times[column] = ways[column](model, setting, request.repeats)
        except NotRunError as error:
            times[column] = None
            notes.append(f"{name}: not {'in ' if column == ONNX else ''}{column}, because {error}.")
        progress.update()
    return replace(found, latency=times, memory=memory, notes=tuple(notes))


def _eager(model: DepthModel, setting: Setting, repeats: int) -> Latency:
    _refuse_graph(model)
    return eager(model, setting, repeats)


def _compiled(model: DepthModel, setting: Setting, repeats: int) -> Latency:
    """Through torch.compile with its default compiler, whose first call takes seconds to minutes."""
    from torch._dynamo.utils import counters

    _refuse_graph(model)
    torch.compiler.reset()
    counters.clear()
    run = forward_of(model, setting).compiled()
    try:
        with _quiet():
            run()
    except Exception as error:  # of a compiler, whatever it is: eagerly the model has just run
        lines = str(error).strip().splitlines() or [""]
        raise NotRunError(
            f"torch.compile fails with {type(error).__name__}: {lines[0][:LONG].rstrip('. ')}"
        ) from error
    if not counters["stats"]["unique_graphs"]:
        raise NotRunError("torch.compile finds nothing in it that it could compile")
    found = latency(run, setting.device, repeats)
    torch.compiler.reset()
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what compilers warn of; what makes them fail is in their error."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _in_onnxruntime(model: DepthModel, setting: Setting, repeats: int) -> Latency:
    """As the graph of one size that `depthkd export` writes, or as the graph that it is."""
    if setting.precision != "32-true":
        raise NotRunError(f"its graph is in float32, and {setting.precision} is asked for")
    if setting.device.type == "cuda" and ONNX_PROVIDER not in _providers():
        raise NotRunError(f"the onnxruntime that is installed has no {ONNX_PROVIDER}")
    if isinstance(graph := model.unwrapped(), OnnxDepth):
        anew = copy.copy(graph)  # opened again, with the threads that are asked for
        return latency(forward_of(anew, setting), setting.device, repeats)
    with tempfile.TemporaryDirectory() as folder:
        graph = _graph(model, setting, Path(folder)).to(setting.device)
        return latency(forward_of(graph, setting), setting.device, repeats)


def _graph(model: DepthModel, setting: Setting, folder: Path) -> OnnxDepth:
    """The model as an ONNX graph of one size."""
    from depthkd.verbs.export import refuse
    from depthkd.verbs.export.forms import graph_size
    from depthkd.verbs.export.onnx_graph import write_graph

    while isinstance(model, TrainedDepth):
        model = model.network
    try:
        refuse(model)
        size = graph_size(model, setting.image_size(model))
        write_graph(model.cpu(), folder / GRAPH, size, {"space": str(model.space)})
    except UserError as error:
        raise NotRunError(str(error)) from error
    finally:
        model.to(setting.device)
    return OnnxDepth(str(folder / GRAPH))


def _refuse_graph(model: DepthModel) -> None:
    if isinstance(model.unwrapped(), OnnxDepth):
        raise NotRunError("it is an ONNX graph")


def _providers() -> Sequence[str]:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    available: Sequence[str] = state.get_available_providers()
    return available


def sides(text: str) -> tuple[int, int]:
    """Height and width of "448" or "392x518".

    Raises:
        UserError: it is neither.
    """
    parts = text.lower().split("x")
    numbers = [int(part) for part in parts if part.isascii() and part.isdecimal()]
    if not 0 < len(numbers) == len(parts) <= 2 or not all(0 < n <= LARGEST for n in numbers):
        raise UserError(
            f"size would be a side in pixels such as 448, or HEIGHTxWIDTH such as 392x518, up to {LARGEST}, "
            f"not '{text}'"
        )
    return numbers[0], numbers[-1]


def tables(found: dict[str, Cost], request: CostRequest, setting: Setting) -> str:
    """The costs, their ratios to the first model's, and how they were measured, as Markdown."""
    columns = request.columns()
    memory = ["peak memory (MB)"] if request.memory else []
    figures = ["size", PARAMETERS, MULTIPLY_ADDS, *memory, *(f"{column} (ms)" for column in columns)]
    rows = [
        [name, size_text(one), millions(one.parameters), billions(one.multiply_adds)]
        + ([megabytes(one.memory)] if request.memory else [])
        + [milliseconds(one.latency[column]) for column in columns]
        for name, one in found.items()
    ]
    parts = [markdown_table(["model", *figures], rows)]
    if len(found) > 1:
        parts.append(_ratios(found, request))
    where = next(iter(found.values())).machine
    parts.append(_how(request, setting, where))
    return "\n\n".join([*parts, *(note for one in found.values() for note in one.notes)]) + "\n"


def _ratios(found: dict[str, Cost], request: CostRequest) -> str:
    """How many times as much as the first model each other takes."""
    first, *others = found
    columns = request.columns()
    header = [f"relative to {first}", "parameters", "multiply-adds"]
    header += [*(["peak memory"] if request.memory else []), *columns]
    quantities = {name: _quantities(one, request) for name, one in found.items()}
    rows = [
        [name, *(_ratio(a, b) for a, b in zip(quantities[name], quantities[first], strict=True))]
        for name in others
    ]
    return markdown_table(header, rows)


def _quantities(one: Cost, request: CostRequest) -> list[float | None]:
    times = [None if (t := one.latency[column]) is None else t.median for column in request.columns()]
    counts = [one.parameters, one.multiply_adds, *([one.memory] if request.memory else [])]
    return [*(None if count is None else float(count) for count in counts), *times]


def _ratio(value: float | None, first: float | None) -> str:
    return f"{digits(value / first)}x" if value is not None and first else "-"


def _how(request: CostRequest, setting: Setting, where: str) -> str:
    """What stands under the table."""
    on_cpu = setting.device.type == "cpu"
    versions = ", ".join(f"{name} {installed(name)}" for name in PACKAGES[1:])
    lines = [
        f"One forward pass of {_several(setting.batch_size, 'image')} in {setting.precision} on {where}; "
        f"{versions}.",
        f"Latency: the median of {_several(request.repeats, 'run')} after {WARM_UP} to warm up, and both "
        "quartiles.",
        COUNTED,
    ]
    if request.memory:
        grown = "the resident set of a fresh process" if on_cpu else "the memory that torch allocates"
        lines.append(f"Peak memory: the weights, and by how much one eager forward pass raises {grown}.")
    return " ".join(lines)


def _several(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _write(
    out: Path, text: str, found: dict[str, Cost], request: CostRequest, setting: Setting, threads: int
) -> None:
    settings = asdict(setting) | {"device": str(setting.device)}
    content = {
        "versions": {name: installed(name) for name in PACKAGES},
        "settings": settings | {"threads": threads, "repeats": request.repeats, "warm_up": WARM_UP},
        "models": {name: asdict(one) for name, one in found.items()},
    }
    write_whole(out / "cost.json", json.dumps(content, indent=2) + "\n")
    write_whole(out / "cost.md", text)
    print(f"tables: {out / 'cost.md'}")


def expand(arguments: list[str]) -> list[str]:
    """Models named by one word each, as `--models`; the embedded teacher, where none is named."""
    config, named, options = leading(arguments)
    return ["--models={}", *config, *as_options(named), *options]


def main(command: Command) -> int:
    """Run `depthkd cost`.

    Raises:
        UserError, MissingFileError: a user's mistake, as a sentence.
    """
    request = CostRequest(**parsed("cost", USAGE, CostRequest, expand(command.arguments)).as_dict())
    if not request.models:
        print(f"no model is named: this measures the {EMBEDDED} teacher of depthkd")
        request = replace(request, models={EMBEDDED: EMBEDDED})
    cost(request)
    return 0
