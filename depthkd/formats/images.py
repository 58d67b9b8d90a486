"""Photographs: JPEG, PNG and WebP bytes <-> RGB arrays."""

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
import simplejpeg
from jaxtyping import UInt8, UInt16
from PIL import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from depthkd.formats.exif import jpeg_exif, orientation
from depthkd.formats.sample import BadSample

MAX_PIXELS = 100_000_000  # 300 MB of RGB
FAST_FACTORS = (8, 4, 2)  # at other parts of its size a JPEG takes longer than in whole
IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "webp")
PNG = b"\x89PNG\r\n\x1a\n"
OTHERS = {  # first bytes of what is no photograph that can be read
    b"GIF8": "a GIF image",
    b"BM": "a BMP image",
    b"II*\0": "a TIFF or camera raw image",
    b"MM\0*": "a TIFF or camera raw image",
    b"II+\0": "a TIFF image",
    b"MM\0+": "a TIFF image",
    b"\x76\x2f\x31\x01": "an OpenEXR image",
    b"#?RADIANCE": "a Radiance HDR image",
    b"\xff\x0a": "a JPEG XL image",
    b"\0\0\0\x0cJXL ": "a JPEG XL image",
    b"\0\0\0\x0cjP  ": "a JPEG 2000 image",
    b"8BPS": "a Photoshop document",
    b"\x93NUMPY": "a .npy array",
    **{b"\x80" + bytes([protocol]): "a Python pickle, which is never read" for protocol in range(2, 6)},
    b"%PDF": "a PDF document",
    b"<": "a web page or XML",
    b"version https://git-lfs": "a Git LFS pointer without its file",
}
BRANDS = {b"avif": "an AVIF image", b"avis": "an AVIF image", b"crx ": "a camera raw image"}

RGB = UInt8[np.ndarray, "height width 3"]
Gray = UInt8[np.ndarray, "height width"] | UInt16[np.ndarray, "height width"]


def image_format(data: bytes, name: str) -> str:
    """The format that the first bytes show, "jpg", "png" or "webp", whatever the file's name says.

    Raises:
        BadSample: it is none of these; the sentence says what it is, where that is known.
    """
    if data[:3] == b"\xff\xd8\xff":
        return "jpg"
    if data.startswith(PNG):
        return "png"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    raise BadSample(f"{name} is not a JPEG, PNG or WebP image{_but(data)}")


def _but(data: bytes) -> str:
    """ ", but a GIF image": what the first bytes show; nothing where they do not."""
    what = next((what for magic, what in OTHERS.items() if data.startswith(magic)), "")
    if data[4:8] == b"ftyp":  # ISO base media: also films, of other brands
        what = BRANDS.get(data[8:12], "a HEIC image" if data[8:10] in (b"he", b"mi", b"ms") else "")
    return f", but {what}" if what else "" if data else ", but empty"


def image_size(data: bytes, name: str) -> tuple[int, int]:
    """Height and width in pixels as `decode_image` gives them, read from the header alone.

    Raises:
        BadSample: the header cannot be read, or the format is not JPEG, PNG or WebP.
    """
    if image_format(data, name) == "jpg":
        header = _jpeg_header(data)
        if header is not None:
            height, width, _ = header
            return (width, height) if orientation(jpeg_exif(data)) >= 5 else (height, width)
    with _broken(name):
        image = open_image(data, name)
    width, height = image.size
    return (width, height) if orientation(image.info.get("exif")) >= 5 else (height, width)


def decode_image(
    data: bytes, name: str, max_pixels: int = MAX_PIXELS, shorter_side_at_least: int | None = None
) -> RGB:
    """RGB values 0..255 of a JPEG, PNG or WebP image, turned the way its EXIF orientation says.

    Gray is repeated, 16 bits keep their upper 8, and alpha is dropped. With
    `shorter_side_at_least` a JPEG may come out at 1/2, 1/4 or 1/8 of its size, straight from its DCT
    coefficients, as long as its shorter side still has that many pixels.

    Raises:
        BadSample: `name` is broken, cut short (it is never filled up with gray), of another format,
            or claims more than `max_pixels` pixels, which is checked before anything is decoded.
    """
    height, width = image_size(data, name)
    if height * width > max_pixels:
        raise BadSample(f"{name} claims {width} x {height} pixels; at most {max_pixels} are decoded")
    if image_format(data, name) == "jpg":
        header = _jpeg_header(data)
        if header is not None and header[2] != "CMYK":
            image = _decode_jpeg(data, name, header[:2], shorter_side_at_least)
            return _turn(image, orientation(jpeg_exif(data)))
    with _broken(name):
        file = open_image(data, name)
        file.load()
        return _turn(_rgb(file), orientation(file.info.get("exif")))


def open_image(data: bytes, name: str) -> ImageFile.ImageFile:
    """Pillow's view of an image whose pixels are not decoded yet.

    The plugins are called by name: `Image.open` would try others, and warn at a size of its own.
    """
    match image_format(data, name):
        case "jpg":
            return JpegImageFile(io.BytesIO(data))
        case "png":
            return PngImageFile(io.BytesIO(data))
        case _:
            return WebPImageFile(io.BytesIO(data))


