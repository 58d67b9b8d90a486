"""The command line: picks the verb by its first word and imports only what that verb needs."""

import importlib
import os
import sys
import traceback
from pathlib import Path

VERBS = {
    "fit": ("depthkd.fit", "train a student: depthkd fit --config configs/cross_context.yaml"),
    "validate": ("depthkd.fit", "run a config's validation once, on a checkpoint"),
    "test": ("depthkd.evaluate", "score models and run folders under a protocol, with a table and pictures"),
    "shards": ("depthkd.shards", "pack, inspect and verify tar shards, or generate scenes into them"),
    "demo": ("depthkd.demo", "the main job, offline: scenes, a teacher, a distilled student, a table"),
}


def usage() -> str:
    """What `depthkd --help` prints."""
    lines = ["usage: depthkd VERB [options]   (depthkd VERB --help says more)", ""]
    lines += [f"  {verb:<10}{words}" for verb, (_, words) in VERBS.items()]
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Run one verb; returns the exit status: 0, or 2 after a sentence about a user's mistake."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if arguments[0] == "--version":
        from importlib.metadata import version

        print(f"depthkd {version('depthkd')}")
        return 0
    verb, *rest = arguments
    if verb not in VERBS:
        print(f"depthkd: there is no verb '{verb}'; it would be one of {', '.join(VERBS)}", file=sys.stderr)
        return 2
    try:
        module = importlib.import_module(VERBS[verb][0])
        given = [verb, *rest] if VERBS[verb][0] == "depthkd.fit" else rest
        return int(module.main(given))
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 2
    except (ValueError, OSError) as error:
        sentence = mistake(error)
        if sentence is None or os.environ.get("DEPTHKD_TRACEBACK"):
            raise
        print(f"depthkd {verb}: {sentence}", file=sys.stderr)
        return 2


def mistake(error: Exception) -> str | None:
    """The sentence of an error that our own code raised; None for one from inside a library.

    What depthkd raises as ValueError or OSError is written for the user, and a traceback would only
    bury it; what a library raises is a fault of ours, and its traceback is wanted.
    """
    text = str(error)
    if "Original Traceback (most recent call last)" in text:  # from a loader's worker process
        return text.strip().splitlines()[-1].partition(": ")[2]
    ours = str(Path(__file__).parent)
    raised_in = traceback.extract_tb(error.__traceback__)[-1].filename
    return text if raised_in.startswith(ours) else None


def console() -> None:
    """The `depthkd` script."""
    sys.exit(main(sys.argv[1:]))
