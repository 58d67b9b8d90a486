"""The student of a run folder, and as a model of its own."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentError, ArgumentParser

from depthkd.errors import UserError, mistake_or_fault
from depthkd.models.model import DepthModel
from depthkd.models.wrapper import Wrapper
from depthkd.old_names import modern_teacher
from depthkd.parsing import innermost
from depthkd.runs.folder import Run, read_checkpoint

Settings = dict[str, Any]
log = logging.getLogger(__name__)
FEW = 400  # characters of what torch says of weights that do not fit


def load_student(
    path: Path | str, fresh: bool = False, settings: Settings | None = None, averaged: bool | None = None
) -> DepthModel:
    """The student of a run folder, as its tests and exports see it: averaged, where an average was kept.

    Args:
        path: a run folder, or one of its checkpoints.
        fresh: the same network with the weights that training started from (seed 0), untrained.
        settings: arguments of the student that are to be others than in the run's config.
        averaged: the moving average of the weights, or the weights of the last step themselves; None: the
            average where one was kept.

    Returns:
        A model that runs at the shorter side of its training images, unless it is asked for another size.

    Raises:
        MissingFileError: the folder has no config or no checkpoint.
        UserError: they do not fit each other, or an average is asked for and none was kept.
    """
    run = Run(path)
    student = build_student(run, settings)
    if fresh and not run.checkpoint.is_file():
        return student
    content = read_checkpoint(run.checkpoint, lazily=fresh)
    size = content["depthkd"].get("trained_at")  # earlier checkpoints say nothing
    student.trained_at = None if size is None else (size[0], size[1])
    if fresh:
        return student
    kept = bool(content["depthkd"]["averaged"])
    if averaged and not kept:
        raise UserError(
            f"{run.checkpoint} has no moving average of the weights: its run kept none; take them raw"
        )
    prefix = "student_average." if kept and averaged is not False else "student."
    weights = {k.removeprefix(prefix): v for k, v in content["state_dict"].items() if k.startswith(prefix)}
    try:
        student.load_state_dict(weights)
    except RuntimeError as error:
        first = (str(error).splitlines()[1:2] or [str(error)])[0].strip()
        described = f"that {run.config} describes" + (f" with settings {settings}" if settings else "")
        raise UserError(
            f"the weights in {run.checkpoint} do not fit the student {described}: {first[:FEW]}"
            f"{'...' if len(first) > FEW else ''}"
        ) from error
    progress = run.progress()
    if progress is not None and not progress.finished:
        log.warning("%s is unfinished, at %s: its student is not what it will be", run.folder, progress)
    student.source = str(path)
    licenses = {modern_teacher(t)["license"] for t in content["depthkd"]["teachers"].values()}
    student.base_license = student.license
    if student.license != "unknown" or not begins_at_random(content["depthkd"].get("student", "unknown")):
        licenses.add(student.license)
    student.license = ", ".join(sorted(licenses)) or "unknown"
    return student.eval()


def begins_at_random(source: str) -> bool:
    """Whether a student's training began from no weights, by the `source` that its class gives it."""
    built = source.startswith("DepthAnything ") and not (
        " from " in source or " with the encoder of " in source
    )
    return built or source.startswith("random ") or ", random weights (" in source


def build_student(run: Run, settings: Settings | None = None) -> DepthModel:
    """The network that a run's config describes, with the weights that training would start from."""
    tree = run.settings()
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(DepthModel, "student", required=True)
    nothing = f"{run.config} does not describe a student (model.init_args.student)"
    try:
        described = tree["model"]["init_args"]["student"]
        described = described | {"init_args": (described.get("init_args") or {}) | (settings or {})}
    except (KeyError, TypeError) as error:
        raise UserError(nothing) from error
    with torch.random.fork_rng():
        torch.manual_seed(0)
        try:
            student = parser.instantiate(parser.parse_object({"student": described})).student
        except (ArgumentError, TypeError, ValueError) as error:
            cause = mistake_or_fault(error)
            if cause is not None:
                raise cause from None
            also = f", with the settings {settings}" if settings else ""
            raise UserError(f"{nothing}{also}: {innermost(str(error))}") from error
    assert isinstance(student, DepthModel)
    return student


class TrainedDepth(Wrapper):
    """The student of a run folder as a model of its own: a teacher for the next, or a test subject.

    Args:
        path: a run folder, or one of its checkpoints.
        fresh: untrained, with the weights that its training started from.
        settings: arguments of the student that are to be others than in the run's config, such as
            {step: -1} of a FiffDepth.
        metric: of a SharpDepth, another metric model than the one that it was trained with.

    Raises:
        UserError: `metric` is given for another student.
    """

    def __init__(
        self,
        path: str,
        fresh: bool = False,
        settings: Settings | None = None,
        metric: Callable[[], DepthModel] | None = None,
    ) -> None:
        student = load_student(path, fresh, settings)
        if metric is not None:
            from depthkd.models.latent_diffusion.sharpdepth import (
                SharpDepth,  # not before: it brings diffusers
            )

            network = student.unwrapped()
            if not isinstance(network, SharpDepth):
                kind = type(network).__name__
                raise UserError(f"the student of {path} is a {kind}; only a SharpDepth takes `metric`")
            network.make_metric = metric
        super().__init__(student)
        self.source = path
        self.fresh = fresh
