import json

import numpy as np
import pytest

from depthkd.batch import AFFINE_DISPARITY, METRIC_DEPTH, METRIC_DISPARITY, SCALE_DISPARITY, DepthSpace
from depthkd.formats.images import encode_jpeg, encode_png
from depthkd.formats.sample import BadSample, Sample
from depthkd.formats.shard_samples import decode_label, decode_sample, encode_label, encode_sample, unit_of

CAMERA = np.array([[500.5, 0, 31.5], [0, 501.25, 19.5], [0, 0, 1]])


def sample(space: DepthSpace = METRIC_DEPTH) -> Sample:
    rng = np.random.default_rng(0)
    depth = rng.uniform(1, 9, (24, 32)).astype(np.float32)
    mask = rng.random((24, 32)) < 0.9
    image = np.full((24, 32, 3), 90, np.uint8)
    return Sample("a", image, depth, mask, CAMERA, space)


def changed(members: dict[str, bytes], **depth: object) -> dict[str, bytes]:
    """The members with another "depth" entry; None takes a word away."""
    record = json.loads(members["json"])
    record["depth"].update(depth)
    record["depth"] = {word: value for word, value in record["depth"].items() if value is not None}
    return {**members, "json": json.dumps(record).encode()}


@pytest.mark.parametrize("space", [METRIC_DEPTH, SCALE_DISPARITY, AFFINE_DISPARITY, METRIC_DISPARITY])
@pytest.mark.parametrize("codec", ["png16", "log16", "npy", "linear16_blosc", "log16_blosc", None])
@pytest.mark.parametrize("image", ["jpg", "png"])
def test_labelled_samples_round_trip(space: DepthSpace, codec: str | None, image: str) -> None:
    given = sample(space)
    members = encode_sample(given, codec, image, extra={"teacher": "x"})
    found = decode_sample("a", members, "t.tar", labelled=True)
    assert found.key == "a"
    assert found.space == space
    assert np.array_equal(found.image, given.image)
    assert np.array_equal(found.mask, given.mask)
    linear = codec in ("png16", "npy", "linear16_blosc") or (codec is None and space == AFFINE_DISPARITY)
    assert np.abs(found.depth - given.depth)[given.mask].max() < (8 * 7.7e-6 if linear else 1.6e-4)
    assert (found.depth[~given.mask] == 0).all()
    assert np.array_equal(found.intrinsics, CAMERA)
    assert json.loads(members["json"])["teacher"] == "x"
    assert json.loads(members["json"])["depth"]["unit"] == unit_of(space)


def test_labels_travel_without_their_image() -> None:
    given = sample()
    depth, mask, space, record = decode_label("a", encode_label(given, "npy", {"view": 3}), "t.tar")
    assert np.array_equal(depth[mask], given.depth[given.mask])
    assert space == METRIC_DEPTH
    assert record["view"] == 3


def test_a_sample_without_depth_has_an_image_and_a_json() -> None:
    bare = Sample("a", sample().image)
    members = encode_sample(bare)
    assert set(members) == {"jpg", "json"}
    found = decode_sample("a", members, "t.tar", labelled=False)
    assert (found.depth, found.mask, found.space, found.intrinsics) == (None,) * 4


@pytest.mark.parametrize(
    "other", [{}, {"json": b"{broken"}, {"json": b"[1]", "txt": b"a cat", "pyd": b"\x80\x04."}]
)
def test_unlabelled_only_the_image_counts(other: dict[str, bytes]) -> None:
    members = {"jpg": encode_jpeg(np.full((64, 80, 3), 50, np.uint8)), **other}
    assert decode_sample("7", members, "t.tar", labelled=False).image.shape == (64, 80, 3)
    small = decode_sample("7", members, "t.tar", labelled=False, shorter_side_at_least=32)
    assert small.image.shape == (32, 40, 3)


