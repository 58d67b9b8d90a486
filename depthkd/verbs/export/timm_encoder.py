"""The encoder of a TimmDepth as a file that `timm.create_model(..., checkpoint_path=...)` loads."""

from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from depthkd.errors import UserError
from depthkd.models.dpt.timm_depth import TimmDepth
from depthkd.models.hub import WEIGHTS
from depthkd.shapes import Image
from depthkd.verbs.export.parity import Row, rows, sizes_for


def timm_options(model: TimmDepth) -> dict[str, Any]:
    """The arguments of `timm.create_model` besides the name and the file, without a classifier."""
    options = model.built_by["options"]
    assert isinstance(options, dict)
    any_size = {"dynamic_img_size": True} if hasattr(model.backbone, "dynamic_img_size") else {}
    return {"num_classes": 0, **any_size, **options}


def write_timm_encoder(model: TimmDepth, folder: Path) -> list[Row]:
    """Write `model.safetensors`, load it as timm does, and compare the last map.

    The head of DPT reads no layers behind the last map (the last convolution of an EfficientNet, a norm).
    timm asks for them, so they are in the file with the numbers with which timm begins them; `untrained`
    names them.

    Raises:
        UserError: timm's network does not have the tensors of the encoder.
    """
    whole, own = _begun(model), model.backbone.state_dict()
    absent = sorted(name for name in own if name not in whole or whole[name].shape != own[name].shape)
    if absent:
        raise UserError(f"timm's {model.backbone_name} has no '{absent[0]}' of the encoder's shape")
    tensors = {name: own.get(name, tensor).detach().cpu().contiguous() for name, tensor in whole.items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    loaded: Any = timm.create_model(
        model.backbone_name, checkpoint_path=str(folder / WEIGHTS), **timm_options(model)
    ).eval()

    def exported(images: Image) -> Tensor:
        mean, std = (images.new_tensor(v).view(3, 1, 1) for v in (model.mean, model.std))
        maps = loaded.forward_intermediates(
            (images - mean) / std,
            indices=model.stages,
            norm=model.normed,
            output_fmt="NCHW",
            intermediates_only=True,
        )
        last: Tensor = maps[-1]
        return last.flatten(2).transpose(1, 2)

    def original(images: Image) -> Tensor:
        features = model.features(images)
        assert features is not None
        return features

    return list(rows("encoder", sizes_for(model.multiple, model.fixed_size), original, exported, None))


def untrained(model: TimmDepth) -> list[str]:
    """Names of tensors of timm's network that the encoder does not have."""
    return sorted(_begun(model).keys() - model.backbone.state_dict().keys())


def _begun(model: TimmDepth) -> dict[str, Tensor]:
    """The tensors of timm's whole network, as it begins."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network: Any = timm.create_model(model.backbone_name, **timm_options(model))
    tensors: dict[str, Tensor] = network.state_dict()
    return tensors
