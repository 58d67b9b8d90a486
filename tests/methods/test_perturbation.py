import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from depthkd.methods.perturbation import ColorPerturbation, gaussian_blur


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
