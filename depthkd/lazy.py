"""Public names that are imported when they are first used."""

from collections.abc import Callable
from difflib import get_close_matches

import lazy_loader

from depthkd.errors import UnknownNameError

Exports = tuple[Callable[[str], object], Callable[[], list[str]], list[str]]


def lazy_exports(package: str, file: str) -> Exports:
    """A package's `__getattr__`, `__dir__` and `__all__`, by the `__init__.pyi` beside its `__init__.py`.

    Importing one name does not import the libraries of the others, and names are listed in the stub alone.

    Args:
        package: the package's `__name__`.
        file: its `__file__`.

    Raises:
        UnknownNameError: (when `__getattr__` is called) the package has no such name; the sentence lists
            those that are much like it, or all.
    """
    member, listed, names = lazy_loader.attach_stub(package, file)

    def attribute(name: str) -> object:
        if name not in names:
            near = get_close_matches(name, names)
            raise UnknownNameError(f"{package} has no '{name}'; it has {', '.join(near or names)}")
        return member(name)

    return attribute, listed, names
