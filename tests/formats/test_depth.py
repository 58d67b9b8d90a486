import io
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib import format as npy_format
from PIL import Image

from depthkd.batch import DepthSpace
from depthkd.formats.depth import LossyError, decode_depth, encode_depth, read_depth_npy, read_depth_png
from depthkd.formats.images import encode_png
from depthkd.formats.sample import BadSample, Sample
from depthkd.formats.shard_samples import decode_label, encode_label

RELAXED = settings(deadline=None, derandomize=True)


def npy(array: np.ndarray, allow_pickle: bool = False) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=allow_pickle)
    return file.getvalue()


def npy_that_claims(shape: object, body: bytes = b"", kind: str = "<f4") -> bytes:
    file = io.BytesIO()
    npy_format.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": shape})
    return file.getvalue() + body


def assert_alike(depth: np.ndarray, mask: np.ndarray, codec: str, decoded: np.ndarray) -> None:
    """The codec stores what its sibling in a PNG does."""
    suffix, data, meta = encode_depth(depth, mask, codec)
    assert (suffix, meta["size"]) == ("depth.blosc", [7, 9])
    again, valid = decode_depth(data, meta, "d")
    assert np.array_equal(again, decoded) and np.array_equal(valid, mask)


@RELAXED
@given(
    seed=st.integers(0, 2**32 - 1),
    low=st.floats(-1e30, 1e30),
    span=st.one_of(st.just(0.0), st.floats(1e-37, 1e32), st.floats(1e-3, 1e3)),
)
def test_linear_codes_keep_their_worst_case_error(seed: int, low: float, span: float) -> None:
    rng = np.random.default_rng(seed)
    depth = (low + span * rng.random((7, 9))).astype(np.float32)
    mask = rng.random((7, 9)) < 0.8
    mask[3, 3] = True
    depth[~mask] = rng.choice([np.nan, np.inf, 0.0], np.count_nonzero(~mask))
    suffix, data, meta = encode_depth(depth, mask, "png16")
    decoded, valid = decode_depth(data, meta, "d")
    assert suffix == "depth.png"
    assert_alike(depth, mask, "linear16_blosc", decoded)
    assert np.array_equal(valid, mask)
    assert (decoded[~mask] == 0).all()
    truth = depth[mask].astype(np.float64)
    ulp = float(np.spacing(np.abs(depth[mask]).max()))
    step = (truth.max() - truth.min()) / 65534
    worst = np.abs(decoded[mask].astype(np.float64) - truth).max()
    assert worst <= step / 2 * (1 + 1e-9) + ulp
    if truth.max() - truth.min() > 1e5 * ulp:
        assert worst < 1e-4 * (truth.max() - truth.min())
    assert meta["range"] == [truth.min(), truth.max()]


def test_png16_keeps_the_ends_of_the_range() -> None:
    depth = np.array([[0.5, 80.0, 33.3]], np.float32)
    decoded, _ = decode_depth(*encode_depth(depth, None)[1:], "d")
    assert decoded[0, 0] == depth[0, 0]
    assert decoded[0, 1] == depth[0, 1]


@RELAXED
@given(seed=st.integers(0, 2**32 - 1), low=st.floats(1e-6, 1e6), ratio=st.floats(1.0, 4.8e5))
def test_log16_keeps_a_relative_error_of_a_ten_thousandth(seed: int, low: float, ratio: float) -> None:
    rng = np.random.default_rng(seed)
    depth = (low * ratio ** rng.random((7, 9))).astype(np.float32)
    mask = rng.random((7, 9)) < 0.8
    mask[3, 3] = True
    depth[~mask] = rng.choice([np.nan, np.inf, 0.0, -1.0], np.count_nonzero(~mask))
    suffix, data, meta = encode_depth(depth, mask, "log16")
    decoded, valid = decode_depth(data, meta, "d")
    truth = depth[mask].astype(np.float64)
    assert suffix == "depth.png" and np.array_equal(valid, mask) and (decoded[~mask] == 0).all()
    assert_alike(depth, mask, "log16_blosc", decoded)
    errors = np.abs(decoded[mask] - truth) / truth
    assert errors.max() <= np.log(truth.max() / truth.min()) / 131068 + 6.1e-8  # half a float32 unit
    assert errors.max() < 1e-4
    assert decoded[mask].min() == truth.min() and decoded[mask].max() == truth.max()
    codes = np.asarray(Image.open(io.BytesIO(data))).astype(np.float64)  # as anybody would read it
    stranger = meta["range"][0] * (meta["range"][1] / meta["range"][0]) ** ((codes - 1) / 65534)
    np.testing.assert_allclose(decoded[mask], stranger[mask], rtol=6.1e-8)


