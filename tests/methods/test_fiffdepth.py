"""FiffDepth's equations against slow oracles, and which image learns what at which time."""

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from torch import Tensor

from depthkd.batch import AFFINE_DISPARITY, METRIC_DEPTH, Batch
from depthkd.methods.fiffdepth import (
    FiffDepthFeedForward,
    FiffDepthWeights,
    blended_latent,
    gradient_matching,
    keeping_loss,
    mean_absolute_error,
)
from depthkd.models.dpt.depth_anything import DepthAnything
from depthkd.models.frozen import Frozen
from depthkd.models.latent_diffusion.denoiser import noised, velocity
from depthkd.models.latent_diffusion.fiffdepth import FiffDepth
from tests.methods.test_distill_any_depth import ColumnReader, DepthReader

LOSSES = (keeping_loss, mean_absolute_error, gradient_matching)


def latents(dtype: torch.dtype = torch.float64, batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.randn(batch, 3, 5, 6, generator=generator, dtype=dtype) for _ in range(2))
    return one, other, torch.rand(batch, 5, 6, generator=generator) > 0.3


def test_blending_noise_and_velocity_are_the_ddpm_scheduler_s() -> None:
    image, depth, _ = latents()
    noise = latents(batch=4)[0][2:]
    blend = blended_latent(image, depth, 0.3)
    expected = [[0.3 * float(a) + 0.7 * float(b)] for a, b in zip(image.ravel(), depth.ravel(), strict=True)]
    np.testing.assert_allclose(blend.ravel().numpy(), np.array(expected).ravel())
    make: Any = DDPMScheduler
    scheduler = make(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    times = torch.tensor([1, 700])
    kept = scheduler.alphas_cumprod[times].double()
    expected_noised = scheduler.add_noise(blend, noise, times)
    torch.testing.assert_close(noised(blend, noise, kept), expected_noised, atol=1e-6, rtol=1e-5)
    expected_velocity = scheduler.get_velocity(blend, noise, times)
    torch.testing.assert_close(velocity(blend, noise, kept), expected_velocity, atol=1e-6, rtol=1e-5)


def oracle(name: str, prediction: Tensor, target: Tensor, mask: Tensor) -> float:
    """One image, pixel by pixel."""
    total, count = 0.0, int(mask.sum())
    channels, height, width = prediction.shape
    residual = prediction - target
    for c in range(channels):
        for y in range(height):
            for x in range(width):
                if not mask[y, x]:
                    continue
                r = float(residual[c, y, x])
                if name == "keeping_loss":
                    total += r * r
                elif name == "mean_absolute_error":
                    total += abs(r)
                else:
                    for ny, nx in ((y + 1, x), (y, x + 1)):
                        if ny < height and nx < width and mask[ny, nx]:
                            total += abs(float(residual[c, ny, nx]) - r)
    return total / (channels * max(count, 1))


@pytest.mark.parametrize("loss", LOSSES, ids=lambda f: f.__name__)
def test_losses_are_what_their_equations_say(loss: Any) -> None:
    one, other, mask = latents()
    mask[1] = False
    values = loss(one, other, mask)
    expected = [oracle(loss.__name__, one[i], other[i], mask[i]) for i in range(2)]
    np.testing.assert_allclose(values.numpy(), expected, rtol=1e-6)
    assert float(values[1]) == 0.0
    assert float(loss(one, one, mask).sum()) == 0.0


@pytest.mark.parametrize("loss", LOSSES, ids=lambda f: f.__name__)
def test_gradient_checks(loss: Any) -> None:
    one, other, mask = latents(batch=1)
    one.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda p: loss(p, other, mask), (one,))


def parts(height: int = 16, width: int = 24) -> dict[str, Batch]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 2, 3, height, width), dtype=torch.uint8, generator=generator)
    depth = 1.0 + 9.0 * torch.rand(2, height, width, generator=generator)
    mask = torch.ones_like(depth, dtype=torch.bool)
    mask[:, :8, :8] = False
    truth: dict[str, Any] = {"depth": depth, "mask": mask, "space": METRIC_DEPTH}
    return {
        "synthetic": Batch(images[0], ["a", "b"], positions=[4, 5], **truth),
        "laion": Batch(images[1], ["c", "d"], positions=[4, 5]),
    }


class Asked(FiffDepth):
    """Notes the times at which its UNet is asked."""

    def __init__(self, **settings: Any) -> None:
        torch.manual_seed(0)
        super().__init__(size="tiny", **settings)
        self.calls: list[list[int]] = []

    def denoise(self, latent: Tensor, timestep: Any, labels: Tensor | None = None) -> Tensor:
        self.calls.append([int(t) for t in torch.as_tensor(timestep).reshape(-1)])
        return super().denoise(latent, timestep, labels)


def prepared(
    teacher: type[ColumnReader] | None = ColumnReader, space: str = "affine disparity", **options: Any
) -> tuple[FiffDepthFeedForward, Asked]:
    student = Asked(space=space)
    method = FiffDepthFeedForward(student, teacher, **options)
    if teacher is not None:
        method.teachers = {"teacher": Frozen(teacher)}
    return method, student


