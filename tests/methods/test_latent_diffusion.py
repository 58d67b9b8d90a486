"""Marigold's and Lotus's training: what is predicted of which noisy latent, against slow oracles."""

from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler
from torch import Tensor

from depthkd.batch import METRIC_DEPTH, Batch
from depthkd.methods.latent_diffusion import LatentDiffusion, LatentDiffusionWeights
from depthkd.models.dpt.depth_anything import DepthAnything
from depthkd.models.latent_diffusion.denoiser import LAST, DepthDenoiser
from depthkd.models.latent_diffusion.depth_codec import label_picture
from depthkd.models.latent_diffusion.diffusion import Lotus, Marigold
from depthkd.models.latent_diffusion.random_weights import NOISE
from depthkd.models.wrapper import Wrapper


def part(height: int = 16, width: int = 24) -> Batch:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8, generator=generator)
    depth = 1 + 9 * torch.rand(2, height, width, generator=generator)
    mask = torch.ones_like(depth, dtype=torch.bool)
    mask[0, :8, :8] = False
    labels: dict[str, Any] = {"depth": depth, "mask": mask, "space": METRIC_DEPTH}
    return Batch(images, ["a", "b"], positions=[7, 8], **labels)


def prepared(network: type[DepthDenoiser], **options: Any) -> LatentDiffusion:
    torch.manual_seed(0)
    return LatentDiffusion(network(size="tiny"), **options)  # type: ignore[call-arg]


@pytest.mark.parametrize("network", [Lotus, Marigold])
def test_the_loss_is_the_mean_square_over_valid_places(network: type[DepthDenoiser]) -> None:
    method, batch = prepared(network), part()
    asked: list[tuple[Tensor, Tensor, Tensor]] = []
    denoise = method.network.denoise

    def note(latent: Tensor, timestep: Any, labels: Any = None) -> Tensor:
        said = denoise(latent, timestep, labels)
        asked.append((latent, timestep, said))
        return said

    method.network.denoise = note  # type: ignore[assignment, method-assign]
    losses = method.losses({"labelled": batch})
    net = method.network
    assert batch.depth is not None and batch.mask is not None
    depth = net.encode(label_picture(batch.depth, batch.mask, net.space.quantity))
    rgb = net.encode(batch.images())
    make: Any = DDPMScheduler
    scheduler = make(**NOISE)
    channels = rgb.shape[1]
    for (latent, times, said), target in zip(asked, (depth, rgb), strict=False):
        assert torch.equal(latent[:, :channels], rgb)
        noisy = latent[:, channels:]
        kept = scheduler.alphas_cumprod[times][:, None, None, None]
        noise = (noisy - kept.sqrt() * target) / (1 - kept).sqrt()
        assert abs(float(noise.std()) - 1) < 0.2
        if network is Marigold:
            aim = scheduler.get_velocity(target, noise, times)
            assert len(set(times.tolist())) > 1 and int(times.min()) >= 1
        else:
            aim = target
            assert times.tolist() == [LAST, LAST]
        total = []
        for i in range(2):
            places = [(y, x) for y in range(2) for x in range(3) if i or y or x or target is rgb]
            errors = [float((said - aim)[i, :, y, x].detach().square().mean()) for y, x in places]
            total.append(sum(errors) / len(errors))
        term = losses["depth"] if target is depth else losses["image"]
        assert float(term.detach()) == pytest.approx(sum(total) / 2, rel=1e-3)
    assert len(asked) == (2 if network is Lotus else 1)
    assert set(losses) == ({"depth", "image"} if network is Lotus else {"depth"})


def test_the_second_task_can_be_left_out_and_the_codec_does_not_learn() -> None:
    method = prepared(Lotus, weights=LatentDiffusionWeights(image=0.0))
    losses = method.losses({"labelled": part()})
    assert set(losses) == {"depth"}
    losses["depth"].backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is None for p in method.network.vae.parameters())
    assert any(p.grad is not None and bool(p.grad.any()) for p in method.network.unet.parameters())
    assert "train/latest" in method.pictures()


def test_noise_and_time_depend_on_the_samples_place_alone() -> None:
    one, other = prepared(Marigold), prepared(Marigold)
    torch.manual_seed(5)
    first = one.losses({"labelled": part()})["depth"]
    torch.manual_seed(6)
    assert torch.equal(first, other.losses({"labelled": part()})["depth"])


def test_a_student_that_stands_for_a_run_learns_as_its_network() -> None:
    alone = prepared(Marigold)
    wrapped = LatentDiffusion(Wrapper(alone.network))
    assert wrapped.network is alone.network
    loss, other = (method.losses({"labelled": part()})["depth"] for method in (alone, wrapped))
    assert torch.equal(loss, other)


def test_mistakes_are_sentences() -> None:
    with pytest.raises(ValueError, match="trains a Marigold or a Lotus-G"):
        LatentDiffusion(DepthAnything(size="tiny"))
    unlabelled = Batch(part().image, ["a", "b"])
    with pytest.raises(ValueError, match=r"data\.train\.photos has no depth"):
        prepared(Lotus).losses({"photos": unlabelled})
