"""Public benchmarks of depth completion, from small files in their owners' layouts."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import CenterCrop, Resize  # type: ignore[import-untyped]

from depthkd.benchmarks import VOID, CompletionBenchmark, ETH3DSfM, KITTICompletion, NYUv2
from depthkd.benchmarks.crops import nlspn_sized
from depthkd.benchmarks.roots import holdings
from depthkd.datasets.dataset import shipped_split
from depthkd.datasets.kitti_completion import some_lines
from depthkd.errors import UserError
from depthkd.formats.images import decode_image, encode_jpeg
from depthkd.formats.sample import BadSample, Sample
from tests.datasets.files import Root, known, picture, png

SELECTED = "depth_selection/val_selection_cropped"
DRIVE, FRAME = "2011_10_03_drive_0047_sync", "0000000761"
DAY = DRIVE[:10]
CAMERA = b"7.188560e+02 0.000000e+00 5.89e+02 0.0 7.188560e+02 1.532157e+02 0.0 0.0 1.0"
STREET = np.zeros((352, 1216), np.uint16)
STREET[150:, ::3] = 30 * 256
SCAN = np.zeros((352, 1216), np.uint16)
SCAN[100:350:4, ::7] = 5000


def kitti(drive: str = DRIVE, camera: str = "image_02") -> dict[str, bytes]:
    """One image of val_selection_cropped."""
    return {
        f"{SELECTED}/image/{drive}_image_{FRAME}_{camera}.png": picture(352, 1216),
        f"{SELECTED}/groundtruth_depth/{drive}_groundtruth_depth_{FRAME}_{camera}.png": png(STREET),
        f"{SELECTED}/velodyne_raw/{drive}_velodyne_raw_{FRAME}_{camera}.png": png(SCAN),
        f"{SELECTED}/intrinsics/{drive}_image_{FRAME}_{camera}.txt": CAMERA,
    }


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_kittis_selection(root: Root, kind: str) -> None:
    place = root(kitti() | kitti("2011_09_26_drive_0002_sync", "image_03"), kind)
    benchmark = KITTICompletion(place)
    assert len(benchmark) == 2 and benchmark.units == "mm" and benchmark.pattern == "lidar, 64 lines"
    sample = benchmark.sample(1)
    depth, mask, camera = known(sample)
    assert sample.key.endswith(f"{DRIVE}_image_{FRAME}_image_02.png")
    assert np.array_equal(depth, STREET / 256) and np.array_equal(mask, STREET > 0)
    assert sample.sparse is not None and np.array_equal(sample.sparse, SCAN / 256)
    assert camera.tolist() == [[718.856, 0, 589], [0, 718.856, 153.2157], [0, 0, 1]]
    low = KITTICompletion(place, lines=16, top_crop=96).sample(1)
    assert low.image.shape == (256, 1216, 3) and low.sparse is not None and low.intrinsics is not None
    assert np.array_equal(low.sparse, some_lines(sample.sparse, camera, 16)[96:])
    assert low.intrinsics[1, 2] == pytest.approx(153.2157 - 96)
    assert str(benchmark.protocol).startswith("completion: no fit, scored in depth, valid depth 0.001 to inf")


def test_kittis_whole_validation(root: Root) -> None:
    whole = np.zeros((375, 1242), np.uint16)
    whole[23:, 13:1229] = STREET
    drive = "2011_09_26_drive_0002_sync"
    frame = f"image_02/{FRAME}.png"
    files = {
        f"data_depth_annotated/val/{drive}/proj_depth/groundtruth/{frame}": png(whole),
        f"data_depth_annotated/train/{DRIVE}/proj_depth/groundtruth/{frame}": png(whole),
        f"data_depth_velodyne/val/{drive}/proj_depth/velodyne_raw/{frame}": png(whole),
        f"raw/2011_09_26/{drive}/image_02/data/{FRAME}.png": picture(375, 1242),
    }
    sample = KITTICompletion(root(files), split="val").sample(0)
    depth, _, camera = known(sample)
    assert np.array_equal(depth, STREET / 256) and sample.sparse is not None
    assert np.array_equal(sample.sparse, STREET / 256)
    assert camera[:2, 2].tolist() == pytest.approx([609.5593 - 13, 172.8540 - 23])


def lines_slowly(sparse: np.ndarray, camera: np.ndarray, lines: int) -> np.ndarray:
    """OMNI-DC's, a point after the other."""
    inverse, angles = np.linalg.inv(camera), {}
    for row, column in np.argwhere(sparse > 0).tolist():
        point = inverse @ np.array([column, row, 1.0]) * sparse[row, column]
        angles[row, column] = np.arcsin(point[1] / np.linalg.norm(point))
    low, high = min(angles.values()), max(angles.values())
    found = np.zeros_like(sparse)
    for place, angle in angles.items():
        if np.round((angle - low) / ((high - low) / 64)) % (64 / lines) == 0:
            found[place] = sparse[place]
    return found


