import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from depthkd.geometry import (
    back_project,
    crop_intrinsics,
    distance_to_z,
    flip_intrinsics,
    intrinsics_matrix,
    pixel_rays,
    resize_intrinsics,
)

CAMERA = (61.0, 57.5, 20.25, 14.75)  # exact in float32
HEIGHT, WIDTH = 30, 42


def project(point: np.ndarray, camera: torch.Tensor) -> tuple[float, float]:
    """The (row, column) of a 3-D point, by the textbook."""
    k = camera.double().numpy()
    return k[1, 1] * point[1] / point[2] + k[1, 2], k[0, 0] * point[0] / point[2] + k[0, 2]


def points(z: np.ndarray, fx: float, fy: float, cx: float, cy: float) -> np.ndarray:
    """Pixel by pixel, in float64."""
    result = np.zeros((3, *z.shape))
    for row in range(z.shape[0]):
        for column in range(z.shape[1]):
            depth = z[row, column]
            result[:, row, column] = ((column - cx) / fx * depth, (row - cy) / fy * depth, depth)
    return result


@pytest.fixture
def camera() -> torch.Tensor:
    return intrinsics_matrix(*CAMERA).double()


@pytest.fixture
def z() -> torch.Tensor:
    return torch.rand(HEIGHT, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 9 + 1


def test_back_projection_matches_the_textbook(camera: torch.Tensor, z: torch.Tensor) -> None:
    expected = points(z.numpy(), *CAMERA)
    np.testing.assert_allclose(back_project(z, camera).numpy(), expected, rtol=1e-6)


def test_back_projection_takes_one_camera_an_image(z: torch.Tensor) -> None:
    cameras = torch.stack([intrinsics_matrix(*CAMERA), intrinsics_matrix(30.0, 33.0, 10.0, 12.0)]).double()
    both = back_project(torch.stack([z, 2 * z]), cameras)
    assert both.shape == (2, 3, HEIGHT, WIDTH)
    np.testing.assert_allclose(both[1].numpy(), points(2 * z.numpy(), 30.0, 33.0, 10.0, 12.0), rtol=1e-6)


@given(row=st.integers(0, HEIGHT - 1), column=st.integers(0, WIDTH - 1))
@settings(deadline=None, derandomize=True, max_examples=30)
def test_a_crop_sees_the_same_points(row: int, column: int) -> None:
    camera = intrinsics_matrix(*CAMERA).double()
    point = np.array([*pixel_rays(camera, HEIGHT, WIDTH)[:, row, column].numpy()]) * 3.7
    seen = project(point, crop_intrinsics(camera, top=5, left=9))
    np.testing.assert_allclose(seen, (row - 5, column - 9), atol=1e-9)


def test_a_cropped_map_back_projects_to_the_crop_of_the_points(camera: torch.Tensor, z: torch.Tensor) -> None:
    cropped = back_project(z[5:25, 9:31], crop_intrinsics(camera, top=5, left=9))
    torch.testing.assert_close(cropped, back_project(z, camera)[:, 5:25, 9:31])


def test_a_flipped_map_back_projects_to_mirrored_points(camera: torch.Tensor, z: torch.Tensor) -> None:
    mirrored = back_project(z.flip(-1), flip_intrinsics(camera, WIDTH))
    expected = back_project(z, camera).flip(-1) * torch.tensor([-1.0, 1.0, 1.0]).view(3, 1, 1)
    torch.testing.assert_close(mirrored, expected)


def test_a_halved_image_sees_the_mean_of_two_by_two_points(camera: torch.Tensor) -> None:
    """A plane at z = 2: a half-size pixel's center lies amid the four that it covers."""
    plane = torch.full((HEIGHT, WIDTH), 2.0, dtype=torch.float64)
    full = back_project(plane, camera)
    half = back_project(plane[::2, ::2], resize_intrinsics(camera, 0.5, 0.5))
    blocks = full.view(3, HEIGHT // 2, 2, WIDTH // 2, 2).mean((2, 4))
    torch.testing.assert_close(half, blocks)


def test_an_uneven_resize_scales_each_axis_by_its_own_factor(camera: torch.Tensor) -> None:
    resized = resize_intrinsics(camera, scale_y=2.0, scale_x=0.25)
    # The image's corner is at (-0.5, -0.5) before and after, and so is the ray through it.
    for k, corner in ((camera, (-0.5, -0.5)), (resized, (-0.5, -0.5))):
        ray = [(corner[1] - k[0, 2]) / k[0, 0], (corner[0] - k[1, 2]) / k[1, 1]]
        expected = [(-0.5 - CAMERA[2]) / CAMERA[0], (-0.5 - CAMERA[3]) / CAMERA[1]]
        np.testing.assert_allclose(ray, expected, rtol=1e-6)
    assert resized[0, 0].item() == pytest.approx(CAMERA[0] / 4)
    assert resized[1, 1].item() == pytest.approx(CAMERA[1] * 2)


def test_changes_leave_the_given_camera_alone(camera: torch.Tensor) -> None:
    before = camera.clone()
    crop_intrinsics(camera, 3, 4)
    resize_intrinsics(camera, 2, 2)
    flip_intrinsics(camera, WIDTH)
    assert torch.equal(camera, before)


def test_z_is_that_of_the_point_at_the_distance(camera: torch.Tensor, z: torch.Tensor) -> None:
    distance = np.sqrt((points(z.numpy(), *CAMERA) ** 2).sum(0))
    found = distance_to_z(torch.from_numpy(distance).to(z.dtype), camera)
    torch.testing.assert_close(found, z, rtol=1e-6, atol=0)
    assert (found <= torch.from_numpy(distance)).all()


def test_distance_equals_z_at_the_principal_point() -> None:
    camera = intrinsics_matrix(50.0, 50.0, 4.0, 3.0)
    distance = torch.full((7, 9), 5.0)
    z = distance_to_z(distance, camera)
    assert z[3, 4].item() == pytest.approx(5.0)
    assert z[0, 0].item() == pytest.approx(5.0 / np.sqrt(1 + (4 / 50) ** 2 + (3 / 50) ** 2))
