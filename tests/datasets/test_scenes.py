import itertools

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from depthkd.alignment import fit_scale_and_shift
from depthkd.batch import METRIC_DEPTH
from depthkd.datasets.scenes import FARTHEST, Style, render, scene, scenes
from depthkd.datasets.scenes.layout import Camera, draw_layout
from depthkd.datasets.scenes.objects import UPRIGHT, ball, box, moved, pole, screen
from depthkd.datasets.scenes.places import draw_place
from depthkd.datasets.scenes.render import cast, in_shadow
from depthkd.datasets.scenes.shapes import Box, Cylinder, Plane, Role, Sphere, Walls
from depthkd.geometry import back_project

HEIGHT, WIDTH = 96, 128
TWO_DOMAINS = [style for style in Style if style is not Style.LIFELIKE]  # of one geometry
NO_END = np.array([np.inf, np.inf, 0.0])


@pytest.fixture(scope="module")
def drawn():
    return list(scenes(11, 24, Style.STUDIO, HEIGHT, WIDTH))


def camera(height=1.5, pitch=0.0, roll=0.0, field_of_view=70.0):
    """Looks along the world's x, from the origin."""
    angles = (np.radians(a) for a in (0, pitch, roll, field_of_view))
    return Camera.posed(np.array([0.0, 0.0, height]), *angles)


def points_of(depth, intrinsics):
    return back_project(torch.tensor(depth), torch.tensor(intrinsics)).numpy().transpose(1, 2, 0)


def test_a_scene_is_a_sample_in_metric_depth():
    made = scene(3, 14, "film", 48, 64)
    sample = made.sample
    assert sample.key == "film_0003_000014"
    assert sample.space == METRIC_DEPTH
    assert (sample.image.shape, sample.image.dtype) == ((48, 64, 3), np.uint8)
    assert sample.depth.shape == sample.mask.shape == (48, 64)
    assert (sample.depth.dtype, sample.mask.dtype, sample.intrinsics.dtype) == (np.float32, bool, np.float64)
    assert made.normals.dtype == np.float32
    np.testing.assert_array_equal(sample.intrinsics[:2, 2], [31.5, 23.5])


def test_a_scene_depends_on_seed_index_and_style_alone():
    forwards = list(scenes(5, 4, "film", 24, 32))
    backwards = [scene(5, index, Style.FILM, 24, 32) for index in (3, 2, 1, 0)][::-1]
    for one, other in zip(forwards, backwards, strict=True):
        assert one.sample.key == other.sample.key
        for name in ("image", "depth", "mask", "intrinsics"):
            np.testing.assert_array_equal(getattr(one.sample, name), getattr(other.sample, name))
        np.testing.assert_array_equal(one.normals, other.normals)
    other_seed = scene(6, 0, "film", 24, 32)
    images = [made.sample.image for made in (*forwards, other_seed)]
    assert all((a != b).any() for a, b in itertools.combinations(images, 2))


def test_styles_share_the_geometry_and_differ_in_looks():
    colorful = {style: [] for style in TWO_DOMAINS}
    for index in range(12):
        made = {style: scene(8, index, style, 48, 64) for style in TWO_DOMAINS}
        studio = made[Style.STUDIO]
        for style, other in made.items():
            np.testing.assert_array_equal(studio.sample.depth, other.sample.depth)
            np.testing.assert_array_equal(studio.normals, other.normals)
            image = other.sample.image.astype(float)
            colorful[style].append((image.max(axis=2) - image.min(axis=2)).mean())
            difference = np.abs(studio.sample.image.astype(float) - image).mean()
            assert (difference > 15) == (style is not Style.STUDIO)
    assert np.mean(colorful[Style.STUDIO]) > 1.2 * np.mean(colorful[Style.FILM])


def test_in_fog_a_pixels_color_tells_its_depth():
    """Blue less red grows with depth; elsewhere it says little."""
    agreement = {style: [] for style in TWO_DOMAINS}
    for index in range(12):
        for style in TWO_DOMAINS:
            sample = scene(9, index, style, 48, 64).sample
            red, blue = (sample.image[..., channel][sample.mask].astype(float) for channel in (0, 2))
            agreement[style].append(spearmanr(blue - red, sample.depth[sample.mask]).statistic)
    means = {style: np.nanmean(values) for style, values in agreement.items()}
    assert min(means[Style.STUDIO_FOG], means[Style.FILM_FOG]) > 0.5, means
    assert max(means[Style.STUDIO], means[Style.FILM]) < 0.35, means


