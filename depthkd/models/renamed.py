"""Names of version 0.1 that models of users' own may still override, set and ask for; each use warns."""

import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any

METHODS = {
    "answer": "predict_raw",
    "answer_with_camera": "predict_raw_with_camera",
    "restore": "resize_to",
    "of_truth": "encode_decode_truth",
}
ATTRIBUTES = {
    "own_size": "chooses_size",
    "half_but_head": "keeps_head_fp32",
    "through_codec": "decodes_latents",
    "licence": "license",
}
RENAMED = METHODS | ATTRIBUTES


class RenamedNames:
    """A base class whose subclasses may use the old names."""

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        for old, new in RENAMED.items():
            olds, news = _first(cls, old), _first(cls, new)
            if olds < news:
                _warn(old, cls)
                value = vars(cls.__mro__[olds])[old]
                setattr(cls, new, _override(value) if old in METHODS else value)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ATTRIBUTES:
            _warn(name, type(self))
        super().__setattr__(ATTRIBUTES.get(name, name), value)

    def __getattr__(self, name: str) -> Any:
        if name in ATTRIBUTES:
            _warn(name, type(self))
            return getattr(self, ATTRIBUTES[name])
        return super().__getattr__(name)  # type: ignore[misc]  # torch's Module has it


def _first(cls: type, name: str) -> int:
    """Which class in the order of resolution has the name first, apart from this module's."""
    kinds = [kind for kind in cls.__mro__ if kind is not RenamedNames]
    found = next((kind for kind in kinds if name in vars(kind)), RenamedNames)
    return cls.__mro__.index(found)


def _override(method: Callable[..., Any]) -> Callable[..., Any]:
    """A subclass's method of an old name, as what it overrides now."""

    @wraps(method)
    def renamed(self: Any, *arguments: Any, **options: Any) -> Any:
        return method(self, *arguments, **options)

    vars(renamed)["of_old_name"] = True
    return renamed


def _asked(old: str) -> Callable[..., Any]:
    """What `model.answer(...)`, or `super().answer(...)` in an override, means now."""

    def method(self: Any, *arguments: Any, **options: Any) -> Any:
        _warn(old, type(self))
        found = (vars(kind).get(METHODS[old]) for kind in type(self).__mro__)
        now = next(f for f in found if f is not None and not getattr(f, "of_old_name", False))
        return now(self, *arguments, **options)

    return method


for _old in METHODS:
    setattr(RenamedNames, _old, _asked(_old))


def _warn(old: str, kind: type) -> None:
    warnings.warn(
        f"{kind.__name__}.{old} is called {RENAMED[old]} since version 0.2; the old name goes with 0.3",
        FutureWarning,
        stacklevel=3,
    )
