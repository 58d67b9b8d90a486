"""`trainer.sync_batchnorm: true`: batch normalization over the images of all ranks, activations kept."""

from typing import Any

import torch
import torch.distributed
from lightning.pytorch.plugins.layer_sync import TorchSyncBatchNorm
from timm.layers.norm_act import convert_sync_batchnorm
from torch import nn

from depthkd.errors import UserError

BATCH_NORM = nn.modules.batchnorm._BatchNorm


class SyncBatchNorm(TorchSyncBatchNorm):
    """What Lightning takes for `trainer.sync_batchnorm`, for networks of timm too.

    timm's batch normalization holds the activation that follows it (EfficientNet, MobileNet, RepViT).
    Lightning's own conversion, which is torch's, leaves that out without a word, and its way back makes
    layers of another class. Names of tensors do not change, so that checkpoints are the same with and
    without.
    """

    def __init__(self) -> None:
        self._before: dict[str, nn.Module] = {}

    def apply(self, model: nn.Module) -> nn.Module:
        """The model with its batch normalization synchronized; on one rank nothing is.

        Raises:
            UserError: there are several ranks, and they are on CPUs, where torch has no such thing.
        """
        ranks = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
        if ranks == 1:
            return model
        trainer: Any = getattr(model, "trainer", None)
        device = torch.device("cpu") if trainer is None else trainer.strategy.root_device
        if device.type == "cpu":
            raise UserError(
                "trainer.sync_batchnorm=true: torch synchronizes batch normalization on GPUs alone, and "
                f"these {ranks} ranks are on CPUs: leave it out, or freeze it with frozen_statistics"
            )
        return self.converted(model)

    def converted(self, model: nn.Module) -> nn.Module:
        """The model, each batch normalization in it replaced by a synchronized one of the same tensors."""
        modules = dict(model.named_modules())
        self._before = {name: module for name, module in modules.items() if isinstance(module, BATCH_NORM)}
        for name, module in self._before.items():
            convert: Any = convert_sync_batchnorm
            _replace(model, name, convert(module))
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """The model with the layers that it had, of the tensors that it has."""
        for name, module in self._before.items():
            synchronized = model.get_submodule(name)
            for key, tensor in [*synchronized.named_parameters(), *synchronized.named_buffers()]:
                setattr(module, key, tensor)
            module.train(synchronized.training)
            _replace(model, name, module)
        self._before = {}
        return model


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)
