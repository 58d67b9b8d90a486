"""What DepthOutput.features holds, family by family, and how students of other architectures train."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from depthkd.models import DepthAnything, HuggingFaceDepth
from depthkd.models.dpt.depth_anything import SHAPES, Shape, depth_anything_config
from depthkd.models.dpt.dpt import FAMILIES as CLASSES
from tests.models.families import DPT_BEIT, DPT_VIT, FAMILIES, MIDAS_LARGE, MIDAS_SMALL


def build(config: dict[str, Any], **arguments: Any) -> HuggingFaceDepth:
    torch.manual_seed(0)
    return HuggingFaceDepth(config=config, **arguments).eval()


def image(height: int = 64, width: int = 96) -> Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", FAMILIES)
def test_the_width_of_the_features_is_known_beforehand(name: str) -> None:
    model = build(FAMILIES[name])
    with torch.no_grad():
        features = model(image()).features
    assert features is not None
    assert model.feature_channels == features.shape[-1]


@pytest.mark.parametrize(
    ("size", "channels", "last"),
    [("small", 384, 12), ("base", 768, 12), ("large", 1024, 24), ("giant", 1536, 40)],
)
@pytest.mark.parametrize("version", [1, 2])
def test_depth_anything_s_features_are_of_its_last_layer(
    size: str, channels: int, last: int, version: int
) -> None:
    encoder = depth_anything_config(size, version)["backbone_config"]
    assert (encoder["hidden_size"], encoder["out_indices"][-1]) == (channels, last)


def test_depth_anything_s_features_have_passed_the_last_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SHAPES, "small", Shape(16, 6, 2, (1, 3, 5, 6), (8, 8, 8, 8), 8, image_size=56))
    torch.manual_seed(0)
    model = DepthAnything("small").eval()
    encoder, seen = model.network.backbone, []
    encoder.encoder.layer[5].register_forward_hook(lambda _, __, output: seen.append(output))
    with torch.no_grad():
        encoder.layernorm.weight.mul_(3.0)
        features = model(image(56, 70)).features
        tokens = seen[0] if isinstance(seen[0], Tensor) else seen[0][0]
        torch.testing.assert_close(features, encoder.layernorm(tokens)[:, 1:])
    assert features.shape == (2, 4 * 5, 16)


@pytest.mark.parametrize(
    ("config", "millions", "channels", "multiple"),
    [(MIDAS_LARGE, 345, 1024, 32), (MIDAS_SMALL, 41, 768, 32)],
)
def test_midas_has_its_own_sizes(config: dict[str, Any], millions: int, channels: int, multiple: int) -> None:
    config_class, network_class = CLASSES["dpt"]
    with torch.device("meta"):
        network = network_class(config_class.from_dict(config))
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=1.5)
    assert network.config.backbone_config.hidden_size == channels


def test_midas_small_trains_in_its_own_width() -> None:
    model = build(MIDAS_SMALL, mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5]).train()
    assert (model.feature_channels, model.multiple) == (768, 32)
    output = model(image(128, 160)[:1])
    assert output.depth.shape == (1, 128, 160)
    assert output.features is not None
    assert output.features.shape == (1, 4 * 5, 768)
    output.depth.var().backward()
    trained = [(n, p.grad) for n, p in model.named_parameters() if p.requires_grad]
    assert [n for n, gradient in trained if gradient is None] == []
    encoder = {id(p) for p in model.encoder_parameters()}
    assert 0.6 < sum(p.numel() for p in model.encoder_parameters()) / 41e6 < 0.75
    assert encoder.isdisjoint(id(p) for p in model.network.neck.parameters())


def test_the_hub_s_configurations_leave_out_what_the_backbone_says() -> None:
    unsaid = dict.fromkeys(["patch_size", "image_size", "num_hidden_layers", "num_attention_heads"])
    model = build({**DPT_BEIT, **unsaid, "backbone_out_indices": None})
    assert (model.feature_channels, model.multiple) == (16, 32)
    assert model.predict(image(71, 101)).shape == (2, 71, 101)


@pytest.mark.parametrize("config", [DPT_BEIT, DPT_VIT, FAMILIES["depth_anything"]])
def test_the_encoder_alone_can_be_taken_of_any_family(config: dict[str, Any], tmp_path: Path) -> None:
    theirs = build(config)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.1)
    theirs.save_pretrained(tmp_path)
    torch.manual_seed(1)
    model = HuggingFaceDepth(str(tmp_path), initialize="encoder").eval()
    before, after = theirs.network.state_dict(), model.network.state_dict()
    same = {n.split(".")[0] for n in after if torch.equal(after[n], before[n])}
    other = {n.split(".")[0] for n in after if not torch.equal(after[n], before[n])}
    assert (len(same), other) == (1, {"neck", "head"})
    with torch.no_grad():
        depth = model(image()).depth
    assert (depth > 0).all()
    assert depth.std() > 1e-3
    assert model.source == f"the encoder of {tmp_path}"
