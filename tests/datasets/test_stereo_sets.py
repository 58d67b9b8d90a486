"""IRS, HR-WSI and DIML: depth and disparity of stereo cameras, in their owners' layouts."""

import builtins
import io
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import pytest

from depthkd.batch import DepthSpace
from depthkd.datasets import DIML, HRWSI, IRS
from depthkd.datasets.encodings import read_exr
from depthkd.errors import UserError
from depthkd.formats.sample import BadSample
from depthkd.verbs.shards.pack import pack
from tests.datasets.files import Root, known, picture, png


def exr(**channels: np.ndarray) -> bytes:
    file = io.BytesIO()
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, channels).write(file)
    return file.getvalue()


DISPARITY = np.full((4, 6), 24, np.float32)
DISPARITY[0, :3] = 0, np.nan, -1


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_irs(root: Root, kind: str) -> None:
    place = "Store/ConvenienceStore"
    files = {
        f"{place}/l_00001.png": picture(4, 6),
        f"{place}/r_00001.png": b"not read",
        f"{place}/d_00001.exr": exr(G=DISPARITY),
        f"{place}/n_00001.exr": b"not read",
    }
    path = root({f"IRSDataset/{name}": data for name, data in files.items()}, kind)
    own = path.parent / "store_train.list"
    own.write_text(f"{place}/l_00001.png {place}/r_00001.png {place}/d_00001.exr {place}/n_00001.exr\t\n")
    for found in (IRS(path), IRS(path, own)):
        assert len(found) == 1 and found.missing() == []
        depth, mask, camera = known(found.sample(0))
        assert depth[3, 5] == 2.0 and mask.sum() == 21 and not mask[0, :3].any()  # 480 * .1 / 24
        assert np.isposinf(depth[0, 0]) and depth[0, 2] == 0
        assert camera.tolist() == [[480, 0, 479.5], [0, 480, 269.5], [0, 0, 1]]


def test_exr_of_halves_is_read_as_it_is() -> None:
    numbers = np.linspace(0.5, 6, 12).reshape(3, 4)
    for kind in (np.float16, np.float32):
        found = read_exr(exr(Y=numbers.astype(kind)), "d.exr")
        assert found.dtype == np.float32 and np.array_equal(found, numbers.astype(kind))


WHOLE = exr(G=np.random.default_rng(0).random((64, 64), np.float32))


def claiming(width: int) -> bytes:
    """The file with a data window that ends at column `width` - 1."""
    at = WHOLE.index(b"dataWindow\0box2i\0") + len(b"dataWindow\0box2i\0") + 4 + 8
    return WHOLE[:at] + (width - 1).to_bytes(4, "little") + WHOLE[at + 4 :]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "is not an OpenEXR image that can be read"),
        (b"\x89PNG", "is not an OpenEXR image that can be read"),
        (WHOLE[:60], "is not an OpenEXR image that can be read"),
        (WHOLE[:-500], "is not an OpenEXR image that can be read"),
        (claiming(2_000_000), r"claims 2000000 x 64 pixels of G; it would have one channel, and at most"),
        (exr(R=DISPARITY, G=DISPARITY, B=DISPARITY), "claims 6 x 4 pixels of .*; it would have one channel"),
    ],
)
def test_a_broken_exr_is_a_bad_sample(data: bytes, sentence: str) -> None:
    with pytest.raises(BadSample, match=f"^d {sentence}"):
        read_exr(data, "d")


def test_a_missing_package_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "OpenEXR":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        UserError, match=r"d\.exr is read by OpenEXR, which is .*pip install 'depthkd\[exr\]'"
    ):
        read_exr(WHOLE, "d.exr")


def web(part: str) -> dict[str, bytes]:
    disparity = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
    valid = np.full((4, 6), 255, np.uint8)
    valid[1] = 0
    return {
        f"{part}/imgs/a b.jpg": picture(4, 6, jpeg=True),
        f"{part}/gts/a b.png": png(disparity),
        f"{part}/valid_masks/a b.png": png(valid),
    }


