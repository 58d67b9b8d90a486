"""A teacher: a DepthModel that nothing trains, saves, copies or switches to training mode."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from depthkd.models.model import DepthModel, DepthOutput


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
    def __call__(self, image: Float[Tensor, "batch 3 height width"]) -> DepthOutput:
        """RGB in [0, 1] -> depth in `self.space`, float32, at the image's size."""
        with torch.autocast(image.device.type, self.autocast, enabled=self.autocast is not None):
            output = self.model(image.to(self.dtype))
        features = None if output.features is None else output.features.float()
        return DepthOutput(output.depth.float(), features)

    def to(self, device: torch.device | str) -> "Frozen":
        """Move the model; returns itself."""
        self.model.to(device)
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> "Frozen":
        return self
