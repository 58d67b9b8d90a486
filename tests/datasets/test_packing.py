"""What `depthkd shards pack` stores against what it was given."""

import multiprocessing
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from depthkd.batch import METRIC_DISPARITY, SCALE_DISPARITY
from depthkd.datasets.packing import Layout
from depthkd.errors import UserError
from depthkd.formats.images import encode_png
from depthkd.formats.sample import Sample
from depthkd.formats.shard_samples import decode_sample
from depthkd.formats.tar import index_tar
from depthkd.in_use import InUse
from depthkd.verbs.shards.inspect import inspect
from depthkd.verbs.shards.pack import pack
from tests.test_shards import SIZE, photos, read, run

NEAR = np.geomspace(1, 10, SIZE[0] * SIZE[1]).reshape(SIZE).astype(np.float32)


def packed(folder: Path, depth: np.ndarray, **settings: Any) -> Sample:
    """The one sample of a shard with this map, .npy for floats and .png for whole numbers."""
    photos(folder, ["a.png"])
    name = folder / f"a_depth.{'npy' if depth.dtype.kind == 'f' else 'png'}"
    if depth.dtype.kind == "f":
        np.save(name, depth)
    else:
        name.write_bytes(encode_png(depth))
    patterns = {"images": f"{folder}/a.png", "depth": str(name), "out": f"{folder}/a.tar"}
    pack(**{**patterns, "format": "labelled", "scale": 1, "overwrite": True, **settings})
    [sample] = read(folder / "a.tar", labelled=True)
    return sample


def with_sky(depth: np.ndarray, sky: float) -> np.ndarray:
    far = depth.copy()
    far[6:12] = sky
    return far


@pytest.mark.parametrize("space", ["metric depth", "scale depth", "metric disparity", "scale disparity"])
@pytest.mark.parametrize("high", [1.5, 80.0, 4e5])
def test_relative_errors_stay_under_a_ten_thousandth(space: str, high: float, tmp_path: Path) -> None:
    depth = np.geomspace(1, high, SIZE[0] * SIZE[1]).reshape(SIZE).astype(np.float32)
    sample = packed(tmp_path, depth, space=space)
    assert sample.depth is not None and sample.mask is not None and sample.mask.all()
    assert (np.abs(sample.depth.astype(float) - depth) / depth).max() < 1e-4
    [row] = inspect(f"{tmp_path}/a.tar")
    assert row["codec"] == "log16"


FAR = "if the number 1e+10 means 'not measured', such as a sky, add it (--invalid 0,1e+10)"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({}, "codec log16 cannot hold values from 1 to 1e+10: "),
        ({}, f"{FAR} or limit --max_depth; --codec npy stores any range exactly"),
        ({"codec": "png16"}, "codec png16 cannot hold values from 1 to 1e+10: "),
        ({"scale": 0.001}, "from 0.001 to 1e+07: "),
        ({"scale": 0.001}, FAR),
        ({"space": "scale disparity"}, f"{FAR}; --codec npy"),
        ({"space": "affine disparity"}, "codec png16 cannot hold values from 1 to 1e+10: "),
        ({"space": "affine disparity"}, "that half of them span, and 0.05 is allowed: " + FAR),
    ],
)
def test_a_far_sky_is_refused_and_named(settings: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"a_depth\.npy, sample 'a': .*{re.escape(sentence)}"):
        packed(tmp_path, with_sky(NEAR, 1e10), **settings)
    assert not (tmp_path / "a.tar").exists()


def test_a_stray_near_value_is_named_too(tmp_path: Path) -> None:
    depth = NEAR.copy()
    depth[0, 0] = 1e-7
    with pytest.raises(UserError, match=r"from 1e-07 to 10: .*if the number 1\.0000000116860974e-07 means"):
        packed(tmp_path, depth)
    assert not packed(tmp_path, depth, invalid="0,1.0000000116860974e-07").mask[
        0, 0
    ]  # as the sentence has it


