"""How lifelike scenes look: what homes and streets are made of, photographs as textures, light, camera."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8

from depthkd.datasets.scenes.layout import Layout
from depthkd.datasets.scenes.light import Light
from depthkd.datasets.scenes.photographs import PICTURES, SURFACES, printed
from depthkd.datasets.scenes.shapes import Coordinates, Role, Shape, Sphere
from depthkd.datasets.scenes.solids import Ellipsoid
from depthkd.datasets.scenes.textures import Material, Values, linear

SKY = 1000.0  # meters: the depth of the sky, and of what is farther
SAME = 0.7  # how often two parts of the same role that follow one another are of the same material


@dataclass(frozen=True, eq=False)
class Printed(Material):
    """A material that shows a photograph, in its own colors or only in its light and dark."""

    photograph: str = ""
    size: float = 1.0  # meters
    grays: bool = False

    def albedo(self, coordinates: Coordinates, footprint: Values) -> Float32[np.ndarray, "3 points"]:
        """See Material."""
        moved = coordinates + self.offset[:, None]
        picture = printed(self.photograph, moved, footprint, self.size)
        if self.grays:
            bright = picture.mean(axis=0)
            picture = self.color[:, None] * (bright / np.float32(0.35)) ** np.float32(self.grain)
        return np.asarray(np.clip(picture, 0.01, 1), np.float32)


_PATTERNS: dict[Role, tuple[tuple[str, float, float], ...]] = {
    Role.FLOOR: (
        ("planks", 0.08, 0.2),
        ("tiles", 0.2, 0.6),
        ("plain", 1.0, 1.0),
        ("checker", 0.2, 0.5),
        ("stripes", 0.02, 0.1),
    ),
    Role.WALL: (
        ("plain", 1.0, 1.0),
        ("plain", 1.0, 1.0),
        ("plain", 1.0, 1.0),
        ("bricks", 0.2, 0.35),
        ("tiles", 0.1, 0.3),
        ("stripes", 0.08, 0.4),
        ("planks", 0.1, 0.2),
    ),
    Role.CEILING: (("plain", 1.0, 1.0), ("plain", 1.0, 1.0), ("tiles", 0.5, 0.7), ("planks", 0.1, 0.2)),
    Role.GROUND: (("plain", 1.0, 1.0), ("plain", 1.0, 1.0), ("tiles", 0.3, 1.0), ("bricks", 0.2, 0.4)),
    Role.ROAD: (("plain", 1.0, 1.0), ("plain", 1.0, 1.0), ("bricks", 0.15, 0.3)),
    Role.FACADE: (("windows", 2.4, 3.4), ("windows", 2.4, 3.4), ("bricks", 0.3, 0.6), ("plain", 1.0, 1.0)),
    Role.FURNITURE: (("plain", 1.0, 1.0),) * 6
    + (("checker", 0.04, 0.12), ("stripes", 0.03, 0.1), ("tiles", 0.1, 0.3)),
    Role.FABRIC: (("plain", 1.0, 1.0),) * 3
    + (("stripes", 0.02, 0.08), ("checker", 0.02, 0.1), ("dots", 0.03, 0.1)),
    Role.WOOD: (("planks", 0.05, 0.2), ("plain", 1.0, 1.0)),
}
_WOOD, _GREEN, _SKIN = (0.04, 0.12), (0.18, 0.35), (0.03, 0.08)


def draw_materials(rng: np.random.Generator, shapes: list[Shape]) -> list[Material]:
    """One for each shape; parts of one thing mostly share theirs."""
    materials: list[Material] = []
    last: dict[Role, Material] = {}
    for shape in shapes:
        known = last.get(shape.role)
        if shape.role is Role.PRINT or known is None or rng.random() > SAME:
            known = _drawn(rng, shape)
        last[shape.role] = known
        materials.append(known)
    return materials


def _drawn(rng: np.random.Generator, shape: Shape) -> Material:
    role = shape.role
    patterns = _PATTERNS.get(role, (("plain", 1.0, 1.0),))
    pattern, least, largest = patterns[int(rng.integers(len(patterns)))]
    hue, saturation, value = _color(rng, role)
    material = Material(
        pattern=pattern,
        period=rng.uniform(least, largest),
        color=linear(hue, saturation, value),
        other=linear(
            hue + rng.normal(0, 0.06), saturation * rng.uniform(0.5, 1.2), value * rng.uniform(0.3, 1.1)
        ),
        grain=rng.uniform(*_GRAIN.get(role, (0.0, 0.25))),
        grain_period=rng.uniform(0.03, 0.5) * (4 if role in (Role.GROUND, Role.FACADE, Role.ROAD) else 1),
        offset=rng.uniform(0, 50, 2).astype(np.float32),
        glow=rng.uniform(0.6, 3.0) if role is Role.GLOWING else 0.0,
        gloss=rng.uniform(*_GLOSS.get(role, (0.0, 0.15))),
    )
    return _with_photograph(rng, shape, material)


_GRAIN = {
    Role.GROUND: (0.3, 0.9), Role.FOLIAGE: (0.5, 1.1), Role.BARK: (0.3, 0.7), Role.ROAD: (0.1, 0.4),
    Role.WOOD: (0.05, 0.4), Role.FACADE: (0.05, 0.4), Role.BODY: (0.1, 0.6),
}  # fmt: skip
_GLOSS = {
    Role.METAL: (0.2, 1.2),
    Role.CERAMIC: (0.3, 1.5),
    Role.FURNITURE: (0.0, 0.7),
    Role.WOOD: (0.0, 0.4),
    Role.FLOOR: (0.0, 0.4),
}


def _color(rng: np.random.Generator, role: Role) -> tuple[float, float, float]:
    """Hue, saturation and value: mostly the grays, whites and browns of things, and some are colorful."""
    if role is Role.FOLIAGE:
        return rng.uniform(*_GREEN), rng.uniform(0.3, 0.8), rng.uniform(0.15, 0.6)
    if role in (Role.WOOD, Role.BARK):
        dark = 0.3 if role is Role.BARK else 1.0
        return rng.uniform(*_WOOD), rng.uniform(0.2, 0.7), dark * rng.uniform(0.2, 0.9)
    if role is Role.BODY:
        return rng.uniform(*_SKIN), rng.uniform(0.1, 0.6), rng.uniform(0.2, 0.95)
    if role is Role.ROAD:
        return rng.uniform(0.0, 0.7), rng.uniform(0.0, 0.12), rng.uniform(0.25, 0.65)
    if role is Role.GROUND:
        return rng.uniform(0.05, 0.32), rng.uniform(0.1, 0.6), rng.uniform(0.25, 0.8)
    if role is Role.GLOWING:
        return rng.choice([0.1, 0.58]), rng.uniform(0.0, 0.3), 1.0
    kind = rng.random()
    if role in (Role.WALL, Role.CEILING):
        if kind < 0.7:
            return rng.uniform(0, 1), rng.uniform(0, 0.15), rng.uniform(0.6, 1.0)
        return rng.uniform(0, 1), rng.uniform(0.1, 0.7), rng.uniform(0.3, 1.0)
    if kind < 0.4:
        return (
            rng.uniform(0, 1),
            rng.uniform(0, 0.15),
            rng.choice([rng.uniform(0.05, 0.3), rng.uniform(0.3, 1.0)]),
        )
    if kind < 0.65:
        return rng.uniform(*_WOOD), rng.uniform(0.2, 0.6), rng.uniform(0.25, 0.85)
    return rng.uniform(0, 1), rng.uniform(0.3, 0.95), rng.uniform(0.25, 1.0)


def _with_photograph(rng: np.random.Generator, shape: Shape, plain: Material) -> Material:
    """The material, or a photograph in its place, as often as suits the role."""
    role, pictures = shape.role, (*PICTURES, *SURFACES)
    if role is Role.PRINT and rng.random() < 0.85:
        flat = shape.half[2] < shape.half[:2].min()
        middle = shape.half[[0, 1]] if flat else shape.half[[0, 2]]
        size = 2 * float(np.sort(shape.half)[1:].max()) * rng.uniform(0.8, 1.3)
        return _printed(rng, plain, PICTURES, size, False, middle)
    if role in _SURFACES and rng.random() < 0.35:
        level = role in (Role.GROUND, Role.FLOOR)
        return _printed(rng, plain, SURFACES[1:] if level else SURFACES, rng.uniform(0.5, 2.0), True)
    if shape.bounded and role in _COVERED and rng.random() < 0.25:
        grays = rng.random() < 0.6 or isinstance(shape, Sphere | Ellipsoid)
        return _printed(rng, plain, pictures, shape.radius * rng.uniform(0.5, 6), grays)
    return plain


def _printed(
    rng: np.random.Generator,
    plain: Material,
    names: tuple[str, ...],
    size: float,
    grays: bool,
    offset: Float64[np.ndarray, " 2"] | None = None,
) -> Printed:
    return Printed(
        pattern="plain",
        period=plain.period,
        color=plain.color,
        other=plain.other,
        grain=rng.uniform(0.3, 1.0),
        grain_period=plain.grain_period,
        offset=plain.offset if offset is None else offset.astype(np.float32),
        gloss=plain.gloss,
        photograph=names[int(rng.integers(len(names)))],
        size=size,
        grays=grays,
    )


_SURFACES = (Role.WALL, Role.FLOOR, Role.GROUND, Role.ROAD, Role.FACADE)
_COVERED = (Role.FABRIC, Role.FURNITURE, Role.CERAMIC, Role.BODY, Role.WOOD)


def draw_light(rng: np.random.Generator, layout: Layout) -> Light:
    """A lamp and what walls give back, or sun, sky and air."""
    return _daylight(rng) if layout.outdoors else _lamplight(rng, layout)


def _lamplight(rng: np.random.Generator, layout: Layout) -> Light:
    tint = _tint(rng)
    half = np.array(layout.half_room) * 0.8
    lamp = np.array([*(rng.uniform(-1, 1, 2) * half), rng.uniform(0.6, 0.97) * layout.ceiling])
    key, ambient = rng.uniform(0.4, 2.0), rng.uniform(0.25, 0.7)
    dark = np.zeros(3, np.float32)
    return Light(
        lamp=lamp.astype(np.float32),
        key=(key * tint).astype(np.float32),
        ambient=(ambient * (2 - tint)).astype(np.float32),
        fill=float(rng.choice([0.0, rng.uniform(0, 0.5), rng.uniform(0, 1.2)])),
        haze=dark,
        zenith=dark,
        visibility=np.inf,
        clouds=0.0,
    )


def _daylight(rng: np.random.Generator) -> Light:
    tint = _tint(rng)
    azimuth, elevation = rng.uniform(-np.pi, np.pi), np.radians(rng.uniform(8, 75))
    level = np.cos(elevation)
    overcast = rng.random() < 0.4
    key = rng.uniform(0.1, 0.5) if overcast else rng.uniform(1.0, 2.6)
    ambient = rng.uniform(0.6, 1.0) if overcast else rng.uniform(0.2, 0.55)
    haze = linear(rng.choice([0.09, 0.58, 0.6]), rng.uniform(0.0, 0.25), rng.uniform(0.75, 1.0))
    blue = linear(rng.uniform(0.56, 0.62), rng.uniform(0.2, 0.75), rng.uniform(0.5, 0.95))
    return Light(
        lamp=np.array([level * np.cos(azimuth), level * np.sin(azimuth), np.sin(elevation)], np.float32),
        key=(key * tint).astype(np.float32),
        ambient=(ambient * (2 - tint)).astype(np.float32),
        fill=0.0,
        haze=haze,
        zenith=haze * np.float32(rng.uniform(0.6, 1.0)) if overcast else blue,
        visibility=float(np.exp(rng.uniform(np.log(40), np.log(1500)))),
        clouds=rng.uniform(0, 1.2),
    )


def _tint(rng: np.random.Generator) -> Float64[np.ndarray, " 3"]:
    """Of the light, from cold to warm; what walls and sky give back is tinted the other way."""
    warmth = rng.uniform(-0.25, 0.4)
    return np.array([1 + 0.6 * warmth, 1.0, 1 - 0.8 * warmth])


def contact_shade(depth: Float64[np.ndarray, "height width"]) -> Float32[np.ndarray, "height width"]:
    """How much of the ambient light a pixel keeps beside what stands before it: 1 in the open."""
    disparity = (1 / np.maximum(depth, 0.05)).astype(np.float32)
    kept = np.ones_like(disparity)
    for share in (0.015, 0.05):
        near = cv2.GaussianBlur(disparity, (0, 0), share * depth.shape[1])
        nearer = np.maximum(near / np.maximum(disparity, 1e-3) - 1, 0)
        kept *= 1 - 2.2 * nearer * np.exp(-4 * nearer)
    return np.asarray(kept, np.float32)


def photograph(
    rng: np.random.Generator, radiance: Float32[np.ndarray, "height width 3"]
) -> UInt8[np.ndarray, "height width 3"]:
    """A phone's camera: exposure, white balance, tone curve, blur, noise, JPEG; linear RGB to 8 bits."""
    height, width = radiance.shape[:2]
    bright = float(np.percentile(radiance, rng.uniform(60, 97)))
    exposed = radiance * np.float32(rng.uniform(0.35, 1.1) / max(bright, 1e-6))
    exposed *= (1 + rng.normal(0, 0.07, 3)).astype(np.float32)
    if rng.random() < 0.5:
        exposed = 1 - np.exp(-1.6 * exposed)
    image = np.power(np.clip(exposed, 0, 1), np.float32(1 / rng.uniform(1.8, 2.6)))
    contrast = np.float32(rng.uniform(-0.2, 0.6))
    image = image + contrast * (image * image * (3 - 2 * image) - image)
    gray = image.mean(axis=2, keepdims=True)
    image = gray + (image - gray) * np.float32(
        rng.choice([rng.uniform(0.6, 1.4), rng.uniform(0.0, 1.0)], p=(0.85, 0.15))
    )
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.35, 0.9) * max(width / 256, 0.5))
    if rng.random() < 0.15:
        image = _moved_while_open(rng, image)
    y, x = np.linspace(-1, 1, height, dtype=np.float32), np.linspace(-1, 1, width, dtype=np.float32)
    image = image * (1 - np.float32(rng.uniform(0, 0.15)) * (y[:, None] ** 2 + x**2))[..., None]
    noise = rng.standard_normal((height, width, 3), dtype=np.float32)
    noise = 0.6 * noise.mean(axis=2, keepdims=True) * 1.7 + 0.4 * noise
    image = image + noise * np.float32(rng.choice([0.004, rng.uniform(0.0, 0.03)]))
    pixels = np.asarray(np.clip(image * 255 + 0.5, 0, 255), np.uint8)
    if rng.random() < 0.4:
        packed = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(40, 95))])[1]
        pixels = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)
    return pixels


def _moved_while_open(
    rng: np.random.Generator, image: Float32[np.ndarray, "height width 3"]
) -> Float32[np.ndarray, "height width 3"]:
    side = int(rng.integers(2, 5)) * 2 + 1
    kernel = np.zeros((side, side), np.float32)
    angle, middle = rng.uniform(0, np.pi), side // 2
    reach = np.array([np.cos(angle), np.sin(angle)]) * middle
    start, end = (tuple(round(middle + sign * r) for r in reach) for sign in (-1, 1))
    cv2.line(kernel, start, end, 1.0)
    return np.asarray(cv2.filter2D(image, -1, kernel / kernel.sum()), np.float32)