def test_the_camera_does_not_depend_on_the_size():
    small, large = scene(2, 6, "studio", 48, 64).sample, scene(2, 6, "studio", 144, 192).sample
    middle = large.depth[1::3, 1::3]  # with a factor of 3 every small pixel's center is a large one's
    np.testing.assert_allclose(small.depth, middle, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            (0, 0, "oil"),
            "'oil' is not a style of scenes; it would be one of studio, film, studio_fog, film_fog, lifelike",
        ),
        ((0, 0, "film", 0, 64), "0x64 pixels"),
        ((-1, 0, "film"), "seed -1 and index 0"),
    ],
)
def test_bad_arguments_say_what_would_be_right(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        scene(*arguments)


def test_depth_and_mask_are_sound(drawn):
    outdoors = 0
    for made in drawn:
        depth, mask, normals = made.sample.depth, made.sample.mask, made.normals
        assert depth[mask].min() > 0.2 and depth[mask].max() < FARTHEST
        assert (depth[~mask] == 0).all() and (normals[~mask] == 0).all()
        np.testing.assert_allclose(np.linalg.norm(normals[mask], axis=1), 1, atol=1e-5)
        rays = points_of(np.ones_like(depth, dtype=np.float64), made.sample.intrinsics)
        assert (np.einsum("ijk,ijk->ij", rays, normals)[mask] <= 1e-6).all()
        assert mask.mean() > 0.2
        outdoors += not mask.all()
    assert 4 < outdoors < 20


def test_planes_are_planes_and_their_normals_are_the_returned_ones():
    """Wherever the 8-neighborhood has one normal, its points lie on the plane through the middle one."""
    checked = 0
    for index in range(8):
        made = scene(4, index, "studio", HEIGHT, WIDTH)
        points = points_of(made.sample.depth.astype(np.float64), made.sample.intrinsics)
        layout = draw_layout(np.random.default_rng([4, index, 0]))
        seen = cast(layout.shapes, layout.camera, HEIGHT, WIDTH).shape
        for number, shape in enumerate(layout.shapes):
            if not isinstance(shape, Plane | Walls | Box):
                continue
            where = (seen == number) & made.sample.mask
            for normal in np.unique(made.normals[where].round(4), axis=0):
                face = where & (np.abs(made.normals - normal).max(axis=2) < 1e-3)
                if face.sum() < 200:
                    continue
                on_face = points[face]
                centered = on_face - on_face.mean(axis=0)
                _, spread, axes = np.linalg.svd(centered, full_matrices=False)
                assert spread[2] / np.sqrt(len(on_face)) < 1e-5 * on_face[:, 2].max()
                if spread[1] > 1e-2 * spread[0]:
                    assert abs(axes[2] @ normal) > 0.9999
                    checked += 1
    assert checked > 15


def test_finite_differences_of_points_give_the_normals():
    made = scene(4, 2, "studio", 192, 256)
    points = points_of(made.sample.depth.astype(np.float64), made.sample.intrinsics)
    across, down = points[1:-1, 2:] - points[1:-1, :-2], points[2:, 1:-1] - points[:-2, 1:-1]
    estimate = np.cross(down, across)
    estimate /= np.maximum(np.linalg.norm(estimate, axis=2, keepdims=True), 1e-12)
    cosine = np.einsum("ijk,ijk->ij", estimate, made.normals[1:-1, 1:-1])
    valid = made.sample.mask[1:-1, 1:-1]
    assert np.mean(cosine[valid] > 0.999) > 0.75


def test_a_sphere_has_the_analytic_depth_and_not_the_distance():
    viewer = camera(height=2.0)
    shape = ball(Role.FURNITURE, 0.8, (4.0, -0.7, 2.3))
    depth = cast([shape], viewer, 60, 80).depth
    focal = 40 / np.tan(np.radians(35))
    expected = np.full((60, 80), np.inf)
    center = np.array([0.7, -0.3, 4.0])  # right, down, forward
    for row, column in itertools.product(range(60), range(80)):
        ray = np.array([(column - 39.5) / focal, (row - 29.5) / focal, 1.0])
        unit = ray / np.linalg.norm(ray)
        along = unit @ center
        miss = center @ center - along**2
        if miss < 0.64:
            expected[row, column] = (along - np.sqrt(0.64 - miss)) * unit[2]
    assert np.isfinite(expected).sum() > 300
    np.testing.assert_allclose(depth, expected, rtol=1e-9)


def test_a_wall_ahead_has_one_depth_and_the_ground_a_horizon():
    viewer = camera(height=1.5)
    wall = box(Role.WALL, (1.0, 50.0, 50.0), (5.5, 0.0, -25.0))
    np.testing.assert_allclose(cast([wall], viewer, 30, 40).depth, 5.0, rtol=1e-12)
    ground = Plane(Role.GROUND, np.zeros(3), UPRIGHT, NO_END)
    depth = cast([ground], viewer, 30, 40).depth
    assert np.isinf(depth[:15]).all()
    focal = 20 / np.tan(np.radians(35))
    np.testing.assert_allclose(depth[15:, 7], 1.5 * focal / (np.arange(15, 30) - 14.5), rtol=1e-9)


@pytest.mark.parametrize("pitch", [-25.0, 0.0, 20.0])
@pytest.mark.parametrize("roll", [-15.0, 10.0])
def test_pitch_looks_up_and_roll_turns_about_the_view(pitch, roll):
    viewer = camera(pitch=pitch, roll=roll)
    right, down, forward = viewer.rotation.T
    np.testing.assert_allclose(np.cross(right, down), forward, atol=1e-12)
    assert np.degrees(np.arcsin(forward[2])) == pytest.approx(pitch)
    assert -right[2] == pytest.approx(np.sin(np.radians(roll)) * np.cos(np.radians(pitch)))


def distance_outside(shape, points):
    """Signed distance-like value: negative inside, positive outside."""
    local = (points - shape.center) @ shape.rotation
    if isinstance(shape, Sphere):
        return np.linalg.norm(local, axis=-1) - shape.half[0]
    if isinstance(shape, Cylinder):
        return np.maximum(
            np.hypot(local[..., 0], local[..., 1]) - shape.half[0], abs(local[..., 2]) - shape.half[2]
        )
    return (np.abs(local) - shape.half).max(axis=-1)


@pytest.mark.parametrize(
    "shape",
    [
        moved(box(Role.FURNITURE, (1.0, 1.5, 1.2)), 4.0, 0.3, 0.7),
        moved(pole(Role.METAL, 0.5, 1.4), 3.0, -0.4, 0.0),
        ball(Role.FOLIAGE, 0.9, (3.5, 0.2, 1.1)),
    ],
    ids=["box", "cylinder", "sphere"],
)
def test_a_solid_is_hit_where_marching_along_the_ray_enters_it(shape):
    viewer = camera(height=1.9, pitch=-10, roll=8)
    depth = cast([shape], viewer, 24, 32).depth
    rays = points_of(np.ones((24, 32)), viewer.intrinsics(24, 32)) @ viewer.rotation.T
    steps = np.arange(0.5, 8, 0.004)
    inside = np.stack([distance_outside(shape, viewer.position + t * rays) < 0 for t in steps])
    entered = np.where(inside.any(axis=0), steps[inside.argmax(axis=0)], np.inf)
    agree = np.isfinite(depth) & np.isfinite(entered)
    assert agree.sum() > 60
    assert (np.isfinite(depth) != np.isfinite(entered)).sum() <= 3  # grazed thinner than a step
    late = entered[agree] - depth[agree]
    assert late.min() >= 0 and late.max() < 0.0041


def test_a_solid_beside_the_camera_is_not_cut_off():
    """A wall that begins behind the camera projects to no finite window of pixels."""
    wall = box(Role.WALL, (20.0, 0.2, 6.0), (0.0, 1.1, -3.0))
    depth = cast([wall], camera(height=0.5), 40, 60).depth
    assert np.isfinite(depth[20, :20]).all() and np.isinf(depth[:, 31:]).all()


@pytest.mark.parametrize("draw", [draw_layout, draw_place])
def test_windows_and_runs_leave_nothing_out(draw, monkeypatch):
    """What is tried for a pixel is less than all there is, and what is found is the same."""
    whole = [[0, 0, 36, 48]]
    for seed in range(6):
        layout = draw(np.random.default_rng([seed, 5]))
        shapes, viewer = layout.shapes, layout.camera
        hits = cast(shapes, viewer, 36, 48)
        with monkeypatch.context() as patched:
            patched.setattr(render, "_windows", lambda shapes, *_: whole * len(shapes))
            everywhere = cast(shapes, viewer, 36, 48)
        np.testing.assert_array_equal(hits.shape, everywhere.shape)
        np.testing.assert_array_equal(hits.depth, everywhere.depth)
        rays = points_of(np.ones((36, 48)), viewer.intrinsics(36, 48)).reshape(-1, 3) @ viewer.rotation.T
        found = hits.shape.ravel() >= 0
        points = (viewer.position + rays * np.where(found, hits.depth.ravel(), 0)[:, None]).T[:, found]
        points, seen = points.astype(np.float32), hits.shape.ravel()[found]
        up = np.broadcast_to(np.array([[0.48], [0.6], [0.64]], np.float32), points.shape)
        far = np.full(len(seen), 20, np.float32)
        shadow = in_shadow(shapes, points, seen, up, far)
        with monkeypatch.context() as patched:
            patched.setattr(render, "_between", lambda all, runs: [np.arange(runs.shape[1])] * len(all))
            np.testing.assert_array_equal(shadow, in_shadow(shapes, points, seen, up, far))


def test_a_shadow_lies_behind_what_casts_it():
    shapes = [ball(Role.FURNITURE, 0.5, (0.0, 0.0, 1.0))]
    points = np.array([[0, 0, 0], [0.3, 0, 0], [0.6, 0, 0], [0, 0, 3], [2, 0, 0]], np.float32).T
    up = np.broadcast_to(np.array([[0], [0], [1]], np.float32), (3, 5))
    seen = np.full(5, -1, np.int16)
    sun = np.full(5, np.inf, np.float32)
    np.testing.assert_array_equal(in_shadow(shapes, points, seen, up, sun), [True, True, False, False, False])
    below = np.full(5, 0.4, np.float32)  # a lamp nearer than the ball
    assert not in_shadow(shapes, points, seen, up, below).any()


def test_one_sees_and_light_passes_between_the_bars_of_a_fence():
    fence = moved(screen(2.05, 1.0, (0.5, 2.0), (0.05, 0.05)), 3.0, 0.0, np.pi / 2)
    depth = cast([fence], camera(height=0.5, field_of_view=60), 200, 300).depth
    row = np.isfinite(depth[100])
    np.testing.assert_allclose(depth[100][row], 3.0, rtol=1e-9)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], row, [0]])))
    widths = edges[1::2] - edges[::2]
    assert len(widths) == 5 and set(widths) <= {4, 5}  # 0.05 m at 3 m, f = 260 px


