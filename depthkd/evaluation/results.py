"""What is written of the results: results.json, table.md and the parts of report.html."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import isfinite
from typing import Any

import torch

from depthkd.benchmarks.completion import CompletionBenchmark
from depthkd.evaluation.comparison import papers_name
from depthkd.evaluation.costs import columns, remarks
from depthkd.evaluation.protocols import differences
from depthkd.evaluation.result import BenchmarkResult, ModelResult
from depthkd.evaluation.task import Task
from depthkd.metrics.catalogue import CATALOGUE, heading
from depthkd.report.html import Section
from depthkd.report.pictures import SheetRow
from depthkd.report.table import markdown_table, metrics_table, number
from depthkd.versions import installed

PACKAGES = ("depthkd", "torch", "transformers", "onnxruntime", "numpy", "scikit-image")


def results_json(
    models: Sequence[ModelResult], results: Sequence[BenchmarkResult], device: torch.device, seed: int
) -> dict[str, Any]:
    """What results.json holds."""
    return {
        "versions": {name: installed(name) for name in PACKAGES},
        "device": str(device) if device.type == "cpu" else torch.cuda.get_device_name(device),
        "seed": seed,
        "models": {model.name: dict(model.about) for model in models},
        "benchmarks": {result.name: _benchmark_json(result) for result in results},
    }


def _benchmark_json(result: BenchmarkResult) -> dict[str, Any]:
    task, certainty = result.task, result.certainty
    return {
        "benchmark": task.title,
        "protocol": task.description,
        "protocol_fields": asdict(task.protocol),
        "sparse_depth": _sparse_depth(task),
        "data": task.data,
        "public": papers_name(result),
        "samples": len(task.benchmark),
        "metrics": {model: _json_safe(metrics) for model, metrics in result.metrics.items()},
        "groups": {
            group: {model: _json_safe(metrics) for model, metrics in found.items()}
            for group, found in result.groups.items()
        },
        "run_at": result.run_at,
        "costs": {row: asdict(cost) for row, cost in result.costs.items()},
        "seconds": {row: found.seconds for row, found in result.measured.items()},
        "trivial": result.trivial,
        "intervals": {
            model: {metric: [i.low, i.high] for metric, i in found.items()}
            for model, found in certainty.intervals.items()
        },
        "differences": {
            f"{one} minus {other}": {
                metric: {"mean": i.mean, "interval": [i.low, i.high], "decided": i.decided}
                for metric, i in found.items()
            }
            for (one, other), found in certainty.differences.items()
        },
        "notes": result.notes,
        "not_zero_shot": {row: found.overlaps for row, found in result.measured.items() if found.overlaps},
        "faults": result.faults,
        "unreadable": list(result.unreadable.values()),
        "unanswered": {row: list(why.values()) for row, why in result.unanswered.items()},
        "without_truth": list(result.without_truth.values()),
        "unscored": result.unscored,
        "doubts": {row: found.doubts for row, found in result.measured.items() if found.doubts},
        "cameras": {model: sum(known) for model, known in result.cameras.items()},
    }


def _sparse_depth(task: Task) -> dict[str, Any] | None:
    """What models are given besides images, and the units of its metrics; None: nothing."""
    if not task.completion:
        return None
    benchmark = task.benchmark
    seed = benchmark.seed if isinstance(benchmark, CompletionBenchmark) else None
    return {"pattern": benchmark.pattern, "seed": seed, "units": benchmark.units}


def table(result: BenchmarkResult, differences: Sequence[str]) -> str:
    """One benchmark's section of table.md; `differences` as `protocol_differences` has them."""
    notes = [*result.certainty.sentences(), *result.remarks(), *remarks(result.costs), *differences]
    metrics = {result.label(row): values for row, values in result.scored.items()}
    run_at = {result.label(row): size for row, size in result.run_at.items()}
    costs = columns({result.label(row): cost for row, cost in result.costs.items()})
    samples, parts = len(result.task.benchmark), group_table(result)
    return metrics_table(
        result.name, result.task.description, samples, metrics, [*parts, *notes], run_at, costs
    )


