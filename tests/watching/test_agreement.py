import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from depthkd.watching.agreement import agreement


def oracle(student: np.ndarray, target: np.ndarray, mask: np.ndarray) -> float:
    found = []
    for ours, theirs, counts in zip(student, target, mask & np.isfinite(target), strict=True):
        x, y = ours[counts].astype(np.float64), theirs[counts].astype(np.float64)
        if len(x) > 1 and x.std() > 0 and y.std() > 0:
            found.append(np.corrcoef(x, y)[0, 1])
    return float(np.mean(found)) if found else np.nan


@settings(deadline=None, max_examples=10, derandomize=True)
@given(st.integers(0, 10**6), st.sampled_from([1e-6, 1.0, 1e6]))
def test_equals_the_mean_of_numpys_correlations(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    target = rng.normal(size=(3, 6, 7)).astype(np.float32)
    student = (scale * (target + rng.normal(size=target.shape)) + scale).astype(np.float32)
    mask = rng.random(target.shape) < 0.7
    mask[1] = seed % 2 == 0  # an image without a pixel
    target[rng.random(target.shape) < 0.1] = np.nan
    found = agreement(*(torch.from_numpy(x) for x in (student, target, mask)))
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(oracle(student, target, mask), abs=1e-5)


def test_scale_and_shift_do_not_matter_and_signs_do() -> None:
    target = torch.rand(2, 8, 9)
    assert agreement(5 * target - 3, target).item() == pytest.approx(1, abs=1e-6)
    assert agreement(1 - target, target).item() == pytest.approx(-1, abs=1e-6)


def test_constant_maps_say_nothing() -> None:
    target = torch.rand(2, 4, 4)
    student = target.clone()
    student[0] = 2.0
    assert agreement(student, target).item() == pytest.approx(1, abs=1e-6)
    assert agreement(torch.ones_like(target), target).isnan()
    assert agreement(target, target, torch.zeros_like(target, dtype=torch.bool)).isnan()
