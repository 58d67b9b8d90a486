"""What a model is built with: noted for its identity, and checked where its type says all that can be."""

from collections.abc import Mapping
from inspect import signature
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from depthkd.errors import UserError

ABOVE_ZERO = {
    *("focal_length", "fov", "fusion", "input_range", "metric_max_depth", "multiple", "patch", "reliable"),
    "threads",
}


def named(kind: type, arguments: tuple[object, ...], options: Mapping[str, object]) -> dict[str, object]:
    """What a class is built with, by name, with the defaults; empty where the constructor will refuse it.

    Args:
        kind: the class.
        arguments, options: of its constructor.
    """
    try:
        bound = signature(kind.__init__).bind(None, *arguments, **options)  # type: ignore[misc]
    except TypeError:
        return {}
    bound.apply_defaults()
    return dict(list(bound.arguments.items())[1:])


def check(kind: type, arguments: Mapping[str, object]) -> None:
    """Refuse an argument that is none of the words that its type lists; and of depthkd's own models, numbers
    that cannot be.

    Args:
        kind: the class.
        arguments: of its constructor, by name.

    Raises:
        UserError: there is one; the sentence names it and says what it would be.
    """
    check_choices(kind, arguments)
    if kind.__module__.startswith("depthkd."):
        check_numbers(kind.__name__, arguments)


def check_numbers(model: str, arguments: Mapping[str, object]) -> None:
    """Refuse numbers that cannot be, of the arguments that several models have; see `check`."""
    for name, value in arguments.items():
        if name in ABOVE_ZERO and isinstance(value, int | float) and not value > 0:
            raise UserError(f"{name} of {model} must be above 0, not {value}")
        if not isinstance(value, list | tuple):
            continue
        if name in ("mean", "std") and (len(value) != 3 or (name == "std" and 0 in value)):
            zero = "; a std of 0 divides by 0" if len(value) == 3 else ""
            raise UserError(
                f"{name} of {model} would be one number a channel, 3 in all, not {list(value)}{zero}"
            )
        if name == "size" and (len(value) != 2 or not min(value) > 0):
            raise UserError(f"size of {model} would be [height, width] in pixels, not {list(value)}")


def check_choices(kind: type, arguments: Mapping[str, object]) -> None:
    """Refuse an argument that is none of the words that its type lists; see `check`."""
    parameters = signature(kind.__init__).parameters  # type: ignore[misc]
    for name, value in arguments.items():
        allowed = choices(parameters[name].annotation, value)
        if allowed is not None and value not in allowed:
            listed = ", ".join("null" if one is None else str(one) for one in allowed)
            raise UserError(f"{kind.__name__} has no {name} '{value}'; it would be one of {listed}")


def choices(annotation: Any, value: object = None) -> tuple[object, ...] | None:
    """All values of a type that is Literal, or Literal or None, or a list besides, which the value is not;
    None of any other type."""
    if annotation is NoneType:
        return (None,)
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    if get_origin(annotation) not in (Union, UnionType):
        return None
    kinds = [k for k in get_args(annotation) if get_origin(k) is not list or isinstance(value, list)]
    parts = [choices(kind, value) for kind in kinds]
    return None if None in parts else tuple(value for part in parts if part for value in part)