@pytest.mark.parametrize("space", ["metric depth", "scale disparity"])
@pytest.mark.parametrize(("high", "fits"), [(4.8e5, True), (1e6, False), (1e30, False)])
def test_log16_says_where_its_range_ends(space: str, high: float, fits: bool) -> None:
    depth = np.geomspace(1, high, 9000).reshape(90, 100).astype(np.float32)
    sample = Sample("a", np.zeros((90, 100, 3), np.uint8), depth, None, None, DepthSpace.parse(space))
    if fits:
        assert decode_label("a", encode_label(sample), "t")[1].all()
        return
    with pytest.raises(LossyError, match=r"'a': codec log16 cannot hold values from 1 to 1e\+") as caught:
        encode_label(sample)
    assert caught.value.extreme in (1.0, np.float32(high))
    assert decode_label("a", encode_label(sample, "npy"), "t")[1].all()


def test_affine_maps_lose_no_more_than_a_few_codes() -> None:
    rng = np.random.default_rng(0)
    image = np.zeros((90, 100, 3), np.uint8)
    for values, fits in (
        (rng.normal(0, 3, 9000), True),
        (np.maximum(rng.normal(-0.5, 1, 9000), 0), True),  # a network that ends in a ReLU
        (np.full(9000, -2.5), True),
        (rng.choice([0.0, 1.0], 9000), True),
        (np.append(rng.random(8999), 50.0), True),
        (np.append(rng.random(8999), 65535.0), False),
        (np.append(rng.random(999), np.full(8001, 1e10)), False),
        (np.append(rng.random(8998), [1e10, -1e10]), False),
    ):
        depth = values.reshape(90, 100).astype(np.float32)
        sample = Sample("a", image, depth, None, None, DepthSpace.parse("affine disparity"))
        if fits:
            decoded = decode_label("a", encode_label(sample), "t")[0]
            assert np.abs(decoded - depth).max() <= np.ptp(depth) / 131068 * 1.01 + 1e-6
        else:
            with pytest.raises(LossyError, match="codec png16 cannot hold values"):
                encode_label(sample)


def test_a_worker_process_can_send_what_a_codec_would_lose() -> None:
    error = pickle.loads(pickle.dumps(LossyError("too wide", 1000.0)))
    assert (type(error), str(error), error.extreme) == (LossyError, "too wide", 1000.0)


def test_npy_is_exact() -> None:
    depth = np.array([[1e-30, 3.25, np.nan], [-7.0, np.inf, 1e30]], np.float32)
    suffix, data, meta = encode_depth(depth, np.array([[True, True, True], [True, True, False]]), "npy")
    decoded, mask = decode_depth(data, meta, "d")
    assert suffix == "depth.npy"
    assert mask.tolist() == [[True, True, False], [True, False, False]]
    assert np.array_equal(decoded[mask], depth[mask])


def test_what_cannot_be_encoded_is_said() -> None:
    depth = np.ones((2, 2), np.float32)
    with pytest.raises(ValueError, match="'exr' is not a depth codec; it would be one of png16, npy"):
        encode_depth(depth, None, "exr")
    with pytest.raises(ValueError, match="without a valid pixel"):
        encode_depth(depth * np.nan, None)
    with pytest.raises(ValueError, match="without a valid pixel"):
        encode_depth(depth, np.zeros((2, 2), bool))
    with pytest.raises(ValueError, match="codec log16 takes values above 0, and the smallest is -1"):
        encode_depth(-depth, None, "log16")


