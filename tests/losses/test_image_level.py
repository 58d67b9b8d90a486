import numpy as np
import pytest
import torch
from torch import Tensor

from depthkd.losses.image_level import image_level_regression, trimmed_mean_and_deviation
from tests.losses.test_trimmed import maps


def oracle(prediction: Tensor, truth: Tensor, mask: Tensor) -> float:
    """One image, as LeReS's code computes it."""
    d, t = (x[mask].double().numpy() for x in (prediction, truth))
    mean, deviation = 0.0, 1.0
    if len(t) >= 10:
        kept = np.sort(t)[int(len(t) * 0.1) : -int(len(t) * 0.1)]
        mean, deviation = kept.mean(), kept.std(ddof=1)
    n = (t - mean) / (deviation + 1e-8)
    return float(np.abs(n - d).mean() + np.abs(np.tanh(0.01 * n) - np.tanh(0.01 * d)).mean())


@pytest.mark.parametrize("case", ["random", "masked", "ties", "few pixels", "tiny", "huge"])
def test_equals_the_written_out_mean(case: str) -> None:
    prediction, truth, mask = maps(case)
    expected = [oracle(prediction[i], truth[i], mask[i]) if mask[i].any() else 0.0 for i in range(3)]
    np.testing.assert_allclose(image_level_regression(prediction, truth, mask), expected, rtol=1e-9)
    single = image_level_regression(prediction.float(), truth.float(), mask)
    np.testing.assert_allclose(single, expected, rtol=1e-4)


def test_no_scale_or_shift_of_the_truth_matters_and_outliers_do_not_pull() -> None:
    prediction, truth, mask = maps("masked")
    loss = image_level_regression(prediction, truth, mask)
    torch.testing.assert_close(image_level_regression(prediction, 7 * truth - 3, mask), loss)
    mean, deviation = trimmed_mean_and_deviation(truth, mask)
    low, high = (truth[0] == x for x in (truth[0][mask[0]].min(), truth[0][mask[0]].max()))
    truth[0] = torch.where(low, -1e9, torch.where(high, 1e9, truth[0]))
    again = trimmed_mean_and_deviation(truth, mask)
    torch.testing.assert_close(again[0], mean)
    torch.testing.assert_close(again[1], deviation)


def test_gradient_check() -> None:
    prediction, truth, mask = (x[:, :5, :6] for x in maps("masked"))
    prediction = prediction.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda p: image_level_regression(p, truth, mask), (prediction,))


def test_empty_masks_and_what_stands_at_invalid_pixels() -> None:
    prediction, truth, mask = maps("masked")
    mask[1] = False
    truth[2] = 3.0
    clean = image_level_regression(prediction, truth, mask)
    prediction[~mask] = truth[~mask] = torch.nan
    prediction.requires_grad_()
    loss = image_level_regression(prediction, truth, mask)
    assert loss[1] == 0 and torch.equal(loss, clean)
    loss.sum().backward()
    assert prediction.grad is not None and prediction.grad.isfinite().all()
    assert (prediction.grad[1] == 0).all() and (prediction.grad[0] != 0).any()
