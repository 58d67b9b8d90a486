"""A teacher: a network that nothing trains, saves, copies or switches to training mode."""

from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from depthkd.batch import DepthSpace
from depthkd.errors import UserError
from depthkd.models.model import DepthModel, DepthOutput, FeatureModel
from depthkd.resolution import Asked

Module = TypeVar("Module", bound=nn.Module)
Network = TypeVar("Network", bound=FeatureModel)

HALF = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}  # precision of a run -> of its teachers


class FrozenModule(Generic[Module]):
    """Holds a network *outside* the module tree, so that no checkpoint, DDP wrapper or EMA carries it.

    It is always in eval mode, and its weights never learn; gradients may pass through it to its input. A copy
    of it is itself.

    Args:
        factory: builds the network.
        device: where it goes.
        dtype: of its weights.
    """

    def __init__(
        self,
        factory: Callable[[], Module],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.model: Module = factory().eval().requires_grad_(False).to(device=device, dtype=dtype)
        self.dtype = dtype

    def to(self, device: torch.device | str) -> "FrozenModule[Module]":
        """Move the network; returns itself."""
        self.model.to(device)
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> "FrozenModule[Module]":
        return self


class FrozenNetwork(FrozenModule[Network]):
    """A `FrozenModule` that is asked for features of images, without gradients.

    It is in `dtype` on its device; what it says comes back in float32.

    Args:
        factory: builds the network.
        device: where it goes.
        dtype: of its weights.
        compiled: whether to compile it.
        autocast: a half precision for what is not its head, if the network keeps its head in float32 then
            (`keeps_head_fp32`); labels in half precision would come in steps.
    """

    def __init__(
        self,
        factory: Callable[[], Network],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        compiled: bool = False,
        autocast: torch.dtype | None = None,
    ) -> None:
        super().__init__(factory, device, dtype)
        self.autocast = autocast if self.model.keeps_head_fp32 else None
        if compiled:
            self.model.compile()

    @torch.no_grad()
    def features(
        self, image: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch tokens channels"] | None:
        """RGB in [0, 1] -> the encoder's patch features, float32; None where there are none."""
        with torch.autocast(image.device.type, self.autocast, enabled=self.autocast is not None):
            features = self.model.features(image.to(self.dtype))
        return None if features is None else features.float()


class Frozen(FrozenNetwork[DepthModel]):
    """A frozen DepthModel: see `FrozenNetwork`."""

    @property
    def space(self) -> DepthSpace:
        """What its labels mean."""
        return self.model.space

    @torch.no_grad()  # not inference_mode: BEiT caches tensors that training would meet again
    def __call__(
        self,
        image: Float[Tensor, "batch 3 height width"],
        intrinsics: Float[Tensor, "batch 3 3"] | None = None,
        resolution: Asked = None,
        sparse: Float[Tensor, "batch height width"] | None = None,
    ) -> DepthOutput:
        """RGB in [0, 1] -> depth in `self.space`, float32.

        Args:
            image: RGB.
            intrinsics: of the cameras, for a model that takes them.
            resolution: the size at which the model runs, see `DepthModel.infer`, and then answers at the
                image's; None: the image's own, and the prediction is of the (rounded) size that it ran at.
            sparse: depth that is measured at some pixels, for a model that takes it; see `DepthModel.infer`.
        """
        with torch.autocast(image.device.type, self.autocast, enabled=self.autocast is not None):
            camera = self.model.takes_camera and intrinsics is not None
            points = self.model.takes_sparse_depth and sparse is not None
            if resolution is not None or camera or points:
                image = image.to(self.dtype)
                depth = self.model.predict(image, resolution, intrinsics=intrinsics, sparse=sparse)
                return DepthOutput(depth.float())
            output = self.model(image.to(self.dtype))
        if output.depth.ndim != 3 or len(output.depth) != len(image) or not output.depth.numel():
            raise UserError(
                f"{type(self.model).__name__} answers {len(image)} images with {list(output.depth.shape)}; "
                f"it would be [{len(image)}, height, width]"
            )
        features = None if output.features is None else output.features.float()
        return DepthOutput(output.depth.float(), features)

    def identity(self) -> str:
        """What its predictions depend on: the model's identity, and the precisions in which it runs."""
        half = "" if self.autocast is None else f", autocast to {self.autocast}"
        return f"{self.model.identity()} in {self.dtype}{half}"
