"""A network as its class and plain arguments, by which a file can name one that it does not hold."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

from depthkd.errors import UserError
from depthkd.models.arguments import named
from depthkd.models.model import DepthModel
from depthkd.paths import user_path

CLASS, ARGUMENTS = "class_path", "init_args"
MODULES = ("depthkd.models", "depthkd.runs")  # whose public classes may be named
FILES = ("path", "source", "weights", "base", "text", "vae")  # arguments that may be paths
CODE = ("TorchProgram",)  # reading one runs code that its maker chose: no file may name it


def described(model: DepthModel) -> dict[str, Any]:
    """{"class_path": ..., "init_args": ...} of a network, with the paths of what lies here made absolute.

    Raises:
        UserError: its class is not depthkd's, or an argument is no plain value.
    """
    kind = type(model)
    public = (one for one in MODULES if getattr(import_module(one), kind.__name__, None) is kind)
    module = next(public, None)
    arguments, options = vars(model)["_arguments"]
    given = named(kind, arguments, options)
    values = {name: _placed(value) if name in FILES else value for name, value in given.items()}
    try:
        json.dumps(values)
    except (TypeError, ValueError):
        module = None
    if module is None or kind.__name__ in CODE:
        raise UserError(
            f"{model.source} cannot be named in a file: that takes one of depthkd's own classes, with plain "
            f"values as arguments, and it is a {kind.__name__}"
        )
    return {CLASS: f"{module}.{kind.__name__}", ARGUMENTS: values}


def builder(description: object, where: str) -> Callable[[], DepthModel]:
    """What builds the network that a file names, when it is asked.

    Args:
        description: what `described` gave.
        where: the file says so, in words.

    Raises:
        UserError: it describes none that may be built; of the builder too, where the arguments do not fit.
    """
    path, options = None, None
    if isinstance(description, Mapping):
        path, options = description.get(CLASS), description.get(ARGUMENTS)
    module, _, name = str(path).rpartition(".")
    kind = getattr(import_module(module), name, None) if module in MODULES else None
    known = isinstance(kind, type) and issubclass(kind, DepthModel) and name not in CODE
    if kind is None or not known or not isinstance(options, dict):
        raise UserError(
            f"{where} describes no network: {CLASS} would be a class of depthkd.models, and {ARGUMENTS} its "
            "arguments"
        )
    return partial(_build, kind, options, where)


def _build(kind: type[DepthModel], options: dict[str, Any], where: str) -> DepthModel:
    try:
        signature(kind.__init__).bind(None, **options)
    except TypeError as error:
        raise UserError(f"{where} does not fit {kind.__name__}: {error}") from error
    try:
        model: DepthModel = kind(**options)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    return model


def _placed(value: object) -> object:
    if isinstance(value, str | Path) and str(value) and user_path(value).exists():
        return str(user_path(value).resolve())
    return value
