"""How a scene looks in each of the styles: materials, light, air and the camera's film."""

from dataclasses import dataclass
from enum import StrEnum

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from depthkd.datasets.scenes import lifelike
from depthkd.datasets.scenes.layout import Layout
from depthkd.datasets.scenes.light import Light
from depthkd.datasets.scenes.shapes import Role, Shape
from depthkd.datasets.scenes.textures import Material, linear

Image = Float32[np.ndarray, "height width 3"]


class Style(StrEnum):
    """How scenes look: two visual domains of one geometry, each also in dense fog, and lifelike places.

    STUDIO is the labelled domain, as a renderer makes it: clean regular patterns in full colors,
    even light, a sharp image with little noise. FILM is the unlabelled domain, as if photographed: earthy
    and worn surfaces, low and colored light, fog, and a soft, grainy, faded print.

    In STUDIO_FOG and FILM_FOG the air is thick and blue, indoors too, and the exposure is fixed: a pixel's
    color tells its depth, so that networks that train for minutes can see edges where they are.

    LIFELIKE has another geometry too: see `depthkd.datasets.scenes.places` and `lifelike`.
    """

    STUDIO = "studio"
    FILM = "film"
    STUDIO_FOG = "studio_fog"
    FILM_FOG = "film_fog"
    LIFELIKE = "lifelike"

    @property
    def studio(self) -> bool:
        """Whether it is of the labelled domain."""
        return self in (Style.STUDIO, Style.STUDIO_FOG)

    @property
    def fog(self) -> bool:
        """Whether it is in dense fog."""
        return self in (Style.STUDIO_FOG, Style.FILM_FOG)


@dataclass(frozen=True)
class _Range:
    """From which hues, saturations, values, patterns (with their least and largest period) a role draws."""

    hue: tuple[float, float]
    saturation: tuple[float, float]
    value: tuple[float, float]
    patterns: tuple[tuple[str, float, float], ...]
    grain: tuple[float, float]
    contrast: tuple[float, float]  # of the pattern's second color to its first, in value


_ANY, _EARTH, _GREEN, _RUST = (0.0, 1.0), (0.03, 0.14), (0.2, 0.38), (0.0, 0.1)
_FINE, _WORN = (0.05, 0.15), (0.2, 0.45)

