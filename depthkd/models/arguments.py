"""What a model is built with: noted for its identity, and checked where its type says all that can be."""

from collections.abc import Mapping
from inspect import signature
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from depthkd.errors import UserError


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


def check_choices(kind: type, arguments: Mapping[str, object]) -> None:
    """Refuse an argument that is none of the words that its type lists.

    Raises:
        UserError: it is another; the sentence lists them.
    """
    parameters = signature(kind.__init__).parameters  # type: ignore[misc]
    for name, value in arguments.items():
        allowed = choices(parameters[name].annotation)
        if allowed is not None and value not in allowed:
            listed = ", ".join("null" if one is None else str(one) for one in allowed)
            raise UserError(f"{kind.__name__} has no {name} '{value}'; it would be one of {listed}")


def choices(annotation: Any) -> tuple[object, ...] | None:
    """All values of a type that is Literal, or Literal or None; None of any other type."""
    if annotation is NoneType:
        return (None,)
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    if get_origin(annotation) not in (Union, UnionType):
        return None
    parts = [choices(part) for part in get_args(annotation)]
    return None if None in parts else tuple(value for part in parts if part for value in part)
