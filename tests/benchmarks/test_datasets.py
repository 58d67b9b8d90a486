"""The public benchmarks, from small files in their own formats."""

import io
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pytest

from depthkd.benchmarks.diode import DIODE
from depthkd.benchmarks.eth3d import ETH3D
from depthkd.benchmarks.files import FileBenchmark, shipped_split
from depthkd.benchmarks.kitti import KITTI
from depthkd.benchmarks.nyu import NYUv2
from depthkd.benchmarks.scannet import ScanNet
from depthkd.benchmarks.sintel import Sintel
from depthkd.formats.images import encode_jpeg
from depthkd.formats.sample import BadSample


def picture(height: int, width: int, jpeg: bool = False) -> bytes:
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return encode_jpeg(image) if jpeg else png(image)


def png(array: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".png", array)[1])


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def dpt(depth: np.ndarray) -> bytes:
    height, width = depth.shape
    return struct.pack("<fii", 202021.25, width, height) + depth.astype("<f4").tobytes()


NYU_DEPTH = np.full((480, 640), 2500, np.uint16)
NYU_DEPTH[100, 200] = 0
KITTI_DEPTH = np.zeros((375, 1242), np.uint16)
KITTI_DEPTH[200:, ::2] = 20 * 256
ETH_DEPTH = np.full((30, 40), 7.5, np.float32)
ETH_DEPTH[0] = np.inf
DIODE_DEPTH = np.full((12, 16, 1), 400.0, np.float32)
DIODE_MASK = np.ones((12, 16), np.float32)
DIODE_MASK[3] = 0
SINTEL_DEPTH = np.linspace(1, 9, 12 * 16).reshape(12, 16)

