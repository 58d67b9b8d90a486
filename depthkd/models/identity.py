"""What the predictions of a model depend on, as one short text: `DepthModel.identity`.

Two models share an identity only if they predict alike. So all that is known of a model counts: its class
and its source code, the arguments that it was built with, its attributes, tensors, files and companions.
What cannot be told again in another process, such as a lambda, makes an identity that no other shares.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import is_dataclass
from enum import Enum
from functools import partial
from hashlib import sha256
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, Protocol, runtime_checkable
from uuid import uuid4

import numpy as np
import torch
from torch import Tensor, nn

from depthkd.models.arguments import named

ATOMS = (str, bytes, int, float, complex, type(None), Path, Enum, torch.dtype, torch.device, np.generic)
SIMPLE = {str, int, float, bool, type(None)}
FUNCTIONS = (type, ModuleType, FunctionType, BuiltinFunctionType, MethodType)
LABELS = (
    "source",
    "license",
    "base_license",
    "training_sets",
)  # what reports call a model, which changes no prediction
INTERNALS = {*vars(nn.Module()), "_arguments"}  # what torch and DepthModel keep in every module
DIGITS = 16  # hexadecimal
CHUNK = 1 << 24  # bytes of a file that are read at once

Known = dict[int, tuple[object, str]]  # what has been described before, by `id`, and its digest


@runtime_checkable
class Describable(Protocol):
    """What is asked of a `DepthModel` here, whose class imports this module."""

    caches: tuple[str, ...]

    def companions(self) -> "Sequence[Describable]":
        """See `DepthModel.companions`."""

    def files(self) -> list[Path]:
        """See `DepthModel.files`."""

    def modules(self) -> Iterator[nn.Module]:
        """Its parts, and itself."""


def identity_of(model: Describable, known: Known | None = None) -> str:
    """See `DepthModel.identity`.

    Args:
        model: whose.
        known: other models, so that none is described twice; it grows.
    """
    known = {} if known is None else known
    if id(model) not in known:
        description = Description(known)
        companions = model.companions()
        description.model(model)
        for companion in companions:
            description.text(identity_of(companion, known))
        # What an anonymous function builds is known if it is a companion.
        if description.unknown or len(description.anonymous) > len(companions):
            description.text(uuid4())
        known[id(model)] = model, description.digest()[:DIGITS]
    return known[id(model)][1]


class Description:
    """A hash of values, in which values that differ are different bytes.

    Args:
        known: models and configurations that have been described before; it grows.
    """

    def __init__(self, known: Known | None = None) -> None:
        self.known = {} if known is None else known
        self.anonymous: set[int] = set()  # functions that no name leads to, by `id`
        self.unknown = False  # whether anything else could not be described
        self._hash = sha256()
        self._around: set[int] = set()  # what is being described, by `id`, so that circles end

    def digest(self) -> str:
        """Of all values so far, in hexadecimal digits."""
        return self._hash.hexdigest()

    def text(self, *words: object) -> None:
        """Add words, and where each ends."""
        for word in words:
            data = str(word).encode("utf-8", "surrogateescape")
            self._hash.update(b"%d:" % len(data) + data)

    def value(self, value: object) -> None:
        """Add a value of any kind: a plain one, an array, a model, or an object by its attributes."""
        text = plain_text(value)
        if text is not None:
            self.text("plain", text)
        elif id(value) in self._around:
            self.text("itself")
        else:
            self._around.add(id(value))
            self._compound(value)
            self._around.remove(id(value))

    def _compound(self, value: object) -> None:
        if isinstance(value, Tensor):
            self._tensor(value)
        elif isinstance(value, np.ndarray) and not value.dtype.hasobject:
            self.text("array", value.dtype.str, value.shape)
            self._hash.update(np.ascontiguousarray(value).tobytes())
        elif isinstance(value, Mapping):
            self.text("mapping")
            self.mapping(value)
        elif isinstance(value, list | tuple):
            self.text("sequence", len(value))
            for one in value:
                self.value(one)
        elif isinstance(value, Set):
            self.text("set", *sorted(self._apart(one) for one in value))
        elif isinstance(value, nn.Module):
            self._module(value)
        elif isinstance(value, partial):
            self.text("partial")
            self._compound((value.func, value.args, value.keywords))
        elif isinstance(value, FUNCTIONS):
            self.text("function", name_of(value))
            if not name_of(value):
                self.anonymous.add(id(value))
            elif path := source_file(value):
                self.file(path)
        elif hasattr(value, "__dict__") and name_of(type(value)):
            self.text("object", name_of(type(value)))
            config = (
                getattr(value, "config", None) if type(value).__module__.startswith("diffusers.") else None
            )
            # A scheduler's other attributes change while it runs.
            self.mapping(vars(value) if config is None else {"config": settings(config)})
        else:
            self.unknown = True

    def mapping(self, items: Mapping[Any, object]) -> None:
        """Add names and values, in an order of their own."""
        self.text(len(items))
        for key in sorted(items, key=lambda key: plain_text(key) or self._apart(key)):
            self.value(key)
            self.value(items[key])

    def _apart(self, value: object) -> str:
        description = Description(self.known)
        description.value(value)
        self.anonymous |= description.anonymous
        self.unknown |= description.unknown
        return description.digest()

    def _tensor(self, tensor: Tensor) -> None:
        self.text("tensor", tensor.dtype, tuple(tensor.shape))
        self._hash.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)

    def _module(self, module: nn.Module) -> None:
        if isinstance(module, Describable):
            self.text(identity_of(module, self.known))
            return
        self.text("module", type(module).__module__, type(module).__qualname__)
        told = [(k, repr(v) if type(v) in SIMPLE else plain_text(v)) for k, v in public(module).items()]
        self.text(*(f"{name}={text or '?'}" for name, text in sorted(told, key=str)))
        config = getattr(module, "config", None)  # which transformers' modules share
        if id(config) not in self.known:
            self.known[id(config)] = config, self._apart(settings(config))
        self.text(self.known[id(config)][1])
        self._parts(module)

    def _parts(self, module: nn.Module) -> None:
        for parts in (module._parameters, module._buffers, module._modules):
            self.text(len(parts))
            for name in sorted(parts):  # moving a module may change their order
                self.text(name)
                part = parts[name]
                if isinstance(part, Tensor):
                    self._tensor(part)
                elif part is not None:
                    self._module(part)

    def model(self, model: Describable) -> None:
        """Add all that is known of a model, but for its companions."""
        assert isinstance(model, nn.Module)
        self._class(type(model))
        kinds = {*type(model).__mro__, *(type(module) for module in model.modules())}
        code = {source_file(kind) for kind in kinds if issubclass(kind, nn.Module)}
        for path in [*sorted(path for path in code if path is not None), *model.files()]:
            self.file(path)
        arguments, options = vars(model)["_arguments"]
        self.mapping(named(type(model), arguments, options))
        left_out = {*INTERNALS, *LABELS, *model.caches}
        self.mapping({k: v for k, v in vars(model).items() if k not in left_out})
        self._parts(model)

    def _class(self, kind: type) -> None:
        """Add a class by its name; and one that is made in a function by what its methods take from there."""
        self.text(kind.__module__, kind.__qualname__)
        self.unknown |= source_file(kind) is None
        if name_of(kind):
            return
        self._around.add(id(kind))
        for method in vars(kind).values():
            for cell in getattr(method, "__closure__", None) or ():
                self.value(cell.cell_contents)
        self._around.remove(id(kind))

    def file(self, path: Path) -> None:
        """Add the name and the content of a file."""
        with path.open("rb") as file:
            self.text("file", path.name, path.stat().st_size)
            while chunk := file.read(CHUNK):
                self._hash.update(chunk)


def public(module: nn.Module) -> dict[str, object]:
    """The attributes of a library's module, without its parts, and without those that it keeps to itself."""
    return {k: v for k, v in vars(module).items() if not k.startswith("_") and k != "training"}