@pytest.mark.parametrize(
    "settings",
    [{"invalid": "0,1e10"}, {"max_depth": 100}, {"max_depth": 10}, {"max_depth": 20, "space": "scale depth"}],
)
def test_a_sky_may_be_invalid(settings: dict[str, Any], tmp_path: Path) -> None:
    sample = packed(tmp_path, with_sky(NEAR, 1e10), **settings)
    assert sample.depth is not None and sample.mask is not None
    measured = with_sky(NEAR, 0) > 0
    assert np.array_equal(sample.mask, measured)
    np.testing.assert_allclose(sample.depth[measured], NEAR[measured], rtol=1e-4)


def test_any_range_can_be_stored_exactly(tmp_path: Path) -> None:
    sample = packed(tmp_path, with_sky(NEAR, 1e10), codec="npy")
    assert np.array_equal(sample.depth, with_sky(NEAR, 1e10))


def test_max_depth_bounds_disparity_from_below(tmp_path: Path) -> None:
    disparity = (1 / NEAR).astype(np.float32)
    sample = packed(tmp_path, with_sky(disparity, 1e-9), space="metric disparity", max_depth=5)
    assert sample.space == METRIC_DISPARITY and sample.mask is not None
    assert np.array_equal(sample.mask, with_sky(disparity, 0) >= 0.2)


def test_what_numbers_are_depth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    depth = NEAR.astype(np.float64)
    depth[0, :8] = [np.nan, np.inf, -np.inf, 0.0, -1.0, 1e300, -1e300, 1e-60]
    sample = packed(tmp_path, depth)
    assert sample.mask is not None
    assert not sample.mask[0, :8].any() and sample.mask.sum() == depth.size - 8
    assert (
        f"metric depth from {NEAR[0, 8]:.4g} to 10 in log16, 99.0% of pixels valid" in capsys.readouterr().out
    )
    affine = packed(
        tmp_path, np.where(np.isfinite(depth), depth, 0), space="affine depth", invalid="1e300,-1e300"
    )
    assert affine.mask is not None and affine.depth is not None
    assert affine.mask[0, [3, 4, 7]].all() and affine.mask.sum() == depth.size - 2
    assert affine.depth[0, 4] == -1
    with pytest.raises(
        UserError, match=r"a_depth\.npy has no valid pixel: its numbers are -10 to -1, scale 1, for metric"
    ):
        packed(tmp_path, -NEAR)


def test_a_picture_of_depth_is_refused(tmp_path: Path) -> None:
    colored = np.zeros((*SIZE, 3), np.uint8)
    with pytest.raises(UserError, match=r"a_depth\.png has mode RGB, as a colored picture of depth has"):
        packed(tmp_path, colored)
    gray = np.full(SIZE, 200, np.uint8)
    with pytest.raises(UserError, match=r"a_depth\.png has 8 bits, with which scale 0\.001 reaches 0\.255 m"):
        packed(tmp_path, gray, scale="0.001")
    assert packed(tmp_path, gray, scale="10/255").depth.max() == pytest.approx(10 * 200 / 255)
    photos(tmp_path, ["b.png"])
    (tmp_path / "b_depth.exr").write_bytes(b"\x76\x2f\x31\x01 and more")
    paths = {"images": f"{tmp_path}/b.png", "depth": f"{tmp_path}/b_depth.exr", "out": f"{tmp_path}/b.tar"}
    with pytest.raises(
        UserError, match=r"b_depth\.exr is not a PNG image, but an OpenEXR image; depth is read from"
    ):
        pack(**paths, format="labelled", scale=1)