@pytest.mark.parametrize("lines", [64, 32, 8, 1])
def test_fewer_lines_of_a_scan(lines: int) -> None:
    rng = np.random.default_rng(0)
    sparse = np.where(rng.random((40, 60)) < 0.4, rng.uniform(1, 50, (40, 60)), 0).astype(np.float32)
    camera = np.array([[50.0, 0, 28], [0, 55, 3], [0, 0, 1]])
    found = some_lines(sparse, camera, lines)
    assert np.array_equal(found, lines_slowly(sparse, camera, lines))
    assert lines == 64 or 0 < (found > 0).sum() < (sparse > 0).sum()


def test_scans_without_points_or_of_one_and_impossible_lines(root: Root) -> None:
    empty, camera = np.zeros((4, 5), np.float32), np.eye(3)
    assert not some_lines(empty, camera, 8).any()
    empty[2, 3] = 4
    assert some_lines(empty, camera, 8)[2, 3] == 4
    with pytest.raises(UserError, match="lines would be 64, 32, 16, 8, 4, 2 or 1, not 48"):
        KITTICompletion("nowhere", lines=48)
    with pytest.raises(UserError, match="top_crop would be 0 to 351 rows, not 400"):
        KITTICompletion("nowhere", top_crop=400)
    lacking = {name: data for name, data in kitti().items() if "velodyne" not in name}
    benchmark = KITTICompletion(root(lacking | {"other.png": png(SCAN)}))
    (missing,) = benchmark.dataset.missing()
    assert missing.endswith(f"velodyne_raw/{DRIVE}_velodyne_raw_{FRAME}_image_02.png")
    with pytest.raises(BadSample, match=r"velodyne_raw_0000000761_image_02.png cannot be read: No such file"):
        benchmark.sample(0)


ROOM = np.full((48, 64), 3 * 256, np.uint16)
ROOM[:3], ROOM[-3:] = 0, 7 * 256
TRACKED = np.zeros((48, 64), np.uint16)
TRACKED[::9, ::9] = 700


def void(density: str, sequence: str = "birthplace_of_internet") -> dict[str, bytes]:
    """Two images of one sequence, with the owners' lists."""
    names = ("1552695287.3581", "1552695288.1")
    data = f"void_{density}/data/{sequence}"
    files = {f"{data}/K.txt": b"5.1e+02 0 3.1e+01\n0 5.2e+02 2.3e+01\n0 0 1\n"}
    for kind, content in (
        ("image", picture(48, 64)),
        ("ground_truth", png(ROOM)),
        ("sparse_depth", png(TRACKED)),
    ):
        files |= {f"{data}/{kind}/{name}.png": content for name in names}
        files[f"void_{density}/test_{kind}.txt"] = "\n".join(f"{data}/{kind}/{n}.png" for n in names).encode()
    return files | {f"void_{density}/test_intrinsics.txt": f"{data}/K.txt\n{data}/K.txt\n".encode()}


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_void(root: Root, kind: str) -> None:
    place = root(void("1500") | void("150"), kind)
    benchmark = VOID(place, "150")
    assert len(benchmark) == 2 and benchmark.pattern == "150 points of visual-inertial odometry"
    sample = benchmark.sample(1)
    depth, mask, camera = known(sample)
    assert sample.key == "void_150/data/birthplace_of_internet/image/1552695288.1.png"
    assert sample.sparse is not None and np.array_equal(sample.sparse, TRACKED / 256)
    assert np.array_equal(depth, ROOM / 256) and np.array_equal(mask, ROOM > 0)
    assert (camera[0, 0], camera[1, 2], benchmark.units) == (510.0, 23.0, "mm")
    assert (benchmark.protocol.min_depth, benchmark.protocol.max_depth) == (0.2, 5.0)
    assert len(VOID(place)) == 2
    with pytest.raises(
        ValueError, match=r"has no void_500/test_image.txt; it would hold void_\{1500,500,150\}"
    ):
        len(VOID(place, "500"))


def test_void_of_one_density_and_broken_lists(root: Root, tmp_path: Path) -> None:
    place = root(void("500"))
    assert VOID(place / "void_500", "500").sample(0).sparse is not None
    with pytest.raises(ValueError, match=r"void_500 has no void_1500/test_image\.txt"):
        len(VOID(place / "void_500"))
    wrong = place / "void_500/test_image.txt"
    wrong.write_text("data/birthplace_of_internet/image/1.png\n")
    with pytest.raises(
        UserError, match=r"'data/birthplace_of_internet/image/1.png' in void_500/test_image.txt of"
    ):
        len(VOID(place, "500"))
    wrong.write_text("void_500/data/a/image/1.png\n")
    with pytest.raises(UserError, match=r"a line an image, not 1 in void_500/test_image\.txt, 2 in"):
        len(VOID(place, "500"))


