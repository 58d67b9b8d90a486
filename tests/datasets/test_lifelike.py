"""The lifelike scenes: their solids against their equations, and what a scene of them holds."""

import numpy as np
import pytest

from depthkd.datasets.scenes import Style, scene
from depthkd.datasets.scenes.layout import Camera
from depthkd.datasets.scenes.lifelike import SKY, contact_shade
from depthkd.datasets.scenes.objects import UPRIGHT
from depthkd.datasets.scenes.photographs import PICTURES, SURFACES, printed, pyramid
from depthkd.datasets.scenes.places import draw_place
from depthkd.datasets.scenes.shapes import Role, Shape
from depthkd.datasets.scenes.solids import Crown, Ellipsoid, Frustum
from depthkd.datasets.scenes.things import tapered, tipped

HALF = np.array([0.5, 0.8, 0.3])


def solid(name: str) -> Shape:
    center = np.zeros(3)
    if name == "ellipsoid":
        return Ellipsoid(Role.BODY, center, UPRIGHT, HALF)
    if name == "leaves without gaps":
        return Crown(Role.FOLIAGE, center, UPRIGHT, HALF, gap=-1.0)
    radius = np.array([0.6, 0.6, 0.4])
    bottom, top = {"cone": (1.0, 0.0), "cup": (0.5, 1.0), "cylinder": (1.0, 1.0)}[name]
    return Frustum(Role.CERAMIC, center, UPRIGHT, radius, bottom=bottom, top=top)


def inside(shape: Shape, points: np.ndarray) -> np.ndarray:
    """Written out from what each solid is."""
    x, y, z = points
    if isinstance(shape, Ellipsoid):
        return (x / HALF[0]) ** 2 + (y / HALF[1]) ** 2 + (z / HALF[2]) ** 2 < 1
    share = (z / 0.4 + 1) / 2
    radius = 0.6 * (shape.bottom + (shape.top - shape.bottom) * share)
    return (np.abs(z) < 0.4) & (np.hypot(x, y) < radius)


@pytest.mark.parametrize("name", ["ellipsoid", "leaves without gaps", "cone", "cup", "cylinder"])
def test_a_ray_meets_a_solid_where_it_first_enters_it(name: str) -> None:
    """Against small steps along each ray; the normal points against it, and out of the solid."""
    rng = np.random.default_rng(0)
    shape = solid(name)
    origin = rng.normal(size=(3, 400))
    origin *= 2 / np.linalg.norm(origin, axis=0)
    direction = rng.uniform(-0.6, 0.6, (3, 400)) - origin
    with np.errstate(invalid="ignore", divide="ignore"):
        t = shape.hit(tuple(origin), tuple(direction))
    steps = np.linspace(0, 3, 6001)
    within = inside(shape, origin[:, :, None] + direction[:, :, None] * steps)
    first = np.where(within.any(axis=1), steps[within.argmax(axis=1)], np.inf)
    grazing = within.sum(axis=1) < 8
    assert (np.isfinite(t) == np.isfinite(first))[~grazing].all()
    met = np.isfinite(t) & np.isfinite(first) & ~grazing
    assert met.sum() > 100
    np.testing.assert_allclose(t[met], first[met], atol=1e-3)
    points = origin[:, met] + direction[:, met] * t[met]
    normals, coordinates = shape.surface(points)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=0), 1, atol=1e-6)
    assert ((normals * direction[:, met]).sum(axis=0) < 1e-6).all()
    outwards = inside(shape, points + 1e-4 * normals), inside(shape, points - 1e-4 * normals)
    assert outwards[0].mean() < 0.01 and outwards[1].mean() > 0.99
    assert np.isfinite(coordinates).all()


