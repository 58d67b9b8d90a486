"""Prompt Depth Anything: equal to transformers' own classes, with a prompt and without."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    PromptDepthAnythingConfig,
    PromptDepthAnythingForDepthEstimation,
    PromptDepthAnythingImageProcessor,
)

from depthkd.batch import AFFINE_DEPTH, METRIC_DEPTH
from depthkd.errors import UserError
from depthkd.models import DepthModel, Frozen, HuggingFaceDepth, PromptDepthAnything, PromptedByPoints
from depthkd.models.dpt.prompt_depth_anything import normalized_prompt
from depthkd.runs.named_models import named_model
from depthkd.sparse_depth import nearest_points
from tests.models.families import DEPTH_ANYTHING
from tests.models.test_metric import CLOSE, lively, picture

ROUNDED: dict[str, Any] = {"rtol": 1e-3, "atol": 1e-3}  # random heads magnify rounding at a few pixels


def prompt_depth_anything(folder: Path, **processor: Any) -> str:
    """A tiny one's folder, whose depth varies with image and prompt."""
    torch.manual_seed(0)
    config = {**DEPTH_ANYTHING, "model_type": "prompt_depth_anything", "depth_estimation_type": "metric"}
    network = PromptDepthAnythingForDepthEstimation(PromptDepthAnythingConfig.from_dict(config))
    lively(network)
    network.save_pretrained(folder)
    settings = {"size": {"height": 56, "width": 56}, "keep_aspect_ratio": True, "ensure_multiple_of": 14}
    PromptDepthAnythingImageProcessor(**{**settings, **processor}).save_pretrained(folder)
    return str(folder)


