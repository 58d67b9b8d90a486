"""The public benchmarks, from small files in their own formats."""

import struct
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from depthkd.benchmarks.public import (
    DIODE,
    ETH3D,
    KITTI,
    Booster,
    Hypersim,
    NuScenes,
    NYUv2,
    ScanNet,
    Sintel,
    Spring,
    UnrealStereo4K,
    VirtualKITTI2,
)
from depthkd.benchmarks.public_benchmark import PublicBenchmark
from depthkd.datasets.dataset import shipped_split
from depthkd.formats.sample import BadSample
from depthkd.metrics.catalogue import MetricSet
from tests.datasets.files import Root, hdf5, npy, picture, png


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
SPRING_DISPARITY = np.full((24, 32), np.nan, np.float32)  # what is not at even places must not be read
SPRING_DISPARITY[::2, ::2] = 4
SPRING_DISPARITY[0, ::2] = 0  # the sky
SPRING_DISPARITY[2, ::2] = np.nan
VIRTUAL_DEPTH = np.full((375, 1242), 65535, np.uint16)
VIRTUAL_DEPTH[200:, ::2] = 2000
HYPERSIM_DEPTH = np.full((12, 16), 2500, np.uint16)
HYPERSIM_DEPTH[0, :5] = 0
UNREAL_DISPARITY = np.full((12, 16), 96.0, np.float32)
UNREAL_DISPARITY[0] = 0  # the sky
BOOSTER_DISPARITY = np.full((48, 64), 40.0, np.float32)
BOOSTER_DISPARITY[:4, :8] = np.inf
STREET_DEPTH = np.zeros((12, 16), np.uint16)
STREET_DEPTH[6:, ::4] = 20 * 256
CALIBRATION = """<?xml version="1.0"?>
<opencv_storage>
<proj_matL type_id="opencv-matrix"><rows>3</rows><cols>4</cols><dt>d</dt>
  <data>1000. 0. 32. 0. 0. 1000. 24. 0. 0. 0. 1. 0.</data></proj_matL>
<proj_matR type_id="opencv-matrix"><rows>3</rows><cols>4</cols><dt>d</dt>
  <data>2000. 0. 32. -160000. 0. 2000. 24. 0. 0. 0. 1. 0.</data></proj_matR>
<baselineLR>80.</baselineLR>
</opencv_storage>
"""
VIRTUAL = "Scene01/clone/frames/{}/Camera_0/{}_00000.{}"

