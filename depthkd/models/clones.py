"""Networks whose code is their authors': in a clone of the repository, or installed from it.

Such code is a program, and running it runs it with all your rights. So depthkd never fetches it. Weights are
read as tensors alone, before any of the code runs.
"""

import sys
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from depthkd.batch import METRIC_DEPTH
from depthkd.errors import MissingFileError, UserError
from depthkd.geometry import focal_length as focal_length_of
from depthkd.geometry import intrinsics_matrix
from depthkd.models.hub import locate
from depthkd.models.model import Cameras, DepthModel, DepthOutput, RawPrediction, resize_map
from depthkd.models.weights import bare_names
from depthkd.paths import local_or_hub, user_path
from depthkd.shapes import Image, Map

CODE = (".py", ".json", ".yaml", ".yml", ".toml")  # what a clone's predictions depend on, besides weights


class ClonedDepth(DepthModel):
    """A network that authors' code builds; it resizes every image itself, and nothing of it is trained."""

    chooses_size = True
    takes_camera = True
    space = METRIC_DEPTH
    network: Any
    _code: Path  # the folder of the code that builds it

    def files(self) -> list[Path]:
        """The authors' code and settings."""
        return sorted(file for suffix in CODE for file in self._code.rglob(f"*{suffix}"))

    def forward(self, image: Image) -> DepthOutput:
        """RGB in [0, 1] -> depth in `self.space` at the image's size; it passes no gradients."""
        return DepthOutput(self.resize_to(self.predict_raw(image), (image.shape[-2], image.shape[-1])))

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        """All: nothing here is trained."""
        parameters: Iterator[nn.Parameter] = self.network.parameters()
        return parameters


class CameraEstimator(ClonedDepth):
    """A network that estimates the camera where nobody knows it, and else takes the image's, or one of
    `focal_length`."""

    focal_length: float | None
    resolution_level: int | None

    def predict_raw(self, image: Image) -> RawPrediction:
        """Depth in meters at the image's size; the network resizes by itself."""
        if self.focal_length is None:
            return self._infer(image, None)
        return self._infer(image, central_cameras(image, self.focal_length))

    def predict_raw_with_camera(self, image: Image, intrinsics: Cameras) -> RawPrediction:
        """`predict_raw`, by the images' own cameras and not by `focal_length`."""
        return self._infer(image, intrinsics)

    def resize_to(self, raw: RawPrediction, size: tuple[int, int]) -> Map:
        """Bilinear; infinite where most of it is."""
        return resize_known(raw, size)

    @abstractmethod
    def _infer(self, image: Image, intrinsics: Cameras | None) -> Map:
        """Depth in meters at the image's size, by cameras in pixels of the image or by estimated ones."""


@dataclass(frozen=True)
class AuthorsCode:
    """Where a network's code is from.

    Attributes:
        model: depthkd's class for it.
        repository: on GitHub, OWNER/NAME.
        package: that a clone has, and that installing it gives.
        inside: the clone's folder in which the package lies; "" is the clone itself.
        needs: the packages that the network imports, in words.
    """

    model: str
    repository: str
    package: str
    inside: str
    needs: str

    @property
    def how_to_get(self) -> str:
        """The end of a sentence: what to clone, what to install, which key to set."""
        name = self.repository.rpartition("/")[2]
        return (
            f"depthkd fetches no code, so `git clone https://github.com/{self.repository}`, "
            f"`pip install {self.needs}`, and give the clone's folder as `repo`: --model.class_path "
            f"depthkd.models.{self.model} --model.init_args.repo {name} --model.init_args.weights WEIGHTS"
        )

    def folder(self, repo: str | None) -> Path:
        """The folder of the package: in a clone, or the installed one where `repo` is None.

        Raises:
            MissingFileError: it is not there; the sentence says how to get it.
        """
        if repo is None:
            found = find_spec(self.package)
            places = list(found.submodule_search_locations or ()) if found else []
            if not places:
                raise MissingFileError(f"{self.model} needs the code of its authors: {self.how_to_get}")
            return Path(places[0])
        clone = user_path(repo)
        if not clone.is_dir():
            raise MissingFileError(f"there is no folder '{repo}'; it would be a clone: {self.how_to_get}")
        folder = clone.absolute() / self.inside / self.package
        if not folder.is_dir():
            inside = f"{self.inside}/{self.package}".removeprefix("/")
            raise MissingFileError(
                f"the folder '{repo}' is no clone of {self.repository}: it has no folder {inside}"
            )
        return folder

    @contextmanager
    def importable(self, folder: Path) -> Iterator[None]:
        """While the network is imported and built: its package is found, and what it prints is left out.

        Args:
            folder: of the package.

        Raises:
            UserError: the code lacks a package, or does not run.
        """
        root = str(folder.parent)
        sys.path.insert(0, root)
        try:
            with redirect_stdout(StringIO()):
                yield
        except UserError:
            raise
        except ModuleNotFoundError as error:
            missing = f"the package '{error.name}', which is not installed: `pip install {self.needs}`"
            if str(error.name).partition(".")[0] == self.package:
                missing = f"its module '{error.name}', which is not there: take another commit of it"
            raise UserError(f"the code of {self.repository} in '{root}' needs {missing}") from error
        except Exception as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UserError(
                f"the code of {self.repository} in '{root}' could not build the network: {reason}"
            ) from error
        finally:
            sys.path.remove(root)

    def module(self, name: str, folder: Path) -> ModuleType:
        """A module of the package; only where it is `importable`.

        Raises:
            UserError: this process has imported the package from another folder before.
        """
        module = import_module(f"{self.package}.{name}")
        file = Path(str(module.__file__)).resolve()
        if not file.is_relative_to(folder.resolve()):
            raise UserError(
                f"{self.package} was already imported from {file}, so that the code in '{folder}' cannot be "
                "used beside it: give all models the same repo"
            )
        return module


