"""Errors in windows against lstsq, window by window."""

import numpy as np
import pytest
import torch

from depthkd.metrics.windows import WindowErrors, window_errors, window_names


def fitted(p: np.ndarray, t: np.ndarray, m: np.ndarray) -> np.ndarray:
    columns = np.stack([p[m], np.ones(m.sum())], 1)
    return np.linalg.lstsq(columns, t[m], rcond=None)[0]


def windows_oracle(p: np.ndarray, t: np.ndarray, m: np.ndarray, n: int) -> tuple[float, float, float]:
    """Global and local AbsRel and the change, of one image."""
    p, t = p.astype(np.float64), t.astype(np.float64)
    rows, columns = (np.arange(size) * n // size for size in p.shape)
    errors: dict[str, list[float]] = {"global": [], "local": []}
    for i in range(n):
        for j in range(n):
            inside = m & (rows == i)[:, None] & (columns == j)
            if not inside.any():
                continue
            for name, fit in (("global", fitted(p, t, m)), ("local", fitted(p, t, inside))):
                error = np.abs(fit[0] * p + fit[1] - t)[inside] / t[inside]
                errors[name].append(float(error.mean()))
    once, inside_alone = np.mean(errors["global"]), np.mean(errors["local"])
    return float(once), float(inside_alone), float(inside_alone / once - 1) if once >= 1e-6 else 0.0


def maps(seed: int, height: int, width: int, density: float) -> tuple[torch.Tensor, ...]:
    rng = np.random.default_rng(seed)
    t = rng.uniform(0.5, 9, (3, height, width))
    p = 3 * t + rng.normal(0, 0.5, t.shape) + np.linspace(-4, 4, width)
    m = rng.random(t.shape) < density
    m[:, height // 2, 0] = True
    return torch.tensor(p).float(), torch.tensor(t).float(), torch.tensor(m)


@pytest.mark.parametrize("density", [0.02, 0.5, 1.1])
@pytest.mark.parametrize("size", [(4, 4), (9, 14), (31, 22)])
def test_errors_equal_lstsq_in_every_window(size: tuple[int, int], density: float) -> None:
    p, t, m = maps(0, *size, density)
    hidden = window_errors(torch.where(m, p, torch.nan), torch.where(m, t, 0.0), m)
    found = window_errors(p, t, m)
    assert list(found) == window_names()
    for n in (1, 2, 4):
        for i in range(len(p)):
            expected = windows_oracle(p[i].numpy(), t[i].numpy(), m[i].numpy(), n)
            names = (f"global_abs_rel_{n}", f"local_abs_rel_{n}", f"abs_rel_change_{n}")
            for name, value in zip(names, expected, strict=True):
                assert found[name][i].item() == pytest.approx(value, rel=1e-6, abs=1e-6), name
                assert hidden[name][i] == found[name][i]


def test_a_distortion_is_undone_locally() -> None:
    columns = np.arange(32)
    t = torch.tensor(np.random.default_rng(1).uniform(1, 5, (1, 16, 32))).float()
    p = torch.where(torch.tensor(columns < 16), 2 * t + 1, 5 * t - 3)  # two halves, two scales
    found = window_errors(p, t, t > 0, (1, 2))
    assert found["abs_rel_change_1"] == 0
    assert found["global_abs_rel_2"] > 0.05
    assert found["local_abs_rel_2"].item() == pytest.approx(0, abs=1e-6)
    assert found["abs_rel_change_2"].item() == pytest.approx(-1, abs=1e-4)


def test_degenerate_inputs() -> None:
    p, t, m = maps(2, 12, 12, 0.7)
    p[1] = 4.0
    m[2] = False
    found = window_errors(p, t, m)
    assert all(torch.isnan(v).tolist() == [False, False, True] for v in found.values())
    expected = windows_oracle(p[1].numpy(), t[1].numpy(), m[1].numpy(), 4)
    assert found["local_abs_rel_4"][1].item() == pytest.approx(expected[1], rel=1e-6)
    one = torch.zeros_like(m)
    one[:, 5, 5] = True
    assert all(v.tolist() == [0.0] * 3 for v in window_errors(p, t, one).values())
    p[0, 3, 3], m[0, 3, 3] = torch.nan, True
    broken = window_errors(p, t, m)
    assert all(v[0] == torch.inf for v in broken.values())
    assert all(v[1] == found[name][1] for name, v in broken.items())
    assert all(abs(v) < 1e-6 for v in window_errors(2 * t[:1] + 1, t[:1], m[:1]).values())


def test_windows_smaller_than_a_pixel_are_refused() -> None:
    p, t, m = maps(3, 6, 20, 1.0)
    for n in (0, 7):
        with pytest.raises(ValueError, match=f"6 x 20 pixels cannot be cut into {n} x {n} windows"):
            window_errors(p, t, m, (1, n))


def test_the_class_is_the_mean_over_images() -> None:
    p, t, m = maps(4, 10, 11, 0.6)
    m[0] = False
    metric = WindowErrors((3,))
    metric.update(p[:2], t[:2], m[:2])
    metric.update(p[2:], t[2:], m[2:])
    expected = [windows_oracle(p[i].numpy(), t[i].numpy(), m[i].numpy(), 3) for i in (1, 2)]
    metrics = metric.compute()
    for name, value in zip(window_names((3,)), np.mean(expected, axis=0), strict=True):
        assert metrics[name].item() == pytest.approx(value, rel=1e-6, abs=1e-6)
    assert (metrics["images"], metrics["skipped"]) == (2, 1)
