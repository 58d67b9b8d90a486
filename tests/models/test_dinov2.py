"""DINOv2's features: which they are, where they come from, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from depthkd.models import DepthAnything, Dinov2Features
from depthkd.models.dpt.depth_anything import SHAPES, Shape
from depthkd.models.frozen import FrozenNetwork

SMALL: dict[str, Any] = {
    "model_type": "dinov2",
    "hidden_size": 16,
    "num_hidden_layers": 6,
    "num_attention_heads": 2,
    "image_size": 56,
    "patch_size": 14,
}


def random(seed: int = 0) -> Dinov2Features:
    torch.manual_seed(seed)
    return Dinov2Features(config=SMALL).eval()


def image(height: int = 56, width: int = 70) -> Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(1))


def test_they_are_what_a_depth_anything_with_these_weights_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SHAPES, "small", Shape(16, 6, 2, (1, 3, 5, 6), (8, 8, 8, 8), 8, image_size=56))
    model = random()
    with torch.no_grad():
        model.network.layernorm.weight.mul_(3.0)
    model.network.save_pretrained(tmp_path)
    depth_anything = DepthAnything("small", weights=str(tmp_path)).eval()
    loaded = Dinov2Features(str(tmp_path)).eval()
    assert (loaded.feature_family, loaded.feature_channels) == (
        depth_anything.feature_family,
        depth_anything.feature_channels,
    )
    with torch.no_grad():
        expected = depth_anything(image()).features
        assert expected is not None and expected.shape == (2, 4 * 5, 16)
        for same in (loaded, depth_anything):
            torch.testing.assert_close(same.features(image()), expected)
    assert (loaded.source, loaded.training_sets, loaded.license) == (str(tmp_path), (), "unknown")


def test_sides_are_rounded_to_whole_patches() -> None:
    with torch.no_grad():
        assert random().features(image(60, 76)).shape == (2, 4 * 5, 16)
        assert random().features(image(3, 70)).shape == (2, 1 * 5, 16)


def test_frozen_it_answers_in_float32_without_gradients() -> None:
    plain, half = (FrozenNetwork(random, autocast=dtype) for dtype in (None, torch.bfloat16))
    features = plain.features(image().requires_grad_())
    assert features is not None and not features.requires_grad
    rounded = half.features(image())
    assert rounded is not None and rounded.dtype is torch.float32
    torch.testing.assert_close(rounded, features, rtol=0.1, atol=0.1)
    assert not torch.equal(rounded, features)


def test_mistakes_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"either a source .* or a config"):
        Dinov2Features()
    with pytest.raises(
        ValueError, match="the config has model_type 'beit'; for Dinov2Features it would be dinov2"
    ):
        Dinov2Features(config={"model_type": "beit"})
    with pytest.raises(FileNotFoundError, match=r"has no config\.json"):
        Dinov2Features(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "dinov2", "hidden_size": 16}')
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="pickled weights"):
        Dinov2Features(str(tmp_path))
