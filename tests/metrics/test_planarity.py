"""Planarity errors of planes that are known."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from depthkd.metrics.planarity import PlanarityErrors, back_project, fitted_plane, planarity_errors

SIZE = (48, 64)
INTRINSICS = np.array([[60.0, 0, 31.5], [0, 60.0, 23.5], [0, 0, 1]])
EVERYWHERE = np.ones(SIZE, dtype=bool)


def plane(normal: np.ndarray, distance: float) -> np.ndarray:
    """Depth of the plane `normal @ point = distance`, in iBims-1's axes (right, forward, up).

    Pixels are counted from 1, as the toolbox does, so the principal point lies at (32.5, 24.5).
    """
    rows, columns = np.mgrid[1 : SIZE[0] + 1, 1 : SIZE[1] + 1].astype(np.float64)
    rays = np.stack([(columns - 32.5) / 60, np.ones(SIZE), -(rows - 24.5) / 60])
    return distance / np.tensordot(normal, rays, 1)


FORWARD = np.array([0.2, 1.0, -0.3]) / np.linalg.norm([0.2, 1.0, -0.3])


def errors(prediction: np.ndarray, target: np.ndarray, normal: np.ndarray = FORWARD) -> tuple[float, float]:
    found = planarity_errors(prediction, target, EVERYWHERE, EVERYWHERE[None], normal[None], INTRINSICS)
    return found["planarity_flatness"], found["planarity_orientation"]


def test_the_true_plane_has_no_error_at_any_scale() -> None:
    target = plane(FORWARD, 3.0)
    assert errors(target, target) == pytest.approx((0, 0), abs=1e-4)
    assert errors(0.4 * target, target) == pytest.approx((0, 0), abs=1e-4)
    assert errors(target, target, -2 * FORWARD) == pytest.approx((0, 0), abs=1e-4)  # either side of it


def test_a_turned_plane_is_flat_but_turned() -> None:
    angle = np.radians(10)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    normal = np.array([0.0, 1.0, 0.0])
    flatness, orientation = errors(plane(turn @ normal, 3.0), plane(normal, 3.0), normal)
    assert flatness == pytest.approx(0, abs=1e-6)
    assert orientation == pytest.approx(10, abs=1e-6)


def test_bumps_are_measured_in_centimeters() -> None:
    target = plane(np.array([0.0, 1.0, 0.0]), 2.0)
    bumps = np.where(np.indices(SIZE).sum(0) % 2, 0.03, -0.03)
    points = back_project(target + bumps, EVERYWHERE, INTRINSICS)
    centered = points - points.mean(0)
    normal = np.linalg.svd(centered, full_matrices=False)[2][-1]
    flatness, _ = errors(target + bumps, target, np.array([0.0, 1.0, 0.0]))
    assert flatness == pytest.approx(100 * (centered @ normal).std(), rel=1e-2)
    assert flatness == pytest.approx(3.0, rel=2e-2)
    assert np.abs(fitted_plane(points)[0]) == pytest.approx(np.abs(normal), abs=1e-9)


def test_small_planes_and_images_without_planes_do_not_count() -> None:
    target = plane(FORWARD, 3.0)
    small = np.zeros(SIZE, dtype=bool)
    small[:2, :60] = True  # 120 of 3072 pixels
    for planes in (small[None], np.zeros((0, *SIZE), dtype=bool)):
        normals = np.tile(FORWARD, (len(planes), 1))
        found = planarity_errors(target, target, EVERYWHERE, planes, normals, INTRINSICS)
        assert all(np.isnan(v) for v in found.values())
    metric = PlanarityErrors()
    for planes in (small[None], EVERYWHERE[None]):
        arrays = (1.1 * target + 0.2 * target**2, target, EVERYWHERE, planes, FORWARD[None], INTRINSICS)
        metric.update(*(torch.from_numpy(np.ascontiguousarray(a)) for a in arrays))
    result = metric.compute()
    assert (result["images"], result["skipped"]) == (1, 1)
    assert result["planarity_flatness"] > 0.1


@settings(deadline=None, derandomize=True, max_examples=15)
@given(st.integers(0, 2**31), st.lists(st.integers(0, 4), min_size=1, max_size=4))
def test_the_metric_is_the_mean_over_all_planes_of_all_images(seed: int, counts: list[int]) -> None:
    """`nanmean(pe_fla)` of the owners' loop, which gathers the planes of all images in one list."""
    rng = np.random.default_rng(seed)
    metric, flatness, orientation = PlanarityErrors(), [], []
    for count in counts:
        target = plane(FORWARD, 3.0 + rng.random())
        prediction = target + rng.normal(0, 0.05, SIZE)
        masks = np.zeros((count, *SIZE), bool)
        for mask in masks:
            mask[: rng.integers(1, 48)] = True  # up to two rows are under 5 %
        normals = rng.normal(0, 1, (count, 3))
        arrays = (prediction, target, EVERYWHERE, masks, normals, INTRINSICS)
        metric.update(*(torch.from_numpy(a) for a in arrays))
        for mask, normal in zip(masks, normals, strict=True):
            if mask.sum() / mask.size < 0.05:
                continue
            scaled = prediction * np.median(target[mask]) / np.median(prediction[mask])
            rows, columns = np.mgrid[1 : SIZE[0] + 1, 1 : SIZE[1] + 1]
            points = np.stack([(columns - 32.5) / 60, np.ones(SIZE), -(rows - 24.5) / 60]) * scaled
            centered = points[:, mask].T - points[:, mask].T.mean(0)
            own = np.linalg.svd(centered, full_matrices=False)[2][-1]
            flatness.append(100 * (centered @ own).std())
            cosine = abs(own @ normal) / np.linalg.norm(normal)
            orientation.append(np.degrees(np.arccos(min(1.0, cosine))))
    found = metric.compute()
    expected = [np.mean(v) if v else np.nan for v in (flatness, orientation)]
    ours = [found["planarity_flatness"].item(), found["planarity_orientation"].item()]
    assert ours == pytest.approx(expected, rel=1e-6, abs=1e-6, nan_ok=True)
