import numpy as np
import pytest
import torch
from torch import Tensor

from depthkd.losses.channel_wise import (
    MAP_NORMALIZATIONS,
    MapNormalizationName,
    channel_norm_mse,
    channel_wise_divergence,
    channel_wise_loss,
    normalized_mse,
)
from tests.losses.test_trimmed import maps

NAMES: tuple[MapNormalizationName, ...] = tuple(MAP_NORMALIZATIONS)
CASES = ["random", "masked", "ties", "few pixels", "tiny", "huge"]
LOSSES = {"kl": channel_wise_loss, "cn_mse": channel_norm_mse, "mse": normalized_mse}


def normalized(values: np.ndarray, name: str) -> np.ndarray:
    if name == "mean_deviation":
        return (values - values.mean()) / max(values.std(), 1e-6)
    if name == "median_deviation":
        median = np.sort(values)[(len(values) - 1) // 2]
        return (values - median) / max(np.abs(values - median).mean(), 1e-6)
    return (values - values.min()) / max(np.ptp(values), 1e-6)


def softmax(values: np.ndarray, temperature: float) -> np.ndarray:
    powers = np.exp(values / temperature)
    return powers / powers.sum()


def oracle(student: Tensor, teacher: Tensor, mask: Tensor, loss: str, name: str) -> float:
    """One image, in float64."""
    s, t = (normalized(x[mask].double().numpy(), name) for x in (student, teacher))
    if loss == "mse":
        return float(((s - t) ** 2).mean())
    q, p = (softmax(x, 4.0 if loss == "kl" else 1.0) for x in (s, t))
    if loss == "cn_mse":
        return float(((p - q) ** 2).sum())
    return float(16 * (p * np.log(p / q)).sum())


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("loss", LOSSES)
def test_equals_the_written_out_sums(loss: str, name: MapNormalizationName, case: str) -> None:
    student, teacher, mask = maps(case)
    expected = [
        oracle(student[i], teacher[i], mask[i], loss, name) if mask[i].any() else 0.0 for i in range(3)
    ]
    found = LOSSES[loss](student, teacher, mask, name)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9, atol=1e-12)
    single = LOSSES[loss](student.float(), teacher.float(), mask, name)
    np.testing.assert_allclose(single.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_channels_are_averaged_and_have_softmaxes_of_their_own() -> None:
    student, teacher, mask = maps("masked")
    pair = [torch.stack([x, -3 * x + 1], 1) for x in (student, teacher)]
    both = channel_wise_divergence(*pair, mask, 2.0)
    each = [channel_wise_divergence(pair[0][:, i : i + 1], pair[1][:, i : i + 1], mask, 2.0) for i in (0, 1)]
    torch.testing.assert_close(both, (each[0] + each[1]) / 2)


def test_a_large_temperature_makes_it_half_the_variance_of_the_difference() -> None:
    student, teacher, mask = maps("masked")
    found = channel_wise_divergence(student[:, None], teacher[:, None], mask, 1e4)
    expected = [(student - teacher)[i][mask[i]].var(correction=0) / 2 for i in range(3)]
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-3, atol=0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("loss", LOSSES)
def test_no_scale_or_shift_of_either_map_matters_but_a_sign_does(
    loss: str, name: MapNormalizationName
) -> None:
    student, teacher, mask = maps("masked")
    found = LOSSES[loss](student, teacher, mask, name)
    moved = LOSSES[loss](student * 7 - 3, teacher * 0.01 + 5, mask, name)
    torch.testing.assert_close(moved, found)
    torch.testing.assert_close(LOSSES[loss](teacher * 2 + 1, teacher, mask, name), torch.zeros_like(found))
    assert (LOSSES[loss](-teacher, teacher, mask, name) > found).all()
    for i in range(3):
        one = LOSSES[loss](student[i : i + 1], teacher[i : i + 1], mask[i : i + 1], name)
        torch.testing.assert_close(one[0], found[i])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_check(loss: str, name: MapNormalizationName) -> None:
    student, teacher, mask = (x[:, :5, :6] for x in maps("masked"))
    student = student.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda s: LOSSES[loss](s, teacher, mask, name), (student,))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("loss", LOSSES)
def test_empty_masks_constants_and_what_stands_at_invalid_pixels(
    loss: str, name: MapNormalizationName
) -> None:
    student, teacher, mask = maps("masked")
    mask[1] = False
    student[2] = 3.0
    clean = LOSSES[loss](student, teacher, mask, name)
    student[~mask] = teacher[~mask] = torch.nan
    student.requires_grad_()
    found = LOSSES[loss](student, teacher, mask, name)
    assert found[1] == 0 and torch.equal(found, clean)
    found.sum().backward()
    assert student.grad is not None and torch.isfinite(student.grad).all()
    assert (student.grad[1] == 0).all() and (student.grad[0] != 0).any()


def test_cn_mse_hardly_has_a_gradient() -> None:
    """Why the poster's baseline does not help: of the same maps the others' gradients are far larger."""
    torch.manual_seed(0)
    teacher, mask = torch.rand(1, 96, 96), torch.ones(1, 96, 96, dtype=torch.bool)
    start = torch.rand(1, 96, 96)
    size = {}
    for name, loss in LOSSES.items():
        student = start.clone().requires_grad_()
        loss(student, teacher, mask).sum().backward()
        assert student.grad is not None
        size[name] = float(student.grad.norm())
    assert size["cn_mse"] < 1e-3 * min(size["kl"], size["mse"])


def test_nothing_waits_for_the_device() -> None:
    mask = torch.ones(2, 9, 11, dtype=torch.bool, device="meta")
    for loss in LOSSES.values():
        student = torch.rand(2, 9, 11, device="meta").requires_grad_()  # which has no value to ask for
        loss(student, torch.rand_like(student.detach()), mask).sum().backward()
        assert student.grad is not None
