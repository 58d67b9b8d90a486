"""`depthkd test`: score any models on any benchmarks, each under its protocol, beside the trivial rows."""

import csv
import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib.metadata import version
from math import isfinite
from pathlib import Path
from typing import Any, NoReturn

import cv2
import numpy as np
import torch
import yaml
from jaxtyping import Float
from jsonargparse import ArgumentParser
from torch import Tensor
from tqdm import tqdm

from depthkd.batch import Quantity
from depthkd.benchmarks.benchmark import Benchmark, Protocol
from depthkd.benchmarks.scoring import Scored, image_tensor, scored, truth_space
from depthkd.benchmarks.shards import ShardBenchmark
from depthkd.benchmarks.trivial import BestConstant, MeanMap, VerticalRamp, mean_disparity_map, spread
from depthkd.composition import innermost
from depthkd.metrics.depth import FORMULAS
from depthkd.metrics.mean import MeanOverImages
from depthkd.models.model import DepthModel
from depthkd.report.claims import Claim
from depthkd.report.photographs import photographs as carried_photographs
from depthkd.report.pictures import SheetRow, figures_caption, picture_sheet
from depthkd.report.table import figures_table
from depthkd.runs import CONFIG, load_student

MEAN_MAP_SAMPLES = 500
PICTURE_SIDE = 480  # px, the longer one; a sheet's cells are smaller still


@dataclass
class Contender:
    """A row of the tables: a model that is loaded when its turn comes."""

    name: str
    load: Callable[[], DepthModel]
    trivial: bool = False  # not in pictures, and left out where a protocol does not suit it