@pytest.mark.parametrize(
    ("orientation", "center"),
    [(1, (2, 1.75)), (2, (2 + 7 / 8, 1.75)), (3, (2 + 7 / 8, 1.75 + 5 / 8)), (6, (1.75 + 5 / 8, 2))],
)
def test_cameras_follow_what_a_fraction_of_the_image_shows(
    orientation: int, center: tuple[float, float]
) -> None:
    """At 1/8, 35 rows become 5, the last of which has 3 of 8 rows, and 41 columns 6, the last with 1 of 8."""
    upright = (41, 35) if orientation == 6 else (35, 41)
    bright = {1: (17.5, 19.5), 2: (17.5, 19.5), 3: (17.5, 19.5), 6: (19.5, 17.5)}[orientation]
    rows, columns = (np.arange(side) - at for side, at in zip(upright, bright, strict=True))
    spot = 250 * np.exp(-(rows[:, None] ** 2 + columns**2) / 72)
    stored = np.repeat(spot.astype(np.uint8)[:, :, None], 3, 2)
    stored = {1: stored, 2: stored[:, ::-1], 3: stored[::-1, ::-1], 6: np.rot90(stored)}[orientation]
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0" + bytes([orientation, 0, 0])
    data = encode_jpeg(stored)
    data = data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:]
    camera = [80.0, 40.0, bright[1], bright[0]]
    members = {"jpg": data, "json": json.dumps({"intrinsics": camera}).encode()}
    found = decode_sample("a", members, "t", False, lambda height, width: 5, cameras=True)
    assert found.decoded_from == upright
    assert found.intrinsics is not None
    assert found.intrinsics[[0, 1, 0, 1], [0, 1, 2, 2]].tolist() == pytest.approx([10, 5, *center])
    gray = found.image[:, :, 0].astype(float)
    seen = (gray.sum(0) @ np.arange(gray.shape[1]), gray.sum(1) @ np.arange(gray.shape[0]))
    assert np.divide(seen, gray.sum()).tolist() == pytest.approx(center, abs=0.15)


def test_a_mask_takes_pixels_away() -> None:
    given = sample()
    keep = np.zeros((24, 32), np.uint8)
    keep[:12] = 255
    members = {**encode_sample(given), "mask.png": encode_png(keep)}
    found = decode_sample("a", members, "t.tar", labelled=True)
    assert np.array_equal(found.mask, given.mask & (keep > 0))
    with pytest.raises(BadSample, match="mask of shape"):
        decode_sample("a", {**members, "mask.png": encode_png(keep[:5])}, "t.tar", labelled=True)
    with pytest.raises(BadSample, match="no valid depth"):
        decode_sample("a", {**members, "mask.png": encode_png(0 * keep)}, "t.tar", labelled=True)


def test_the_sky_is_kept_apart_from_what_was_not_measured() -> None:
    given = sample()
    assert given.depth is not None and given.mask is not None
    given.mask[:3] = False
    given.depth[0], given.depth[1], given.depth[2] = np.inf, np.nan, -np.inf
    members = encode_sample(given)
    for asked, far in ((True, np.inf), (False, 0)):
        found = decode_sample("a", members, "t.tar", labelled=True, sky=asked)
        assert found.depth is not None and np.array_equal(found.mask, given.mask)
        assert (found.depth[0] == far).all() and (found.depth[1:3] == 0).all()
        assert (found.depth[3:][~given.mask[3:]] == 0).all()
    assert (decode_label("a", members, "t.tar")[0][0] == 0).all()
    given.depth[0] = 0
    assert "sky.png" in members and "sky.png" not in encode_sample(given)
    with pytest.raises(BadSample, match=r"t\.tar: sample 'a' has a sky of shape"):
        decode_sample("a", {**members, "sky.png": encode_png(np.zeros((5, 32), np.uint8))}, "t.tar", True)
    given.mask[0], given.depth[0] = True, np.inf  # a valid pixel is no sky, whatever it holds
    assert "sky.png" not in encode_sample(given)


