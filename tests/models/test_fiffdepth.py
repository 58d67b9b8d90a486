"""FiffDepth's network: from diffusers folders and from nothing, its two steps, and what it refuses."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderTiny, DDPMScheduler

from depthkd.batch import AFFINE_DEPTH, AFFINE_DISPARITY
from depthkd.models.latent_diffusion.fiffdepth import FiffDepth
from tests.models.stable_diffusion import fiffdepth, nothing, photographs


def test_it_is_one_pass_at_0_and_on_request_a_second_at_minus_1(tmp_path: Path) -> None:
    model = FiffDepth(fiffdepth(tmp_path)).eval()
    image = photographs(32, 48, 2)
    text = nothing(tmp_path).expand(2, -1, -1)
    with torch.no_grad():
        latent = model.vae.encode(image * 2 - 1).latent_dist.mode() * 0.18215
        d0 = model.unet(latent, torch.zeros(2), text).sample
        end = model.unet(d0, torch.full((2,), -1.0), text).sample
        for expected, step in ((d0, 0), (end, -1)):
            decoded = model.vae.decode(expected / 0.18215).sample.mean(1).clamp(-1, 1) / 2 + 0.5
            answer = FiffDepth(str(tmp_path), step=step).eval()(image).depth
            torch.testing.assert_close(answer, decoded, atol=1e-5, rtol=1e-4)
    assert model.space == AFFINE_DISPARITY and model.multiple == 8


def test_minus_1_is_a_time_of_its_own() -> None:
    model = FiffDepth(size="tiny").eval()
    latent = model.encode(photographs(32, 32))
    with torch.no_grad():
        said = {t: model.denoise(latent, t) for t in (-1, 0, 1)}
    assert all(bool(torch.isfinite(values).all()) for values in said.values())
    for one, other in ((-1, 0), (-1, 1), (0, 1)):
        assert float((said[one] - said[other]).abs().max()) > 1e-3


def test_one_call_can_ask_for_several_times() -> None:
    model = FiffDepth(size="tiny").eval()
    latent = model.encode(photographs(32, 32, 3))
    with torch.no_grad():
        together = model.denoise(latent, torch.tensor([-1, 0, 500]))
        for i, t in enumerate((-1, 0, 500)):
            torch.testing.assert_close(together[i : i + 1], model.denoise(latent[i : i + 1], t))


def test_the_noise_schedule_is_the_source_s(tmp_path: Path) -> None:
    source = fiffdepth(tmp_path)
    assert torch.equal(FiffDepth(source).alphas_cumprod, FiffDepth(size="tiny").alphas_cumprod)
    DDPMScheduler(num_train_timesteps=10, beta_schedule="linear").save_pretrained(tmp_path / "scheduler")
    expected = DDPMScheduler(num_train_timesteps=10, beta_schedule="linear").alphas_cumprod
    torch.testing.assert_close(FiffDepth(source).alphas_cumprod, expected)
    assert "alphas_cumprod" not in FiffDepth(source).state_dict()


def test_a_tiny_autoencoder_can_stand_in(tmp_path: Path) -> None:
    source = fiffdepth(tmp_path / "sd")
    torch.manual_seed(0)
    tiny = AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(8, 8, 8, 8), latent_channels=4,
        num_encoder_blocks=(1, 1, 1, 1), num_decoder_blocks=(1, 1, 1, 1),
    ).eval()  # fmt: skip
    tiny.save_pretrained(tmp_path / "tiny")
    model = FiffDepth(source, vae=str(tmp_path / "tiny")).eval()
    image = photographs(32, 32)
    with torch.no_grad():
        expected = tiny.encode(image * 2 - 1).latents * tiny.config.scaling_factor
        torch.testing.assert_close(model.encode(image), expected)
        assert model(image).depth.shape == (1, 32, 32)
    assert json.loads((tmp_path / "tiny/config.json").read_text())["_class_name"] == "AutoencoderTiny"
    own = FiffDepth(size="tiny", vae=str(tmp_path / "tiny"))
    assert own.unet.config.in_channels == 4


def test_the_autoencoder_can_encode_in_half_precision(tmp_path: Path) -> None:
    source = fiffdepth(tmp_path)
    full, half = FiffDepth(source), FiffDepth(source, vae_dtype="bfloat16")
    image = photographs(32, 32)
    difference = (full.encode(image) - half.encode(image)).abs().max() / full.encode(image).abs().max()
    assert 0 < float(difference) < 0.05
    assert half.encode(image).dtype == torch.float32


def test_gradient_checkpointing_changes_nothing_but_memory(tmp_path: Path) -> None:
    source = fiffdepth(tmp_path)
    image, gradients = photographs(32, 32), []
    for checkpointing in (False, True):
        model = FiffDepth(source, gradient_checkpointing=checkpointing).train()
        model.denoise(model.encode(image), 0).square().mean().backward()
        gradients.append(next(model.unet.parameters()).grad)
        assert model.unet.is_gradient_checkpointing == checkpointing
    torch.testing.assert_close(gradients[0], gradients[1])


def test_what_cannot_be_gets_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="answers at step 0 or -1, not 1"):
        FiffDepth(size="tiny", step=1)
    with pytest.raises(ValueError, match="space cannot be 'metric depth'"):
        FiffDepth(size="tiny", space="metric depth")
    with pytest.raises(ValueError, match="takes 8 channels; it would be 4"):
        FiffDepth(fiffdepth(tmp_path / "eight", 8))
    with pytest.raises(FileNotFoundError, match="'nobody/nothing' is no folder or hub repository"):
        FiffDepth("nobody/nothing")
    with pytest.raises(ValueError, match=r"takes latents of 4 channels, and the autoencoder .* gives 6"):
        AutoencoderTiny(
            encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8), latent_channels=6,
            num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1),
        ).save_pretrained(tmp_path / "six")  # fmt: skip
        FiffDepth(fiffdepth(tmp_path / "sd"), vae=str(tmp_path / "six"))
    assert FiffDepth(size="tiny", space="affine depth").space == AFFINE_DEPTH
