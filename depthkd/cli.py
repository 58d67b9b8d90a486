"""The command line: picks the verb by its first word and imports only what that verb needs."""

import os
import signal
import sys
from importlib import import_module

from depthkd.cluster import signals
from depthkd.cluster.slurm import EveryRankError, this_rank
from depthkd.errors import UserError, mistake_or_fault, sentence
from depthkd.verbs import VERBS

INTERRUPTED = 128 + signal.SIGINT  # the exit status
ASKS = {"-h", "--help", "--print_config"}  # for which nothing is made first
LOOKS = {"doctor"}  # verbs that make nothing


def usage() -> str:
    """What `depthkd --help` prints."""
    lines = ["usage: depthkd VERB [options]   (depthkd VERB --help says more)", ""]
    lines += [f"  {verb:<10}{words}" for verb, words in VERBS.items()]
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
        return _run(verb, rest, makes)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 2
    except KeyboardInterrupt:
        print(f"\ndepthkd {verb}: interrupted", file=sys.stderr)
        return INTERRUPTED
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


def _run(verb: str, words: list[str], makes: tuple[str, ...]) -> int:
    from depthkd.verbs.configs import compose

    command = compose(words)
    command.make = lambda needs: _make(needs, makes)
    if verb not in LOOKS and ASKS.isdisjoint(word.partition("=")[0] for word in words):
        command.make(command.needs)
    return int(import_module(f"depthkd.verbs.{verb}").main(command))


def _make(needs: dict[str, str], makes: tuple[str, ...]) -> None:
    if needs:
        from depthkd.verbs.needs import make

        make(needs, main, makes)


def console() -> None:
    """The `depthkd` script."""
    try:
        status = main(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:  # `depthkd --help | head -1`: nobody reads on, which is no mistake
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 128 + signal.SIGPIPE
    sys.exit(status)
