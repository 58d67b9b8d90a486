"""The color of every pixel: its material, the light that reaches it, and the air before it."""

from functools import cache

import numpy as np
from jaxtyping import Float32, Float64, Int16, Int64

from depthkd.datasets.scenes.appearance import Image, Style, draw_light, draw_materials
from depthkd.datasets.scenes.layout import Layout
from depthkd.datasets.scenes.lifelike import SKY, contact_shade
from depthkd.datasets.scenes.light import Light
from depthkd.datasets.scenes.render import TILE, Hits, in_shadow
from depthkd.datasets.scenes.shapes import dot
from depthkd.datasets.scenes.textures import Material, fractal_noise

_LAMP_SIZE = 2.5  # meters, within which a lamp's light hardly fades

Rows = Float32[np.ndarray, "3 points"]
Values = Float32[np.ndarray, " points"]


def shade(
    rng: np.random.Generator, layout: Layout, hits: Hits, style: Style
) -> tuple[Image, Float32[np.ndarray, "height width 3"]]:
    """Linear RGB, and normals in the camera's frame (unit, towards the camera; 0 where nothing is hit)."""
    height, width = hits.depth.shape
    light = draw_light(rng, layout, style)
    materials = draw_materials(rng, layout.shapes, style)
    camera = layout.camera
    intrinsics = camera.intrinsics(height, width)
    rays = camera.rotation @ np.linalg.inv(intrinsics) @ _pixels(height, width)

    seen, depth = hits.shape.ravel(), hits.depth.ravel()
    hit = seen >= 0
    depth = np.where(hit, depth, 0)
    points = camera.position[:, None] + rays * depth
    length = np.sqrt(dot(rays, rays))
    normals = np.zeros((3, height * width), np.float32)
    albedo = np.zeros((3, height * width), np.float32)
    order = np.argsort(seen, kind="stable")  # a shape's points are side by side, to be taken as one
    bounds = np.searchsorted(seen[order], np.arange(len(layout.shapes) + 1))
    sorted_points, sorted_rays = points[:, order], rays[:, order]
    sorted_depth, sorted_length = depth[order], length[order]
    for number, shape in enumerate(layout.shapes):
        one = slice(bounds[number], bounds[number + 1])
        if one.start == one.stop:
            continue
        point, ray = sorted_points[:, one], sorted_rays[:, one]
        normal, coordinates = shape.surface(shape.rotation.T @ (point - shape.center[:, None]))
        normal = shape.rotation @ normal
        towards = dot(normal, ray)
        where = order[one]
        normals[:, where] = np.where(towards > 0, -normal, normal)
        slant = np.maximum(np.abs(towards) / sorted_length[one], 0.02)
        footprint = (sorted_depth[one] / intrinsics[0, 0] / np.sqrt(slant)).astype(np.float32)
        albedo[:, where] = materials[number].albedo(coordinates, footprint)

    directions, distance = (rays / length).astype(np.float32), (depth * length).astype(np.float32)
    points = points.astype(np.float32)
    ambient = _ambient(layout, hits, points, normals, style)
    facing, strength, to_light = _facing(layout, light, hits, points, normals)
    irradiance = light.key[:, None] * (facing * strength) + light.ambient[:, None] * ambient
    if light.fill:
        irradiance -= light.fill * dot(normals, directions) / (1 + (distance / _LAMP_SIZE) ** 2)
    color = albedo * irradiance.astype(np.float32)
    if any(material.glow or material.gloss for material in materials):
        color += _sheen(materials, light, seen, albedo, normals, directions, to_light, facing * strength)
    if np.isfinite(light.visibility):
        clear = np.exp(-distance / np.float32(light.visibility))
        color = light.haze[:, None] + (color - light.haze[:, None]) * clear
    if layout.outdoors:
        color[:, ~hit] = _sky(light, directions[:, ~hit])
    seen_normals = camera.rotation.T.astype(np.float32) @ normals
    return _as_image(color, height, width), _as_image(seen_normals, height, width)


@cache
def _pixels(height: int, width: int) -> Float64[np.ndarray, "3 points"]:
    """Column, row and 1 of each pixel."""
    rows, columns = np.indices((height, width)).reshape(2, -1)
    return np.stack([columns, rows, np.ones(height * width)])