def test_nyu_at_the_size_of_nlspn(root: Root) -> None:
    rng = np.random.default_rng(0)
    raw = rng.integers(500, 9000, (480, 640)).astype(np.uint16)
    filled = raw.copy()
    raw[::5] = 0
    lines = [line.split() for line in shipped_split("nyuv2_test_654.txt")][:1]
    files = {lines[0][0]: picture(480, 640), lines[0][1]: png(raw), lines[0][2]: png(filled)}
    place = root(files)
    sample = NYUv2(place, truth="filled", crop="nlspn", depth_range=(1e-4, None)).sample(0)
    image = Image.fromarray(decode_image(files[lines[0][0]], "it"))
    depth = Image.fromarray((filled / 1000).astype(np.float32))
    theirs, their_depth = (np.asarray(CenterCrop((228, 304))(Resize(240)(one))) for one in (image, depth))
    ours, mask, camera = known(sample)
    assert np.array_equal(sample.image, theirs)
    np.testing.assert_allclose(ours, their_depth, rtol=1e-6)
    assert mask.all() and camera[0, 0] == pytest.approx(518.8579 / 2)
    assert camera[0, 2] == pytest.approx((325.5824 + 0.5) / 2 - 0.5 - 8)
    holes, mask, _ = known(NYUv2(place, crop="nlspn").sample(0))
    assert np.array_equal(holes, (raw / 1000).astype(np.float32)[1::2, 1::2][6:234, 8:312])
    assert np.array_equal(mask, holes > 0)
    points = CompletionBenchmark(NYUv2(place, crop="nlspn"), "500 points").sample(0).sparse
    assert points is not None and points.shape == (228, 304) and (points > 0).sum() == 500
    small = Sample("small", sample.image, ours, ours > 0)
    with pytest.raises(BadSample, match=r"small is 228 x 304, smaller than twice \(228, 304\)"):
        nlspn_sized(small, filled=True)


SCENE = "rgb/relief/images/dslr_images/DSC_0427.JPG"
IMAGES = b"""# Image list with two lines of data per image:
1 0.5 0.5 0.5 0.5 1 2 3 0 dslr_images/DSC_0427.JPG
40 64 7 44 60 8 12 8 -1 1000 300 9 2000.5 2000 7
2 1 0 0 0 0 0 0.5 0 dslr_images/DSC_0001.JPG

"""
POINTS = b"""# 3D point list
7 1.0 2.0 3.0 10 10 10 0.1 1 0
8 0.5 2.0 3.0 10 10 10 0.1 1 1
9 4 5 6 0 0 0 0.2
"""


def eth3d(scene: str = "relief") -> dict[str, bytes]:
    """One image of 3856 x 5136 pixels, two pixels larger at each side than the crop."""
    depth = np.full((3856, 5136), np.inf, np.float32)
    depth[::2] = 6.5
    name = SCENE.replace("relief", scene)
    return {
        name: encode_jpeg(np.full((3856, 5136, 3), 90, np.uint8)),
        f"depth/{scene}_dslr_depth/DSC_0427.JPG": depth.tobytes(),
        f"rgb/{scene}/dslr_calibration_jpg/cameras.txt": b"0 PINHOLE 5136 3856 3400 3410 2568 1928\n",
        f"rgb/{scene}/dslr_calibration_jpg/images.txt": IMAGES,
        f"rgb/{scene}/dslr_calibration_jpg/points3D.txt": POINTS,
    }


def test_eth3d_with_points_of_structure_from_motion(root: Root, tmp_path: Path) -> None:
    """The rotation carries x to y, y to z and z to x, so that depth is a point's y and 3."""
    lines = tmp_path / "list.txt"
    lines.write_text(f"{SCENE} depth/relief_dslr_depth/DSC_0427.JPG\n")
    benchmark = ETH3DSfM(root(eth3d()), height=3856, width=5136, split=lines)
    assert len(benchmark) == 1 and benchmark.group(0) == "indoors" and benchmark.dataset.missing() == []
    sample = benchmark.sample(0)
    depth, mask, camera = known(sample)
    assert sample.image.shape == (480, 640, 3) and mask.all() and np.all(depth == 6.5)
    expected = np.zeros((480, 640), np.float32)
    expected[64 // 8 - 1, 40 // 8 - 1] = expected[60 // 8 - 1, 44 // 8 - 1] = 2 + 3
    expected[300 // 8 - 1, 1000 // 8 - 1], expected[2000 // 8 - 1, 2000 // 8 - 1] = 5 + 3, 2 + 3
    assert sample.sparse is not None and np.array_equal(sample.sparse, expected)
    assert camera[0].tolist() == pytest.approx([425, 0, 2568 / 8 - 0.5 - 1])
    assert len(ETH3DSfM("nowhere", part="outdoor", split=lines)) == 0
    listed = ETH3DSfM("nowhere", part="indoor")
    assert 0 < len(listed) < len(ETH3DSfM("nowhere")) < 454 and listed.group(0) is None


def test_they_are_looked_for_below_a_root_where_they_are_named(root: Root) -> None:
    place = root({f"kitti_depth/{name}": data for name, data in kitti().items()})
    assert "kitti_completion" not in [h.name for h in holdings(place)]
    (found,) = holdings(place, ["kitti_completion"])
    assert (found.kind, found.samples, found.missing) == (KITTICompletion, 1, 0)
