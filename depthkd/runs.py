"""A run is one folder, `runs/<name>/{config.yaml, checkpoints/last.ckpt, logs/}`; and its student."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentError, ArgumentParser

from depthkd.composition import innermost
from depthkd.errors import MissingFileError, UserError
from depthkd.models.model import DepthModel
from depthkd.models.weights import read_content, refuse_broken
from depthkd.models.wrapper import Wrapper
from depthkd.paths import user_path

CONFIG = "config.yaml"
Settings = dict[str, Any]
CHECKPOINT = "checkpoints/last.ckpt"


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's tensors and plain values, on the CPU; never unpickles anything else.

    Raises:
        MissingFileError: there is none at this path.
        UserError: it is not a checkpoint of ours, was cut short, or has weights that are not finite.
    """
    if not path.is_file():
        raise MissingFileError(f"there is no checkpoint at {path}")
    content = read_content(path, str(path), "not a checkpoint")
    if not isinstance(content, dict) or "depthkd" not in content:
        raise UserError(f"{path} is not a checkpoint of depthkd: it has no entry 'depthkd'")
    refuse_broken(content["state_dict"], str(path))
    checkpoint: dict[str, Any] = content
    return checkpoint


def load_student(path: Path | str, fresh: bool = False, settings: Settings | None = None) -> DepthModel:
    """The student of a run folder, as its tests and exports see it: averaged, where an average was kept.

    Args:
        path: a run folder, or one of its checkpoints.
        fresh: the same network with the weights that training started from (seed 0), untrained.
        settings: arguments of the student that are to be others than in the run's config.

    Raises:
        MissingFileError: the folder has no config or no checkpoint.
        UserError: they do not fit each other.
    """
    path = user_path(path)
    checkpoint = path if path.is_file() else path / CHECKPOINT
    folder = checkpoint.parent.parent
    student = build_student(folder, settings)
    if fresh:
        return student
    content = read_checkpoint(checkpoint)
    prefix = "student_average." if content["depthkd"]["averaged"] else "student."
    weights = {k.removeprefix(prefix): v for k, v in content["state_dict"].items() if k.startswith(prefix)}
    try:
        student.load_state_dict(weights)
    except RuntimeError as error:
        first = str(error).splitlines()[1:2] or [str(error)]
        raise UserError(
            f"the weights in {checkpoint} do not fit the student that {folder / CONFIG} describes: "
            f"{first[0].strip()}"
        ) from error
    student.source = str(path)
    licences = [t["licence"] for t in content["depthkd"]["teachers"].values()]
    student.licence = ", ".join(sorted({*licences, student.licence} - {"unknown"})) or "unknown"
    return student.eval()


def build_student(folder: Path, settings: Settings | None = None) -> DepthModel:
    """The network that a run's config describes, with the weights that training would start from."""
    config = folder / CONFIG
    if not config.is_file():
        raise MissingFileError(f"{folder} is not a run folder: it has no {CONFIG}")
    tree = yaml.safe_load(config.read_text())
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(DepthModel, "student", required=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        try:
            described = tree["model"]["init_args"]["student"]
            described = described | {"init_args": (described.get("init_args") or {}) | (settings or {})}
            parsed = parser.parse_object({"student": described})
            student = parser.instantiate(parsed).student
        except (ArgumentError, KeyError, TypeError) as error:
            also = f", with the settings {settings}" if settings else ""
            raise UserError(
                f"{config} does not describe a student (model.init_args.student){also}: "
                f"{innermost(str(error))}"
            ) from error
    assert isinstance(student, DepthModel)
    return student


def teachers_of(path: Path) -> dict[str, dict[str, Any]]:
    """Name -> source, licence and training sets of those that taught a run's student; none of no run's.

    Args:
        path: a run folder, or one of its checkpoints.
    """
    checkpoint = path if path.is_file() else path / CHECKPOINT
    if not checkpoint.is_file():
        return {}
    teachers: dict[str, dict[str, Any]] = read_checkpoint(checkpoint)["depthkd"]["teachers"]
    return teachers


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
            from depthkd.models.sharpdepth import SharpDepth  # not before: it brings diffusers

            network = student.unwrapped()
            if not isinstance(network, SharpDepth):
                kind = type(network).__name__
                raise UserError(f"the student of {path} is a {kind}; only a SharpDepth takes `metric`")
            network.make_metric = metric
        super().__init__(student)
        self.source = path
