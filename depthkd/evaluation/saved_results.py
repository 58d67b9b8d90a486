"""What `depthkd test` has written, read back: rows, intervals, protocols and costs."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from depthkd.errors import MissingFileError, UserError
from depthkd.evaluation.costs import EAGER

RESULTS = "results.json"
WHOLE = "claims"  # the entry that is written last
Metrics = Mapping[str, Mapping[str, float]]  # row -> metric -> mean over images


@dataclass(frozen=True)
class SavedCost:
    """What a row costs: parameters, seconds of a forward pass and the machine; None: not known."""

    parameters: int | None
    seconds: float | None
    machine: str


@dataclass(frozen=True)
class SavedBenchmark:
    """One benchmark under one protocol.

    Args:
        name: what tables call it.
        title: the benchmark's name, whatever the protocol.
        protocol, description: the protocol's name, and what is said of it beside the metrics.
        data: the fingerprint of its samples and settings.
        samples: how many there are.
        metrics: of the rows that have any.
        groups: its parts -> the same over their images.
        intervals: row -> metric -> both ends of its 95 % interval.
        differences: "one minus other" -> metric -> mean, both ends, and whether it is decided.
        trivial: the rows that are no models.
        notes: sentences.
        costs: of the rows whose cost was measured.
        not_zero_shot: row -> why it is not.
        public: what the papers call it, where it is a public benchmark on their samples.
    """

    name: str
    title: str
    protocol: str
    description: str
    data: str
    samples: int
    metrics: Metrics
    groups: Mapping[str, Metrics] = field(default_factory=dict)
    intervals: Mapping[str, Mapping[str, tuple[float, float]]] = field(default_factory=dict)
    differences: Mapping[str, Mapping[str, tuple[float, float, float, bool]]] = field(default_factory=dict)
    trivial: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    costs: Mapping[str, SavedCost] = field(default_factory=dict)
    not_zero_shot: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    public: str | None = None

    @property
    def column(self) -> tuple[str, str, str]:
        """What metrics have to share before they may stand in one column: benchmark, protocol and data."""
        return self.title, self.description, self.data


@dataclass(frozen=True)
class SavedResults:
    """One test.

    Args:
        folder: where it was written.
        models: row -> source, license, space, parameters and what else is known of it.
        benchmarks: in order.
        whole: whether the test came to its end.
        device, version: on what, and by which depthkd.
    """

    folder: Path
    models: Mapping[str, Mapping[str, Any]]
    benchmarks: tuple[SavedBenchmark, ...]
    whole: bool
    device: str
    version: str


def read_results(folder: Path) -> SavedResults:
    """The results of a test.

    Args:
        folder: that was given to `depthkd test --out`.

    Raises:
        MissingFileError: it has no results.json.
        UserError: that is not what `depthkd test` writes.
    """
    path = folder / RESULTS
    if not path.is_file():
        raise MissingFileError(f"{folder} has no {RESULTS}, which `depthkd test --out {folder}` writes")
    try:
        tree = json.loads(path.read_bytes())
        benchmarks = tuple(_benchmark(name, found) for name, found in tree["benchmarks"].items())
        models = {str(name): dict(model) for name, model in tree["models"].items()}
        version = str(tree["versions"]["depthkd"])
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{path} is not what `depthkd test` writes: {what}") from error
    return SavedResults(folder, models, benchmarks, WHOLE in tree, str(tree.get("device", "")), version)


def _benchmark(name: str, found: dict[str, Any]) -> SavedBenchmark:
    metrics = _metrics(found["metrics"])
    return SavedBenchmark(
        name,
        str(found["benchmark"]),
        str(found["protocol_fields"]["name"]),
        str(found["protocol"]),
        str(found["data"]),
        int(found["samples"]),
        {row: values for row, values in metrics.items() if values.get("images")},
        {group: _metrics(rows) for group, rows in found.get("groups", {}).items()},
        {
            row: {metric: (float(low), float(high)) for metric, (low, high) in ends.items()}
            for row, ends in found.get("intervals", {}).items()
        },
        {
            pair: {metric: _difference(one) for metric, one in several.items()}
            for pair, several in found.get("differences", {}).items()
        },
        tuple(found.get("trivial", ())),
        tuple(found.get("notes", ())),
        {row: _cost(cost) for row, cost in found.get("costs", {}).items()},
        {row: tuple(why) for row, why in found.get("not_zero_shot", {}).items()},
        found.get("public"),
    )


def _metrics(rows: Mapping[str, Mapping[str, float | str]]) -> dict[str, dict[str, float]]:
    """JSON has NaN and infinity as text."""
    return {row: {name: float(value) for name, value in values.items()} for row, values in rows.items()}


def _difference(found: Mapping[str, Any]) -> tuple[float, float, float, bool]:
    low, high = found["interval"]
    return float(found["mean"]), float(low), float(high), bool(found["decided"])


def _cost(found: Mapping[str, Any]) -> SavedCost:
    latency = found["latency"].get(EAGER)
    parameters = found["parameters"]
    return SavedCost(
        None if parameters is None else int(parameters),
        None if latency is None else float(latency["median"]),
        str(found["machine"]),
    )
