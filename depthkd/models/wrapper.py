"""A model that stands for another."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor, nn

from depthkd.batch import DepthSpace
from depthkd.models.model import Cameras, DepthModel, DepthOutput, RawPrediction, Resized
from depthkd.resolution import Asked, Resolution
from depthkd.shapes import Image, Map


class Wrapper(DepthModel):
    """A model that is another one in all respects, unless a subclass says otherwise.

    It has the attributes that `DepthModel` declares, such as `space`, from the other model at the time at
    which it is built.

    Args:
        network: the other model.
    """

    def __init__(self, network: DepthModel) -> None:
        super().__init__()
        self.network = network
        for attribute in declared():
            setattr(self, attribute, getattr(network, attribute))

    def forward(self, image: Image) -> DepthOutput:
        """As the other's."""
        output: DepthOutput = self.network(image)
        return output

    @property
    def feature_channels(self) -> int | None:
        """As the other's."""
        return self.network.feature_channels

    @property
    def feature_family(self) -> str:
        """As the other's."""
        return self.network.feature_family

    def features(self, image: Image) -> Float[Tensor, "batch tokens channels"] | None:
        """As the other's."""
        return self.network.features(image)

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        """As the other's."""
        return self.network.encoder_parameters()

    def head_parameters(self) -> Iterator[nn.Parameter]:
        """As the other's."""
        return self.network.head_parameters()

    @property
    def default_resolution(self) -> Resolution:
        """As the other's."""
        return self.network.default_resolution

    def resolve(self, asked: Resolution) -> Resolution:
        """As the other's."""
        return self.network.resolve(asked)

    def runs_at(
        self, height: int, width: int, resolution: Asked = None, scale: float = 1.0
    ) -> tuple[int, int] | None:
        """As the other's."""
        return self.network.runs_at(height, width, resolution, scale)

    def rounded(self, height: int, width: int) -> tuple[int, int]:
        """As the other's."""
        return self.network.rounded(height, width)

    def fit_input(self, image: Image) -> Resized:
        """As the other's."""
        return self.network.fit_input(image)

    def predict_raw(self, image: Image) -> RawPrediction:
        """As the other's."""
        return self.network.predict_raw(image)

    def predict_raw_with_camera(self, image: Image, intrinsics: Cameras) -> RawPrediction:
        """As the other's."""
        return self.network.predict_raw_with_camera(image, intrinsics)

    def predict_raw_with_sparse_depth(
        self, image: Image, sparse: Map, intrinsics: Cameras | None = None
    ) -> RawPrediction:
        """As the other's."""
        return self.network.predict_raw_with_sparse_depth(image, sparse, intrinsics)

    def resize_to(self, raw: RawPrediction, size: tuple[int, int]) -> Float[Tensor, "batch height width"]:
        """As the other's."""
        return self.network.resize_to(raw, size)

    def infer(self, image: Image, *how: Any, **more: Any) -> RawPrediction:
        """As the other's."""
        return self.network.infer(image, *how, **more)

    def predict(self, image: Image, *how: Any, **more: Any) -> Map:
        """As the other's."""
        return self.network.predict(image, *how, **more)

    def encode_decode_truth(
        self,
        depth: Float[Tensor, "batch height width"],
        mask: Bool[Tensor, "batch height width"],
        space: DepthSpace,
    ) -> Float[Tensor, "batch height width"]:
        """As the other's."""
        return self.network.encode_decode_truth(depth, mask, space)

    def estimated_cameras(self, image: Image) -> Cameras | None:
        """As the other's."""
        return self.network.estimated_cameras(image)

    def companions(self) -> list[DepthModel]:
        """The other's."""
        return self.network.companions()

    def files(self) -> list[Path]:
        """The other's."""
        return self.network.files()

    def unwrapped(self) -> DepthModel:
        """The other model, or the one for which that stands in its turn."""
        return self.network.unwrapped()

    def save_pretrained(self, folder: Path | str, image_size: int | None = None) -> None:
        """As the other's."""
        self.network.save_pretrained(folder, image_size)


def declared() -> list[str]:
    """The attributes that every DepthModel has, such as `space`."""
    bases = [base for base in DepthModel.__mro__ if issubclass(base, nn.Module) and base is not nn.Module]
    names = [name for base in bases for name in vars(base).get("__annotations__", {})]
    return [name for name in names if not name.startswith("_") and name != "caches"]
