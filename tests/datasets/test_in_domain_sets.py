"""ScanNet, KITTI and NYUv2 to train on: all that a root has, but what their benchmarks test on."""

from pathlib import Path

import numpy as np
import pytest

from depthkd.datasets import KITTI, NYUv2, ScanNet
from depthkd.errors import MissingFileError, UserError
from depthkd.verbs.shards.pack import pack
from tests.datasets.files import Root, known, picture, png

DAY, DRIVE = "2011_10_03", "2011_10_03_drive_0034_sync"
TESTED = "2011_09_26_drive_0002_sync"  # of Eigen's list


def scan(scene: str, camera: str) -> dict[str, bytes]:
    """Two frames of 130 x 97 with depth of 64 x 48: nearly of one shape, as 1296 x 968 and 640 x 480 are."""
    depth = np.full((48, 64), 2500, np.uint16)
    depth[0, 0], depth[0, 1], depth[47, 63] = 0, 65535, 4000
    matrix = b"571.62 0 319.5 0\n0 572.62 239.5 0\n0 0 1 0\n0 0 0 1\n"
    frames = {f"{scene}/color/{frame}.jpg": picture(97, 130, jpeg=True) for frame in (0, 20)}
    return {
        **frames,
        **{f"{scene}/depth/{frame}.png": png(depth) for frame in (0, 20)},
        f"{scene}/{camera}": matrix,
        f"{scene}/pose/0.txt": b"1",
    }


@pytest.mark.parametrize("camera", ["intrinsic/intrinsic_depth.txt", "intrinsics_depth.txt"])
@pytest.mark.parametrize("kind", ["folder", "tar"])
def test_scannet_trains_on_other_rooms_than_it_tests(root: Root, camera: str, kind: str) -> None:
    files = {f"scans/{name}": data for name, data in scan("scene0191_01", camera).items()}
    files |= {f"scans/{name}": data for name, data in scan("scene0406_00", camera).items()}  # _02 is tested
    found = ScanNet(root(files, kind), "train")
    prefix = "" if kind == "folder" else "some_folder/"
    assert [line[0] for line in found.lines] == [
        f"{prefix}scans/scene0191_01/color/0.jpg", f"{prefix}scans/scene0191_01/color/20.jpg",
    ]  # fmt: skip
    assert found.missing() == [] and found.sample(0).image.shape == (48, 64, 3)
    depth, mask, matrix = known(found.sample(0))
    assert depth[5, 5] == 2.5 and depth[47, 63] == 4 and not mask[0, :2].any() and (~mask).sum() == 2
    assert matrix.tolist() == [[571.62, 0, 319.5], [0, 572.62, 239.5], [0, 0, 1]]


def test_scannets_images_are_averaged_to_the_size_of_the_depth(root: Root) -> None:
    files = scan("scene0191_01", "intrinsics_depth.txt")
    files["scene0191_01/depth/0.png"] = png(np.full((10, 13), 1000, np.uint16))
    pixels = np.zeros((20, 26, 3), np.uint8)
    pixels[::2] = 200
    files["scene0191_01/color/0.png"] = png(pixels)
    files["scene0191_01/depth/1.png"] = png(np.full((8, 26), 1000, np.uint16))
    files["scene0191_01/color/2.jpg"] = picture(10, 13, jpeg=True)
    path = root(files)
    frames = ("color/0.png depth/0.png", "color/0.png depth/1.png", "color/2.jpg depth/0.png")
    lines = [" ".join(f"scene0191_01/{word}" for word in frame.split()) for frame in frames]
    (path.parent / "list.txt").write_text("\n".join(lines))
    found = ScanNet(path, path.parent / "list.txt")
    assert found.sample(0).image.tolist() == np.full((10, 13, 3), 100).tolist()
    assert found.image_file(0) == ("scene0191_01/color/0.png", None)
    assert found.image_file(2)[1] == files["scene0191_01/color/2.jpg"]  # of the same size: as it is
    with pytest.raises(UserError, match=r"has \(20, 26\) pixels, but its truth \(8, 26\)"):
        found.sample(1)


def test_scannets_lists_of_scenes_stand_for_their_images(root: Root, tmp_path: Path) -> None:
    camera = "intrinsics_depth.txt"
    path = root(scan("scene0000_00", camera) | scan("scene0001_00", camera) | scan("scene0002_00", camera))
    (tmp_path / "scannetv2_train.txt").write_text("scene0002_00\nscene0000_00\n")
    found = ScanNet(path, tmp_path / "scannetv2_train.txt")
    assert [line[0].partition("/")[0] for line in found.lines] == ["scene0000_00"] * 2 + ["scene0002_00"] * 2
    (tmp_path / "more.txt").write_text("scene0002_00\nscene0707_00\n")
    with pytest.raises(
        MissingFileError, match=r"no images of 1 of the 2 scenes in .*more.txt, scene0707_00 f"
    ):
        ScanNet(path, tmp_path / "more.txt").lines  # noqa: B018
    (tmp_path / "mixed.txt").write_text("scene0002_00\na.jpg b.png\n")
    with pytest.raises(UserError, match=r"the line 'scene0002_00' of .*mixed.txt would have 2 words or more"):
        ScanNet(path, tmp_path / "mixed.txt").lines  # noqa: B018


