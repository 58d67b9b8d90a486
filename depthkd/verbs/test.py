"""`depthkd test`: score any models on any benchmarks, each under its protocol, beside the trivial rows."""

import json
import re
from dataclasses import replace
from typing import Any

import yaml

from depthkd.benchmarks.motorcycle import Motorcycle
from depthkd.benchmarks.roots import listing
from depthkd.evaluation.evaluate import carried_out
from depthkd.evaluation.request import EvaluationRequest
from depthkd.models.dpt.packaged_weights import EMBEDDED
from depthkd.parsing import read_yaml
from depthkd.paths import user_path
from depthkd.runs.folder import Run
from depthkd.runs.named_models import as_options, named_model
from depthkd.verbs.configs import Command
from depthkd.verbs.options import leading, parsed

USAGE = "depthkd test [RUN|FILE.onnx|FOLDER|HUB_ID ...] [--config FILE] [options]"


def expand(arguments: list[str]) -> list[str]:
    """Models named by one word each (see `named_model`), as `--models` and `--benchmarks`.

    They are the words before the first option, but after the composed `--config`, which comes first. A run
    is tested on what its config was validated on (data.validation), unless the command line or the
    composed config says what to test on.

    Raises:
        MissingFileError: there is no such model.
    """
    config, named, options = leading(arguments)
    options = together(options, "--completion")
    runs = [run for word in named if (run := named_model(word).run) is not None]
    elsewhere = any(re.match(r"--(benchmarks|root)\b", word) for word in options)
    composed: Any = yaml.safe_load(config[1]) if config else {}
    elsewhere = elsewhere or bool(composed.get("benchmarks") or composed.get("root"))
    validation = None if elsewhere or not runs else _validation(runs[0])
    benchmarks = json.dumps(validation or {})
    # Paths before classes: after a `--models.NAME.class_path` jsonargparse refuses a path.
    # And mappings before all, if empty ones: into none at all, jsonargparse puts no first class.
    return ["--models={}", f"--benchmarks={benchmarks}", *config, *as_options(named), *options]


def together(options: list[str], option: str) -> list[str]:
    """The words of a command, with all values of an option that may be given several times as one list."""
    values: list[str] = []
    others: list[str] = []
    words = iter(options)
    for word in words:
        name, equals, value = word.partition("=")
        if name != option:
            others.append(word)
            continue
        value = value if equals else next(words, "")
        values += read_yaml(value.encode(), option) if value.startswith("[") else [value]
    return [*others, f"{option}={json.dumps(values)}"] if values else others


def _validation(run: Run) -> dict[str, Any] | None:
    validation: dict[str, Any] | None = (run.settings().get("data") or {}).get("validation")
    return validation


def with_defaults(request: EvaluationRequest) -> EvaluationRequest:
    """The request, with the embedded teacher where it names no model, and the motorcycle where it names no
    benchmark either."""
    if request.models:
        return request
    print(f"no model is named: this tests the {EMBEDDED} teacher of depthkd")
    request = replace(request, models={EMBEDDED: EMBEDDED})
    if request.benchmarks or request.root is not None:
        return request
    print(
        "no benchmark is named: this tests on the photograph with measured depth that comes with scikit-image"
    )
    return replace(request, benchmarks={Motorcycle.name: Motorcycle()})


def main(command: Command) -> int:
    """Run `depthkd test`; returns the exit status: 1 if a claim is not met, a sample could not be read or has
    no valid truth, a prediction cannot be depth, or nothing could be scored.

    Raises:
        UserError, MissingFileError: a user's mistake, as a sentence.
    """
    request = EvaluationRequest(
        **parsed("test", USAGE, EvaluationRequest, expand(command.arguments)).as_dict()
    )
    if request.root is not None and not request.models:
        print(listing(user_path(request.root), request.only, request.splits), end="")
        return 0
    results = carried_out(with_defaults(request))
    found = results["benchmarks"].values()
    wrong = ("unreadable", "without_truth", "faults", "unscored")
    whole = not any(benchmark[what] for benchmark in found for what in wrong)
    whole &= not any(set(benchmark["unanswered"]) - set(benchmark["trivial"]) for benchmark in found)
    return 0 if whole and all(results["claims"].values()) else 1
