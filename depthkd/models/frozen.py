"""A teacher: a DepthModel that nothing trains, saves, copies or switches to training mode."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from depthkd.models.model import DepthModel, DepthOutput
from depthkd.resolution import Asked


class Frozen:
    """Holds a DepthModel *outside* the module tree, so that no checkpoint, DDP wrapper or EMA carries it.

    It is always in eval mode, without gradients, and in `dtype` on its device; its depth comes
    back in float32. A copy of it is itself.

    Args:
        factory: builds the model.
        device: where it goes.
        dtype: of its weights.
        compiled: whether to compile it.
        autocast: a half precision for what is not its head, if the model keeps its head in float32 then
            (`half_but_head`); labels in half precision would come in steps.
    """

    def __init__(
        self,
        factory: Callable[[], DepthModel],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        compiled: bool = False,
        autocast: torch.dtype | None = None,
    ) -> None:
        self.model = factory().eval().requires_grad_(False).to(device=device, dtype=dtype)
        self.space = self.model.space
        self.dtype = dtype
        self.autocast = autocast if self.model.half_but_head else None
        if compiled:
            self.model.compile()

    @torch.no_grad()  # not inference_mode: BEiT caches tensors that training would meet again
    def __call__(
        self,
        image: Float[Tensor, "batch 3 height width"],
        intrinsics: Float[Tensor, "batch 3 3"] | None = None,
        resolution: Asked = None,
    ) -> DepthOutput:
        """RGB in [0, 1] -> depth in `self.space`, float32.

        Args:
            image: RGB.
            intrinsics: of the cameras, for a model that takes them.
            resolution: the size at which the model runs, see `DepthModel.infer`, and then answers at the
                image's; None: the image's own, and the answer is of the (rounded) size that it ran at.
        """
        with torch.autocast(image.device.type, self.autocast, enabled=self.autocast is not None):
            if resolution is not None or (intrinsics is not None and self.model.takes_camera):
                depth = self.model.predict(image.to(self.dtype), resolution, intrinsics=intrinsics)
                return DepthOutput(depth.float())
            output = self.model(image.to(self.dtype))
        features = None if output.features is None else output.features.float()
        return DepthOutput(output.depth.float(), features)

    def identity(self) -> str:
        """What its answers depend on: the model's identity, and the precisions in which it is asked."""
        half = "" if self.autocast is None else f", autocast to {self.autocast}"
        return f"{self.model.identity()} in {self.dtype}{half}"

    def to(self, device: torch.device | str) -> "Frozen":
        """Move the model; returns itself."""
        self.model.to(device)
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> "Frozen":
        return self
