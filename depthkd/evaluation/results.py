"""What is written when all is measured: results.json, table.md and the parts of report.html."""

from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from math import isfinite
from typing import Any

import torch

from depthkd.batch import DepthSpace
from depthkd.evaluation.outcomes import Outcome
from depthkd.evaluation.protocols import differences
from depthkd.metrics.catalogue import CATALOGUE, heading
from depthkd.report.html import Section
from depthkd.report.pictures import SheetRow
from depthkd.report.table import markdown_table, metrics_table, number

PACKAGES = ("depthkd", "torch", "transformers", "onnxruntime", "numpy", "scikit-image")


def installed(package: str) -> str:
    """The version of a package; depthkd itself may be there as a folder alone."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def everything(
    about: dict[str, dict[str, Any]], outcomes: list[Outcome], device: torch.device, seed: int
) -> dict[str, Any]:
    """What results.json holds."""
    return {
        "versions": {name: installed(name) for name in PACKAGES},
        "device": str(device) if device.type == "cpu" else torch.cuda.get_device_name(device),
        "seed": seed,
        "models": about,
        "benchmarks": {
            o.name: {
                "benchmark": o.title,
                "protocol": o.how,
                "protocol_fields": asdict(o.protocol),
                "data": o.data,
                "samples": len(o.benchmark),
                "metrics": {model: _json_safe(metrics) for model, metrics in o.metrics.items()},
                "groups": {
                    group: {model: _json_safe(metrics) for model, metrics in found.items()}
                    for group, found in o.groups.items()
                },
                "run_at": o.run_at,
                "seconds": o.seconds,
                "trivial": o.trivial,
                "intervals": {
                    model: {metric: [i.low, i.high] for metric, i in found.items()}
                    for model, found in o.certainty.intervals.items()
                },
                "differences": {
                    f"{one} minus {other}": {
                        metric: {"mean": i.mean, "interval": [i.low, i.high], "decided": i.decided}
                        for metric, i in found.items()
                    }
                    for (one, other), found in o.certainty.differences.items()
                },
                "notes": o.notes,
                "not_zero_shot": {model: said for model, said in o.overlaps.items() if said},
                "faults": o.faults,
                "unreadable": list(o.unreadable.values()),
                "without_truth": list(o.without_truth.values()),
                "unscored": o.unscored,
                "doubts": {model: said for model, said in o.doubts.items() if said},
                "cameras": {model: sum(given) for model, given in o.cameras.items()},
            }
            for o in outcomes
        },
    }


def table(outcome: Outcome, reasons: list[str]) -> str:
    """One benchmark's section of table.md."""
    notes = [*outcome.certainty.sentences(), *outcome.remarks(), *reasons]
    parts = group_table(outcome)
    metrics = {outcome.label(row): values for row, values in outcome.scored.items()}
    run_at = {outcome.label(row): size for row, size in outcome.run_at.items()}
    return metrics_table(outcome.name, outcome.how, len(outcome.benchmark), metrics, [*parts, *notes], run_at)


def group_table(outcome: Outcome) -> list[str]:
    """A table with the benchmark's parts as columns, if it has parts."""
    if not outcome.groups or not outcome.scored:
        return []
    shown = [e.name for e in CATALOGUE if e.main and any(e.name in f for f in outcome.metrics.values())]
    columns = [(group, name) for group in sorted(outcome.groups) for name in shown]
    counts = {g: max((int(f["images"]) for f in v.values()), default=0) for g, v in outcome.groups.items()}
    header = ["model", *(f"{g} ({counts[g]}) {heading(n)}" for g, n in columns)]
    nothing: dict[str, float] = {}
    rows = [
        [
            outcome.label(row),
            *(number(outcome.groups[g].get(row, nothing).get(n, float("nan"))) for g, n in columns),
        ]
        for row in outcome.scored
    ]
    return [markdown_table(header, rows)]


def reasons(outcome: Outcome, outcomes: list[Outcome], spaces: dict[str, DepthSpace]) -> list[str]:
    """Why the metrics differ from those of the same models on the same benchmark under the first protocol."""
    first = next(o for o in outcomes if o.title == outcome.title)
    if first is outcome:
        return []
    both = [m for m in outcome.metrics if m in first.metrics and m not in outcome.trivial]
    models = [m for m in both if "abs_rel" in outcome.metrics[m] and "abs_rel" in first.metrics[m]]
    if not models:
        return []
    why = differences(first.protocol, outcome.protocol, [spaces[m] for m in models])
    metrics = "; ".join(
        f"{m}: AbsRel {number(first.metrics[m]['abs_rel'])} under {first.protocol.name}, "
        f"{number(outcome.metrics[m]['abs_rel'])} under {outcome.protocol.name}"
        for m in models
    )
    return [f"Not comparable with {first.name}: {why}. {metrics}."]


def section(outcome: Outcome, why: list[str]) -> Section:
    """The benchmark's part of the report."""
    found = outcome.certainty.intervals.items()
    return Section(
        outcome.name,
        outcome.how,
        outcome.scored,
        outcome.trivial,
        {m: {f: f"{i.low:.4f} to {i.high:.4f}" for f, i in v.items()} for m, v in found},
        outcome.certainty.sentences(),
        [*outcome.remarks(), *why],
        [(", ".join(outcome.picks[i]), row) for i, row in sorted(outcome.rows.items())],
        {row: outcome.label(row) for row in outcome.metrics},
        dict(sorted(outcome.groups.items())) if outcome.scored else {},
        outcome.run_at,
    )


def looks(photos: list[SheetRow]) -> list[Section]:
    """The report's part for photographs, if there are any."""
    shown = [("a photograph, without truth", row) for row in photos]
    return [Section("photographs", "none, because there is no truth", {}, pictures=shown)] if photos else []


def facts(results: dict[str, Any]) -> dict[str, str]:
    """What the report says of versions, device and models."""
    said = {f"{name} (version)": value for name, value in results["versions"].items()}
    said |= {"device": results["device"], "seed": str(results["seed"])}
    for name, model in results["models"].items():
        said[name] = (
            f"{model['source']}; predicts {model['space']}; licence {model['licence']}; "
            f"weights {model['weights']}; {model['parameters']:,} parameters"
        )
    return said


def _json_safe(metrics: dict[str, float]) -> dict[str, float | str]:
    """JSON knows neither NaN nor infinity."""
    return {name: value if isfinite(value) else str(value) for name, value in metrics.items()}
