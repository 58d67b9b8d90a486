"""Public names that are imported when they are first used."""

from collections.abc import Callable, Mapping
from importlib import import_module

from depthkd.errors import UnknownNameError


def lazy_exports(package: str, homes: Mapping[str, str]) -> Callable[[str], object]:
    """A package's `__getattr__`, so that one member does not pay for another's libraries.

    Args:
        package: the package's `__name__`.
        homes: public name -> the module of the package that defines it.

    Raises:
        UnknownNameError: (when called) the package has no such name; the sentence lists those it has.
    """

    def attribute(name: str) -> object:
        if name not in homes:
            raise UnknownNameError(f"{package} has no '{name}'; it has {', '.join(sorted(homes))}")
        return getattr(import_module(f"{package}.{homes[name]}"), name)

    return attribute
