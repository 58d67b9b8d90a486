"""Predictions as files: what is written reads back, and other programs can open it."""

import json
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from depthkd.batch import AFFINE_DEPTH, AFFINE_DISPARITY, METRIC_DEPTH, SCALE_DISPARITY, DepthSpace
from depthkd.datasets.encodings import read_exr
from depthkd.errors import UserError
from depthkd.formats.depth import LossyError
from depthkd.formats.depth_png import decode_depth_png, encode_depth_png
from depthkd.formats.exif import DIAGONAL, focal_length_in_pixels, orientation
from depthkd.formats.exr import encode_exr
from depthkd.formats.glb import encode_glb, linear_colors
from depthkd.formats.images import encode_png
from depthkd.formats.sample import BadSample


def depths(low: float, high: float, height: int = 40, width: int = 60) -> np.ndarray:
    ramp = np.exp(np.linspace(np.log(low), np.log(high), height * width))
    return np.random.default_rng(0).permutation(ramp).reshape(height, width).astype(np.float32)


@pytest.mark.parametrize("space", [METRIC_DEPTH, SCALE_DISPARITY])
def test_sixteen_bits_change_no_value_by_a_ten_thousandth(space: DepthSpace) -> None:
    depth = depths(0.01, 1000)
    data, record = encode_depth_png(depth, space, "a test")
    found, mask, stated = decode_depth_png(data, "x.png")
    assert stated == space and mask.all() and record["codec"] == "log16"
    assert np.abs(found / depth - 1).max() < 1e-4


@pytest.mark.parametrize("space", [AFFINE_DISPARITY, AFFINE_DEPTH])
def test_relative_maps_of_any_sign_lose_a_ten_thousandth_of_their_range(space: DepthSpace) -> None:
    depth = depths(0.01, 50) - 20
    found, mask, stated = decode_depth_png(encode_depth_png(depth, space, "a test")[0], "x.png")
    assert stated == space and mask.all()
    assert np.abs(found - depth).max() < 1e-4 * np.ptp(depth)


def test_the_formula_in_the_file_reads_it_without_depthkd(tmp_path: Any) -> None:
    for space, depth in ((METRIC_DEPTH, depths(0.5, 80)), (AFFINE_DISPARITY, depths(1, 9) - 4)):
        path = tmp_path / "x.png"
        path.write_bytes(encode_depth_png(depth, space, "a test")[0])
        with Image.open(path) as picture:
            code = np.asarray(picture).astype(np.float64)
            formula = picture.info["Formula"]
            assert picture.info["Software"] == "a test"
        value = eval(formula.partition(";")[0].removeprefix("value ="), {"code": code})
        np.testing.assert_allclose(value, depth, rtol=1e-4, atol=1e-4)


def test_what_has_no_depth_stays_without() -> None:
    depth = np.array([[np.inf, 2, -1], [np.nan, 4, 0]], np.float32)
    found, mask, _ = decode_depth_png(encode_depth_png(depth, METRIC_DEPTH, "a test")[0], "x.png")
    assert mask.tolist() == [[False, True, False], [False, True, False]]
    np.testing.assert_allclose(found[mask], [2, 4], rtol=1e-4)
    with pytest.raises(UserError, match="without a valid pixel"):
        encode_depth_png(np.full((2, 2), np.nan, np.float32), METRIC_DEPTH, "a test")
    with pytest.raises(LossyError, match="cannot hold values from 1e-06"):
        encode_depth_png(depths(1e-6, 1e3), METRIC_DEPTH, "a test")
    with pytest.raises(BadSample, match="has no text 'depthkd'"):
        decode_depth_png(encode_png(np.ones((2, 2), np.uint16)), "x.png")


