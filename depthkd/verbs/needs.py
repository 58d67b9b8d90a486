"""What a config needs first is made, or gone on with where it was interrupted."""

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path

from depthkd.cluster.slurm import EveryRankError, current_job
from depthkd.errors import UserError
from depthkd.paths import user_path
from depthkd.runs.folder import CONFIG, Run
from depthkd.verbs.label.whole import not_whole

MISSING = "is not there yet"
SIGNALLED, TO_BE_REQUEUED = 128, 75  # exit statuses of what was stopped: more than the first, or the second

Line = Callable[[list[str], tuple[str, ...]], int]


def make(needs: Mapping[str, str], run: Line, makes: tuple[str, ...] = ()) -> None:
    """Make what is not there, or not whole.

    Args:
        needs: path -> the depthkd command that makes it.
        run: runs a command line; returns its exit status.
        makes: what this is run for, each of them needed for making the one before.

    Raises:
        UserError: something cannot be made, or needs itself.
        SystemExit: it was stopped by a signal.
    """
    for path, maker in needs.items():
        state = unmade(path)
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
        if words[0] == "fit" and Run(path).checkpoint.is_file():
            words += ["--ckpt_path", "last"]
        print(f"\ndepthkd {shlex.join(words)}   # makes {path}, which {state}", flush=True)
        status = run(words, (*makes, path))
        if status > SIGNALLED or status == TO_BE_REQUEUED:
            raise SystemExit(status)
        if status != 0 or unmade(path) is not None:
            raise UserError(f"{path} could not be made by `depthkd {shlex.join(words)}`")


def unmade(path: str | Path) -> str | None:
    """What is wrong with something that a config needs; None if it is there and whole.

    A run is whole when it is finished, and a folder of labels when its list says so; whatever else depthkd
    makes appears when it is whole.
    """
    place = user_path(path)
    if not place.exists():
        return MISSING
    run = Run(place)
    if place.suffix != ".ckpt" and not run.config.is_file():
        return not_whole(place)
    progress = run.progress()
    if progress is None:
        return f"has no checkpoint beside its {CONFIG} yet"
    return None if progress.finished else f"is at {progress}"
