import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from depthkd.methods.perturbation import ColorPerturbation, GammaBrightnessColor, gaussian_blur


def images() -> torch.Tensor:
    return torch.rand(3, 3, 17, 14, generator=torch.Generator().manual_seed(0))


def test_an_image_depends_on_its_own_seed_alone() -> None:
    perturb = ColorPerturbation(0.5, 1.5, 0.1)
    image = images()
    together = perturb(image, [(0, 5), (0, 6), (0, 7)])
    alone = perturb(image[1:2], [(0, 6)])
    torch.testing.assert_close(together[1:2], alone)
    assert (together - image).abs().mean() > 0.03
    assert not torch.equal(perturb(image, [(1, 5), (1, 6), (1, 7)]), together)
    assert together.min() >= 0
    assert together.max() <= 1


def test_blur_is_scipys() -> None:
    image = images().double()
    deviation = torch.tensor([0.5, 1.0, 1.7], dtype=torch.float64)
    blurred = gaussian_blur(image, deviation, 1.7)
    for i in range(3):
        for channel in range(3):
            expected = gaussian_filter(
                image[i, channel].numpy(), float(deviation[i]), mode="nearest", radius=6
            )
            np.testing.assert_allclose(blurred[i, channel].numpy(), expected, atol=1e-9)


def test_nothing_asked_for_is_nothing_done() -> None:
    image = images().clamp(min=0.01)
    torch.testing.assert_close(ColorPerturbation(0.0, 0.0, 0.0)(image, [(0, i) for i in range(3)]), image)


@pytest.mark.parametrize(("name", "value"), [("jitter", 1.0), ("blur", -1.0), ("noise", -0.1)])
def test_values_out_of_range_get_a_sentence(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"a perturbation's {name}"):
        ColorPerturbation(**{name: value})


def test_gamma_brightness_and_color_are_what_zoedepths_code_draws() -> None:
    image = torch.rand(64, 3, 6, 5, generator=torch.Generator().manual_seed(0))
    change = GammaBrightnessColor(gamma=0.1, brightness=0.25, color=0.1, probability=0.5)
    seeds = [(7, i) for i in range(64)]
    found = change(image, seeds)
    for i, seed in enumerate(seeds):
        generator = np.random.default_rng([*seed, 0x72])
        expected = image[i].double().numpy()
        if generator.random() < 0.5:
            gamma, brightness, *color = generator.uniform(-1, 1, 5)
            expected = expected ** (1 + 0.1 * gamma) * (1 + 0.25 * brightness)
            expected = np.clip(expected * (1 + 0.1 * np.array(color)[:, None, None]), 0, 1)
        np.testing.assert_allclose(found[i].numpy(), expected, rtol=1e-5, atol=1e-6)
    unchanged = sum(torch.equal(one, other) for one, other in zip(image, found, strict=True))
    assert 20 <= unchanged <= 44
    assert torch.equal(change(image[3:4], [(7, 3)]), found[3:4])


def test_gammas_and_probabilities_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"gamma must be 0 to less than 1, not 1\.0"):
        GammaBrightnessColor(gamma=1.0)
    with pytest.raises(ValueError, match=r"probability must be from 0 to 1, not -0\.1"):
        GammaBrightnessColor(probability=-0.1)