# class, list line, files, options, expected (size, valid pixels, one depth)
SETS: dict[str, tuple[type[FileBenchmark], str, dict[str, bytes], dict[str, Any], tuple[Any, int, float]]] = {
    "nyuv2": (
        NYUv2,
        "test/a/rgb_0001.png test/a/depth_0001.png test/a/filled_0001.png",
        {"test/a/rgb_0001.png": picture(480, 640), "test/a/depth_0001.png": png(NYU_DEPTH)},
        {},
        ((480, 640), 426 * 560 - 1, 2.5),
    ),
    "kitti": (
        KITTI,
        "2011/a.png depth/a.png 721.5",
        {"2011/a.png": picture(375, 1242), "depth/a.png": png(KITTI_DEPTH)},
        {},
        # rows 177 on of 352 (Eigen: 117 to 321) and every second column of 1216 (43 to 1172)
        ((352, 1216), (321 - 177) * (1172 // 2 - 43 // 2), 20.0),
    ),
    "eth3d": (
        ETH3D,
        "rgb/a.JPG depth/a.JPG",
        {"rgb/a.JPG": picture(30, 40, jpeg=True), "depth/a.JPG": ETH_DEPTH.tobytes()},
        {"height": 30, "width": 40},
        ((30, 40), 29 * 40, 7.5),
    ),
    "scannet": (
        ScanNet,
        "s/color/000300.jpg s/depth/000300.png",
        {"s/color/000300.jpg": picture(12, 16, jpeg=True), "s/depth/000300.png": png(NYU_DEPTH[:12, :16])},
        {},
        ((12, 16), 12 * 16, 2.5),
    ),
    "diode": (
        DIODE,
        "indoors/a.png indoors/a_depth.npy indoors/a_depth_mask.npy",
        {
            "indoors/a.png": picture(12, 16),
            "indoors/a_depth.npy": npy(DIODE_DEPTH),
            "indoors/a_depth_mask.npy": npy(DIODE_MASK),
        },
        {},
        ((12, 16), 11 * 16, 400.0),
    ),
    "sintel": (
        Sintel,
        "final/alley_1/frame_0001.png",
        {"final/alley_1/frame_0001.png": picture(12, 16), "depth/alley_1/frame_0001.dpt": dpt(SINTEL_DEPTH)},
        {},
        ((12, 16), 12 * 16, 9.0),
    ),
}
SIZES = {"nyuv2": 654, "kitti": 652, "eth3d": 454, "scannet": 800, "diode": 771, "sintel": 1064}

Root = Callable[[dict[str, bytes], bool], Path]


@pytest.fixture
def root(tmp_path: Path) -> Root:
    def make(files: dict[str, bytes], tar: bool) -> Path:
        if not tar:
            for name, data in files.items():
                path = tmp_path / "root" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            return tmp_path / "root"
        with tarfile.open(tmp_path / "root.tar", "w") as archive:
            for name, data in files.items():
                info = tarfile.TarInfo(f"./some_folder/{name}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        return tmp_path / "root.tar"

    return make


def opened(name: str, root: Path, **options: Any) -> FileBenchmark:
    kind, line, _, own, _ = SETS[name]
    split = root.parent / "split.txt"
    split.write_text(f"{line}\n\n")
    return kind(root, split=split, **(own | options))


@pytest.mark.parametrize("tar", [False, True])
@pytest.mark.parametrize("name", SETS)
def test_reads_its_own_format(name: str, tar: bool, root: Root) -> None:
    _, line, files, _, (size, valid, value) = SETS[name]
    benchmark = opened(name, root(files, tar))
    assert (benchmark.name, len(benchmark)) == (name, 1)
    sample = benchmark.sample(0)
    assert sample.key == line.split()[0]
    assert sample.image.shape == (*size, 3)
    assert sample.depth is not None
    assert sample.mask is not None
    assert sample.mask.sum() == valid
    assert sample.depth[sample.mask].max() == pytest.approx(value)
    assert str(sample.space) == "metric depth"


@pytest.mark.parametrize("name", SETS)
def test_ships_its_whole_list(name: str) -> None:
    kind = SETS[name][0]
    benchmark = kind("nowhere")
    assert len(benchmark) == SIZES[name]
    assert len(kind("nowhere", limit=7)) == 7
    with pytest.raises(FileNotFoundError, match="there is no nowhere; it would be a folder or a tar"):
        benchmark.sample(0)


@pytest.mark.parametrize("name", SETS)
def test_missing_and_truncated_files_are_sentences(name: str, root: Root) -> None:
    _, _, files, _, _ = SETS[name]
    truth = list(files)[1]
    missing = root({n: d for n, d in files.items() if n != truth}, False)
    with pytest.raises(BadSample, match=f"{truth.split('/')[-1]} cannot be read: No such file"):
        opened(name, missing).sample(0)
    (missing / truth).parent.mkdir(parents=True, exist_ok=True)
    (missing / truth).write_bytes(files[truth][: len(files[truth]) // 2])
    with pytest.raises(BadSample, match=truth.split("/")[-1]):
        opened(name, missing).sample(0)


def test_a_truth_without_a_valid_pixel_is_no_error_of_the_file(root: Root) -> None:
    files = SETS["eth3d"][2] | {"depth/a.JPG": np.full((30, 40), np.inf, np.float32).tobytes()}
    mask = opened("eth3d", root(files, False)).sample(0).mask
    assert mask is not None and not mask.any()


def test_image_and_truth_of_different_size(root: Root) -> None:
    files = SETS["sintel"][2] | {"depth/alley_1/frame_0001.dpt": dpt(SINTEL_DEPTH[:6])}
    with pytest.raises(BadSample, match=r"has \(12, 16\) pixels, but its truth \(6, 16\)"):
        opened("sintel", root(files, False)).sample(0)


def test_nyu_scores_what_was_measured_unless_told(root: Root) -> None:
    files = SETS["nyuv2"][2] | {"test/a/filled_0001.png": png(np.full((480, 640), 3000, np.uint16))}
    sample = opened("nyuv2", root(files, False), truth="filled").sample(0)
    assert sample.depth is not None
    assert sample.depth[100, 200] == 3


def test_kitti_crops(root: Root) -> None:
    path = root(SETS["kitti"][2], False)
    counts = {}
    for crop in ("eigen", "garg", "none"):
        mask = opened("kitti", path, crop=crop).sample(0).mask
        assert mask is not None
        counts[crop] = int(mask.sum())
    assert counts["garg"] == (349 - 177) * (1172 // 2 - 43 // 2)
    assert counts["none"] == (352 - 177) * 608
    whole = opened("kitti", path, crop="none", kb_crop=False).sample(0)
    assert whole.image.shape == (375, 1242, 3)


def test_diode_parts() -> None:
    names: tuple[Literal["all", "indoor", "outdoor"], ...] = ("all", "indoor", "outdoor")
    parts = {part: len(DIODE("nowhere", part=part)) for part in names}
    assert parts == {"all": 771, "indoor": 325, "outdoor": 446}
    assert DIODE("nowhere", part="indoor").name == "diode_indoor"
    assert DIODE("nowhere").protocol.clip_only  # 400 m above is scored, though predictions stop at 350


def test_kitti_drops_the_lines_without_truth() -> None:
    assert len(shipped_split("kitti_eigen_test_697.txt")) == 697


def test_a_split_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"'scannet': there is no list .*nowhere\.txt"):
        len(ScanNet(tmp_path, split=tmp_path / "nowhere.txt"))
