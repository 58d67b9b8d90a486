"""SharpDepth as a model: what is blended, what is fitted, and what a metric model swapped in changes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from depthkd.batch import METRIC_DEPTH, METRIC_DISPARITY
from depthkd.models.baselines import AlignedDepth, UnsharpMask
from depthkd.models.dpt.depth_anything import DepthAnything
from depthkd.models.latent_diffusion.denoiser import LAST, noised
from depthkd.models.latent_diffusion.diffusion import Lotus
from depthkd.models.latent_diffusion.sharpdepth import SharpDepth, rescaled
from depthkd.models.model import DepthModel, DepthOutput
from tests.models.stable_diffusion import lotus, marigold, photographs


class Ramp(DepthModel):
    """From `near` to `far` meters, from left to right."""

    chooses_size = True
    space = METRIC_DEPTH

    def __init__(self, near: float = 2.0, far: float = 6.0) -> None:
        super().__init__()
        self.ends = nn.Parameter(torch.tensor([near, far]))

    def forward(self, image: Tensor) -> DepthOutput:
        near, far = self.ends.tolist()
        return DepthOutput(torch.linspace(near, far, image.shape[-1]).expand(len(image), *image.shape[-2:]))

    def encoder_parameters(self) -> Any:
        return self.parameters()


def sharpdepth(**settings: Any) -> SharpDepth:
    torch.manual_seed(0)
    return SharpDepth(size="fine", **({"metric": Ramp, "longest": None} | settings)).eval()


def test_least_squares_on_the_pixels_that_agree() -> None:
    generator = torch.Generator().manual_seed(0)
    metric = 1 + 9 * torch.rand(2, 6, 7, generator=generator)
    sharp = (metric - 3) / 5
    reliable = torch.rand(2, 6, 7, generator=generator) > 0.5
    spoiled = torch.where(reliable, sharp, sharp + 40)
    depth = rescaled(spoiled, metric, reliable)
    torch.testing.assert_close(depth[reliable], metric[reliable], rtol=1e-4, atol=1e-4)
    nowhere = torch.zeros_like(reliable)
    torch.testing.assert_close(rescaled(sharp, metric, nowhere), metric, rtol=1e-4, atol=1e-4)
    chosen = reliable[0].flatten().numpy()
    cubed = sharp[0].flatten().double().numpy() ** 3
    target = metric[0].flatten().double().numpy()[chosen]
    scale, shift = np.linalg.lstsq(np.stack([cubed, np.ones_like(cubed)], 1)[chosen], target, rcond=None)[0]
    expected = np.maximum(scale * cubed + shift, 1e-3)
    np.testing.assert_allclose(rescaled(sharp**3, metric, reliable)[0].flatten(), expected, rtol=1e-3)


def test_a_sharpener_that_copies_gives_the_metric_depth_back() -> None:
    """Whatever the scale of the metric model: its range goes in, and comes out again."""
    model = sharpdepth()
    depth = model.encode(model.normalized(Ramp()(photographs(16, 24)).depth)[:, None].expand(-1, 3, -1, -1))
    model.clean = lambda *a, **k: depth  # type: ignore[assignment, method-assign]
    for near, far in ((2.0, 6.0), (20.0, 60.0)):
        model.metric.model.ends.data.copy_(torch.tensor([near, far]))  # type: ignore[operator, union-attr]
        answer = model.predict(photographs(16, 24))
        expected = torch.linspace(near, far, 24).expand(1, 16, 24)
        torch.testing.assert_close(answer, expected, rtol=1e-4, atol=1e-3)


def test_where_both_agree_the_latent_is_clean_and_where_they_differ_most_it_is_noise() -> None:
    model = sharpdepth()
    unit = torch.linspace(0, 1, 24).expand(1, 16, 24).clone()
    first = unit.clone()
    first[:, 4:8, 4:8] += 0.9
    noise = torch.randn(1, model.vae.config.latent_channels, 8, 12)
    latent = model.encode(first[:, None].expand(-1, 3, -1, -1))
    given, difference = model.gate_latent(unit, latent, noise)
    assert float(difference.max()) == pytest.approx(1.0)
    clean = model.encode(unit[:, None].expand(-1, 3, -1, -1))
    for y, x in np.ndindex(8, 12):
        share = float(difference[0, 2 * y, 2 * x])  # the nearest pixel, as the released code takes it
        expected = share * noise[0, :, y, x] + (1 - share) * clean[0, :, y, x]
        torch.testing.assert_close(given[0, :, y, x], expected)


@pytest.mark.parametrize(("gate", "index"), [("noise", 0), ("metric", 1)])
def test_settings_a_and_b_have_no_difference_map(gate: Any, index: int) -> None:
    model = sharpdepth(gate=gate)
    unit, noise = torch.rand(1, 16, 24), torch.randn(1, model.vae.config.latent_channels, 8, 12)
    given, difference = model.gate_latent(unit, noise, noise)
    assert torch.equal(given, (noise, model.encode(unit[:, None].expand(-1, 3, -1, -1)))[index])
    assert float(difference.min()) == 1.0


def test_the_released_code_blends_a_noised_answer_and_does_not_align() -> None:
    paper, released = sharpdepth(), sharpdepth(variant="released")
    unit = torch.linspace(0, 1, 24).expand(1, 16, 24)
    latent = paper.encode((0.5 * unit + 0.2)[:, None].expand(-1, 3, -1, -1))
    noise = torch.randn(1, latent.shape[1], 8, 12)
    _, difference = released.gate_latent(unit, latent, noise)
    expected = (0.5 * unit + 0.2 - unit).abs()
    torch.testing.assert_close(difference, expected / expected.max(), rtol=1e-3, atol=1e-3)
    small = difference[:, ::2, ::2][:, None]
    mixed = noised(latent, noise, released.alphas_cumprod[LAST].expand(1))
    clean = released.encode(unit[:, None].expand(-1, 3, -1, -1))
    torch.testing.assert_close(
        released.gate_latent(unit, latent, noise)[0], small * mixed + (1 - small) * clean
    )
    mixture = sharpdepth(variant="released", alignment="scale_and_shift", blend="noise", intrinsics=True)
    assert (mixture.fit, mixture.blend, mixture.takes_camera) == (paper.fit, paper.blend, True)


def test_a_metric_model_swapped_in_changes_the_answer_and_the_identity() -> None:
    one, other = sharpdepth(), sharpdepth(metric=lambda: Ramp(1.0, 50.0))
    assert one.identity() != other.identity()
    assert one.companions()[0].space == METRIC_DEPTH
    image = photographs(16, 24)
    torch.manual_seed(3)
    first = one.predict(image)
    torch.manual_seed(3)
    assert float(other.predict(image).mean()) > 2 * float(first.mean())
    torch.manual_seed(3)
    assert torch.equal(one.predict(image), first)
    assert not any("ends" in key for key in one.state_dict())


def test_the_floor_is_in_meters() -> None:
    model = sharpdepth()
    depth = torch.linspace(2, 9, 24).expand(1, 16, 24)
    mask = torch.ones_like(depth, dtype=torch.bool)
    torch.testing.assert_close(
        model.encode_decode_truth(depth, mask, METRIC_DEPTH), depth, rtol=1e-4, atol=1e-4
    )
    torch.testing.assert_close(
        model.encode_decode_truth(1 / depth, mask, METRIC_DISPARITY), depth, rtol=1e-4, atol=1e-4
    )


def test_it_starts_from_the_hubs_lotus_or_marigold(tmp_path: Path) -> None:
    by_lotus = SharpDepth(lotus(tmp_path / "lotus-depth"), metric=Ramp, longest=64)
    assert (by_lotus.prediction, by_lotus.tasks, by_lotus.timesteps) == ("sample", True, (LAST, LAST))
    by_marigold = SharpDepth(marigold(tmp_path / "marigold"), metric=Ramp, longest=64)
    assert (by_marigold.prediction, by_marigold.tasks) == ("v_prediction", False)
    assert by_marigold.timesteps == (20, 980)
    for model in (by_lotus, by_marigold):
        answer = model.predict(photographs(48, 100))
        assert answer.shape == (1, 48, 100) and bool((answer > 0).all())


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"metric": None}, "sharpens a metric model's depth and has none: give `metric`"),
        ({"metric": lambda: DepthAnything(size="tiny")}, "its metric model gives affine disparity"),
    ],
)
def test_a_missing_metric_model_is_a_sentence(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        sharpdepth(**settings).predict(photographs(16, 24))


def test_a_lotus_of_disparity_is_refused() -> None:
    with pytest.raises(ValueError, match="'jingheya/lotus-depth-g-v2-1-disparity' predicts disparity"):
        SharpDepth("jingheya/lotus-depth-g-v2-1-disparity")


class Fixed(DepthModel):
    """One answer to everything."""

    chooses_size = True

    def __init__(self, depth: Tensor, space: Any) -> None:
        super().__init__()
        self.register_buffer("depth", depth)
        self.space = space

    def forward(self, image: Tensor) -> DepthOutput:
        assert isinstance(self.depth, Tensor)
        return DepthOutput(self.depth)

    def encoder_parameters(self) -> Any:
        return self.parameters()


def test_the_naive_baseline_fits_in_the_relative_models_quantity() -> None:
    metric = Ramp()(torch.rand(1, 3, 8, 12)).depth
    for space, relative in (
        (Lotus(size="tiny").space, 0.1 * metric - 7),
        (DepthAnything(size="tiny").space, 4 / metric + 2),
    ):
        model = AlignedDepth(Fixed(relative, space), Ramp())
        torch.testing.assert_close(model.predict(torch.rand(1, 3, 8, 12)), metric, rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match="needs metric depth of `metric`, which gives affine disparity"):
        AlignedDepth(Ramp(), DepthAnything(size="tiny"))


def test_an_image_is_aligned_whatever_stands_beside_it_in_the_batch() -> None:
    near = Ramp()(torch.rand(1, 3, 8, 12)).depth
    metric = torch.cat([near, 10 * near])
    relative = 4 / metric + 2
    relative[:, 0, 0] = 1.0  # farther than anything, so that it is drawn in to the farthest
    space, image = DepthAnything(size="tiny").space, torch.rand(2, 3, 8, 12)
    both = AlignedDepth(Fixed(relative, space), Fixed(metric, METRIC_DEPTH)).predict(image)
    alone = AlignedDepth(Fixed(relative[:1], space), Fixed(near, METRIC_DEPTH)).predict(image[:1])
    torch.testing.assert_close(both[:1], alone)
    assert float(alone.max()) == pytest.approx(float(near.max()))


def test_an_unsharp_mask_makes_an_edge_steeper_and_leaves_a_plane() -> None:
    step = torch.full((1, 16, 32), 2.0)
    step[..., 16:] = 4.0
    soft = torch.nn.functional.avg_pool2d(step[:, None], 5, 1, 2, count_include_pad=False)[:, 0]
    sharper = UnsharpMask(Fixed(soft, METRIC_DEPTH), radius=0.1, amount=1.0).predict(torch.rand(1, 3, 16, 32))
    assert float(sharper.diff(dim=-1).max()) > 1.3 * float(soft.diff(dim=-1).max())
    flat = UnsharpMask(Fixed(torch.full((1, 16, 32), 3.0), METRIC_DEPTH)).predict(torch.rand(1, 3, 16, 32))
    torch.testing.assert_close(flat, torch.full((1, 16, 32), 3.0))
    with pytest.raises(ValueError, match="radius and amount must be above 0"):
        UnsharpMask(Ramp(), radius=0.0)


@pytest.mark.parametrize("longest", [None, 32])
def test_the_released_code_fits_at_the_image_s_size_and_raises_nothing(longest: int | None) -> None:
    model = sharpdepth(variant="released", longest=longest, metric=lambda: Ramp(0.1, 9.0))
    image, size = photographs(18, 27), (18, 27)
    torch.manual_seed(4)
    depth = model.predict(image)
    torch.manual_seed(4)
    pixels = model.fit_input(image)
    small = (pixels.shape[-2], pixels.shape[-1])
    metric = torch.nn.functional.interpolate(Ramp(0.1, 9.0)(image).depth[:, None], small, mode="bilinear")
    unit = (metric - metric.min()) / (metric.max() - metric.min())
    rgb, encoded = model.encode(pixels), model.encode(unit.expand(-1, 3, -1, -1))
    first = model.clean(torch.randn(1, *rgb.shape[1:]), rgb, LAST)
    difference = (model.decode(first) - unit[:, 0]).abs()
    difference = difference / difference.max()
    near = torch.nn.functional.interpolate(difference[:, None], rgb.shape[-2:], mode="nearest")
    mixed = noised(first, torch.randn(1, *rgb.shape[1:]), model.alphas_cumprod[LAST].expand(1))
    sharp = model.decode(model.clean(near * mixed + (1 - near) * encoded, rgb, LAST))
    large = [
        torch.nn.functional.interpolate(one.reshape(1, 1, *small), size, mode="bilinear")[0, 0].detach()
        for one in (sharp, metric, difference)
    ]
    x, y, e = (one.double().numpy().ravel() for one in large)
    chosen = e < 0.5
    assert 0 < chosen.sum() < chosen.size
    columns = np.stack([x, np.ones_like(x)], 1)
    fit = np.linalg.lstsq(columns[chosen], y[chosen], rcond=None)[0]
    expected = (columns @ fit).reshape(1, *size)
    np.testing.assert_allclose(depth.numpy(), expected, rtol=1e-3, atol=1e-3)
    torch.manual_seed(4)
    assert model.infer(image).shape == (1, 3 * small[0], small[1])
    torch.manual_seed(4)
    with torch.no_grad():
        direct = model(image).depth
    assert direct.shape[1:] == (size if longest else small)


def test_where_the_last_fit_is_made_is_an_option_of_its_own() -> None:
    metric = Ramp(0.1, 9.0)(torch.rand(1, 3, 4, 6)).depth
    sharp, agree = torch.linspace(0, 1, 6).expand(1, 4, 6) - 0.3, torch.ones(1, 4, 6)
    released = sharpdepth(variant="paper", fit_size="image")
    answer = torch.cat([sharp, metric - 3, 0 * agree], 1)
    assert float(released.resize_to(answer, (4, 6)).min()) < -2
    assert sharpdepth(variant="released", fit_size="network").resize_to(metric, (4, 6)) is metric
    assert float(rescaled(sharp, metric - 3, agree > 0).min()) == pytest.approx(1e-3)


def test_two_answers_that_agree_up_to_rounding_leave_the_latent_clean() -> None:
    for variant in ("paper", "released"):
        model = sharpdepth(variant=variant)
        unit = torch.linspace(0, 1, 24).expand(1, 16, 24)
        clean = model.encode(unit[:, None].expand(-1, 3, -1, -1))
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
        given, difference = model.gate_latent(unit, clean, noise)
        assert float(difference.max()) < 0.01
        torch.testing.assert_close(given, clean, rtol=0.05, atol=0.05)
