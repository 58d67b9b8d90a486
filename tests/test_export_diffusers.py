"""Latent diffusion networks leave as folders of diffusers, and come back."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import MarigoldDepthPipeline, UNet2DConditionModel
from safetensors.torch import load_file

from depthkd import load_model, models
from depthkd.errors import UserError
from depthkd.models.model import DepthModel
from depthkd.runs.student import begins_at_random
from depthkd.verbs.export import export
from tests.conftest import CommandLine
from tests.models.stable_diffusion import lotus, marigold
from tests.test_export import picture, small_pictures

__all__ = ["small_pictures"]  # a fixture


def seeded(model: DepthModel, image: torch.Tensor) -> torch.Tensor:
    torch.manual_seed(3)
    return model.predict(image)


@pytest.mark.parametrize("kind", ["FiffDepth", "Lotus", "Marigold"])
def test_a_folder_of_diffusers_comes_back_as_it_was(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    settings = {"FiffDepth": {"space": "affine depth", "step": -1}, "Lotus": {"space": "affine depth"}}
    model = getattr(models, kind)(size="tiny", license="mit", longest=64, **settings.get(kind, {})).eval()
    model.trained_at = (48, 64)
    found = export(model, tmp_path / "out")
    assert found.agrees
    loaded, image = load_model(str(tmp_path / "out")), picture(50, 90, 2)
    assert type(loaded) is type(model) and (loaded.license, loaded.longest) == ("mit", 64)
    assert (loaded.space, loaded.trained_at) == (model.space, (48, 64))
    torch.testing.assert_close(seeded(loaded, image), seeded(model, image), atol=1e-5, rtol=0)
    unet = UNet2DConditionModel.from_pretrained(tmp_path / "out/unet", use_safetensors=True).state_dict()
    assert all(torch.equal(tensor, unet[name]) for name, tensor in model.unet.state_dict().items())
    card, index = ((tmp_path / "out" / name).read_text() for name in ("README.md", "model_index.json"))
    assert "library_name: diffusers" in card and "Pipeline" not in card + index  # theirs has no such codec
    assert begins_at_random(model.source)
    facts = json.loads((tmp_path / "out/depthkd.json").read_text())
    for wrong in ({"class": "Frozen"}, {"init_args": {"text": "/etc/passwd"}}, {"init_args": None}):
        (tmp_path / "out/depthkd.json").write_text(json.dumps(facts | wrong))
        with pytest.raises(UserError, match="describes no network"):
            load_model(str(tmp_path / "out"))


def test_marigold_s_folder_is_its_pipelines(tmp_path: Path) -> None:
    """With the card's own lines, and Stable Diffusion's kind of autoencoder."""
    model = models.Marigold(marigold(tmp_path / "source"), longest=64).eval()
    assert export(model, tmp_path / "out").agrees
    pipe = MarigoldDepthPipeline.from_pretrained(str(tmp_path / "out"), text_encoder=None, tokenizer=None)
    pipe.set_progress_bar_config(disable=True)
    pipe.empty_text_embedding = load_file(tmp_path / "out/empty_text_embed.safetensors")["text"]
    image = picture(48, 64)
    torch.manual_seed(3)
    latents = torch.randn(4, 6, 8)[None]
    depth = pipe(image, latents=latents, output_type="pt").prediction[:, 0]
    torch.testing.assert_close(seeded(model, image), depth, atol=1e-5, rtol=0)
    card = (tmp_path / "out/README.md").read_text()
    assert "MarigoldDepthPipeline.from_pretrained" in card and "empty_text_embedding" in card


def test_lotus_with_the_image_alone_leaves_too(tmp_path: Path, command_line: CommandLine) -> None:
    model = models.Lotus(lotus(tmp_path / "lotus-depth-d", 4)).eval()
    assert export(model, tmp_path / "out").agrees
    ours, theirs = (one.predict(picture(16, 24)) for one in (model, load_model("out")))
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=0)
    status, _, errors = command_line("export", "out", "--out", "graph", "--format", "onnx")
    assert status == 2 and "take --format hf, a folder of diffusers" in errors