def test_each_half_has_its_times() -> None:
    """Synthetic images at 0 and at a time for keeping, real ones at 0 and then at -1."""
    method, student = prepared()
    losses = method.losses(parts())
    assert set(losses) == {"synthetic_mae", "synthetic_gradient", "real_mae", "real_gradient", "keep"}
    first, second = student.calls
    assert first[:4] == [0, 0, 0, 0] and len(first) == 6 and min(first[4:]) >= 1 and max(first[4:]) <= 999
    assert second == [-1, -1]
    assert all(bool(torch.isfinite(loss)) for loss in losses.values())


def test_the_loss_is_the_written_out_one() -> None:
    method, student = prepared(gamma=0.5)
    batch = parts()
    losses = method.losses(batch)
    noise, times = method._noise("synthetic", batch["synthetic"], torch.zeros(2, 24, 2, 3))
    with torch.no_grad():
        image, depth = batch["synthetic"].images(), batch["synthetic"].depth
        mask = batch["synthetic"].mask
        assert depth is not None and mask is not None
        disparity = 1 / depth
        gray = torch.zeros_like(depth)
        for i in range(2):
            low, high = np.quantile(disparity[i][mask[i]].numpy(), [0.02, 0.98])
            gray[i] = ((disparity[i] - low) / (high - low)).clamp(0, 1)
        gray[~mask] = 0.0  # far away
        target = student.encode(gray[:, None].expand(-1, 3, -1, -1))
        x0 = student.encode(image)
        valid = torch.ones(2, 2, 3, dtype=torch.bool)
        valid[:, 0, 0] = False
        d0 = student.denoise(x0, 0)
        expected = np.mean([oracle("mean_absolute_error", d0[i], target[i], valid[i]) for i in range(2)])
        assert float(losses["synthetic_mae"]) == pytest.approx(expected, rel=1e-4)
        kept = student.alphas_cumprod[times][:, None, None, None]
        blend = 0.5 * x0 + 0.5 * target
        said = student.denoise(kept.sqrt() * blend + (1 - kept).sqrt() * noise, times)
        v = kept.sqrt() * noise - (1 - kept).sqrt() * blend
        keep = np.mean([oracle("keeping_loss", said[i], v[i], valid[i]) for i in range(2)])
        assert float(losses["keep"]) == pytest.approx(keep, rel=1e-4)
        real = batch["laion"].images()
        red = real[:, 0].clone()  # what the teacher answers
        for i in range(2):
            low, high = np.quantile(red[i].numpy(), [0.02, 0.98])
            red[i] = ((red[i] - low) / (high - low)).clamp(0, 1)
        label = student.encode(red[:, None].expand(-1, 3, -1, -1))
        end = student.denoise(student.denoise(student.encode(real), 0), -1)
        everywhere = torch.ones(2, 2, 3, dtype=torch.bool)
        mae = np.mean([oracle("mean_absolute_error", end[i], label[i], everywhere[i]) for i in range(2)])
        assert float(losses["real_mae"]) == pytest.approx(mae, rel=1e-4)


def test_a_teacher_at_d0_needs_no_second_pass() -> None:
    method, student = prepared(real_step=0)
    losses = method.losses(parts())
    assert len(student.calls) == 1 and "real_mae" in losses


def test_gamma_1_keeps_images_alone() -> None:
    method, student = prepared(gamma=1.0, weights=FiffDepthWeights(0.0, 0.0, 0.0, 0.0, 1.0))
    batch = parts()
    first = method.losses(batch)["keep"].detach()
    synthetic = batch["synthetic"]
    assert synthetic.depth is not None
    synthetic.depth = synthetic.depth.flip(-1).clone()
    other = method.losses(batch)["keep"].detach()
    assert float(first) == pytest.approx(float(other), rel=1e-6)
    assert all(0 not in call for call in student.calls)  # nothing is asked at 0 where nothing is taught there


@pytest.mark.parametrize(
    ("weights", "absent", "times"),
    [
        (FiffDepthWeights(keep=0.0), "keep", [[0, 0, 0, 0], [-1, -1]]),
        (FiffDepthWeights(real_mae=0.0, real_gradient=0.0, keep=0.0), "real_mae", [[0, 0]]),
        (FiffDepthWeights(0.0, 0.0, 1.0, 0.5, 0.0), "synthetic_mae", [[0, 0], [-1, -1]]),
    ],
)
def test_a_term_without_weight_costs_nothing(
    weights: FiffDepthWeights, absent: str, times: list[list[int]]
) -> None:
    method, student = prepared(weights=weights)
    assert absent not in method.losses(parts())
    assert student.calls == times