_STUDIO = {
    Role.FLOOR: _Range(
        _ANY,
        (0.1, 0.6),
        (0.5, 0.95),
        (("checker", 0.3, 0.6), ("tiles", 0.3, 0.6), ("planks", 0.1, 0.2), ("plain", 1.0, 1.0)),
        (0.05, 0.3),
        (0.3, 0.7),
    ),
    Role.WALL: _Range(
        _ANY,
        (0.1, 0.5),
        (0.6, 0.95),
        (("stripes", 0.15, 0.3), ("tiles", 0.2, 0.4), ("bricks", 0.24, 0.4), ("plain", 1.0, 1.0)),
        (0.05, 0.25),
        (0.6, 0.85),
    ),
    Role.CEILING: _Range(
        _ANY, (0.0, 0.15), (0.8, 1.0), (("tiles", 0.5, 0.7), ("plain", 1.0, 1.0)), _FINE, (0.6, 0.9)
    ),
    Role.GROUND: _Range(
        (0.1, 0.45),
        (0.2, 0.6),
        (0.5, 0.9),
        (("checker", 0.8, 1.5), ("tiles", 0.5, 1.2), ("plain", 1.0, 1.0)),
        (0.1, 0.4),
        (0.5, 0.8),
    ),
    Role.FACADE: _Range(_ANY, (0.2, 0.6), (0.6, 0.95), (("windows", 2.6, 3.2),), _FINE, (0.25, 0.5)),
    Role.FURNITURE: _Range(
        _ANY,
        (0.4, 0.9),
        (0.5, 1.0),
        (("plain", 1.0, 1.0), ("stripes", 0.06, 0.12), ("checker", 0.08, 0.15)),
        _FINE,
        (0.4, 0.8),
    ),
    Role.METAL: _Range(_ANY, (0.1, 0.8), (0.3, 0.9), (("plain", 1.0, 1.0),), _FINE, (0.5, 1.0)),
    Role.PICTURE: _Range(
        _ANY, (0.5, 0.9), (0.6, 1.0), (("checker", 0.1, 0.3), ("dots", 0.1, 0.2)), _FINE, (0.2, 0.5)
    ),
    Role.FOLIAGE: _Range(_GREEN, (0.5, 0.8), (0.4, 0.8), (("plain", 1.0, 1.0),), (0.3, 0.5), (0.5, 1.0)),
    Role.BARK: _Range(_RUST, (0.3, 0.6), (0.25, 0.5), (("plain", 1.0, 1.0),), (0.2, 0.4), (0.5, 1.0)),
}
_FILM = {
    Role.FLOOR: _Range(
        _EARTH,
        (0.2, 0.55),
        (0.3, 0.7),
        (("planks", 0.08, 0.16), ("plain", 1.0, 1.0), ("bricks", 0.2, 0.3), ("tiles", 0.3, 0.5)),
        _WORN,
        (0.3, 0.6),
    ),
    Role.WALL: _Range(
        (0.03, 0.6),
        (0.1, 0.4),
        (0.5, 0.9),
        (("planks", 0.12, 0.25), ("bricks", 0.2, 0.3), ("dots", 0.15, 0.3)),
        (0.1, 0.3),
        (0.5, 0.8),
    ),
    Role.CEILING: _Range(
        _EARTH, (0.0, 0.2), (0.5, 0.9), (("plain", 1.0, 1.0), ("planks", 0.1, 0.2)), (0.15, 0.4), (0.5, 0.8)
    ),
    Role.GROUND: _Range(
        (0.06, 0.35),
        (0.15, 0.5),
        (0.5, 0.9),
        (("plain", 1.0, 1.0), ("bricks", 0.3, 0.6), ("tiles", 0.5, 1.2)),
        (0.4, 0.8),
        (0.4, 0.7),
    ),
    Role.FACADE: _Range(_EARTH, (0.1, 0.5), (0.35, 0.75), (("windows", 2.6, 3.2),), (0.2, 0.5), (0.2, 0.45)),
    Role.FURNITURE: _Range(
        (0.0, 0.65),
        (0.1, 0.5),
        (0.2, 0.7),
        (("plain", 1.0, 1.0), ("planks", 0.06, 0.12)),
        (0.2, 0.5),
        (0.4, 0.8),
    ),
    Role.METAL: _Range((0.0, 0.65), (0.0, 0.4), (0.12, 0.6), (("plain", 1.0, 1.0),), (0.1, 0.4), (0.5, 1.0)),
    Role.PICTURE: _Range(
        _ANY, (0.1, 0.5), (0.3, 0.8), (("plain", 1.0, 1.0), ("dots", 0.1, 0.3)), _WORN, (0.2, 0.6)
    ),
    Role.FOLIAGE: _Range(
        (0.12, 0.32), (0.2, 0.5), (0.2, 0.5), (("plain", 1.0, 1.0),), (0.6, 1.0), (0.5, 1.0)
    ),
    Role.BARK: _Range(_EARTH, (0.1, 0.4), (0.12, 0.35), (("plain", 1.0, 1.0),), (0.3, 0.6), (0.5, 1.0)),
}
_FOG_HUE, _FOG_VISIBILITY, _FOG_EXPOSURE = 0.6, (7.0, 9.0), 1.6


def draw_material(rng: np.random.Generator, role: Role, style: Style) -> Material:
    """A surface of the role, in the style."""
    drawn = (_STUDIO if style.studio else _FILM)[role]
    pattern, least, largest = drawn.patterns[int(rng.integers(len(drawn.patterns)))]
    hue, saturation, value = (rng.uniform(*span) for span in (drawn.hue, drawn.saturation, drawn.value))
    return Material(
        pattern=pattern,
        period=rng.uniform(least, largest),
        color=linear(hue, saturation, value),
        other=linear(hue + rng.uniform(-0.08, 0.08), saturation, value * rng.uniform(*drawn.contrast)),
        grain=rng.uniform(*drawn.grain),
        grain_period=rng.uniform(0.15, 0.4) * (4 if role in (Role.GROUND, Role.FACADE) else 1),
        offset=rng.uniform(0, 50, 2).astype(np.float32),
    )


def draw_materials(rng: np.random.Generator, shapes: list[Shape], style: Style) -> list[Material]:
    """One for each shape."""
    if style is Style.LIFELIKE:
        return lifelike.draw_materials(rng, shapes)
    return [draw_material(rng, shape.role, style) for shape in shapes]


