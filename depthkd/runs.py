"""The student of a run folder, and as a model of its own."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from jsonargparse import ArgumentError, ArgumentParser
from torch import Tensor, nn

from depthkd.batch import DepthSpace
from depthkd.errors import UserError
from depthkd.models.model import Answer, Cameras, DepthModel, DepthOutput, Image
from depthkd.resolution import Asked
from depthkd.run_folder import Run, read_checkpoint

Settings = dict[str, Any]
log = logging.getLogger(__name__)


def load_student(path: Path | str, fresh: bool = False, settings: Settings | None = None) -> DepthModel:
    """The student of a run folder, as its tests and exports see it: averaged, where an average was kept.

    Args:
        path: a run folder, or one of its checkpoints.
        fresh: the same network with the weights that training started from (seed 0), untrained.
        settings: arguments of the student that are to be others than in the run's config.

    Returns:
        A model that runs at the shorter side of its training images, unless it is asked for another size.

    Raises:
        MissingFileError: the folder has no config or no checkpoint.
        UserError: they do not fit each other.
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
    prefix = "student_average." if content["depthkd"]["averaged"] else "student."
    weights = {k.removeprefix(prefix): v for k, v in content["state_dict"].items() if k.startswith(prefix)}
    try:
        student.load_state_dict(weights)
    except RuntimeError as error:
        first = str(error).splitlines()[1:2] or [str(error)]
        raise UserError(
            f"the weights in {run.checkpoint} do not fit the student that {run.config} describes: "
            f"{first[0].strip()}"
        ) from error
    progress = run.progress()
    if progress is not None and not progress.finished:
        log.warning("%s is unfinished, at %s: its student is not what it will be", run.folder, progress)
    student.source = str(path)
    licences = [t["licence"] for t in content["depthkd"]["teachers"].values()]
    student.licence = ", ".join(sorted({*licences, student.licence} - {"unknown"})) or "unknown"
    return student.eval()


def build_student(run: Run, settings: Settings | None = None) -> DepthModel:
    """The network that a run's config describes, with the weights that training would start from."""
    tree = run.settings()
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
            raise UserError(
                f"{run.config} does not describe a student (model.init_args.student): {error}"
            ) from error
    assert isinstance(student, DepthModel)
    return student


def teachers_of(path: Path) -> dict[str, dict[str, Any]]:
    """Name -> source, licence and training sets of those that taught a run's student; none of no run's.

    Args:
        path: a run folder, or one of its checkpoints.
    """
    checkpoint = Run(path).checkpoint
    if not checkpoint.is_file():
        return {}
    teachers: dict[str, dict[str, Any]] = read_checkpoint(checkpoint, lazily=True)["depthkd"]["teachers"]
    return teachers


class TrainedDepth(DepthModel):
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
        super().__init__()
        self.network = load_student(path, fresh, settings)
        if metric is not None:
            from depthkd.models.sharpdepth import SharpDepth  # not before: it brings diffusers

            if not isinstance(self.network, SharpDepth):
                kind = type(self.network).__name__
                raise UserError(f"the student of {path} is a {kind}; only a SharpDepth takes `metric`")
            self.network.make_metric = metric
        self.space = self.network.space
        self.multiple = self.network.multiple
        self.fixed_size = self.network.fixed_size
        self.own_size = self.network.own_size
        self.resizes = self.network.resizes
        self.longest = self.network.longest
        self.trained_at = self.network.trained_at
        self.preprocessing = self.network.preprocessing
        self.half_but_head = self.network.half_but_head
        self.through_codec = self.network.through_codec
        self.takes_camera = self.network.takes_camera
        self.max_depth = self.network.max_depth
        self.training_sets = self.network.training_sets
        self.licence = self.network.licence
        self.source = path

    def forward(self, image: Float[Tensor, "batch 3 height width"]) -> DepthOutput:
        """As the student's."""
        output: DepthOutput = self.network(image)
        return output

    def answer(self, image: Image) -> Answer:
        """As the student's."""
        return self.network.answer(image)

    def answer_with_camera(self, image: Image, intrinsics: Cameras) -> Answer:
        """As the student's."""
        return self.network.answer_with_camera(image, intrinsics)

    def infer(
        self,
        image: Image,
        resolution: Asked = None,
        scale: float = 1.0,
        flip: bool = False,
        intrinsics: Cameras | None = None,
    ) -> Answer:
        """As the student's."""
        return self.network.infer(image, resolution, scale, flip, intrinsics)

    def runs_at(
        self, height: int, width: int, resolution: Asked = None, scale: float = 1.0
    ) -> tuple[int, int] | None:
        """As the student's."""
        return self.network.runs_at(height, width, resolution, scale)

    def companions(self) -> list[DepthModel]:
        """The student's."""
        return self.network.companions()

    def unwrapped(self) -> DepthModel:
        """The student."""
        return self.network

    def restore(self, answer: Answer, size: tuple[int, int]) -> Float[Tensor, "batch height width"]:
        """As the student's."""
        return self.network.restore(answer, size)

    def of_truth(
        self,
        depth: Float[Tensor, "batch height width"],
        mask: Bool[Tensor, "batch height width"],
        space: DepthSpace,
    ) -> Float[Tensor, "batch height width"]:
        """As the student's."""
        return self.network.of_truth(depth, mask, space)

    @property
    def feature_channels(self) -> int | None:
        """As the student's."""
        return self.network.feature_channels

    @property
    def feature_family(self) -> str:
        """As the student's."""
        return self.network.feature_family

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        """As the student's."""
        return self.network.encoder_parameters()