def settings(config: object) -> object:
    """A configuration of transformers or diffusers without what the library notes in it for itself."""
    inside = config if isinstance(config, Mapping) else getattr(config, "__dict__", None)
    if inside is None:
        return config
    return {str(k): settings(v) for k, v in inside.items() if not str(k).startswith("_")}


def plain_text(value: object) -> str | None:
    """What tells a value from others, if it is a number or a word, or made of such; None if it is not."""
    if isinstance(value, ATOMS):
        return repr(value)
    if isinstance(value, list | tuple):
        parts = [plain_text(one) for one in value]
    elif isinstance(value, Mapping):
        parts = [plain_text(pair) for pair in value.items()]
        parts.sort(key=str)
    elif isinstance(value, Set):
        parts = sorted((plain_text(one) for one in value), key=str)
    elif is_dataclass(value) and not isinstance(value, type):
        parts = [type(value).__qualname__, plain_text(vars(value))]
    else:
        return None
    kind = "mapping" if isinstance(value, Mapping) else "set" if isinstance(value, Set) else ""
    return None if None in parts else f"{kind}[{','.join(str(part) for part in parts)}]"


def name_of(thing: object) -> str:
    """The name under which a class or function can be imported; empty if there is none."""
    if isinstance(thing, ModuleType):
        return thing.__name__
    module, path = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    found: object = sys.modules.get(module) if isinstance(module, str) else None
    for part in str(path).split("."):
        found = getattr(found, part, None)
    return f"{module}.{path}" if found is thing else ""


def source_file(thing: object) -> Path | None:
    """The file that a class or function was read from; None for one that was typed in."""
    file = getattr(sys.modules.get(str(getattr(thing, "__module__", None))), "__file__", None)
    return Path(file) if file and Path(file).is_file() else None
