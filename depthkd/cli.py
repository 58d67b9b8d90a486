"""The command line: picks the verb by its first word and imports only what that verb needs."""

import importlib
import os
import shlex
import signal
import sys
from typing import TYPE_CHECKING

from depthkd.cluster import signals
from depthkd.cluster.slurm import EveryRankError, current_job, this_rank
from depthkd.errors import UserError, mistake_or_fault, sentence

if TYPE_CHECKING:
    from depthkd.composition import Command

MISSING = "is not there yet"
SIGNALLED, TO_BE_REQUEUED = 128, 75  # exit statuses: more than the first, or the second

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
    """Of the installed package; "unknown" where its folder alone is there."""
    from importlib import metadata

    try:
        return metadata.version("depthkd")
    except metadata.PackageNotFoundError:
        return "unknown"


def main(arguments: list[str], makes: tuple[str, ...] = ()) -> int:
    """Run one verb; returns the exit status: 0, or 2 after a sentence about a user's mistake.

    Args:
        arguments: the command line.
        makes: what it is run for, each of them needed for making the one before.
    """
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
        command = prepared(rest, makes)
        module = importlib.import_module(VERBS[verb][0])
        if module.__name__ == "depthkd.fit":
            return int(module.main(verb, command.arguments, command.name))
        return int(module.main(command.arguments))
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 2
    except KeyboardInterrupt:
        print(f"\ndepthkd {verb}: interrupted", file=sys.stderr)
        return SIGNALLED + signal.SIGINT
    except Exception as error:
        cause = mistake_or_fault(error)
        if not isinstance(cause, UserError):
            fault = cause or error
            fault.add_note(f"This is a fault of depthkd {version()}, not yours: please report it.")
            if fault is error:
                raise
            raise fault from fault.__cause__
        if os.environ.get("DEPTHKD_TRACEBACK"):
            raise
        if not (isinstance(cause, EveryRankError) and this_rank()):
            print(f"depthkd {verb}: {sentence(cause)}", file=sys.stderr)
        return 2
    finally:
        if in_a_job:
            signals.ignore(signal.SIGUSR1)  # or again while they go: all is saved


def prepared(arguments: list[str], makes: tuple[str, ...] = ()) -> "Command":
    """The command line with its configs merged, once what they need has been made; `makes` as in `main`.

    Raises:
        UserError: something cannot be made, or needs itself.
    """
    from depthkd.composition import compose

    command = compose(arguments)
    asks = {"-h", "--help", "--print_config"}.intersection(word.partition("=")[0] for word in arguments)
    for path, maker in command.needs.items():
        state = None if asks else unmade(path)
        if state is None:
            continue
        job = current_job()
        if job is not None and job.tasks > 1:
            raise EveryRankError(
                f"{path} {state}, and must not be made by every task: `depthkd {maker}` first"
            )
        if path in makes:
            raise UserError(f"{path} needs itself: `depthkd {maker}`, which makes it, has it in its 'needs'")
        words = shlex.split(maker)
        if words[0] == "fit" and begun(path):
            words += ["--ckpt_path", "last"]
        print(f"\ndepthkd {shlex.join(words)}   # makes {path}, which {state}", flush=True)
        status = main(words, (*makes, path))
        if status > SIGNALLED or status == TO_BE_REQUEUED:
            raise SystemExit(status)
        if status != 0 or unmade(path) is not None:
            raise UserError(f"{path} could not be made by `depthkd {shlex.join(words)}`")
    return command


def unmade(path: str) -> str | None:
    """What is wrong with something that a config needs; None if it is there and whole.

    A run is whole when it is finished; whatever else depthkd makes appears when it is whole.
    """
    from depthkd.paths import user_path

    place = user_path(path)
    if not place.exists():
        return MISSING
    from depthkd.runs.folder import CONFIG, Run

    run = Run(place)
    if place.suffix != ".ckpt" and not run.config.is_file():
        return None
    progress = run.progress()
    if progress is None:
        return f"has no checkpoint beside its {CONFIG} yet"
    return None if progress.finished else f"is at {progress}"


def begun(path: str) -> bool:
    """Whether what a config needs is a run that has a checkpoint to go on from."""
    from depthkd.paths import user_path
    from depthkd.runs.folder import Run

    return Run(user_path(path)).checkpoint.is_file()


def console() -> None:
    """The `depthkd` script."""
    try:
        status = main(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:  # `depthkd --help | head -1`: nobody reads on, which is no mistake
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 128 + signal.SIGPIPE
    sys.exit(status)
