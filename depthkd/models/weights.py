"""Files of weights, read as tensors alone."""

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from depthkd.errors import MissingFileError, UserError

WRAPPERS = ("model_state_dict", "state_dict", "model")  # under which checkpoints keep their tensors
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")


def read_weights(path: str) -> dict[str, Tensor]:
    """The tensors of a .safetensors or .pth file by name, without running anything in it.

    Raises:
        MissingFileError: there is no such file.
        UserError: it cannot be read, or holds more than tensors and plain values.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise MissingFileError(f"there is no file of weights '{path}'")
    try:
        if file.suffix == ".safetensors":
            return dict(load_file(file))
        content: Any = torch.load(file, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise UserError(
            f"'{path}' holds more than tensors and plain values, so it was not loaded: it could run code; "
            "convert it to safetensors where you trust it"
        ) from error
    except (SafetensorError, RuntimeError, EOFError, ValueError) as error:
        raise UserError(f"'{path}' is no file of weights, or was cut short") from error
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise UserError(f"'{path}' holds no state dict: no tensors by name, not under {', '.join(WRAPPERS)}")
    return {name.removeprefix("module."): tensor for name, tensor in content.items()}