@dataclass
class Outcome:
    """What is known of one benchmark so far."""

    name: str
    benchmark: Benchmark
    protocol: Protocol
    figures: dict[str, dict[str, float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    unreadable: dict[int, str] = field(default_factory=dict)
    rows: dict[int, SheetRow] = field(default_factory=dict)


def evaluate(
    models: dict[str, str | DepthModel],
    benchmarks: dict[str, Benchmark],
    mean_map: str | list[str] | None = None,
    out: Path = Path("runs/test"),
    resolution: int | None = None,
    device: str = "auto",
    pictures: int = 4,
    photographs: bool = True,
    untrained: bool = True,
    claims: list[Claim] | None = None,
) -> dict[str, Any]:
    """Score models on benchmarks; write results.json, per_sample.csv, table.md and sheet.png.

    Args:
        models: name -> a run folder, one of its checkpoints, or any DepthModel.
        benchmarks: name -> benchmark; its protocol stands beside every figure.
        mean_map: labelled training shards, whose mean disparity map becomes a trivial row.
        out: the folder for results.
        resolution: the shorter side at which models run, in pixels, instead of the protocols' own.
        device: "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:1".
        pictures: samples of each benchmark on the picture sheet.
        photographs: whether the sheet ends with photographs, which have no truth.
        untrained: whether each run also gets a row for its student with the weights before training.
        claims: what should come out; each is printed with its verdict.

    Returns:
        What results.json holds.

    Raises:
        ValueError: nothing to test, or a model's space does not suit a benchmark's protocol.
    """
    for what, given in (("models", models), ("benchmarks", benchmarks)):
        if not given:
            raise ValueError(f"there is nothing to test: give one or more {what}, such as --{what}.NAME ...")
    place = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    outcomes = [Outcome(name, b, _protocol(b, resolution)) for name, b in benchmarks.items()]
    photos = [SheetRow(s.key, s.image) for s in carried_photographs()] if photographs else []
    about: dict[str, dict[str, str]] = {}
    out.mkdir(parents=True, exist_ok=True)
    with (out / "per_sample.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["benchmark", "model", "sample", *FORMULAS])
        for contender in _contenders(models, mean_map, untrained):
            model = contender.load().to(place).eval()
            about[contender.name] = {
                "source": model.source,
                "licence": model.licence,
                "space": str(model.space),
            }
            for outcome in [o for o in outcomes if _suits(contender, model, o)]:  # all are asked first
                _score(contender, model, outcome, place, pictures, table.writerow)
            if not contender.trivial:
                _look(contender.name, model, photos, outcomes[0].protocol.resolution, place)
            results = _results(about, outcomes, place)  # after each model: the next may take hours
            (out / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    text = "\n".join(
        figures_table(o.name, str(o.protocol), len(o.benchmark), o.figures, _notes(o)) for o in outcomes
    )
    (out / "table.md").write_text(text)
    print(text)
    rows = [row for o in outcomes for row in o.rows.values()] + photos
    if rows:
        picture_sheet(rows, list(models), out / "sheet.png")
        print(f"pictures: {out / 'sheet.png'}")
    figures = {o.name: o.figures for o in outcomes}
    results["claims"] = {claim.sentence(figures): claim.met(figures) for claim in claims or []}
    (out / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    for sentence in results["claims"]:
        print(sentence)
    return results


def _protocol(benchmark: Benchmark, resolution: int | None) -> Protocol:
    if resolution is None:
        return benchmark.protocol
    return replace(benchmark.protocol, resolution=resolution)


def _contenders(
    models: dict[str, str | DepthModel], mean_map: str | list[str] | None, untrained: bool
) -> Iterator[Contender]:
    for name, model in models.items():
        if isinstance(model, DepthModel):
            yield Contender(name, partial(_itself, model))
            continue
        yield Contender(name, partial(load_student, Path(model)))
        if untrained:
            yield Contender(
                f"{name}, untrained", partial(load_student, Path(model), fresh=True), trivial=True
            )
    yield Contender("best constant per image", BestConstant, trivial=True)
    yield Contender("vertical ramp", VerticalRamp, trivial=True)
    if mean_map is not None:
        shards = ShardBenchmark(mean_map, name="mean_map", min_depth=None, max_depth=None)
        mean = mean_disparity_map(spread(shards, MEAN_MAP_SAMPLES))
        yield Contender("mean training map", partial(MeanMap, mean), trivial=True)


def _itself(model: DepthModel) -> DepthModel:
    return model


def _suits(contender: Contender, model: DepthModel, outcome: Outcome) -> bool:
    """Whether the protocol can score the model; a trivial row that it cannot is left out with a note."""
    try:
        outcome.protocol.check(model.space, truth_space(outcome.benchmark))
    except ValueError as error:
        if not contender.trivial:
            raise ValueError(f"model '{contender.name}' on benchmark '{outcome.name}': {error}") from error
        outcome.notes.append(f"No row for {contender.name}: {error}.")
        return False
    return True


def _score(
    contender: Contender,
    model: DepthModel,
    outcome: Outcome,
    device: torch.device,
    pictures: int,
    write: Callable[[list[str | float]], Any],
) -> None:
    count = len(outcome.benchmark)
    picked = {i * count // min(pictures, count) for i in range(min(pictures, count))}
    mean = MeanOverImages(FORMULAS).to(device)
    start = time.perf_counter()
    samples = scored(model, outcome.benchmark, outcome.protocol, device, outcome.unreadable)
    label = f"{contender.name} on {outcome.name}"
    for one in tqdm(samples, desc=label, total=count, unit="image", disable=None):
        mean.update(one.scores)
        values = {name: float(value) for name, value in one.scores.items()}
        write([outcome.name, contender.name, one.sample.key, *values.values()])
        if one.index in picked and not contender.trivial:
            _picture(contender.name, one, outcome, values)
    seconds = time.perf_counter() - start
    figures = {name: float(value) for name, value in mean.compute().items()}
    outcome.figures[contender.name] = figures | {"seconds": seconds}
    print(f"{label}: {figures_caption(figures)}, {int(figures['images'])} images in {seconds:.1f} s")


def _picture(name: str, one: Scored, outcome: Outcome, values: dict[str, float]) -> None:
    """Keep a small copy for the sheet."""
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
    row.captions[name] = figures_caption(values)


def _small(depth: Float[Tensor, "1 height width"]) -> Float[np.ndarray, "small_height small_width"]:
    height, width = depth.shape[1:]
    scale = min(1.0, PICTURE_SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    # Nearest: a mean over an edge would be a depth that is nowhere.
    return np.asarray(cv2.resize(depth[0].cpu().numpy(), size, interpolation=cv2.INTER_NEAREST))


def _look(
    name: str, model: DepthModel, photos: list[SheetRow], resolution: int | None, device: torch.device
) -> None:
    for row in photos:
        depth = model.predict(image_tensor(row.image, device), resolution)
        row.predictions[name] = depth[0].cpu().numpy()
        row.spaces[name] = model.space


def _notes(outcome: Outcome) -> list[str]:
    notes = list(outcome.notes)
    if outcome.unreadable:
        first = next(iter(outcome.unreadable.values()))
        count = len(outcome.unreadable)
        notes.append(f"{count} sample{'s' * (count > 1)} could not be read, the first: {first}.")
    return notes


def _results(
    about: dict[str, dict[str, str]], outcomes: list[Outcome], device: torch.device
) -> dict[str, Any]:
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
                "notes": o.notes,
                "unreadable": list(o.unreadable.values()),
            }
            for o in outcomes
        },
    }


def _json_safe(figures: dict[str, float]) -> dict[str, float | str]:
    """JSON knows neither NaN nor infinity."""
    return {name: value if isfinite(value) else str(value) for name, value in figures.items()}


class Parser(ArgumentParser):
    """Raises the one sentence about a mistake, which the command line prints."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the innermost line of what jsonargparse found."""
        raise ValueError(innermost(message)) from ex


def expand(arguments: list[str]) -> list[str]:
    """Runs named by their folders alone, as `--models` and `--benchmarks`.

    The words before the first option (but after the composed `--config`, which comes first) are run
    folders or checkpoints. The first one's config says what it was validated on (data.validation),
    unless `--benchmarks` or the composed config says what to test on.

    Raises:
        FileNotFoundError: there is no such run.
    """
    config = arguments[:2] if arguments[:1] == ["--config"] else []
    words = arguments[len(config) :]
    count = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
    runs = [Path(word) for word in words[:count]]
    for run in runs:
        if not run.exists():
            raise FileNotFoundError(f"there is no run at {run}")
    validation = _validation(runs[0]) if runs else None
    benchmarks = [] if validation is None else [f"--benchmarks={json.dumps(validation)}"]
    # Paths before classes: after a `--models.NAME.class_path` jsonargparse refuses a path.
    models = [f"--models.{_run_name(run)}={run}" for run in runs]
    # And an empty mapping before all: into none at all, jsonargparse puts no first class.
    return ["--models={}", *benchmarks, *config, *models, *words[count:]]


def _run_name(run: Path) -> str:
    """A checkpoint is called by its run's name and its own."""
    name = run.name if run.is_dir() else f"{run.parent.parent.name}-{run.stem}"
    return re.sub("[.=]", "-", name)  # neither can be in the name of an option


def _validation(run: Path) -> dict[str, Any] | None:
    config = (run if run.is_dir() else run.parent.parent) / CONFIG
    if not config.is_file():
        raise FileNotFoundError(f"{run} is not of a run folder: there is no {config}")
    tree = yaml.safe_load(config.read_text())
    validation: dict[str, Any] | None = (tree.get("data") or {}).get("validation")
    return validation


def main(arguments: list[str]) -> int:
    """Run `depthkd test` with a composed command line; returns the exit status: 1 if a claim is not met.

    Raises:
        ValueError, FileNotFoundError: a user's mistake, as a sentence.
    """
    parser = Parser(prog="depthkd test", description="depthkd test [RUN ...] [--config FILE] [options]")
    parser.add_argument("--config", action="config", help="a YAML file of the options below")
    parser.add_function_arguments(evaluate)
    parsed = parser.instantiate(parser.parse_args(expand(arguments)))
    del parsed["config"]
    results = evaluate(**parsed.as_dict())
    return 0 if all(results["claims"].values()) else 1