def test_no_schedule_is_looked_up_at_minus_1() -> None:
    class Table:
        """A schedule of 3 timesteps that can only be looked up at 1 and 2."""

        seen: list[int] = []  # noqa: RUF012

        def __len__(self) -> int:
            return 3

        def __getitem__(self, places: Tensor) -> Tensor:
            Table.seen += places.tolist()
            return torch.full((len(places),), 0.5)

    method, student = prepared()
    del student._buffers["alphas_cumprod"]
    student.__dict__["alphas_cumprod"] = Table()
    batch = parts()
    for start in range(0, 40, 2):
        batch["synthetic"].positions = [start, start + 1]
        method.losses(batch)
    assert set(Table.seen) == {1, 2} and len(Table.seen) == 40


def test_noise_belongs_to_the_sample_and_the_seed() -> None:
    method, _ = prepared()
    batch = parts()["synthetic"]
    shape = torch.zeros(2, 24, 2, 3)
    noise, times = method._noise("synthetic", batch, shape)
    batch.positions = [5, 6]
    moved, moved_times = method._noise("synthetic", batch, shape)
    assert torch.equal(noise[1], moved[0]) and times[1] == moved_times[0]
    assert not torch.equal(noise[0], moved[0])
    assert not torch.equal(method._noise("laion", batch, shape)[0], moved)
    other, _ = prepared(seed=1)
    assert not torch.equal(other._noise("synthetic", batch, shape)[0], moved)


def test_real_images_reach_d0_only_through_the_second_pass() -> None:
    """With a second pass that stands still, nothing is learned from real images."""
    method, student = prepared(weights=FiffDepthWeights(0.0, 0.0, 1.0, 0.5, 0.0))
    denoise = student.denoise
    student.denoise = lambda latent, t, labels=None: (  # type: ignore[method-assign]
        denoise(latent, t, labels).detach()
        if int(torch.as_tensor(t).max()) < 0
        else denoise(latent, t, labels)
    )
    losses = method.losses(parts())
    assert not losses["real_mae"].requires_grad


def test_labels_that_come_with_real_images_need_no_teacher() -> None:
    method, _ = prepared(teacher=None)
    batch = parts()
    red = batch["laion"].images()[:, 0]
    everywhere = torch.ones_like(red, dtype=torch.bool)
    labels: dict[str, Any] = {"depth": 3 * red + 2, "mask": everywhere, "space": AFFINE_DISPARITY}
    batch["laion"] = Batch(batch["laion"].image, ["c", "d"], positions=[4, 5], **labels)
    asked, _ = prepared()
    expected = asked.losses(parts())
    for name, loss in method.losses(batch).items():
        torch.testing.assert_close(loss, expected[name], rtol=1e-4, atol=1e-6, msg=name)


def test_both_halves_are_of_one_quantity() -> None:
    """A depth student learns depth as it is, and a teacher's disparity with its sign turned."""
    batch = parts()
    image = batch["laion"].images()
    disparity, _ = prepared()
    depth, _ = prepared(space="affine depth")
    label, mask = disparity._label("x", batch["laion"], image)
    turned, _ = depth._label("x", batch["laion"], image)
    torch.testing.assert_close(turned, -label)
    as_it_is, _ = prepared(teacher=DepthReader, space="affine depth")
    torch.testing.assert_close(as_it_is._label("x", batch["laion"], image)[0], label)
    truth, _ = depth._label("x", batch["synthetic"], image)
    inverted, _ = disparity._label("x", batch["synthetic"], image)
    torch.testing.assert_close(truth, batch["synthetic"].depth)
    torch.testing.assert_close(inverted * truth, torch.ones_like(truth))
    assert bool(mask.all())


def test_pictures_show_d0_and_what_follows() -> None:
    method, _ = prepared()
    assert method.pictures() == {}
    method.losses(parts())
    ((image, maps),) = method.pictures().values()
    assert image.shape == (1, 3, 16, 24)
    assert [m.shape[1:] for m in maps] == [(16, 24)] * 3
    assert not torch.equal(maps[1], maps[2])


def test_the_teacher_is_in_no_checkpoint() -> None:
    method, _ = prepared()
    assert all(name.startswith("student.") for name in method.state_dict())


def test_mistakes_get_a_sentence() -> None:
    with pytest.raises(ValueError, match=r"trains a depthkd\.models\.FiffDepth"):
        FiffDepthFeedForward(DepthAnything("tiny"))
    with pytest.raises(ValueError, match="gamma must be between 0 and 1, not 2"):
        prepared(gamma=2.0)
    method, _ = prepared(teacher=None)
    with pytest.raises(ValueError, match=r"data\.train\.laion has no depth, and there is no .*teacher"):
        method.losses(parts())
    method, _ = prepared()
    with pytest.raises(ValueError, match=r"images are 12 x 24 pixels, .* multiples of 8"):
        method.losses(parts(height=12))
    method, _ = prepared(weights=FiffDepthWeights(real_mae=0.0, real_gradient=0.0))
    with pytest.raises(ValueError, match=r"no source of data\.train \(laion\) is of a kind"):
        method.losses({"laion": parts()["laion"]})