def streets(*drives: str) -> dict[str, bytes]:
    depth = np.zeros((4, 6), np.uint16)
    depth[3, 5] = 20 * 256
    files: dict[str, bytes] = {}
    for drive in drives:
        for camera in ("image_02", "image_03"):
            files[f"{drive[:10]}/{drive}/{camera}/data/0000000005.png"] = picture(4, 6)
            files[f"{drive[:10]}/{drive}/{camera}/data/0000000000.png"] = picture(4, 6)  # has no depth
            truth = f"{drive}/proj_depth/groundtruth/{camera}/0000000005.png"
            files[f"data_depth_annotated/train/{truth}"] = png(depth)
    return files


def test_kitti_trains_on_both_cameras_of_other_drives_than_eigen_tests(root: Root) -> None:
    path = root(streets(DRIVE, TESTED))
    found = KITTI(path, "train")
    assert len(found) == 2 and found.missing() == []
    assert [line[0].split("/")[1:3] for line in found.lines] == [[DRIVE, "image_02"], [DRIVE, "image_03"]]
    for index in range(2):
        depth, mask, camera = known(found.sample(index))
        assert depth[3, 5] == 20 and mask.sum() == 1
        assert camera.tolist() == [[718.856, 0, 607.1928], [0, 718.856, 185.2157], [0, 0, 1]]
    (path / DAY / DRIVE / "image_03/data/0000000005.png").unlink()
    assert found.missing() == [f"{DAY}/{DRIVE}/image_03/data/0000000005.png"]


def test_kittis_list_of_the_field_finds_raw_images_and_depth_below_their_folders(root: Root) -> None:
    files = streets(DRIVE)
    path = root({f"raw/{name}" if name.startswith(DAY) else name: data for name, data in files.items()})
    line = (
        f"{DAY}/{DRIVE}/image_02/data/0000000005.png "
        f"{DRIVE}/proj_depth/groundtruth/image_02/0000000005.png 718.856\n"
    )
    (path.parent / "eigen_train_files_with_gt.txt").write_text(line)
    found = KITTI(path, path.parent / "eigen_train_files_with_gt.txt")
    assert found.missing() == [] and known(found.sample(0))[0][3, 5] == 20
    assert KITTI(path, "train").lines[0] == found.lines[0][:2]
    with pytest.raises(MissingFileError, match="has no depth maps; it would hold"):
        KITTI(root({"x.png": b""}, "tar"), "train").lines  # noqa: B018


def test_nyu_trains_on_what_bts_synchronized(root: Root) -> None:
    depth = np.full((480, 640), 3000, np.uint16)
    depth[100, 100] = 0
    files = {
        "sync/kitchen_0028b/rgb_00045.jpg": picture(480, 640, jpeg=True),
        "sync/kitchen_0028b/sync_depth_00045.png": png(depth),
        "official_splits/test/bathroom/rgb_00045.jpg": b"not read",
        "official_splits/test/bathroom/sync_depth_00045.png": b"not read",
    }
    path = root(files)
    (path.parent / "nyudepthv2_train_files_with_gt.txt").write_text(
        "/kitchen_0028b/rgb_00045.jpg /kitchen_0028b/sync_depth_00045.png 518.8579\n"
    )
    listed = NYUv2(path, path.parent / "nyudepthv2_train_files_with_gt.txt")
    for found in (NYUv2(path, "train"), listed):
        assert len(found) == 1 and found.missing() == []
        values, mask, camera = known(found.sample(0))
        assert values[300, 300] == 3 and camera[0, 0] == 518.8579
        assert mask.sum() == 427 * 565 - 1  # rows 45 to 471, columns 43 to 607
        assert mask[45, 43] and mask[471, 607] and not mask[44, 43] and not mask[471, 608]
    with pytest.raises(UserError, match="has depth as it was measured alone; leave out truth"):
        NYUv2(path, "train", truth="filled").lines  # noqa: B018


def test_nyu_trains_on_marigolds_export(root: Root) -> None:
    files = {}
    for part in ("train/office_0003", "test/kitchen_0004"):
        files[f"{part}/rgb_0003.png"] = picture(4, 6)
        files[f"{part}/depth_0003.png"] = png(np.full((4, 6), 1500, np.uint16))
        files[f"{part}/filled_0003.png"] = png(np.full((4, 6), 1700, np.uint16))
    path = root(files)
    assert [line[0] for line in NYUv2(path, "train").lines] == ["train/office_0003/rgb_0003.png"]
    assert known(NYUv2(path, "train").sample(0))[0][0, 0] == 1.5
    assert known(NYUv2(path, "train", truth="filled").sample(0))[0][0, 0] == np.float32(1.7)


def test_they_are_packed_by_name(root: Root, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {f"scans/{n}": data for n, data in scan("scene0191_01", "intrinsic/intrinsic_depth.txt").items()}
    path = str(root(files))
    done = pack(dataset="scannet", root=path, split="train", out=f"{tmp_path}/o.tar")
    assert done.samples == 2 and "metric depth from 2.5 to 4" in capsys.readouterr().out
    with pytest.raises(UserError, match="--split takes test, train, or a list of those that are there"):
        pack(dataset="scannet", root=path, out=f"{tmp_path}/p.tar")