def group_table(result: BenchmarkResult) -> list[str]:
    """A table with the benchmark's parts as columns, if it has parts."""
    groups = result.groups
    if not groups or not result.scored:
        return []
    shown = [e.name for e in CATALOGUE if e.main and any(e.name in f for f in result.metrics.values())]
    columns = [(group, name) for group in sorted(groups) for name in shown]
    counts = {g: max((int(f["images"]) for f in rows.values()), default=0) for g, rows in groups.items()}
    header = ["model", *(f"{g} ({counts[g]}) {heading(n)}" for g, n in columns)]
    nothing: dict[str, float] = {}
    rows = [
        [result.label(row), *(number(groups[g].get(row, nothing).get(n, float("nan"))) for g, n in columns)]
        for row in result.scored
    ]
    return [markdown_table(header, rows)]


def protocol_differences(result: BenchmarkResult, results: Sequence[BenchmarkResult]) -> list[str]:
    """Why the metrics differ from those of the same models on the same benchmark under the first protocol."""
    first = next(r for r in results if r.task.title == result.task.title)
    if first is result:
        return []
    spaces = {model.name: model.space for model in result.models}
    both = [m for m in result.metrics if m in first.metrics and m not in result.trivial]
    models = [m for m in both if "abs_rel" in result.metrics[m] and "abs_rel" in first.metrics[m]]
    if not models:
        return []
    protocols = first.task.protocol, result.task.protocol
    why = differences(*protocols, [spaces[m] for m in models])
    metrics = "; ".join(
        f"{m}: AbsRel {number(first.metrics[m]['abs_rel'])} under {protocols[0].name}, "
        f"{number(result.metrics[m]['abs_rel'])} under {protocols[1].name}"
        for m in models
    )
    return [f"Not comparable with {first.name}: {why}. {metrics}."]


def section(result: BenchmarkResult, differences: Sequence[str]) -> Section:
    """The benchmark's part of the report."""
    intervals, picks = result.certainty.intervals.items(), result.picks
    return Section(
        result.name,
        result.task.description,
        result.scored,
        result.trivial,
        {m: {f: f"{i.low:.4f} to {i.high:.4f}" for f, i in found.items()} for m, found in intervals},
        result.certainty.sentences(),
        [*result.remarks(), *remarks(result.costs), *differences],
        [(", ".join(picks[i]), row) for i, row in sorted(result.pictures.items())],
        {row: result.label(row) for row in result.metrics},
        dict(sorted(result.groups.items())) if result.scored else {},
        result.run_at,
        columns(result.costs),
    )


def photograph_section(photographs: Sequence[SheetRow]) -> list[Section]:
    """The report's part for photographs, if there are any."""
    shown = [("a photograph, without truth", row) for row in photographs]
    title = "photographs"
    return [Section(title, "none, because there is no truth", {}, pictures=shown)] if shown else []


def report_header(results: Mapping[str, Any]) -> dict[str, str]:
    """What the report says of versions, device and models."""
    header = {f"{name} (version)": value for name, value in results["versions"].items()}
    header |= {"device": results["device"], "seed": str(results["seed"])}
    for name, model in results["models"].items():
        header[name] = (
            f"{model['source']}; predicts {model['space']}; license {model['license']}; "
            f"weights {model['weights']}; {_parameters(model['parameters'])}"
        )
    return header


def _parameters(count: int | None) -> str:
    return "an unknown number of parameters" if count is None else f"{count:,} parameters"


def _json_safe(metrics: Mapping[str, float]) -> dict[str, float | str]:
    """JSON knows neither NaN nor infinity."""
    return {name: value if isfinite(value) else str(value) for name, value in metrics.items()}
