"""What `depthkd test` learns of a benchmark: figures, how sure they are, pictures, remarks."""

import time
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib.metadata import version
from math import isfinite, isnan
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from depthkd.batch import Quantity
from depthkd.benchmarks.benchmark import Benchmark, Protocol
from depthkd.benchmarks.scoring import benchmark_fingerprint, scored
from depthkd.metrics.depth import FORMULAS
from depthkd.metrics.mean import MeanOverImages
from depthkd.models.model import DepthModel
from depthkd.report.certainty import Certainty
from depthkd.report.html import Section
from depthkd.report.pictures import SheetRow, figures_caption
from depthkd.report.records import Records

PICTURE_SIDE = 480  # px, the longer one; a sheet's cells are smaller still


@dataclass
class Outcome:
    """What is known of one benchmark so far."""

    name: str
    benchmark: Benchmark
    protocol: Protocol
    figures: dict[str, dict[str, float]] = field(default_factory=dict)
    trivial: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unreadable: dict[int, str] = field(default_factory=dict)
    without_truth: dict[int, str] = field(default_factory=dict)
    picks: dict[int, list[str]] = field(default_factory=dict)  # which samples are drawn, and why
    rows: dict[int, SheetRow] = field(default_factory=dict)
    certainty: Certainty = field(default_factory=Certainty)

    @cached_property
    def data(self) -> str:
        """The benchmark's fingerprint."""
        return benchmark_fingerprint(self.benchmark)

    def remarks(self) -> list[str]:
        """What has to be said about the figures, besides how sure they are."""
        said = list(self.notes)
        for what, found in (
            ("could not be read", self.unreadable),
            ("had no valid truth", self.without_truth),
        ):
            if found:
                samples = "1 sample" if len(found) == 1 else f"{len(found)} samples"
                said.append(f"{samples} {what}, the first: {next(iter(found.values()))}.")
        return said


def score(
    outcome: Outcome,
    name: str,
    model: DepthModel,
    weights: str,
    device: torch.device,
    records: Records,
    trivial: bool = False,
) -> None:
    """Score one model on one benchmark, but for the samples that `records` has already.

    Args:
        outcome: the benchmark's; gets the figures.
        name: of the model.
        model: on the device, in eval mode.
        weights: its `fingerprint`.
        device: where it runs.
        records: of the folder of results.
        trivial: whether it is one of the rows that give the others their meaning.
    """
    count, pair = len(outcome.benchmark), (outcome.name, name)
    known = records.begin(*pair, f"{outcome.protocol}; data {outcome.data}; model {weights}")
    missing = [i for i in range(count) if i not in records.of(*pair)] if known else range(count)
    start = time.perf_counter()
    samples = scored(model, outcome.benchmark, outcome.protocol, device, outcome.unreadable, missing)
    label = f"{name} on {outcome.name}"
    for one in tqdm(samples, desc=label, total=count, initial=known, unit="image", disable=None):
        values = {figure: float(value) for figure, value in one.scores.items()}
        records.add(*pair, one.index, one.sample.key, values)
    seconds = time.perf_counter() - start
    mean = MeanOverImages(FORMULAS)
    for index, values in records.of(*pair).items():
        mean.update({n: torch.tensor([v], dtype=torch.float64) for n, v in values.items()})
        if all(isnan(value) for value in values.values()):
            outcome.without_truth[index] = records.names(*pair)[index]
    figures = {figure: float(value) for figure, value in mean.compute().items()}
    outcome.figures[name] = figures | {"seconds": seconds}
    if trivial:
        outcome.trivial.append(name)
    before = f", {known} of them measured before" if known else ""
    print(f"{label}: {figures_caption(figures)}, {int(figures['images'])} images in {seconds:.1f} s{before}")


def illustrate(outcome: Outcome, name: str, model: DepthModel, device: torch.device) -> None:
    """Run the model once more on the samples that are drawn, and keep small copies."""
    indices, unreadable = sorted(outcome.picks), dict[int, str]()
    for one in scored(model, outcome.benchmark, outcome.protocol, device, unreadable, indices):
        row = outcome.rows.get(one.index)
        if row is None:
            sample = one.sample
            assert sample.space is not None
            valid = outcome.protocol.valid(one.truth, sample.space, one.mask)
            depth = one.truth if sample.space.quantity is Quantity.DEPTH else 1.0 / one.truth
            truth = _small(torch.where(valid, depth, torch.nan))
            size = truth.shape[1], truth.shape[0]
            image = cv2.resize(sample.image, size, interpolation=cv2.INTER_AREA)
            row = outcome.rows[one.index] = SheetRow(f"{outcome.name}: {sample.key}", image, truth)
        row.predictions[name] = _small(one.aligned)
        row.captions[name] = figures_caption({n: float(v) for n, v in one.scores.items()})


def _small(depth: Float[Tensor, "1 height width"]) -> Float[np.ndarray, "small_height small_width"]:
    height, width = depth.shape[1:]
    scale = min(1.0, PICTURE_SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    # Nearest: a mean over an edge would be a depth that is nowhere.
    return np.asarray(cv2.resize(depth[0].cpu().numpy(), size, interpolation=cv2.INTER_NEAREST))


def everything(
    about: dict[str, dict[str, str]], outcomes: list[Outcome], device: torch.device
) -> dict[str, Any]:
    """What results.json holds."""
    packages = ("depthkd", "torch", "numpy")
    return {
        "versions": {name: version(name) for name in packages},
        "device": str(device) if device.type == "cpu" else torch.cuda.get_device_name(device),
        "models": about,
        "benchmarks": {
            o.name: {
                "protocol": str(o.protocol),
                "protocol_fields": asdict(o.protocol),
                "samples": len(o.benchmark),
                "figures": {model: _json_safe(figures) for model, figures in o.figures.items()},
                "intervals": {
                    model: {figure: [i.low, i.high] for figure, i in found.items()}
                    for model, found in o.certainty.intervals.items()
                },
                "notes": o.notes,
                "unreadable": list(o.unreadable.values()),
                "without_truth": list(o.without_truth.values()),
            }
            for o in outcomes
        },
    }


def section(outcome: Outcome) -> Section:
    """The benchmark's part of the report."""
    found = outcome.certainty.intervals.items()
    return Section(
        outcome.name,
        str(outcome.protocol),
        outcome.figures,
        outcome.trivial,
        {m: {f: f"{i.low:.4f} to {i.high:.4f}" for f, i in v.items()} for m, v in found},
        outcome.certainty.sentences(),
        outcome.remarks(),
        [(", ".join(outcome.picks[i]), row) for i, row in sorted(outcome.rows.items())],
    )


def looks(photos: list[SheetRow]) -> list[Section]:
    """The report's part for photographs, if there are any."""
    shown = [("a photograph, without truth", row) for row in photos]
    return [Section("photographs", "none, because there is no truth", {}, pictures=shown)] if photos else []


def facts(results: dict[str, Any]) -> dict[str, str]:
    """What the report says of versions, device and models."""
    said = {f"{name} (version)": value for name, value in results["versions"].items()}
    said["device"] = results["device"]
    for name, model in results["models"].items():
        said[name] = f"{model['source']}; predicts {model['space']}; licence {model['licence']}"
    return said


def _json_safe(figures: dict[str, float]) -> dict[str, float | str]:
    """JSON knows neither NaN nor infinity."""
    return {name: value if isfinite(value) else str(value) for name, value in figures.items()}
