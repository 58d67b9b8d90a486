"""Alignment to points and their interpolation against slow oracles in float64, and what is degenerate."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from depthkd.batch import AFFINE_DEPTH, AFFINE_DISPARITY, METRIC_DEPTH, DepthSpace
from depthkd.sparse_depth import align_to_points, interpolate_points, local_fit, nearest_points
from depthkd.sparse_depth.fits import PointFit
from depthkd.sparse_depth.interpolation import Interpolation, _nearest_on_cpu, _nearest_on_device
from depthkd.sparse_depth.neighbors import fit_on_cpu, fit_on_device

FITS = ["least_squares", "robust", "local", "residuals"]
SPACES = [AFFINE_DISPARITY, AFFINE_DEPTH, METRIC_DEPTH]
fast = settings(deadline=None, derandomize=True, max_examples=15)


def scene(
    seed: int, points: int, height: int = 24, width: int = 31, batch: int = 2
) -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth depth of 1 to 9 m, and points of it."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / 10
    phase = rng.uniform(0, 6, (batch, 1, 1))
    depth = 5 + 2 * np.sin(x + phase) + 2 * np.cos(y * 1.3 + phase)
    sparse = np.zeros_like(depth)
    for i in range(batch):
        places = rng.choice(height * width, points, replace=False)
        sparse[i].flat[places] = depth[i].flat[places]
    return torch.tensor(depth).float(), torch.tensor(sparse).float()


def neighbors_written_out(
    p: np.ndarray, t: np.ndarray, known: np.ndarray, scale: float, shrinkage: float, k: int
) -> np.ndarray:
    """`local_fit`, pixel by pixel, as a least squares problem in float64."""
    places = np.argwhere(known)
    v = p[known].var()
    found = t.copy()
    for row, column in np.argwhere(~known):
        distance = np.hypot(*(places - [row, column]).T)
        near = distance <= np.sort(distance)[min(k, len(places)) - 1] + 1e-9
        weight = 1 / distance[near] ** 2
        ours, theirs = p[known][near], t[known][near]
        if np.isinf(shrinkage) or v == 0:
            s, b = scale, np.average(theirs - scale * ours, weights=weight)
        else:
            rows = np.stack([ours, np.ones_like(ours)], 1) * np.sqrt(weight)[:, None]
            prior = np.sqrt(shrinkage * v * weight.sum())
            matrix = np.vstack([rows, [prior, 0]])
            s, b = np.linalg.lstsq(matrix, np.append(theirs * np.sqrt(weight), prior * scale), rcond=None)[0]
        found[row, column] = s * p[row, column] + b
    return found


@fast
@given(st.integers(0, 2**31), st.sampled_from([1, 2, 4, 5, 20, 90]), st.sampled_from([1e-3, 0.1, np.inf]))
def test_local_fits_match_least_squares_pixel_by_pixel(seed: int, points: int, shrinkage: float) -> None:
    depth, sparse = scene(seed, points, 9, 12, 1)
    prediction = 1 / depth + 0.05 * torch.tensor(np.random.default_rng(seed).normal(size=depth.shape)).float()
    known = sparse > 0
    found = local_fit(prediction, depth, known, -3.0, shrinkage)
    arrays = (x[0].double().numpy() for x in (prediction, depth))
    expected = neighbors_written_out(*arrays, known[0].numpy(), -3.0, shrinkage, 5)
    np.testing.assert_allclose(found[0], expected, rtol=2e-3, atol=2e-3)
    assert torch.equal(found[known], depth[known])


@pytest.mark.parametrize("points", [3, 60, 700])
def test_pixels_in_blocks_and_pixels_against_all_points_agree(points: int) -> None:
    """What a GPU does, on a CPU; on a lattice of points too, where many are as far away as the k-th."""
    rng = np.random.default_rng(points)
    shape = (40, 53)
    known = np.zeros(shape, bool)
    known.flat[rng.choice(known.size, points, replace=False)] = True
    lattice = np.zeros(shape, bool)
    lattice[3::6, 3::6] = True
    p = rng.normal(size=shape).astype(np.float32)
    t = (2 * p + rng.normal(size=shape)).astype(np.float32)
    for where in (known, lattice):
        for shrinkage in (0.05, np.inf):
            blocks = fit_on_cpu(p, t, where, 2.0, shrinkage, 3)
            tensors = (torch.from_numpy(x) for x in (p, t, where))
            pairs = fit_on_device(*tensors, 2.0, shrinkage, 3)
            np.testing.assert_allclose(blocks, pairs, rtol=1e-3, atol=1e-3)
    sparse = torch.from_numpy(np.where(known, 1 + rng.random(shape), 0)).float()
    (_, far), (_, near) = _nearest_on_cpu(sparse), _nearest_on_device(sparse)
    torch.testing.assert_close(far.float(), near)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("space", SPACES, ids=str)
def test_an_exact_prediction_gives_exact_depth(fit: PointFit, space: DepthSpace) -> None:
    """Whatever its scale and shift."""
    depth, sparse = scene(0, 40)
    given = 1 / depth if space is AFFINE_DISPARITY else depth
    aligned = align_to_points(given * 7 - 0.2, space, sparse, fit, beyond=3.0)
    torch.testing.assert_close(aligned, depth, rtol=1e-3, atol=1e-3)


def test_the_global_fits_are_what_they_say() -> None:
    depth, sparse = scene(1, 60, batch=1)
    prediction = depth + torch.tensor(np.random.default_rng(1).normal(size=depth.shape)).float()
    spoiled = sparse.clone()
    spoiled[0, :5][spoiled[0, :5] > 0] = 9.0
    known = (spoiled > 0)[0].numpy()
    p, t = prediction[0].numpy()[known].astype(float), spoiled[0].numpy()[known].astype(float)
    least = np.linalg.lstsq(np.stack([p, np.ones_like(p)], 1), t, rcond=None)[0]
    squares = align_to_points(prediction, AFFINE_DEPTH, spoiled, "least_squares", beyond=99.0)
    expected = least[0] * prediction + least[1]
    torch.testing.assert_close(squares, expected.clamp(t.min() / 99, t.max() * 99), rtol=1e-4, atol=1e-4)
    robust = align_to_points(prediction, AFFINE_DEPTH, spoiled, "robust", beyond=99.0)
    errors = {name: np.abs(x[0].numpy()[known] - t).sum() for name, x in (("l2", squares), ("l1", robust))}
    assert errors["l1"] < 0.95 * errors["l2"]


@pytest.mark.parametrize("fit", FITS)
def test_meters_and_the_predictions_unit_do_not_matter(fit: PointFit) -> None:
    depth, sparse = scene(2, 30)
    noise = torch.tensor(np.random.default_rng(2).normal(size=depth.shape)).float()
    prediction = 1 / depth + 0.02 * noise
    aligned = align_to_points(prediction, AFFINE_DISPARITY, sparse, fit)
    farther = align_to_points(prediction * 1e4 + 3, AFFINE_DISPARITY, sparse * 1000, fit)
    torch.testing.assert_close(farther, aligned * 1000, rtol=5e-3, atol=5.0)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("space", SPACES, ids=str)
@pytest.mark.parametrize("points", ["none", "one", "two", "one depth", "a line", "all"])
def test_degenerate_points_give_positive_depth(fit: PointFit, space: DepthSpace, points: str) -> None:
    depth, sparse = scene(3, 1)
    if points == "none":
        sparse[0] = 0
    elif points == "two":
        sparse[:, 4, 4:6] = depth[:, 4, 4:6]
    elif points == "one depth":
        sparse[:, ::5, ::5] = 4.0
    elif points == "a line":
        sparse[:, 9] = depth[:, 9]
    elif points == "all":
        sparse = depth.clone()
    for prediction in (
        1 / depth,
        torch.full_like(depth, 0.3),
        torch.zeros_like(depth),
        -depth,
        depth * 1e-20,
    ):
        aligned = align_to_points(prediction, space, sparse, fit)
        assert aligned.shape == depth.shape
        assert aligned.isfinite().all()
        assert (aligned > 0).all()
        for one, of_it in zip(aligned, sparse, strict=True):
            known = of_it[of_it > 0]
            if not len(known):
                assert (one == 1).all()
                continue
            assert known.min() / 1.2001 <= one.min() <= one.max() <= known.max() * 1.2001


def test_one_point_gives_a_scale_alone() -> None:
    depth, sparse = scene(4, 1)
    aligned = align_to_points(3 / depth, AFFINE_DISPARITY, sparse, "least_squares", beyond=99.0)
    torch.testing.assert_close(aligned, depth, rtol=1e-4, atol=1e-4)
    below = align_to_points(-depth, AFFINE_DEPTH, sparse, "least_squares")  # nothing to scale
    for one, point in zip(below, sparse.flatten(1).amax(1), strict=True):
        torch.testing.assert_close(one, point.expand_as(one))


def test_depth_turned_inside_out_is_not_followed() -> None:
    """Two noisy points, of which the farther has the larger disparity: the scale would be negative."""
    disparity = torch.linspace(1, 2, 12).expand(1, 8, 12)
    sparse = torch.zeros(1, 8, 12)
    sparse[0, 2, 3], sparse[0, 2, 4] = 2.0, 2.2
    aligned = align_to_points(disparity, AFFINE_DISPARITY, sparse, "least_squares", beyond=5.0)
    assert (aligned[..., 1:] < aligned[..., :-1]).all()


def test_nearest_and_linear_interpolation() -> None:
    depth, sparse = scene(5, 25)
    nearest, distance = nearest_points(sparse)
    for one, far, found in zip(sparse.numpy(), distance.numpy(), nearest.numpy(), strict=True):
        places = np.argwhere(one > 0)
        for row, column in np.ndindex(one.shape):
            away = np.hypot(*(places - [row, column]).T)
            assert far[row, column] == pytest.approx(away.min(), abs=1e-5)
            assert found[row, column] in one[tuple(places[away <= away.min() + 1e-6].T)]
    assert torch.equal(interpolate_points(sparse, "nearest"), nearest)
    plane = 2 + 0.1 * torch.arange(24.0)[:, None] + 0.05 * torch.arange(31.0)
    corners = torch.zeros(1, 24, 31)
    corners[0, ::23, ::30] = plane[::23, ::30]
    torch.testing.assert_close(interpolate_points(corners, "linear")[0], plane)
    corners[0, ::23, ::30] = 1 / plane[::23, ::30]
    torch.testing.assert_close(interpolate_points(corners, "linear_disparity")[0], 1 / plane)
    within = torch.zeros(1, 24, 31)
    within[0, 5:18:6, 5:18:6] = depth[0, 5:18:6, 5:18:6]
    filled = interpolate_points(within, "linear")
    assert torch.equal(filled[0, 0], nearest_points(within)[0][0, 0])  # outside of all triangles


@pytest.mark.parametrize("how", ["nearest", "linear", "linear_disparity"])
def test_interpolation_of_few_and_of_aligned_points(how: Interpolation) -> None:
    for places in ([(3, 4)], [(3, 4), (9, 9)], [(i, i) for i in range(9)], [(5, i) for i in range(20)]):
        sparse = torch.zeros(1, 24, 31)
        for i, (row, column) in enumerate(places):
            sparse[0, row, column] = 2.0 + i
        filled = interpolate_points(sparse, how)
        assert filled.isfinite().all()
        torch.testing.assert_close(filled[sparse > 0], sparse[sparse > 0])
        assert filled.min() >= 1.999