def test_hrwsi_has_no_scale_and_no_offset(root: Root, tmp_path: Path) -> None:
    path = root(web("train") | web("val"))
    found = HRWSI(path)
    assert len(found) == 1 and found.missing() == []
    assert [HRWSI(path, "val").lines[0][0], found.lines[0][0]] == ["val/imgs/a b.jpg", "train/imgs/a b.jpg"]
    assert len(HRWSI(path / "val", "val")) == 1 and len(HRWSI(path / "val")) == 0
    sample = found.sample(0)
    assert sample.space == DepthSpace.parse("affine disparity")
    assert sample.depth is not None and sample.mask is not None
    assert sample.depth[0, :3].tolist() == [0, 10, 20] and sample.depth[3, 5] == 230
    assert sample.mask[0].all() and not sample.mask[1].any()  # 0 is a disparity, too
    assert pack(dataset="hrwsi", root=str(path), out=f"{tmp_path}/o.tar").samples == 1
    (path / "train/valid_masks/a b.png").write_bytes(png(np.zeros((2, 2), np.uint8)))
    with pytest.raises(
        BadSample, match=r"valid_masks/a b.png has \(2, 2\) pixels, but .*gts/a b.png \(4, 6\)"
    ):
        found.sample(0)


MILLIMETERS = np.full((4, 6), 1500, np.uint16)
MILLIMETERS[0, :2] = 0, 65535
CONFIDENCE = np.full((4, 6), 255, np.uint8)
CONFIDENCE[3] = 152  # of 255: .596
CONFIDENCE[2] = 154  # .604


def diml() -> dict[str, bytes]:
    """The owners' sample and raw data, each indoors and outdoors."""
    image, depth, sure = picture(4, 6), png(MILLIMETERS), png(CONFIDENCE)
    files: dict[str, bytes] = {}
    for part in ("train", "test"):
        for size in ("HR", "LR"):
            inside, outside = f"indoor/{part}/{size}/Cafe", f"outdoor/{part}/{size}"
            files[f"{inside}/color/in_00_160126_155024_c.png"] = image
            files[f"{inside}/depth_filled/in_00_160126_155024_depth_filled.png"] = depth
            files[f"{outside}/outleft/7.png"] = image
            files[f"{outside}/depthmap/7.png"] = depth
            files[f"{outside}/confidencemap/7.png"] = sure
    hall, street = "raw/16. Billiard Hall/160126/2", "raw/170721_C0/1"
    files[f"{hall}/col/in_k_00_160126_155025_c.png"] = image
    files[f"{hall}/up_png/in_k_00_160126_155025_ud.png"] = depth
    files[f"{street}/left/170721_C0_000_left.png"] = image
    files[f"{street}/depth/170721_C0_000_depth.png"] = depth
    files[f"{street}/conf/170721_C0_000_conf.png"] = sure
    return files


@pytest.mark.parametrize("kind", ["folder", "tar"])
def test_diml(root: Root, kind: str) -> None:
    path = root(diml(), kind)
    found = DIML(path)
    prefix = "" if kind == "folder" else "some_folder/"
    assert [line[0].removeprefix(prefix) for line in found.lines] == [
        "indoor/train/HR/Cafe/color/in_00_160126_155024_c.png",
        "outdoor/train/HR/outleft/7.png",
        "raw/16. Billiard Hall/160126/2/col/in_k_00_160126_155025_c.png",
        "raw/170721_C0/1/left/170721_C0_000_left.png",
    ]
    assert found.missing() == []
    for index, valid in enumerate((22, 16, 22, 16)):
        sample = found.sample(index)
        assert sample.depth is not None and sample.mask is not None
        assert sample.depth[2, 3] == 1.5 and sample.mask.sum() == valid and not sample.mask[0, :2].any()
    assert len(DIML(path, "test")) == 2 and len(DIML(path, "train", resolution="LR")) == 4
    mask = DIML(path, confidence=0.5).sample(1).mask
    assert mask is not None and mask.sum() == 22
    with pytest.raises(UserError, match="confidence is from 0 to 1, and not 2"):
        DIML(path, confidence=2)


def test_diml_says_what_is_missing_or_differs(root: Root) -> None:
    files = diml()
    lone = "raw/170721_C0/1/conf/170721_C0_000_conf.png"
    path = root({name: data for name, data in files.items() if name != lone})
    assert DIML(path).missing() == ["raw/170721_C0/1/conf/170721_C0_000.png"]
    (path / "outdoor/train/HR/confidencemap/7.png").write_bytes(png(np.zeros((2, 2), np.uint8)))
    with pytest.raises(
        BadSample, match=r"confidencemap/7.png has \(2, 2\) pixels, but .*depthmap/7.png \(4, 6"
    ):
        DIML(path).sample(1)


def test_they_are_packed_by_name(root: Root, tmp_path: Path) -> None:
    assert pack(dataset="diml", root=str(root(diml())), out=f"{tmp_path}/d.tar").samples == 4
    files = {"Home/A/l_1.png": picture(4, 6), "Home/A/d_1.exr": exr(G=DISPARITY)}
    assert pack(dataset="irs", root=str(root(files, "zip")), out=f"{tmp_path}/i.tar").samples == 1
