import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from depthkd.formats.images import (
    decode_gray_png,
    decode_image,
    encode_jpeg,
    encode_png,
    image_format,
    image_size,
)
from depthkd.formats.sample import BadSample


def photo(height: int = 40, width: int = 64) -> np.ndarray:
    """Smooth colors, all different at the four corners, so that a turned or mirrored image shows."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    return np.stack([255 * x, 255 * y, 128 + 0 * x], axis=-1).astype(np.uint8)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_that_claims(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [
        png_chunk(b"IHDR", header),
        png_chunk(b"IDAT", zlib.compress(b"\0" * 100)),
        png_chunk(b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(("kind", "suffix"), [("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp")])
def test_formats_are_known_by_their_bytes(kind: str, suffix: str) -> None:
    data = saved(Image.fromarray(photo()), kind)
    assert image_format(data, "named.gif") == suffix
    assert image_size(data, "named.gif") == (40, 64)
    assert np.abs(decode_image(data, "named.gif").astype(int) - photo()).mean() < 5


@pytest.mark.parametrize(
    ("start", "what"),
    [
        (b"\0\0\0\x18ftypheic", "a HEIC image"),
        (b"\0\0\0\x20ftypavif", "an AVIF image"),
        (b"GIF89a", "a GIF image"),
        (b"MM\0*", "a TIFF or camera raw image"),
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer without its file"),
    ],
)
def test_other_formats_are_named(start: bytes, what: str) -> None:
    with pytest.raises(BadSample, match=rf"^a\.jpg is not a JPEG, PNG or WebP image, but {what}$"):
        image_size(start, "a.jpg")


@pytest.mark.parametrize("data", [b"", b"GIF89a" + bytes(50), b"P6 1 1 255 abc", b"RIFF1234WAVE"])
def test_other_formats_are_refused(data: bytes) -> None:
    with pytest.raises(BadSample, match=r"a\.jpg is not a JPEG, PNG or WebP"):
        decode_image(data, "a.jpg")


def test_our_encoders_round_trip() -> None:
    assert np.array_equal(decode_image(encode_png(photo()), "a"), photo())
    assert np.abs(decode_image(encode_jpeg(photo(), 100), "a").astype(int) - photo()).max() <= 3
    deep = np.arange(40 * 64, dtype=np.uint16).reshape(40, 64) * 25
    assert np.array_equal(decode_gray_png(encode_png(deep), "a"), deep)


def test_modes_become_rgb() -> None:
    rgb = photo()
    gray = Image.fromarray(rgb).convert("L")
    expected = np.repeat(np.asarray(gray)[..., None], 3, axis=-1)
    assert np.array_equal(decode_image(saved(gray, "PNG"), "a"), expected)
    assert np.abs(decode_image(saved(gray, "JPEG", quality=100), "a").astype(int) - expected).max() <= 3
    deep = Image.fromarray(np.asarray(gray).astype(np.uint16) * 257)
    assert np.array_equal(decode_image(saved(deep, "PNG"), "a"), expected)
    alpha = Image.fromarray(np.dstack([rgb, np.full(rgb.shape[:2], 7, np.uint8)]))
    assert np.array_equal(decode_image(saved(alpha, "PNG"), "a"), rgb)
    palette = gray.convert("P")
    assert np.array_equal(decode_image(saved(palette, "PNG", transparency=b"\x00\x80"), "a"), expected)
    cmyk = saved(Image.fromarray(rgb).convert("CMYK"), "JPEG", quality=100)
    assert np.abs(decode_image(cmyk, "a").astype(int) - rgb).max() <= 6


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation_is_applied_as_pillow_does(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x010F] = "a maker, so that the orientation is not the first entry"
    exif[0x0112] = orientation
    data = saved(Image.fromarray(photo()), kind, exif=exif.tobytes())
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    decoded = decode_image(data, "a")
    assert decoded.shape[:2] == image_size(data, "a") == upright.shape[:2]
    assert np.abs(decoded.astype(int) - upright).max() <= 4
    for one in (photo()[:1], photo()[:, :1]):
        data = saved(Image.fromarray(np.ascontiguousarray(one)), kind, exif=exif.tobytes())
        assert min(decode_image(data, "a").strides) > 0  # or torch could not take it


def test_a_broken_exif_block_means_upright() -> None:
    exif = b"Exif\0\0II*\0\x08\0\0\0\xff\xff"
    assert decode_image(saved(Image.fromarray(photo()), "JPEG", exif=exif), "a").shape == (40, 64, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_cut_short_is_never_filled_up(kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    data = saved(Image.fromarray(noise), kind)
    for length in (20, len(data) // 2, len(data) - 40):
        with pytest.raises(BadSample, match=r"x\.tar: sample '7' is broken"):
            decode_image(data[:length], "x.tar: sample '7'")


def test_damage_within_a_jpeg_is_noticed() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    data = bytearray(encode_jpeg(noise))
    data[len(data) // 2 : len(data) // 2 + 200] = b"\xff\xd9" * 100
    with pytest.raises(BadSample, match="is broken"):
        decode_image(bytes(data), "a")


def test_bombs_are_refused_by_their_header() -> None:
    with pytest.raises(BadSample, match=r"a\.png claims 60000 x 60000 pixels; at most 100000000"):
        decode_image(png_that_claims(60_000, 60_000), "a.png")
    with pytest.raises(BadSample, match="claims 60000 x 60000"):
        decode_gray_png(png_that_claims(60_000, 60_000), "a.png")
    with pytest.raises(BadSample, match="claims 64 x 40"):
        decode_image(encode_jpeg(photo()), "a.jpg", max_pixels=2559)
    assert decode_image(encode_jpeg(photo()), "a.jpg", max_pixels=2560).shape == (40, 64, 3)


@pytest.mark.parametrize(
    ("least", "size"),
    [(None, (401, 600)), (300, (401, 600)), (201, (201, 300)), (100, (101, 150)), (10, (51, 75))],
)
def test_scaled_decode_stays_large_enough(least: int | None, size: tuple[int, int]) -> None:
    image = photo(401, 600)
    for array, expected in ((image, size), (image.transpose(1, 0, 2), size[::-1])):
        data = encode_jpeg(array)
        small = decode_image(data, "a", shorter_side_at_least=least)
        assert small.shape[:2] == expected
        assert image_size(data, "a") == array.shape[:2]
        assert (
            np.abs(
                small[:: small.shape[0] - 1, :: small.shape[1] - 1].astype(int)
                - array[:: array.shape[0] - 1, :: array.shape[1] - 1]
            ).max()
            < 8
        )


def test_depth_images_have_one_channel() -> None:
    with pytest.raises(BadSample, match=r"d\.png has mode RGB"):
        decode_gray_png(encode_png(photo()), "d.png")
    with pytest.raises(BadSample, match=r"d\.png is not a PNG"):
        decode_gray_png(encode_jpeg(photo()), "d.png")