def test_photos_of_other_formats_are_named_and_counted(tmp_path: Path) -> None:
    photos(tmp_path / "in", ["a.jpg", "b.jpg", "e.jpg"])
    for name in ("c.heic", "d.heic", "f.tif", "e.cr2"):  # e is a raw file beside its photo
        (tmp_path / "in" / name).write_bytes(b"II*\0")
    words = ("pack", "--images", tmp_path / "in", "--out", tmp_path / "a.tar")
    with pytest.raises(
        UserError, match=r"^2 \.heic and 1 \.tif of 6 images, .*c\.heic first, are of formats that"
    ):
        run(*words)
    assert run(*words, "--max_bad", 0.5) == 0
    assert list(index_tar(tmp_path / "a.tar").keys) == ["a", "b", "e"]


def test_disparity_and_arrays(tmp_path: Path) -> None:
    photos(tmp_path, ["cones.png"])
    disparity = np.full(SIZE, 200, np.uint8)
    disparity[0, 0] = 0
    (tmp_path / "cones.disparity.png").write_bytes(encode_png(disparity))
    common = {"images": f"{tmp_path}/cones.png", "format": "labelled", "space": "scale disparity"}
    pack(out=f"{tmp_path}/a.tar", depth=f"{tmp_path}/cones.disparity.png", scale=0.25, **common)
    [sample] = read(tmp_path / "a.tar", labelled=True)
    assert sample.space == SCALE_DISPARITY
    assert (sample.depth[sample.mask] == 50).all()
    assert not sample.mask[0, 0]
    np.save(tmp_path / "cones.npy", np.where(disparity > 0, 1 / 3, np.nan))
    pack(out=f"{tmp_path}/b.tar", depth=f"{tmp_path}/cones.npy", scale=1, codec="npy", **common)
    [sample] = read(tmp_path / "b.tar", labelled=True)
    assert (sample.depth[sample.mask] == np.float32(1 / 3)).all()


@pytest.mark.parametrize("layout", ["sa1b", "img2dataset"])
def test_unlabelled_photos_keep_their_camera_for_those_who_ask(layout: Layout, tmp_path: Path) -> None:
    photos(tmp_path / "in", ["a.jpg"])
    out = tmp_path / "photos.tar"
    words = ["--images", tmp_path / "in", "--out", out, "--format", layout, "--intrinsics", "40,41,15.5,11.5"]
    assert run("pack", *words) == 0
    index = index_tar(out)
    members = index.read(0)
    plain = decode_sample(index.keys[0], members, str(out), labelled=False)
    assert plain.intrinsics is None
    asked = decode_sample(index.keys[0], members, str(out), labelled=False, cameras=True)
    assert asked.intrinsics is not None
    assert asked.intrinsics.tolist() == [[40, 0, 15.5], [0, 41, 11.5], [0, 0, 1]]
    halved = decode_sample(index.keys[0], members, str(out), False, shorter_side_at_least=12, cameras=True)
    assert halved.image.shape == (12, 16, 3) and halved.intrinsics is not None
    assert halved.intrinsics.tolist() == [[20, 0, 7.5], [0, 20.5, 5.5], [0, 0, 1]]
    del members["json"]
    unknown = decode_sample(index.keys[0], members, str(out), labelled=False, cameras=True)
    assert unknown.intrinsics is None


def test_one_process_packs_into_a_place(tmp_path: Path) -> None:
    photos(tmp_path / "in", ["a.jpg"])
    place = tmp_path / "o" / "p-%06d.tar"
    busy = InUse(place.with_name(f".{place.name}.in_use"), "")
    context = multiprocessing.get_context("fork")
    taken, release = context.Event(), context.Event()
    other = context.Process(target=hold, args=(busy, taken, release))
    other.start()
    assert taken.wait(30)
    with pytest.raises(UserError, match=rf"p-%06d.tar is being packed by process {other.pid} on"):
        pack(f"{tmp_path}/in", str(place))
    release.set()
    other.join()
    assert pack(f"{tmp_path}/in", str(place)).samples == 1
    left = sorted(path.name for path in (tmp_path / "o").iterdir())
    assert left == ["depthkd-shards.json", "p-000000.tar", "p-000000.tar.index"]


def hold(busy: InUse, taken: Any, release: Any) -> None:
    busy.take()
    taken.set()
    release.wait(60)
