"""The command line: picks the verb by its first word and imports only what that verb needs."""

import importlib
import os
import shlex
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from depthkd.cluster import signals
from depthkd.cluster.slurm import EveryRankError, current_job, this_rank
from depthkd.errors import UserError, sentence, user_error

if TYPE_CHECKING:
    from depthkd.composition import Command

VERBS = {
    "fit": ("depthkd.fit", "train a student: depthkd fit --config configs/cross_context.yaml"),
    "validate": ("depthkd.fit", "run a config's validation once, on a checkpoint"),
    "test": ("depthkd.evaluate", "score models and run folders under a protocol, with a table and pictures"),
    "predict": (
        "depthkd.predict",
        "depth of photographs: arrays, pictures, and metric point clouds",
    ),
    "replicate": ("depthkd.replicate", "a paper's tables in miniature, seed by seed, with verdicts"),
    "shards": ("depthkd.shards", "pack, inspect and verify tar shards, or generate scenes into them"),
}


def usage() -> str:
    """What `depthkd --help` prints."""
    lines = ["usage: depthkd VERB [options]   (depthkd VERB --help says more)", ""]
    lines += [f"  {verb:<10}{words}" for verb, (_, words) in VERBS.items()]
    return "\n".join(lines)


def version() -> str:
    """Of the installed package."""
    from importlib import metadata

    return metadata.version("depthkd")


def main(arguments: list[str]) -> int:
    """Run one verb; returns the exit status: 0, or 2 after a sentence about a user's mistake."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if arguments[0] == "--version":
        print(f"depthkd {version()}")
        return 0
    verb, *rest = arguments
    if verb not in VERBS:
        print(f"depthkd: there is no verb '{verb}'; it would be one of {', '.join(VERBS)}", file=sys.stderr)
        return 2
    in_a_job = verb == "fit" and "SLURM_STEP_ID" in os.environ
    if in_a_job:
        signals.listen(signal.SIGUSR1)  # the time limit can come near while libraries are still loading
    try:
        command = prepared(rest)
        module = importlib.import_module(VERBS[verb][0])
        if module.__name__ == "depthkd.fit":
            return int(module.main(verb, command.arguments, command.name))
        return int(module.main(command.arguments))
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 2
    except Exception as error:
        mistake = user_error(error)
        if mistake is None:
            error.add_note(f"This is a fault of depthkd {version()}, not yours: please report it.")
            raise
        if os.environ.get("DEPTHKD_TRACEBACK"):
            raise
        if not (isinstance(mistake, EveryRankError) and this_rank()):
            print(f"depthkd {verb}: {sentence(mistake)}", file=sys.stderr)
        return 2
    finally:
        if in_a_job:
            signals.ignore(signal.SIGUSR1)  # or again while they go: all is saved


def prepared(arguments: list[str]) -> "Command":
    """The command line with its configs merged, once what they need has been made."""
    from depthkd.composition import compose

    command = compose(arguments)
    asks = {"-h", "--help", "--print_config"}.intersection(word.partition("=")[0] for word in arguments)
    for path, maker in command.needs.items():
        if Path(path).exists() or asks:
            continue
        job = current_job()
        if job is not None and job.tasks > 1:
            raise EveryRankError(
                f"{path} is not there yet, and must not be made by every task: `depthkd {maker}` first"
            )
        print(f"\ndepthkd {maker}   # makes {path}, which is not there yet", flush=True)
        if main(shlex.split(maker)) != 0:
            raise UserError(f"{path} could not be made by `depthkd {maker}`")
    return command


def console() -> None:
    """The `depthkd` script."""
    try:
        status = main(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:  # `depthkd --help | head -1`: nobody reads on, which is no mistake
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 128 + signal.SIGPIPE
    sys.exit(status)