def test_values_that_have_no_inverse_are_invalid_where_inverses_are_taken() -> None:
    given = sample(SCALE_DISPARITY)
    given.depth[0, 0], given.mask[0, 0] = 0.0, True
    given.depth[0, 1], given.mask[0, 1] = -1.0, True
    assert not decode_sample("a", encode_sample(given, "npy"), "t", labelled=True).mask[0, :2].any()
    given.space = AFFINE_DISPARITY
    assert decode_sample("a", encode_sample(given, "npy"), "t", labelled=True).mask[0, :2].all()


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ({**encode_sample(sample()), "jpg": b"\xff\xd8\xff"}, r"its \.jpg, is broken"),
        ({k: v for k, v in encode_sample(sample()).items() if k != "jpg"}, "has no image"),
        ({k: v for k, v in encode_sample(sample()).items() if k != "json"}, r"has no \.json"),
        ({k: v for k, v in encode_sample(sample()).items() if k != "depth.png"}, r"has no \.depth\.png"),
        ({**encode_sample(sample()), "json": b"{broken"}, r"has a broken \.json"),
        ({**encode_sample(sample()), "json": b"[" * 100_000}, r"has a broken \.json"),
        ({**encode_sample(sample()), "json": b"[]"}, "is not a mapping"),
        ({**encode_sample(sample()), "json": b"{}"}, "has no 'depth' mapping"),
        ({**encode_sample(sample()), "depth.png": b"\x89PNG"}, r"its \.depth\.png, is not a"),
        ({**encode_sample(sample()), "sky.png": b"\x89PNG"}, r"its \.sky\.png, is not a"),
        (changed(encode_sample(sample()), space=None), "'None' is not a depth space"),
        (changed(encode_sample(sample()), space="depth"), "'depth' is not a depth space; it would be one of"),
        (changed(encode_sample(sample()), unit=None), "has unit null; 'metric depth' is stored in \"m\""),
        (changed(encode_sample(sample()), unit="mm"), 'has unit "mm"'),
        (changed(encode_sample(sample()), range=None), "has range null"),
        (changed(encode_sample(sample()), codec="pickle"), 'has depth codec "pickle"'),
        (changed(encode_sample(sample()), codec=["npy"]), "has depth codec"),
        (
            {**encode_sample(sample()), "jpg": encode_jpeg(np.zeros((24, 34, 3), np.uint8))},
            "34 x 24 and depth of 32 x 24, of another shape",
        ),
    ],
)
def test_a_bad_labelled_sample_names_tar_and_key(members: dict[str, bytes], sentence: str) -> None:
    with pytest.raises(BadSample, match=f"t.tar: sample 'a'.*{sentence}"):
        decode_sample("a", members, "t.tar", labelled=True)


@pytest.mark.parametrize(
    "value", [[1, 2, 3], [0, 1, 2, 3], [1, 1, 1, float("inf")], "f", {"fx": 1}, [True, 1, 1, 1]]
)
def test_bad_intrinsics_are_said(value: object) -> None:
    members = encode_sample(sample())
    members["json"] = json.dumps({**json.loads(members["json"]), "intrinsics": value}).encode()
    with pytest.raises(BadSample, match=r"t: sample 'a' has intrinsics .* \[fx, fy, cx, cy\]"):
        decode_sample("a", members, "t", labelled=True)


def test_what_cannot_be_encoded_is_said() -> None:
    given = sample()
    with pytest.raises(ValueError, match="'gif' is not an image format"):
        encode_sample(given, image="gif")
    given.mask[:] = False
    with pytest.raises(ValueError, match="sample 'a': a depth map without a valid pixel"):
        encode_sample(given)
    given.space = None
    with pytest.raises(ValueError, match="sample 'a' has depth without a space"):
        encode_sample(given)