def test_thin_structures_and_edges_are_really_there(drawn):
    """Runs of at most three pixels that are much nearer than both neighbors; sharp steps in depth."""
    thin, edges = 0, 0
    for made in drawn:
        depth = np.where(made.sample.mask, made.sample.depth, FARTHEST)
        step = depth[:, 1:] / depth[:, :-1]
        edges += ((step > 1.25) | (step < 0.8)).mean() > 0.003
        widths = (2, 3, 4)
        pairs = [(depth[:, k // 2 : k // 2 - k], depth[:, :-k], depth[:, k:]) for k in widths]
        thin += any((1.25 * middle < np.minimum(left, right)).sum() > 20 for middle, left, right in pairs)
    assert edges > 0.75 * len(drawn)
    assert thin > 0.25 * len(drawn)


def test_position_alone_says_little_about_depth():
    """Best constant, vertical ramp and mean training map, after a fit in disparity, as AbsRel in depth."""

    def load(seed, count):
        layouts = [draw_layout(np.random.default_rng([seed, index, 0])) for index in range(count)]
        depth = np.stack([cast(drawn.shapes, drawn.camera, 24, 32).depth for drawn in layouts])
        return torch.tensor(depth), torch.tensor(depth < FARTHEST)

    depth, mask = load(1, 80)
    disparity = torch.where(mask, 1 / depth, 0)
    medians = torch.stack([d[m].median() for d, m in zip(disparity, mask, strict=True)])
    mean_map = (disparity / medians[:, None, None]).sum(0) / mask.sum(0).clamp(min=1)
    depth, mask = load(2, 80)
    disparity = torch.where(mask, 1 / depth, 0)
    ramp = torch.linspace(0, 1, 24)[:, None].expand(24, 32)
    for predictor in (torch.ones(24, 32), ramp, mean_map):
        maps = predictor.expand_as(depth).contiguous()
        scale, shift = fit_scale_and_shift(maps, disparity, mask)
        aligned = 1 / (scale[:, None, None] * maps + shift[:, None, None]).clamp(min=1 / 80)
        errors = [((a - d).abs() / d)[m].mean() for a, d, m in zip(aligned, depth, mask, strict=True)]
        assert 0.22 < torch.stack(errors).mean() < 0.6
