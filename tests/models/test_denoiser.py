"""x_0 from what a UNet says, against diffusers' own schedulers; and who is told which task."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from torch import Tensor

from depthkd.models.latent_diffusion.denoiser import (
    LAST,
    DepthDenoiser,
    Parts,
    clean_latent,
    load_parts,
    noised,
    velocity,
)
from depthkd.models.latent_diffusion.diffusion import Lotus, Marigold
from depthkd.models.latent_diffusion.random_weights import NOISE, alphas_cumprod
from tests.models.stable_diffusion import lotus, marigold, photographs


def latents() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    one, two = (torch.randn(2, 3, 5, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    return one, two


@pytest.mark.parametrize("prediction", ["v_prediction", "epsilon", "sample"])
def test_x0_is_what_the_ddim_scheduler_steps_to(prediction: Any) -> None:
    latent, noise = latents()
    make: Any = DDIMScheduler
    scheduler = make(**NOISE, prediction_type=prediction, clip_sample=False, set_alpha_to_one=True)
    scheduler.set_timesteps(1000)
    for time in (1, 400, 999):
        kept = scheduler.alphas_cumprod[[time, time]].double()
        noisy = noised(latent, noise, kept)
        said = {"v_prediction": velocity(latent, noise, kept), "epsilon": noise, "sample": latent}[prediction]
        torch.testing.assert_close(clean_latent(said, noisy, kept, prediction), latent, rtol=1e-6, atol=1e-6)
        spoiled = said + 0.1
        expected = scheduler.step(spoiled, time, noisy).pred_original_sample
        ours = clean_latent(spoiled, noisy, kept, prediction)
        torch.testing.assert_close(ours, expected.double(), rtol=1e-4, atol=1e-4)


def test_the_schedule_is_the_sources_own(tmp_path: Path) -> None:
    make: Any = DDPMScheduler
    zero_snr = make(**NOISE, rescale_betas_zero_snr=True).alphas_cumprod
    torch.testing.assert_close(Marigold(marigold(tmp_path / "m")).alphas_cumprod, zero_snr)
    torch.testing.assert_close(Lotus(lotus(tmp_path / "lotus-depth")).alphas_cumprod, alphas_cumprod({}))


def test_a_lotus_hears_its_task_and_a_marigold_none(tmp_path: Path) -> None:
    both = Lotus(lotus(tmp_path / "lotus-depth")), Marigold(marigold(tmp_path / "m"))
    rgb = both[0].encode(photographs(16, 24))
    noise = torch.randn(rgb.shape)
    depths, images = ([m.clean(noise, rgb, LAST, task) for m in both] for task in ("depth", "image"))
    assert not torch.equal(depths[0], images[0])
    assert torch.equal(depths[1], images[1])
    times = torch.tensor([LAST])
    assert torch.equal(both[0].clean(noise, rgb, times), depths[0])


def test_an_epsilon_network_needs_some_signal_at_its_last_timestep() -> None:
    parts = load_parts("none", size="tiny")
    zero = {**NOISE, "rescale_betas_zero_snr": True}
    with pytest.raises(ValueError, match="all noise, no epsilon tells the depth"):
        DepthDenoiser(Parts(parts.unet, parts.vae, parts.text, "epsilon", zero))