def test_chunks_have_right_lengths_and_checksums() -> None:
    data, place, names = encode_depth_png(depths(1, 9), METRIC_DEPTH, "a test")[0], 8, []
    while place < len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        body = data[place + 4 : place + 8 + length]
        assert struct.unpack(">I", data[place + 8 + length : place + 12 + length]) == (zlib.crc32(body),)
        names.append(body[:4])
        place += 12 + length
    assert names[:4] == [b"IHDR", b"tEXt", b"tEXt", b"tEXt"] and names[-1] == b"IEND"


def test_an_exr_holds_every_number() -> None:
    pytest.importorskip("OpenEXR", reason="the extra `exr`")
    depth = depths(1e-6, 1e9)
    depth[0, 0] = np.inf
    np.testing.assert_array_equal(read_exr(encode_exr(depth, "metric depth"), "x.exr"), depth)


def parts(data: bytes) -> tuple[dict[str, Any], bytes]:
    magic, version, length = struct.unpack("<4sII", data[:12])
    assert (magic, version, length) == (b"glTF", 2, len(data))
    size, kind = struct.unpack("<II", data[12:20])
    assert kind == 0x4E4F534A and size % 4 == 0
    rest = data[20 + size :]
    if rest:
        count, kind = struct.unpack("<II", rest[:8])
        assert kind == 0x004E4942 and count == len(rest) - 8
    return json.loads(data[20 : 20 + size]), rest[8:]


def test_a_glb_is_turned_upright_and_its_colors_are_linear() -> None:
    points = np.array([[1, 2, 3], [-4, 5, 6], [7, -8, 9]], np.float32)
    colors = np.array([[0, 128, 255], [1, 2, 3], [9, 9, 9]], np.uint8)
    for triangles, mode in ((None, 0), (np.array([[0, 1, 2]], np.uint32), 4)):
        document, binary = parts(encode_glb(points, colors, triangles))
        (primitive,) = document["meshes"][0]["primitives"]
        assert primitive["mode"] == mode
        arrays = []
        for accessor in document["accessors"]:
            view = document["bufferViews"][accessor["bufferView"]]
            kind = {5126: "<f4", 5125: "<u4"}[accessor["componentType"]]
            assert view["byteOffset"] % 4 == 0
            values = np.frombuffer(binary, kind, view["byteLength"] // int(kind[2]), view["byteOffset"])
            arrays.append(values.reshape(accessor["count"], -1))
        np.testing.assert_array_equal(arrays[0], points * [1, -1, -1])
        assert document["accessors"][0]["min"] == arrays[0].min(0).tolist()
        assert document["accessors"][0]["max"] == arrays[0].max(0).tolist()
        assert arrays[1][0].tolist() == pytest.approx([0, 0.21586, 1], abs=1e-5)
        assert len(arrays) == 2 or arrays[2].flatten().tolist() == [0, 1, 2]
    assert linear_colors()[255] == 1 and (np.diff(linear_colors()) > 0).all()
    empty, binary = parts(encode_glb(points[:0], colors[:0]))
    assert empty["scenes"] == [{}] and binary == b""


def test_focal_lengths_as_cameras_note_them() -> None:
    def block(**tags: Any) -> bytes:
        exif = Image.Exif()
        exif[0x0112] = 6
        exif.get_ifd(0x8769).update({int(name[1:], 16): value for name, value in tags.items()})
        return exif.tobytes()

    whole = block(xA405=28)
    assert focal_length_in_pixels(whole, 3000, 4000) == pytest.approx(28 * 5000 / DIAGONAL)
    assert orientation(whole) == 6
    sensor = block(x920A=IFDRational(17, 4), xA20E=IFDRational(3000), xA210=3, xA002=4000, xA003=3000)
    assert focal_length_in_pixels(sensor, 1000, 750) == pytest.approx(4.25 * 300 / 4, rel=1e-4)
    for nothing in (None, b"", block(), block(xA405=0), block(x920A=IFDRational(17, 4)), whole[:30]):
        assert focal_length_in_pixels(nothing, 30, 40) is None