def test_leaves_let_rays_through_their_gaps() -> None:
    center = np.array([0.0, 0.0, 0.0])
    dense, open_ = (Crown(Role.FOLIAGE, center, UPRIGHT, HALF, gap=gap, leaf=0.1) for gap in (0.1, 0.5))
    across, up = np.meshgrid(np.linspace(-0.4, 0.4, 60), np.linspace(-0.2, 0.2, 60))
    origin = across.ravel(), np.full(3600, -3.0), up.ravel()
    direction = tuple(np.full(3600, part) for part in (0.0, 1.0, 0.0))
    seen = [np.isfinite(crown.hit(origin, direction)).mean() for crown in (dense, open_)]
    assert seen[0] > 0.99 > 0.9 > seen[1] > 0.3
    deep = open_.hit(origin, direction)
    assert (deep[np.isfinite(deep)] > 3).any()  # the far side, through a gap of the near one


def test_a_cup_is_widest_at_its_top_and_stays_in_its_box() -> None:
    cup = tapered(Role.CERAMIC, 0.04, 0.1, 1.25)
    assert isinstance(cup, Frustum)
    np.testing.assert_allclose(cup.half, [0.05, 0.05, 0.05])
    assert (cup.bottom, cup.top) == pytest.approx((0.8, 1.0))
    turned = tipped([cup], np.pi / 2)[0]
    np.testing.assert_allclose(turned.center, [0, -0.05, 0], atol=1e-12)


def test_photographs_lie_upright_and_fade_to_their_mean() -> None:
    assert not any("motorcycle" in name for name in (*PICTURES, *SURFACES)), "a benchmark is no texture"
    levels = pyramid("coffee.png")
    assert [len(level) for level in levels] == [512, 256, 128, 64, 32, 16, 8, 4, 2, 1]
    u, v = np.meshgrid((np.arange(512) + 0.5) / 512, (np.arange(512)[::-1] + 0.5) / 512)
    points = np.stack([u.ravel(), v.ravel()])
    sharp = printed("coffee.png", points, np.zeros(points.shape[1]), 1.0).T.reshape(512, 512, 3)
    np.testing.assert_allclose(sharp, levels[0], atol=1e-4)
    far = printed("coffee.png", points, np.full(points.shape[1], 10.0), 1.0)
    mean = levels[0].mean(axis=(0, 1), dtype=np.float64)
    np.testing.assert_allclose(far, np.broadcast_to(mean[:, None], far.shape), rtol=1e-3)


def test_corners_and_what_stands_before_a_wall_are_darker() -> None:
    assert contact_shade(np.full((48, 64), 2.0)).min() > 0.999
    stepped = np.full((48, 64), 2.0)
    stepped[:, :32] = 1.8
    kept = contact_shade(stepped)
    assert kept[24, 33] < 0.97 < kept[24, 60] and kept[24, 10] > 0.999


def test_a_lifelike_scene_has_a_depth_everywhere_and_a_sky_far_away() -> None:
    skies, spans = 0, []
    for index in range(16):
        made = scene(30, index, Style.LIFELIKE, 24, 32)
        depth = made.sample.depth
        assert made.sample.mask.all() and np.isfinite(depth).all()
        assert depth.min() > 0.05 and depth.max() <= SKY
        skies += bool((depth == SKY).mean() > 0.02)
        spans.append(np.quantile(depth, 0.9) / np.quantile(depth, 0.05))
    again = scene(30, index, "lifelike", 24, 32)
    np.testing.assert_array_equal(made.sample.image, again.sample.image)
    np.testing.assert_array_equal(depth, again.sample.depth)
    assert 2 <= skies < 12
    assert np.quantile(spans, 0.2) > 1.5, "hardly any scene is a bare wall"


def test_no_camera_is_inside_of_anything() -> None:
    for index in range(16):
        layout = draw_place(np.random.default_rng([32, index]))
        assert isinstance(layout.camera, Camera)
        for shape in layout.shapes:
            local = shape.rotation.T @ (layout.camera.position - shape.center)
            assert not shape.bounded or (np.abs(local) > shape.half).any(), shape