def image_exif(data: bytes, name: str) -> bytes | None:
    """An image's EXIF block; None where there is none.

    Raises:
        BadSample: as `image_size`.
    """
    if image_format(data, name) == "jpg":
        return jpeg_exif(data)
    with _broken(name):
        found = open_image(data, name).info.get("exif")
    return found if isinstance(found, bytes) else None


def place_in_decoded(data: bytes, name: str, decoded: tuple[int, ...]) -> tuple[int, tuple[float, float]]:
    """Where an image lies in what `decode_image` has made of it.

    At 1/8 of 801 x 1001 pixels it has 101 x 126, whose last row and column stand for more than there is; in
    an image that its EXIF orientation turns, these may be the first.

    Args:
        data, name: as for `decode_image`.
        decoded: height and width that came out, and whatever follows.

    Returns:
        the factor 1, 2, 4 or 8 by which it is smaller, and row and column of its top-left corner, from that
        of the decoded one, in pixels of the latter.

    Raises:
        BadSample: as `image_size`.
    """
    size = image_size(data, name)
    factors = (1, *reversed(FAST_FACTORS))
    factor = next(f for f in factors if decoded[:2] == tuple(-(-side // f) for side in size))
    corner = np.zeros((2, 2, 3), np.uint8)
    corner[0, 0] = 1
    bottom, right, _ = np.argwhere(_turn(corner, orientation(jpeg_exif(data)) if factor > 1 else 1))[0]
    beyond = [now - side / factor for now, side in zip(decoded, size, strict=False)]
    return factor, (beyond[0] * bottom, beyond[1] * right)


def decode_gray_png(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> Gray:
    """The numbers in a one-channel PNG of 8 or 16 bits, as they are.

    Raises:
        BadSample: it is not such a PNG, is broken, or claims more than `max_pixels` pixels.
    """
    if not data.startswith(PNG):
        raise BadSample(f"{name} is not a PNG image{_but(data)}")
    with _broken(name):
        file = open_image(data, name)
        if file.width * file.height > max_pixels:
            raise BadSample(f"{name} claims {file.width} x {file.height} pixels; at most {max_pixels}")
        if file.mode not in ("L", "I;16", "I"):
            raise BadSample(
                f"{name} has mode {file.mode}, as a colored picture of depth has; a depth map has one "
                "channel of 8 or 16 bits"
            )
        values = np.asarray(file)
    return values if values.dtype == np.uint8 else values.astype(np.uint16)


def encode_jpeg(image: RGB, quality: int = 95) -> bytes:
    """JPEG without chroma subsampling."""
    data = simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality=quality, colorsubsampling="444")
    return bytes(data)


def encode_png(image: RGB | Gray) -> bytes:
    """PNG of RGB or of one channel, with the array's own 8 or 16 bits; lossless."""
    pixels = image if image.ndim == 2 else image[:, :, ::-1]
    done, data = cv2.imencode(".png", np.ascontiguousarray(pixels))
    if not done:
        raise ValueError(f"an array of shape {image.shape} cannot be a PNG")
    return data.tobytes()


@contextmanager
def _broken(name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error) as error:
        raise BadSample(f"{name} is broken: {error}") from error


def _jpeg_header(data: bytes) -> tuple[int, int, str] | None:
    """Height, width and color space; None where only Pillow can tell (rare chroma subsampling)."""
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    return int(height), int(width), space


def _decode_jpeg(data: bytes, name: str, size: tuple[int, int], shorter_side_at_least: int | None) -> RGB:
    options: dict[str, Any] = {}
    if shorter_side_at_least is not None:
        fits = [factor for factor in FAST_FACTORS if factor * shorter_side_at_least <= min(size) + factor - 1]
        if fits:
            height, width = (-(-side // fits[0]) for side in size)
            options = {"min_height": height, "min_width": width, "min_factor": fits[0]}
    with _broken(name):
        image: RGB = simplejpeg.decode_jpeg(data, strict=True, **options)
    return image


def _rgb(image: ImageFile.ImageFile) -> RGB:
    if image.mode in ("I;16", "I"):
        gray = (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
        return np.repeat(gray[:, :, None], 3, axis=2)
    if image.mode == "P":
        return np.asarray(image.convert("RGBA").convert("RGB"))  # Pillow warns at some palettes otherwise
    return np.asarray(image.convert("RGB"))


def _turn(image: RGB, upright: int) -> UInt8[np.ndarray, "upright_height upright_width 3"]:
    """Make an image upright; 2 to 8 as EXIF 2.32, section 4.6.4, defines them."""
    match upright:
        case 1:
            return np.ascontiguousarray(image)
        case 2:
            image = image[:, ::-1]
        case 3:
            image = image[::-1, ::-1]
        case 4:
            image = image[::-1]
        case 5:
            image = image.transpose(1, 0, 2)
        case 6:
            image = np.rot90(image, -1)
        case 7:
            image = image.transpose(1, 0, 2)[::-1, ::-1]
        case 8:
            image = np.rot90(image, 1)
    return image.copy()  # ascontiguousarray leaves a single row or column with a negative stride
