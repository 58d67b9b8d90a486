"""Which protocols a benchmark is scored under, and in what they differ."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from depthkd.alignment import Fit
from depthkd.batch import DepthSpace
from depthkd.benchmarks.benchmark import Benchmark
from depthkd.benchmarks.protocol import COMPLETION, FIT_NAMES, PROTOCOLS, Protocol
from depthkd.metrics.catalogue import MetricSet

ALL = "all"
CHOICE = ("name", "fit", "fit_quantity", "score_quantity", "skip_zeros")  # what a preset decides


def chosen(benchmark: Benchmark, names: Sequence[str] | None, changes: Mapping[str, Any]) -> list[Protocol]:
    """The benchmark's own protocol, or those of the names; ranges and sizes stay the benchmark's.

    Args:
        benchmark: of which.
        names: presets, or "all" of them (that of depth completion for its benchmarks alone); None: the
            benchmark's own.
        changes: fields that are the same under all of them, such as `resolution`.

    Raises:
        UserError: there is no preset of a name, or a changed field makes no sense.
    """
    own = replace(benchmark.protocol, **changes)
    if MetricSet.DEPTH not in benchmark.metrics:
        return [replace(own, stand_in="raw")]  # nothing is fitted
    if names is None:
        return [own]
    completion = MetricSet.COMPLETION in benchmark.metrics
    every = [name for name in PROTOCOLS if completion or name != COMPLETION]
    presets = [Protocol.named(n) for n in (every if ALL in names else dict.fromkeys(names))]
    return [replace(own, **{field: getattr(preset, field) for field in CHOICE}) for preset in presets]


def differences(one: Protocol, other: Protocol, spaces: Sequence[DepthSpace]) -> str:
    """A sentence that says why two protocols give the same model different metrics.

    Args:
        one, other: the protocols.
        spaces: of the models; a protocol may fit in the quantity that a model predicts.
    """
    names = [f.name for f in fields(Protocol) if f.name != "name"]
    words = [_words(p, spaces) for p in (one, other)]
    differing = [n for n in names if words[0].get(n) != words[1].get(n)]
    described = [
        f"{p.name} {', '.join(w[n] for n in differing if n in w)}"
        for p, w in zip((one, other), words, strict=True)
    ]
    return f"{described[0]}; {described[1]}" if differing else f"{one.name} and {other.name} do the same"


def _words(protocol: Protocol, spaces: Sequence[DepthSpace]) -> dict[str, str]:
    """What each field does, in words; fields that mean nothing for these models are left out."""
    quantities = {str(protocol.fit_quantity or space.quantity) for space in spaces}
    where = quantities.pop() if len(quantities) == 1 else "the quantity that the model predicts"
    words = {
        "fit": f"applies {FIT_NAMES[protocol.fit]}",
        "fit_quantity": f"fits in {where}",
        "score_quantity": f"scores in {protocol.score_quantity}",
    }
    if protocol.fit is Fit.NONE:
        del words["fit_quantity"]
    if where == "disparity":
        words["skip_zeros"] = f"{'leaves zeros out of' if protocol.skip_zeros else 'keeps zeros in'} the fit"
    others = [f.name for f in fields(Protocol) if f.name not in CHOICE]
    return words | {name: f"has {name} {getattr(protocol, name)}" for name in others}