def prompts(count: int = 1, height: int = 12, width: int = 16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    return 0.5 + 4 * torch.rand(count, height, width, generator=generator)


def expected(folder: str, image: torch.Tensor, prompt: torch.Tensor | None) -> torch.Tensor:
    """What transformers' processor and network make of one image and a prompt in millimeters."""
    processor = PromptDepthAnythingImageProcessor.from_pretrained(folder)
    network = PromptDepthAnythingForDepthEstimation.from_pretrained(folder).eval()
    array = (image * 255).round().byte()
    given = {} if prompt is None else {"prompt_depth": (prompt * 1000).numpy()}
    with torch.no_grad():
        output = network(**processor(images=array, return_tensors="pt", **given))
    found = processor.post_process_depth_estimation(output, [tuple(image.shape[-2:])])
    depth: torch.Tensor = found[0]["predicted_depth"]
    return depth


@pytest.mark.parametrize("size", [(60, 80), (90, 50), (56, 56)])
@pytest.mark.parametrize("processor", [{}, {"image_mean": [0.4] * 3, "image_std": [0.2] * 3}])
def test_with_a_prompt_it_agrees_with_transformers_in_meters(
    size: tuple[int, int], processor: Any, tmp_path: Path
) -> None:
    folder, images, prompt = prompt_depth_anything(tmp_path, **processor), picture(*size, 2), prompts(2)
    depth = PromptDepthAnything(folder).predict_with(images, prompt)
    assert depth.shape == (2, *size)
    for one, image, given_prompt in zip(depth, images, prompt, strict=True):
        theirs = expected(folder, image, given_prompt)
        assert theirs.std() > 0.05
        torch.testing.assert_close(one, theirs, **ROUNDED)


def test_without_a_prompt_it_agrees_with_transformers_up_to_scale_and_shift(tmp_path: Path) -> None:
    folder, image = prompt_depth_anything(tmp_path), picture(60, 80)
    model = PromptDepthAnything(folder)
    assert model.space == AFFINE_DEPTH
    depth = model.predict(image)[0]
    torch.testing.assert_close(depth, expected(folder, image[0], None), **ROUNDED)
    torch.testing.assert_close(model.eval()(image).depth[0], depth, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(model.predict_with(image, prompts())[0], depth, atol=0.1)


def test_resolution_flip_and_mode(tmp_path: Path) -> None:
    model, image, prompt = PromptDepthAnything(prompt_depth_anything(tmp_path)), picture(60, 80), prompts()
    model.train()
    assert model.runs_at(60, 80) == (56, 70) == tuple(model.infer(image).shape[1:])
    assert model.runs_at(60, 80, 112) == (112, 154) == tuple(model.infer(image, 112).shape[1:])
    both = model.predict_with(image, prompt, flip=True)
    mirrored = model.predict_with(image.flip(-1), prompt.flip(-1)).flip(-1)
    torch.testing.assert_close(both, (model.predict_with(image, prompt) + mirrored) / 2, **CLOSE)
    large = model.predict_with(image, prompt, resolution=56, scale=2.0)
    torch.testing.assert_close(model.predict_with(image, prompt, resolution=112), large)
    assert model.training


@given(st.floats(0.1, 1e4), st.floats(0.1, 100.0))
def test_a_prompt_is_normalized_to_its_own_range(shift: float, scale: float) -> None:
    """And one that is the same everywhere divides by no zero, in whatever unit."""
    prompt = (shift + scale * torch.rand(2, 3, 4, dtype=torch.float64)).requires_grad_()
    relative, low, extent = normalized_prompt(prompt)
    torch.testing.assert_close(low + extent * relative, prompt)
    assert (relative.flatten(1).amin(1) == 0).all()
    assert (relative.flatten(1).amax(1) == 1).all()
    relative.square().sum().backward()
    assert prompt.grad is not None
    assert prompt.grad.isfinite().all()
    relative, low, extent = normalized_prompt(torch.full((1, 3, 4), shift))
    assert (relative.sum(), relative[0, 0, 0]) == (1, 1)
    assert (float(low), float(extent)) == pytest.approx((shift, 1e-6))


def test_a_constant_prompt_gives_a_constant_map(tmp_path: Path) -> None:
    model = PromptDepthAnything(prompt_depth_anything(tmp_path))
    depth = model.predict_with(picture(60, 80), torch.full((1, 6, 8), 40.0))
    torch.testing.assert_close(depth, torch.full_like(depth, 40.0), rtol=1e-6, atol=0)


@pytest.mark.parametrize("hole", [0.0, -1.0, float("nan"), float("inf")])
def test_a_prompt_with_holes_is_refused(hole: float, tmp_path: Path) -> None:
    model, prompt = PromptDepthAnything(prompt_depth_anything(tmp_path)), prompts()
    prompt[0, 3, 4] = hole
    with pytest.raises(ValueError, match=r"^a prompt has 1 pixels of 192 without a depth above 0: fill them"):
        model.predict_with(picture(60, 80), prompt)
    with pytest.raises(ValueError, match=r"one depth map an image, \[1, height, width\], not \[2, 12, 16\]$"):
        model.predict_with(picture(60, 80), prompts(2))


def test_it_is_a_frozen_teacher_in_half_precision(tmp_path: Path) -> None:
    folder, image, prompt = prompt_depth_anything(tmp_path), picture(60, 80), prompts()
    half = Frozen(lambda: PromptDepthAnything(folder), dtype=torch.bfloat16)
    assert half(image).depth.dtype == torch.float32
    assert isinstance(half.model, PromptDepthAnything)
    difference = half.model.predict_with(image, prompt) - PromptDepthAnything(folder).predict_with(
        image, prompt
    )
    assert 0 < difference.abs().mean() < 0.05


def test_a_folder_names_it_and_the_wrong_class_says_so(tmp_path: Path) -> None:
    folder = prompt_depth_anything(tmp_path)
    model: DepthModel = named_model(folder).load()
    assert isinstance(model, PromptDepthAnything)
    (tmp_path / "preprocessor_config.json").unlink()
    assert PromptDepthAnything(folder).runs_at(1080, 1920) == (756, 1344)
    with pytest.raises(ValueError, match=r"its class is depthkd.models.PromptDepthAnything$"):
        HuggingFaceDepth(folder)


def test_points_are_a_prompt_filled_from_the_nearest(tmp_path: Path) -> None:
    folder = prompt_depth_anything(tmp_path)
    model, image = PromptedByPoints(folder), picture(60, 80)
    sparse = torch.zeros(1, 60, 80)
    sparse[:, ::13, ::17] = prompts(height=60, width=80)[:, ::13, ::17]
    expected = PromptDepthAnything(folder).predict_with(image, nearest_points(sparse)[0])
    torch.testing.assert_close(model.predict(image, sparse=sparse), expected, **ROUNDED)
    assert model.space == METRIC_DEPTH
    for points in ({}, {"sparse": torch.zeros(1, 60, 80)}):
        with pytest.raises(UserError, match=r"given none beside the image|no pixel has a measured depth"):
            model.predict(image, **points)
