"""What a camera noted in an image's EXIF block (EXIF 2.32): which way is up, and the focal length.

Read here, because Pillow's reader warns at the many EXIF blocks that are slightly broken.
"""

import math
import struct
from collections.abc import Collection, Iterator
from contextlib import suppress

ORIENTATION, SUBFOLDER = 0x0112, 0x8769
FOCAL, FOCAL_35MM = 0x920A, 0xA405  # mm; and that of a full frame with the same field of view
PLANE_WIDTH, PLANE_UNIT = 0xA20E, 0xA210  # pixels of a unit of the sensor, and that unit
WIDTH, HEIGHT = 0xA002, 0xA003  # px, of the image that the camera wrote
MILLIMETERS = {2: 25.4, 3: 10.0, 4: 1.0}  # of PLANE_UNIT; an inch where none is given
DIAGONAL = math.hypot(36, 24)  # mm, of a full frame
WHOLE = {1: "B", 3: "H", 4: "I"}  # types of numbers, as struct calls them
RATIO = 5  # the type of two numbers of 32 bits, elsewhere in the block
ENTRY = 12  # bytes


def jpeg_exif(data: bytes) -> bytes | None:
    """The EXIF block of a JPEG; None where there is none."""
    start = data.find(b"Exif\0\0", 0, 1 << 18)
    if start < 4 or data[start - 4 : start - 2] != b"\xff\xe1":
        return None
    return data[start : start + (1 << 16)]


def orientation(exif: bytes | None) -> int:
    """The EXIF orientation, 1 to 8; 1 (upright) where there is none."""
    value = _numbers(exif, (ORIENTATION,)).get(ORIENTATION, 1)
    return int(value) if 1 <= value <= 8 else 1


def focal_length_in_pixels(exif: bytes | None, height: int, width: int) -> float | None:
    """The focal length in pixels of an image of this size, as its camera noted it; None where it did not.

    From FocalLengthIn35mmFilm, whose field of view is meant along the diagonal (43.3 mm); or else from
    FocalLength and the sensor's size, which FocalPlaneXResolution and PixelXDimension tell.
    """
    told = _numbers(exif, (FOCAL, FOCAL_35MM, PLANE_WIDTH, PLANE_UNIT, WIDTH, HEIGHT))
    if told.get(FOCAL_35MM, 0) > 0:
        return told[FOCAL_35MM] * math.hypot(height, width) / DIAGONAL
    longer, unit = max(told.get(WIDTH, 0), told.get(HEIGHT, 0)), MILLIMETERS.get(int(told.get(PLANE_UNIT, 2)))
    if unit is None or min(told.get(FOCAL, 0), told.get(PLANE_WIDTH, 0), longer) <= 0:
        return None
    return told[FOCAL] * told[PLANE_WIDTH] / unit * max(height, width) / longer


def _numbers(exif: bytes | None, wanted: Collection[int]) -> dict[int, float]:
    """The first number of each tag that is wanted and there, in the image's folder or in the camera's."""
    tiff = (exif or b"").removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    found: dict[int, float] = {}
    if order is None:
        return found
    with suppress(struct.error):  # cut short or damaged: what was found before counts
        (start,) = struct.unpack_from(order + "I", tiff, 4)
        found.update(_folder(tiff, order, start, {*wanted, SUBFOLDER}))
        if SUBFOLDER in found and found.keys().isdisjoint(wanted):
            found.update(_folder(tiff, order, int(found[SUBFOLDER]), wanted))
    return found


def _folder(tiff: bytes, order: str, start: int, wanted: Collection[int]) -> Iterator[tuple[int, float]]:
    (count,) = struct.unpack_from(order + "H", tiff, start)
    for i in range(count):
        place = start + 2 + ENTRY * i
        tag, kind, _ = struct.unpack_from(order + "HHI", tiff, place)
        if tag not in wanted:
            continue
        if kind in WHOLE:
            yield tag, float(struct.unpack_from(order + WHOLE[kind], tiff, place + 8)[0])
        elif kind == RATIO:
            (where,) = struct.unpack_from(order + "I", tiff, place + 8)
            above, below = struct.unpack_from(order + "II", tiff, where)
            if below:
                yield tag, above / below