@cache
def _tiled(height: int, width: int) -> Int64[np.ndarray, " points"]:
    """The pixels tile by tile, so that those that follow each other are near each other."""
    rows, columns = np.indices((height, width)).reshape(2, -1)
    return np.lexsort((columns, rows, columns // TILE, rows // TILE))


def _as_image(values: Rows, height: int, width: int) -> Image:
    return np.ascontiguousarray(values.T).reshape(height, width, 3)


def _facing(
    layout: Layout, light: Light, hits: Hits, points: Rows, normals: Rows
) -> tuple[Values, Values, Rows]:
    """The cosine at which the lamp's light arrives (0 in shadow), its strength, and the way towards it."""
    seen = hits.shape.ravel()
    if layout.outdoors:
        to_light = np.broadcast_to(light.lamp[:, None], points.shape)
        reach = np.full(len(seen), np.inf, np.float32)
        strength = np.ones(len(seen), np.float32)
    else:
        to_light = light.lamp[:, None] - points
        reach = np.maximum(np.sqrt(dot(to_light, to_light)), 1e-3)
        to_light = to_light / reach
        strength = _LAMP_SIZE**2 / (_LAMP_SIZE**2 + reach * reach)
    facing = np.where(seen >= 0, np.maximum(dot(normals, to_light), 0), 0)
    order = _tiled(*hits.shape.shape)
    lit = order[facing[order] > 0]
    facing[lit[in_shadow(layout.shapes, points[:, lit], seen[lit], to_light[:, lit], reach[lit])]] = 0
    return facing, strength, to_light


def _ambient(layout: Layout, hits: Hits, points: Rows, normals: Rows, style: Style) -> Values:
    """The share of the light from everywhere that arrives."""
    if layout.outdoors:
        occlusion = 1 - 0.3 * (1 - normals[2]) * np.exp(-np.maximum(points[2], 0) / 0.4)
    else:
        occlusion = _corner_occlusion(layout, points)
    if style is Style.LIFELIKE:
        occlusion = occlusion * contact_shade(np.minimum(hits.depth, SKY)).ravel()
    return np.asarray((0.75 + 0.25 * normals[2]) * occlusion, np.float32)


def _sheen(
    materials: list[Material],
    light: Light,
    seen: Int16[np.ndarray, " points"],
    albedo: Rows,
    normals: Rows,
    directions: Rows,
    to_light: Rows,
    lit: Values,
) -> Rows:
    """What glows by itself, and the lamp's reflection in what is glossy."""
    glow = np.array([material.glow for material in materials] + [0.0], np.float32)[seen]
    gloss = np.array([material.gloss for material in materials] + [0.0], np.float32)[seen]
    mirrored = np.zeros(len(seen), np.float32)
    shiny = np.flatnonzero((gloss > 0) & (lit > 0))
    halfway = to_light[:, shiny] - directions[:, shiny]
    halfway = halfway / np.maximum(np.sqrt(dot(halfway, halfway)), 1e-6)
    towards = np.maximum(dot(normals[:, shiny], halfway), 0)
    mirrored[shiny] = gloss[shiny] * towards**40 * np.sqrt(lit[shiny])
    return np.asarray(albedo * glow + light.key[:, None] * mirrored, np.float32)


def _corner_occlusion(layout: Layout, points: Rows) -> Values:
    """Darkening towards the room's corners, by the distance to the second nearest of its planes."""
    x = np.float32(layout.half_room[0]) - np.abs(points[0])
    y = np.float32(layout.half_room[1]) - np.abs(points[1])
    z = np.minimum(points[2], np.float32(layout.ceiling) - points[2])
    second = np.maximum(np.minimum(x, y), np.minimum(np.maximum(x, y), z))
    return np.asarray(1 - 0.45 * np.exp(-np.maximum(second, 0) / 0.35), np.float32)


def _sky(light: Light, directions: Rows) -> Rows:
    up = np.maximum(directions[2], 0)
    haze, zenith = light.haze[:, None], light.zenith[:, None]
    color = haze + (zenith - haze) * np.minimum(2 * up, 1) ** np.float32(0.6)
    u, v = directions[:2] / (up + 0.15)
    cloud = fractal_noise(u + 50, v + 50, np.zeros_like(u), 0.7, octaves=4)
    share = np.float32(light.clouds) * np.clip(2 * cloud, 0, 1) * np.minimum(4 * up, 1)
    clouded: Rows = color + (np.float32(0.9) - color) * share
    return clouded
