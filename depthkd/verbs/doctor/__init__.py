"""`depthkd doctor`: what this machine has for depthkd, what a config needs of it, and what to do."""

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import yaml

from depthkd.errors import UserError
from depthkd.verbs.configs import Command
from depthkd.verbs.doctor.findings import Finding, State, told
from depthkd.verbs.options import leading

USAGE = """usage: depthkd doctor [--config CONFIG [--data.train.NAME.urls URLS ...]]

Looks at devices, memory, files, processors, disks, packages, the hub and SLURM; with a config also at the
shards, benchmarks, teachers and their licenses, and what it needs to be there first. It makes nothing,
but for the index of a benchmark's shards. The exit status is 1 if there is a problem."""
LOOKS = ("machine", "packages", "hub", "slurm")  # files of this folder
OF_CONFIG = "training"
HELP = ("-h", "--help")


def doctor(config: dict[str, Any] | None = None, needs: dict[str, str] | None = None) -> list[Finding]:
    """Look, and print what is found as it is found.

    Args:
        config: of a run, as composed; None: the machine alone.
        needs: path -> the depthkd command that makes it, as in the config.
    """
    found = []
    for finding in _all(config, needs or {}):
        found.append(finding)
        print(told(finding), flush=True)
    counts = {state: sum(one.state is state for one in found) for state in State}
    print(f"\n{counts[State.PROBLEM]} problems, {counts[State.WARNING]} warnings, {counts[State.OK]} ok")
    return found


def _all(config: dict[str, Any] | None, needs: dict[str, str]) -> Iterator[Finding]:
    for name in LOOKS:
        look: Callable[[dict[str, Any]], Iterator[Finding]]
        look = import_module(f"depthkd.verbs.doctor.{name}").look
        yield from look(config or {})
    if config is not None:
        yield from import_module(f"depthkd.verbs.doctor.{OF_CONFIG}").look(config, needs)


def overridden(config: dict[str, Any], words: list[str]) -> dict[str, Any]:
    """A config with options from the command line, `--data.workers 4` or `--data.workers=4`, set in it.

    Raises:
        UserError: a word is no option of a config, or has no value.
    """
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        parts = name.removeprefix("--").split(".")
        if not name.startswith("--") or len(parts) < 2:
            raise UserError(f"'{word}' is no setting of a config; it would be such as --data.workers 4")
        value = value if equals else next(rest, "")
        if not value:
            raise UserError(f"{name} has no value")
        place = config
        for part in parts[:-1]:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise UserError(f"{name}: '{part}' has no settings of its own in this config")
        try:
            place[parts[-1]] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UserError(f"{name}: '{value}' is not a value that YAML can read") from error
    return config


def main(command: Command) -> int:
    """Run `depthkd doctor`; returns the exit status: 1 if there is a problem."""
    composed, words, rest = leading(command.arguments)
    if set(HELP) & {*words, *rest}:
        print(USAGE)
        return 0
    if words or (rest and not composed):
        raise UserError(f"'{(words or rest)[0]}' is no option; a config is named by --config")
    config = yaml.safe_load(composed[1]) if composed else None
    found = doctor(None if config is None else overridden(config, rest), command.needs)
    return int(any(finding.state is State.PROBLEM for finding in found))