def draw_light(rng: np.random.Generator, layout: Layout, style: Style) -> Light:
    """A lamp in the room, or sun, sky and haze."""
    if style is Style.LIFELIKE:
        return lifelike.draw_light(rng, layout)
    studio = style.studio
    warmth = rng.uniform(-0.15, 0.25) if studio else rng.uniform(-0.2, 0.3)
    tint = np.array([1 + 0.6 * warmth, 1.0, 1 - 0.8 * warmth])
    if layout.outdoors:
        azimuth = rng.uniform(-np.pi, np.pi)
        elevation = np.radians(rng.uniform(25, 70) if studio else rng.uniform(25, 65))
        flat = np.cos(elevation)
        lamp = np.array([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)])
        key, ambient = (
            (rng.uniform(0.8, 1.4), 0.5) if studio else (rng.uniform(0.6, 1.8), rng.uniform(0.3, 0.5))
        )
        haze = (
            linear(rng.choice([0.1, 0.58]), rng.uniform(0.1, 0.25), 0.95)
            if studio
            else linear(rng.choice([0.08, 0.6]), 0.25, rng.uniform(0.7, 0.95))
        )
        overcast = rng.random() < (0.4 if studio else 0.7)
        zenith = (
            haze * np.float32(rng.uniform(0.5, 0.9))
            if overcast
            else linear(0.59, rng.uniform(0.4, 0.75), rng.uniform(0.7, 0.9))
        )
        visibility = rng.uniform(14, 30) if studio else rng.uniform(12, 26)
        fill = 0.0
    else:
        half = np.array(layout.half_room) * 0.7
        below = 0.2 if studio else rng.uniform(0.2, layout.ceiling - 1.4)
        lamp = np.array([*(rng.uniform(-1, 1, 2) * half), layout.ceiling - below])
        key, ambient = (1.0, 0.35) if studio else (rng.uniform(1.0, 1.6), rng.uniform(0.2, 0.35))
        haze = zenith = np.zeros(3, np.float32)
        visibility = np.inf
        fill = 1.1 if studio else rng.uniform(0.8, 1.3)
    if style.fog:
        haze = zenith = linear(_FOG_HUE, 0.7, 0.9)
        visibility = rng.uniform(*_FOG_VISIBILITY)
    return Light(
        lamp=lamp.astype(np.float32),
        key=(key * tint).astype(np.float32),
        ambient=(ambient * (2 - tint)).astype(np.float32),
        fill=fill,
        haze=haze,
        zenith=zenith,
        visibility=visibility,
        clouds=0.0 if style.fog else rng.uniform(0, 0.4) if studio else rng.uniform(0.2, 1.0),
    )


def develop(rng: np.random.Generator, radiance: Image, style: Style) -> UInt8[np.ndarray, "height width 3"]:
    """The camera: exposure, tone curve, and what the style's film adds; linear RGB to 8 bits."""
    if style is Style.LIFELIKE:
        return lifelike.photograph(rng, radiance)
    studio = style.studio
    brightness = rng.uniform(0.45, 0.7) if studio else rng.uniform(0.4, 0.65)
    exposure = _FOG_EXPOSURE if style.fog else brightness / max(float(radiance.mean()), 1e-6)
    exposed = 1 - np.exp(radiance * np.float32(-exposure))
    image = np.power(exposed, np.float32(1 / 2.2))
    height, width = image.shape[:2]
    # Rays hit or miss: without a lens's blur every edge would be a staircase.
    image = cv2.GaussianBlur(
        image, (0, 0), (0.4 if studio else rng.uniform(0.5, 0.8)) * max(width / 256, 0.5)
    )
    if not studio:
        gray = image.mean(axis=2, keepdims=True)
        image = gray + (image - gray) * np.float32(rng.uniform(0.8, 1.1))
        image += np.float32(rng.uniform(0.1, 0.3)) * (image * image * (3 - 2 * image) - image)
        y, x = np.linspace(-1, 1, height, dtype=np.float32), np.linspace(-1, 1, width, dtype=np.float32)
        vignette = 1 - np.float32(rng.uniform(0.0, 0.05)) * (y[:, None] ** 2 + x**2)
        lift = (rng.uniform(0.01, 0.03) + rng.uniform(0, 0.02, 3)).astype(np.float32)
        image = lift + (image * vignette[..., None]) * (1 - lift - rng.uniform(0, 0.04, 3).astype(np.float32))
    strength = np.float32(rng.uniform(0.003, 0.01) if studio else rng.uniform(0.006, 0.014))
    noise = rng.standard_normal((height, width, 1), dtype=np.float32) * strength
    return np.asarray(np.clip((image + noise) * 255 + 0.5, 0, 255), np.uint8)
