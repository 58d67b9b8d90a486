"""`depthkd test`: score any models on any benchmarks, each under its protocol, beside the trivial rows."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import torch
import yaml
from jsonargparse import ArgumentParser

from depthkd.benchmarks.benchmark import Benchmark, Protocol
from depthkd.benchmarks.scoring import fingerprint, image_tensor, truth_space
from depthkd.benchmarks.shards import ShardBenchmark
from depthkd.benchmarks.trivial import BestConstant, MeanMap, VerticalRamp, mean_disparity_map, spread
from depthkd.composition import innermost
from depthkd.models.model import DepthModel
from depthkd.outcomes import Outcome, everything, facts, illustrate, looks, score, section
from depthkd.report.certainty import certainty
from depthkd.report.claims import Claim
from depthkd.report.html import write_report
from depthkd.report.photographs import photographs as carried_photographs
from depthkd.report.picks import SPREAD, picked
from depthkd.report.pictures import SheetRow, picture_sheet
from depthkd.report.records import Records
from depthkd.report.table import figures_table
from depthkd.runs import CONFIG, load_student

MEAN_MAP_SAMPLES = 500


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
    """Score models on benchmarks; write results.json, per_sample.csv, table.md, sheet.png and report.html.

    What an interrupted test, or an earlier one, has measured in `out` is taken up where model,
    weights, protocol and the benchmark's settings and data are the same.

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
    records = Records(out)
    for contender in _contenders(models, mean_map, untrained):
        model = contender.load().to(place).eval()
        weights = fingerprint(model)
        about[contender.name] = {
            "source": model.source,
            "licence": model.licence,
            "space": str(model.space),
            "weights": weights,
        }
        for outcome in [o for o in outcomes if _suits(contender, model, o)]:  # all are asked first
            score(outcome, contender.name, model, weights, place, records, contender.trivial)
            if not contender.trivial and pictures:
                outcome.picks = outcome.picks or picked(records.of(outcome.name, contender.name), pictures)
                illustrate(outcome, contender.name, model, place)
        if not contender.trivial:
            _look(contender.name, model, photos, outcomes[0].protocol.resolution, place)
        results = everything(about, outcomes, place)  # after each model: the next may take hours
        (out / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    records.save()
    for o in outcomes:
        o.certainty = certainty(records, o.name, [m for m in o.figures if m not in o.trivial])
    text = "\n".join(_table(outcome) for outcome in outcomes)
    (out / "table.md").write_text(text)
    print(text)
    rows = [row for o in outcomes for i, row in o.rows.items() if SPREAD in o.picks[i]] + photos
    if rows:
        picture_sheet(rows, list(models), out / "sheet.png")
        print(f"pictures: {out / 'sheet.png'}")
    figures = {o.name: o.figures for o in outcomes}
    results = everything(about, outcomes, place)
    results["claims"] = {claim.sentence(figures): claim.met(figures) for claim in claims or []}
    (out / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    parts = [*map(section, outcomes), *looks(photos)]
    write_report(out / "report.html", "depthkd test", facts(results), parts)
    print(f"report: {out / 'report.html'}")
    for sentence in results["claims"]:
        print(sentence)
    return results


@dataclass
class Contender:
    """A row of the tables: a model that is loaded when its turn comes."""

    name: str
    load: Callable[[], DepthModel]
    trivial: bool = False  # not in pictures, and left out where a protocol does not suit it


def _table(outcome: Outcome) -> str:
    notes = [*outcome.certainty.sentences(), *outcome.remarks()]
    return figures_table(outcome.name, str(outcome.protocol), len(outcome.benchmark), outcome.figures, notes)


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


def _look(
    name: str, model: DepthModel, photos: list[SheetRow], resolution: int | None, device: torch.device
) -> None:
    for row in photos:
        depth = model.predict(image_tensor(row.image, device), resolution)
        row.predictions[name] = depth[0].cpu().numpy()
        row.spaces[name] = model.space


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
    """Run `depthkd test` with a composed command line; returns the exit status: 1 if a claim is not met,
    or a sample could not be read.

    Raises:
        ValueError, FileNotFoundError: a user's mistake, as a sentence.
    """
    parser = Parser(prog="depthkd test", description="depthkd test [RUN ...] [--config FILE] [options]")
    parser.add_argument("--config", action="config", help="a YAML file of the options below")
    parser.add_function_arguments(evaluate)
    parsed = parser.instantiate(parser.parse_args(expand(arguments)))
    del parsed["config"]
    results = evaluate(**parsed.as_dict())
    read = not any(benchmark["unreadable"] for benchmark in results["benchmarks"].values())
    return 0 if read and all(results["claims"].values()) else 1