def find_weights(weights: str, names: tuple[str, ...]) -> Path:
    """A file of weights: the one named, or the one in a folder or in a hub repository.

    Args:
        weights: a path, or a hub id.
        names: of the file in a folder or repository; the first that is there counts.

    Raises:
        MissingFileError: there is none.
    """
    place = Path(local_or_hub(weights))
    if place.is_file():
        return place
    if place.is_dir():
        found = next((place / name for name in names if (place / name).is_file()), None)
        if found is None:
            raise MissingFileError(f"the folder '{weights}' has no {' and no '.join(names)}")
        return found
    if place.suffix and weights.count("/") != 1:
        raise MissingFileError(f"there is no file of weights '{weights}'")
    for name in names[:-1]:
        try:
            return locate(weights, name)
        except MissingFileError:
            continue
    return locate(weights, names[-1])


@contextmanager
def forgetful(network: nn.Module) -> Iterator[None]:
    """While a network runs: what it notes in its attributes meanwhile, such as the size of the last image, is
    taken back, for a model's `identity` is made of them."""
    before = [(vars(module), dict(vars(module))) for module in network.modules()]
    try:
        yield
    finally:
        for attributes, kept in before:
            attributes.clear()
            attributes.update(kept)


def check_camera(model: str, focal_length: float | None, fov: float | None) -> None:
    """Refuse what cannot be a camera, of a model that takes a focal length in pixels or a field of view.

    Raises:
        UserError: both are given, or the field of view is not below 180 degrees.
    """
    if focal_length is not None and fov is not None:
        raise UserError(f"{model} takes one of focal_length and fov, not both")
    if fov is not None and not fov < 180:
        raise UserError(f"fov of {model} would be degrees below 180, not {fov}")


def assumed_focal_length(model: str, width: int, focal_length: float | None, fov: float | None) -> float:
    """The focal length in pixels, of an image of `width` pixels whose own camera is not known.

    Raises:
        UserError: neither of the two is given.
    """
    if focal_length is not None:
        return focal_length
    if fov is None:
        raise UserError(
            f"{model}'s depth is metric for one focal length, and an image's camera is not known: give "
            "focal_length, in pixels of the images, or fov, the horizontal field of view in degrees"
        )
    return focal_length_of(width, fov)


def check_level(model: str, level: int | None) -> None:
    """Refuse a resolution level that is not 0 to 9.

    Raises:
        UserError: it is not.
    """
    if level is not None and not 0 <= level <= 9:
        raise UserError(f"{model}'s resolution_level must be 0 to 9, not {level}")


def central_cameras(image: Image, focal_length: float) -> Cameras:
    """Cameras of one focal length in pixels, whose principal points are the images' centers."""
    height, width = image.shape[-2:]
    camera = intrinsics_matrix(focal_length, focal_length, width / 2 - 0.5, height / 2 - 0.5)
    return camera.to(image.device).expand(len(image), -1, -1)


def resize_known(raw: RawPrediction, size: tuple[int, int]) -> Float[Tensor, "batch height width"]:
    """`resize_map` of a map that is infinite where nothing is known.

    A pixel is the mean of its finite neighbors, and infinite where they weigh less than a half.
    """
    known = raw.isfinite()
    if tuple(raw.shape[-2:]) == size or bool(known.all()):
        return resize_map(raw, size)
    weight = resize_map(known.float(), size)
    depth = resize_map(torch.where(known, raw, 0.0), size) / weight.clamp(min=0.5)
    return torch.where(weight < 0.5, torch.inf, depth)


def refuse_shape(model: DepthModel, answered: Tensor, height: int, width: int) -> None:
    """Refuse an answer that is no map of this height and width.

    Raises:
        UserError: it has more or fewer pixels.
    """
    if answered.numel() != height * width:
        raise UserError(
            f"{model.source} answered {list(answered.shape)} to an image of {height}x{width}; it would be "
            f"[1, 1, {height}, {width}]"
        )


def fill(network: nn.Module, tensors: dict[str, Tensor], path: str) -> None:
    """Copy the tensors into the network; they may hold more than it has, but every parameter of it.

    Raises:
        UserError: a parameter is missing, or of another shape.
    """
    own = network.state_dict()
    named = dict(zip(bare_names(own), own, strict=True))  # `tensors` have lost what may stand before all
    tensors = {named.get(name, name): tensor for name, tensor in tensors.items()}
    absent = sorted(
        name
        for name, _ in network.named_parameters()
        if name not in tensors and not name.endswith("mask_token")
    )
    if absent:
        raise UserError(f"the weights '{path}' lack {len(absent)} parameters, '{absent[0]}' among them")
    try:
        network.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise UserError(
            f"the weights '{path}' are of another network: {str(error).splitlines()[1].strip()}"
        ) from error
