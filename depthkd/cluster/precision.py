"""`trainer.precision: auto`: the fastest precision that every device of a run computes natively."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from lightning.pytorch import Trainer

# Not those that would hold the weights in half precision: updates of them would be rounded away.
Precision = Literal["auto", "32-true", "bf16-mixed", "16-mixed", "32", "bf16", "16"]
Capability = tuple[int, int]

NATIVE_BF16 = (8, 0)  # Ampere; a V100 (7, 0) emulates it, slower than float32
TENSOR_CORES = (7, 0)  # Volta: the first to gain from float16


class AnyPrecisionTrainer(Trainer):
    """Lightning's Trainer, whose `precision` may also be "auto" in a config; `fit` settles that first."""

    def __init__(self, *args: Any, precision: Precision | Literal[16, 32] = "auto", **kwargs: Any) -> None:
        settled: Any = choose_precision(local_capabilities())[0] if precision == "auto" else precision
        super().__init__(*args, precision=settled, **kwargs)


def local_capabilities() -> list[Capability]:
    """CUDA capability of each device that this process sees."""
    if not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_capability(i) for i in range(torch.cuda.device_count())]


def choose_precision(devices: Sequence[Capability]) -> tuple[str, str]:
    """The precision for a run on these devices, on all its ranks, and the reason.

    In both mixed precisions the encoder and decoder run in half precision under autocast; the
    student's head, the losses and the alignment stay in float32 (see `Method`).
    """
    if not devices:
        return "32-true", "there is no CUDA device"
    weakest = min(devices)
    name = "sm_{}{}".format(*weakest)
    if weakest >= NATIVE_BF16:
        return "bf16-mixed", f"every device has bf16 (the weakest is {name})"
    if weakest >= TENSOR_CORES:
        return "16-mixed", f"{name} has no native bf16, so float16 with a gradient scaler"
    return "32-true", f"{name} gains nothing from half precision"
