"""The memory that a model and one forward pass take at their peak.

On a GPU, what torch allocates. On a CPU, by how much the resident set of a fresh process grows, which Linux
alone tells; in a process that has done other things the memory that it holds free would not be counted.
"""

import ctypes
import gc
import io
import pickle
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from depthkd.cost.counting import weight_bytes
from depthkd.cost.forward import Setting, forward_of
from depthkd.models.model import DepthModel
from depthkd.processes import pool

RESET = Path("/proc/self/clear_refs")  # "5" written into it makes the peak what is resident now
STATUS = Path("/proc/self/status")
NEAR = 8 << 20  # bytes by which a peak that was just reset may lie above what is resident


class NotMeasuredError(Exception):
    """The peak of memory cannot be told; the sentence says why."""


def peak_memory(model: DepthModel, setting: Setting, threads: int) -> int:
    """Bytes of a model's weights, and of what one forward pass takes besides.

    Args:
        model: in eval mode, on the setting's device.
        setting: under what it runs.
        threads: of torch, in the fresh process.

    Raises:
        NotMeasuredError: not on this machine, or not of this model.
    """
    if setting.device.type == "cuda":
        return weight_bytes(model) + _growth_on_gpu(model, setting)
    if not RESET.exists():
        raise NotMeasuredError("on a CPU only Linux tells a process's peak of memory")
    grown = _in_fresh_process(recipe(model), setting, threads)
    if grown is None:
        raise NotMeasuredError(f"{RESET} cannot be written here, so that the peak is not known")
    return weight_bytes(model) + grown


class _Recipe(pickle.Pickler):
    """Pickles what a model is built with: transformers hangs functions that cannot be pickled upon networks
    once they have run, and what weights are does not matter."""

    def reducer_override(self, value: object) -> Any:
        """How it is built anew."""
        if not isinstance(value, DepthModel):
            return NotImplemented
        arguments, options = vars(value)["_arguments"]
        return _built, (type(value), arguments, options)


def _built(kind: type[DepthModel], arguments: tuple[Any, ...], options: dict[str, Any]) -> DepthModel:
    model: DepthModel = kind(*arguments, **options).eval()
    return model


def recipe(model: DepthModel) -> bytes:
    """What `growth_in_fresh_process` builds a model with.

    Raises:
        NotMeasuredError: an argument of the model cannot be pickled.
    """
    content = io.BytesIO()
    try:
        _Recipe(content).dump(model)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise NotMeasuredError(f"it cannot be built again in a fresh process: {error}") from error
    return content.getvalue()


def _in_fresh_process(content: bytes, setting: Setting, threads: int) -> int | None:
    others = set(active_children())
    with pool(1) as processes:
        try:
            return processes.submit(growth_in_fresh_process, content, setting, threads).result()
        except BrokenProcessPool as error:
            raise NotMeasuredError("the fresh process was ended, as by a full memory") from error
        except KeyboardInterrupt:  # which it leaves to this process
            for process in set(active_children()) - others:
                process.terminate()
            raise


def _growth_on_gpu(model: DepthModel, setting: Setting) -> int:
    run = forward_of(model, setting)
    run()  # libraries take workspaces at the first run
    torch.cuda.synchronize(setting.device)
    torch.cuda.reset_peak_memory_stats(setting.device)
    before = torch.cuda.memory_allocated(setting.device) - run.image.nbytes
    run()
    torch.cuda.synchronize(setting.device)
    return torch.cuda.max_memory_allocated(setting.device) - before


def growth_in_fresh_process(content: bytes, setting: Setting, threads: int) -> int | None:
    """Bytes by which the resident set grows in the first forward pass; None where Linux does not tell.

    Args:
        content: the `recipe` of a model, which the process that waits for the answer has just made.
        setting: under what it runs.
        threads: of torch.
    """
    torch.set_num_threads(threads)
    model: DepthModel = pickle.loads(content)
    _load_libraries()
    before = _reset_peak()
    if before is None:
        return None
    forward_of(model, setting)()
    return _resident("VmHWM") - before


def _load_libraries() -> None:
    """Run a little of everything, so that the code of libraries is no part of what grows."""
    image = torch.rand(1, 8, 16, 16)
    tokens = F.conv2d(image, torch.rand(8, 8, 3, 3)).flatten(2).mT
    F.scaled_dot_product_attention(tokens[None], tokens[None], tokens[None]) @ torch.rand(8, 8)
    F.interpolate(image, (8, 8), mode="bilinear")


def _reset_peak() -> int | None:
    """Bytes that are resident, and from which the peak begins anew."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except AttributeError:  # not glibc, which keeps freed memory for later
        return None
    try:
        RESET.write_text("5")
    except OSError:
        return None
    now = _resident("VmRSS")
    return now if _resident("VmHWM") - now < NEAR else None


def _resident(name: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024