@pytest.mark.parametrize(
    ("meta", "sentence"),
    [
        ({"codec": "png16"}, "has range null"),
        ({"codec": "png16", "range": [2, 1]}, "has range"),
        ({"codec": "png16", "range": [0, float("nan")]}, "has range"),
        ({"codec": "png16", "range": [0, 1e300]}, "has range"),
        ({"codec": "png16", "range": ["0", "1"]}, "has range"),
        ({"codec": "log16", "range": [0, 1]}, r"has range \[0, 1\]; codec log16 needs .* both above 0"),
        ({"codec": "log16"}, "has range null; codec log16 needs"),
        ({"codec": "pickle"}, 'has codec "pickle"; it would be one of png16, npy'),
        ({}, "has codec null"),
        ({"codec": "npy"}, "is not a .npy array"),
        ({"codec": "log16_blosc", "range": [-1, 1], "size": [2, 2]}, "codec log16_blosc .* both above 0"),
        ({"codec": "log16_blosc", "range": [1, 2]}, r"size null; codec log16_blosc needs \[height, width\]"),
        ({"codec": "linear16_blosc", "range": [1, 2], "size": [0, 2]}, r"size \[0, 2\]"),
        ({"codec": "linear16_blosc", "range": [1, 2], "size": [2.0, 2]}, r"size \[2.0, 2\]"),
        ({"codec": "linear16_blosc", "range": [1, 2], "size": [10**9, 10**9]}, "size .* more than"),
        ({"codec": "linear16_blosc", "range": [1, 2], "size": [2, 2]}, "is damaged"),
    ],
)
def test_bad_meta_is_a_bad_sample(meta: dict[str, object], sentence: str) -> None:
    data = encode_png(np.ones((2, 2), np.uint16))
    with pytest.raises(BadSample, match=f"d .*{sentence}"):
        decode_depth(data, meta, "d")


def test_eight_bits_and_nothing_valid_are_bad_samples() -> None:
    meta = {"codec": "png16", "range": [0, 1]}
    with pytest.raises(BadSample, match="d has 8 bits"):
        decode_depth(encode_png(np.ones((2, 2), np.uint8)), meta, "d")
    with pytest.raises(BadSample, match="d has no valid pixel"):
        decode_depth(encode_png(np.zeros((2, 2), np.uint16)), meta, "d")


def test_raw_png_encodings() -> None:
    millimeters = np.array([[0, 1500, 65535]], np.uint16)
    depth, mask = read_depth_png(encode_png(millimeters), 1e-3, invalid=(0, 65535))
    assert mask.tolist() == [[False, True, False]]
    assert depth.tolist() == [[0.0, 1.5, 0.0]]
    disparity = np.array([[0, 220]], np.uint8)
    assert read_depth_png(encode_png(disparity), 1 / 4)[0].tolist() == [[0.0, 55.0]]
    assert read_depth_png(encode_png(disparity), 2, offset=1, invalid=())[0].tolist() == [[1.0, 441.0]]


def test_raw_npy_encodings() -> None:
    diode = np.array([[[2.0], [np.nan]], [[0.0], [4.0]]], np.float64)
    depth, mask = read_depth_npy(npy(diode), scale=0.5, invalid=(0,))
    assert depth.tolist() == [[1.0, 0.0], [0.0, 2.0]]
    assert mask.tolist() == [[True, False], [False, True]]
    columns_first = np.asfortranarray(np.arange(6, dtype=np.int32).reshape(2, 3))
    assert np.array_equal(read_depth_npy(npy(columns_first))[0], columns_first)
    huge, mask = read_depth_npy(npy(np.array([[1e300, 1.0]])))
    assert huge.tolist() == [[0.0, 1.0]]
    assert mask.tolist() == [[False, True]]


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return pytest.fail, ("unpickled",)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (npy(np.array([[Bomb()]], object), allow_pickle=True), "holds object, not plain numbers"),
        (pickle.dumps(Bomb()), "is not a .npy array"),
        (npy(np.ones((2, 2), bool)), "holds bool"),
        (npy(np.ones((2, 2), complex)), "holds complex128"),
        (npy(np.ones(4)), r"has shape \(4,\)"),
        (npy(np.ones((2, 2, 3))), r"has shape \(2, 2, 3\)"),
        (npy(np.ones((0, 2))), r"has shape \(0, 2\)"),
        (npy(np.ones((2, 2)))[:-1], "has 31 bytes of numbers"),
        (npy_that_claims((10**6, 10**6)), "has shape"),
        (npy_that_claims((-2, -2), bytes(16)), "has shape"),
        (npy_that_claims((5, 5)), "has 0 bytes of numbers"),
        (b"\x93NUMPY\x09\x00", "is not a .npy array|version"),
        (b"", "is not a .npy array"),
    ],
)
def test_malicious_arrays_are_bad_samples(data: bytes, sentence: str) -> None:
    with pytest.raises(BadSample, match=f"d .*{sentence}"):
        read_depth_npy(data, name="d")


@RELAXED
@given(st.integers(0, 127), st.binary(min_size=1, max_size=8))
def test_a_damaged_header_is_an_array_or_a_bad_sample(place: int, noise: bytes) -> None:
    data = bytearray(npy(np.ones((3, 4), np.float32)))
    data[place : place + len(noise)] = noise
    try:
        depth, mask = read_depth_npy(bytes(data), name="d")
    except BadSample:
        return
    assert depth.shape == mask.shape