# class, list line, files, options, expected (size, valid pixels, one depth)
SETS: dict[
    str, tuple[type[PublicBenchmark], str, dict[str, bytes], dict[str, Any], tuple[Any, int, float]]
] = {
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
    "spring": (
        Spring,
        "0001/frame_left/a.png 0001/disp1_left/a.dsp5 2000.0 2000.0 960.0 540.0",
        {
            "0001/frame_left/a.png": picture(12, 16),
            "0001/disp1_left/a.dsp5": hdf5("disparity", SPRING_DISPARITY),
        },
        {},
        ((12, 16), 11 * 16, 200.0),  # 2000 * .065 / 4 = 32.5 m, and the sky drawn in
    ),
    "vkitti2": (
        VirtualKITTI2,
        f"{VIRTUAL.format('rgb', 'rgb', 'jpg')} {VIRTUAL.format('depth', 'depth', 'png')}",
        {
            VIRTUAL.format("rgb", "rgb", "jpg"): picture(375, 1242, jpeg=True),
            VIRTUAL.format("depth", "depth", "png"): png(VIRTUAL_DEPTH),
        },
        {},
        ((352, 1216), (321 - 177) * (1172 // 2 - 43 // 2), 20.0),
    ),
    "hypersim": (
        Hypersim,
        "ai_003_010/rgb_cam_00_fr0047.png ai_003_010/depth_plane_cam_00_fr0047.png",
        {
            "ai_003_010/rgb_cam_00_fr0047.png": picture(12, 16),
            "ai_003_010/depth_plane_cam_00_fr0047.png": png(HYPERSIM_DEPTH),
        },
        {},
        ((12, 16), 12 * 16 - 5, 2.5),
    ),
}
SETS["unrealstereo4k"] = (
    UnrealStereo4K,
    "Image0/00099.png Disp0/00099.npy 960.0",
    {"Image0/00099.png": picture(12, 16), "Disp0/00099.npy": npy(UNREAL_DISPARITY)},
    {},
    ((12, 16), 12 * 16, 200.0),  # 960 / 96 = 10 m, and the sky drawn in
)
SETS["booster"] = (
    Booster,
    "Bathroom/camera_00/im0.png Bathroom/disp_00.npy Bathroom/calib_00-02.xml",
    {
        "Bathroom/camera_00/im0.png": picture(48, 64),
        "Bathroom/disp_00.npy": npy(BOOSTER_DISPARITY),
        "Bathroom/calib_00-02.xml": CALIBRATION.encode(),
    },
    {},
    ((12, 16), 12 * 16 - 2, 2.0),  # 1000 * .08 / 40
)
SETS["nuscenes"] = (
    NuScenes,
    "samples/CAM_FRONT/a.jpg depth/CAM_FRONT/a.png",
    {"samples/CAM_FRONT/a.jpg": picture(12, 16, jpeg=True), "depth/CAM_FRONT/a.png": png(STREET_DEPTH)},
    {},
    ((12, 16), 6 * 4, 20.0),
)
SIZES = {
    "unrealstereo4k": 200,
    "nyuv2": 654,
    "kitti": 652,
    "eth3d": 454,
    "scannet": 800,
    "diode": 771,
    "sintel": 1064,
    "spring": 1015,
    "vkitti2": 5364,
}


def opened(name: str, root: Path, **options: Any) -> PublicBenchmark:
    kind, line, _, own, _ = SETS[name]
    split = root.parent / "split.txt"
    split.write_text(f"{line}\n\n")
    return kind(root, split=split, **(own | options))


@pytest.mark.parametrize("kind", ["folder", "tar", "zip"])
@pytest.mark.parametrize("name", SETS)
def test_reads_its_own_format(name: str, kind: str, root: Root) -> None:
    _, line, files, _, (size, valid, value) = SETS[name]
    benchmark = opened(name, root(files, kind))
    assert benchmark.dataset.missing() == []
    assert (benchmark.name, len(benchmark)) == (name, 1)
    sample = benchmark.sample(0)
    assert sample.key == line.split()[0]
    assert sample.image.shape == (*size, 3)
    assert sample.depth is not None
    assert sample.mask is not None
    assert sample.mask.sum() == valid
    assert sample.depth[sample.mask].max() == pytest.approx(value)
    assert str(sample.space) == "metric depth"


@pytest.mark.parametrize("name", SIZES)
def test_ships_its_whole_list(name: str) -> None:
    kind = SETS[name][0]
    benchmark = kind("nowhere")
    assert len(benchmark) == SIZES[name]
    assert len(kind("nowhere", limit=7)) == 7
    with pytest.raises(FileNotFoundError, match="there is no nowhere; it would be a folder, a tar or a zip"):
        benchmark.sample(0)


@pytest.mark.parametrize("name", SETS)
def test_missing_and_truncated_files_are_sentences(name: str, root: Root) -> None:
    _, _, files, _, _ = SETS[name]
    truth = list(files)[1]
    missing = root({n: d for n, d in files.items() if n != truth})
    assert opened(name, missing).dataset.missing() == [truth]
    with pytest.raises(BadSample, match=f"{truth.split('/')[-1]} cannot be read: No such file"):
        opened(name, missing).sample(0)
    (missing / truth).parent.mkdir(parents=True, exist_ok=True)
    (missing / truth).write_bytes(files[truth][: len(files[truth]) // 2])
    with pytest.raises(BadSample, match=truth.split("/")[-1]):
        opened(name, missing).sample(0)


def test_a_truth_without_a_valid_pixel_is_no_error_of_the_file(root: Root) -> None:
    files = SETS["eth3d"][2] | {"depth/a.JPG": np.full((30, 40), np.inf, np.float32).tobytes()}
    mask = opened("eth3d", root(files)).sample(0).mask
    assert mask is not None and not mask.any()


def test_image_and_truth_of_different_size(root: Root) -> None:
    files = SETS["sintel"][2] | {"depth/alley_1/frame_0001.dpt": dpt(SINTEL_DEPTH[:6])}
    with pytest.raises(BadSample, match=r"has \(12, 16\) pixels, but its truth \(6, 16\)"):
        opened("sintel", root(files)).sample(0)


def test_nyu_scores_what_was_measured_unless_told(root: Root) -> None:
    files = SETS["nyuv2"][2] | {"test/a/filled_0001.png": png(np.full((480, 640), 3000, np.uint16))}
    sample = opened("nyuv2", root(files), truth="filled").sample(0)
    assert sample.depth is not None
    assert sample.depth[100, 200] == 3


def test_kitti_crops(root: Root) -> None:
    path = root(SETS["kitti"][2])
    counts = {}
    for crop in ("eigen", "garg", "none"):
        mask = opened("kitti", path, crop=crop).sample(0).mask
        assert mask is not None
        counts[crop] = int(mask.sum())
    assert counts["garg"] == (349 - 177) * (1172 // 2 - 43 // 2)
    assert counts["none"] == (352 - 177) * 608
    whole = opened("kitti", path, crop="none", kb_crop=False).sample(0)
    assert whole.image.shape == (375, 1242, 3)


def test_spring_draws_the_sky_in_and_knows_its_camera(root: Root) -> None:
    sample = opened("spring", root(SETS["spring"][2])).sample(0)
    assert sample.depth is not None and sample.mask is not None
    assert (sample.depth[0] == 200).all() and not sample.mask[1].any()
    assert sample.depth[2:] == pytest.approx(2000 * 0.065 / 4)
    assert sample.intrinsics is not None
    assert sample.intrinsics.tolist() == [[2000, 0, 959.5], [0, 2000, 539.5], [0, 0, 1]]


def test_virtual_kitti_crops_its_camera_and_keeps_the_sky_far(root: Root) -> None:
    path = root(SETS["vkitti2"][2])
    sample = opened("vkitti2", path).sample(0)
    assert sample.intrinsics is not None and sample.depth is not None
    assert sample.intrinsics[:2, 2].tolist() == [620.5 - 13, 187 - 23]
    assert sample.depth[0] == pytest.approx(655.35)
    whole = opened("vkitti2", path, kb_crop=False, crop="none").sample(0)
    assert whole.intrinsics is not None and whole.mask is not None
    assert whole.intrinsics[:2, 2].tolist() == [620.5, 187]
    assert whole.mask.sum() == 175 * 621


def test_booster_has_two_cameras_with_lenses_of_their_own(root: Root) -> None:
    files = SETS["booster"][2]
    right = {
        "Bathroom/camera_02/im0.png": files["Bathroom/camera_00/im0.png"],
        "Bathroom/disp_02.npy": files["Bathroom/disp_00.npy"],
        "Bathroom/camera_00/mask.png": b"",
    }
    benchmark = Booster(root(files | right))
    assert [line[1] for line in benchmark.dataset.lines] == ["Bathroom/disp_00.npy", "Bathroom/disp_02.npy"]
    depths, cameras = [], []
    for sample in benchmark.samples():
        assert sample.depth is not None and sample.mask is not None and sample.intrinsics is not None
        depths.append(float(sample.depth[sample.mask].max()))
        cameras.append(sample.intrinsics.tolist())
    assert depths == pytest.approx([2.0, 4.0])
    assert cameras[0] == [[250.0, 0.0, 7.625], [0.0, 250.0, 5.625], [0.0, 0.0, 1.0]]
    assert cameras[1][0][0] == 500.0
    assert Booster(root(files), factor=1).sample(0).image.shape == (48, 64, 3)
    with pytest.raises(ValueError, match="factor must be at least 1"):
        Booster("nowhere", factor=0)


@pytest.mark.parametrize(
    ("calibration", "sentence"),
    [
        (CALIBRATION.replace("proj_matL", "other"), "lacks the matrix proj_matL or a baselineLR above 0"),
        (CALIBRATION.replace("80.", "0."), "lacks the matrix proj_matL or a baselineLR above 0"),
        ("not xml", "xml"),
    ],
)
def test_a_broken_calibration_is_a_sentence(calibration: str, sentence: str, root: Root) -> None:
    files = SETS["booster"][2] | {"Bathroom/calib_00-02.xml": calibration.encode()}
    with pytest.raises(BadSample, match=sentence):
        opened("booster", root(files)).sample(0)


def test_nuscenes_takes_a_thousand(root: Root) -> None:
    many = {f"samples/CAM_FRONT/{i:04}.jpg": b"" for i in range(1500)}
    truths = {f"depth/CAM_FRONT/{i:04}.png": b"" for i in range(1500)}
    benchmark = NuScenes(root(many | truths))
    spread = [benchmark.dataset.line(benchmark.place(i)) for i in range(len(benchmark))]
    assert (len(spread), spread[1][0]) == (1000, "samples/CAM_FRONT/0001.jpg")
    assert spread[-1][1] == "depth/CAM_FRONT/1498.png"
    assert len(NuScenes(root(many | truths), limit=1200)) == 1000
    seven = NuScenes(root(many | truths), limit=7)  # of the thousand, as version 0.1 drew them
    assert [seven.place(i) for i in range(7)] == [0, 213, 427, 642, 856, 1071, 1285]


def test_nuscenes_knows_its_cameras(root: Root) -> None:
    image, depth = SETS["nuscenes"][2].values()
    files = {"samples/CAM_BACK/a.jpg": image, "depth/CAM_BACK/a.png": depth, "samples/CAM_BACK/b.jpg": image}
    cameras = {"intrinsics.json": b'{"CAM_BACK": [800, 810, 8, 6]}'}
    benchmark = NuScenes(root(files | cameras))
    assert len(benchmark) == 1  # b has no depth
    known = benchmark.sample(0).intrinsics
    assert known is not None and known.tolist() == [[800, 0, 8], [0, 810, 6], [0, 0, 1]]
    with pytest.raises(BadSample, match=r"intrinsics\.json is broken"):
        NuScenes(root(files | {"intrinsics.json": b"[1]"})).sample(0)


@pytest.mark.parametrize("folders", [("rgb", "depth"), ("vkitti_2.0.3_rgb", "vkitti_2.0.3_depth")])
def test_virtual_kitti_is_found_below_its_two_folders(folders: tuple[str, str], root: Root) -> None:
    files = SETS["vkitti2"][2]
    benchmark = VirtualKITTI2(
        root({f"{f}/{name}": data for f, (name, data) in zip(folders, files.items(), strict=True)})
    )
    assert benchmark.dataset.lines[0] == list(files)
    assert len(benchmark.dataset.missing()) == 5363
    assert benchmark.sample(0).image.shape == (352, 1216, 3)


def test_the_list_of_virtual_kitti_is_marigolds() -> None:
    lines = VirtualKITTI2("nowhere").dataset.lines
    assert lines[446][0].endswith("clone/frames/rgb/Camera_0/rgb_00446.jpg")
    assert lines[447][0].endswith("clone/frames/rgb/Camera_1/rgb_00000.jpg")
    assert lines[1788][1] == "Scene01/overcast/frames/depth/Camera_0/depth_00000.png"
    assert lines[-1][1] == "Scene01/15-deg-right/frames/depth/Camera_1/depth_00446.png"


def test_what_can_be_measured() -> None:
    assert Sintel("nowhere").metrics == Spring("nowhere").metrics == (MetricSet.DEPTH, MetricSet.EDGES)
    assert ScanNet("nowhere").metrics == (MetricSet.DEPTH,)


def test_diode_parts() -> None:
    names: tuple[Literal["all", "indoor", "outdoor"], ...] = ("all", "indoor", "outdoor")
    parts = {part: len(DIODE("nowhere", part=part)) for part in names}
    assert parts == {"all": 771, "indoor": 325, "outdoor": 446}
    assert DIODE("nowhere", part="indoor").name == "diode_indoor"
    groups = [DIODE("nowhere").group(i) for i in range(771)]
    assert (groups.count("indoors"), groups.count("outdoor")) == (325, 446)
    assert DIODE("nowhere", limit=2).group(1) == "outdoor"
    assert DIODE("nowhere", part="indoor").group(0) is None
    assert DIODE("nowhere").protocol.clip_only  # 400 m above is scored, though predictions stop at 350


def test_kitti_drops_the_lines_without_truth() -> None:
    assert len(shipped_split("kitti_eigen_test_697.txt")) == 697


def test_a_split_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"'scannet': there is no list .*nowhere\.txt"):
        len(ScanNet(tmp_path, split=tmp_path / "nowhere.txt"))
