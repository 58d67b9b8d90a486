"""The order in which ranks sum their gradients: the same at every step, so that runs resume bitwise."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch.nn.parallel import DistributedDataParallel


class FixedBuckets(Callback):
    """Settles DistributedDataParallel's buckets before the first step.

    It sums gradients in buckets, and after its first backward pass sorts the parameters anew among them, in
    the order in which their gradients arrived. With more than two ranks a sum's rounding depends on the place
    in a bucket, so that the first step after an interruption would differ in its last bits from the same step
    of a run that was not interrupted. A backward pass of zeros, last parameter first, settles the buckets.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Send zeros through the buckets."""
        model: Any = trainer.strategy.model
        if (
            not isinstance(model, DistributedDataParallel)
            or model.find_unused_parameters
            or model.static_graph
        ):
            return  # these keep the buckets that they begin with, or find their order in another way
        total: Any = 0.0
        for parameter in model.parameters():
            if parameter.requires_grad:
                total = total + parameter.sum() * 0.0
        model.reducer.prepare_for_backward([])
        total.backward()
        for parameter in model.parameters():
            parameter.grad = None
