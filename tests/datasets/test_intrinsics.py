"""Cameras of whole folders, and of many files."""

import json
from pathlib import Path

import pytest

from depthkd.datasets.folder import FolderDataset
from depthkd.errors import UserError
from tests.datasets.files import picture, tarred, write

CAMERAS = {
    "001/camera/front_camera": [1970.0, 1970.5, 970.0, 483.25],
    "001/camera/back_camera": [933.5, 934.75, 896.75, 507.25],
    "002/camera/front_camera": [1970.5, 1971.0, 969.5, 483.0],
}


def drives(folder: Path) -> Path:
    """PandaSet's layout, with a camera in the folder of each one's images."""
    for name, numbers in CAMERAS.items():
        camera = dict(zip(("fx", "fy", "cx", "cy"), numbers, strict=True))
        write(
            folder / name,
            {"00.jpg": picture(4, 5, jpeg=True), "intrinsics.json": json.dumps(camera).encode()},
        )
    return folder


def cameras(images: FolderDataset) -> dict[str, list[float]]:
    """The folder of each image -> its camera."""
    found = {}
    for i in range(len(images)):
        matrix = images.sample(i).intrinsics
        assert matrix is not None
        found["/".join(images.key(i).split("/")[-4:-1])] = [
            matrix[0, 0],
            matrix[1, 1],
            matrix[0, 2],
            matrix[1, 2],
        ]
    return found


def test_a_file_of_one_camera_is_of_the_images_beside_it(tmp_path: Path) -> None:
    drives(tmp_path)
    pattern = f"{tmp_path}/*/camera/*"
    assert cameras(FolderDataset(f"{pattern}/*.jpg", intrinsics=f"{pattern}/intrinsics.json")) == CAMERAS
    one = f"{tmp_path}/001/camera/front_camera/intrinsics.json"
    with pytest.raises(
        UserError, match=r"has no intrinsics of 2 of 3 images, .*001/camera/back_camera/00\.jpg"
    ):
        FolderDataset(f"{pattern}/*.jpg", intrinsics=one)


def test_a_folder_is_the_same_however_its_path_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drives(tmp_path)
    monkeypatch.chdir(tmp_path / "002")
    roundabout, straight = "../001/camera/back_camera", f"{tmp_path}/001/camera/back_camera"
    for images, file in ((roundabout, straight), (straight, roundabout)):
        found = FolderDataset(f"{images}/00.jpg", intrinsics=f"{file}/intrinsics.json")
        assert found.cameras == [(933.5, 934.75, 896.75, 507.25)]


def test_an_entry_may_name_a_folder(tmp_path: Path) -> None:
    """The nearest folder counts, and what stands for an image itself before it."""
    write(tmp_path, {f"{d}/{s}/0.png": picture(4, 5) for d in "ab" for s in ("left", "right")})
    rows = {"a": 10, "left": 20, "a/right": 30, "b/right/0.png": 40, "b": 50}
    lines = ["image,fx,fy,cx,cy", *(f"{name},{fx},{fx},2,1.5" for name, fx in rows.items())]
    (tmp_path / "c.csv").write_text("\n".join(lines))
    images = FolderDataset(f"{tmp_path}/*/*/*.png", intrinsics=f"{tmp_path}/c.csv")
    assert [camera[0] for camera in images.cameras if camera] == [20, 30, 20, 40]
    (tmp_path / "c.csv").write_text(f"image,fx,fy,cx,cy\n{tmp_path.name},10,10,2,1.5\n")
    images = FolderDataset(f"{tmp_path}/*/*/*.png", intrinsics=f"{tmp_path}/c.csv")
    assert images.cameras == [(10, 10, 2, 1.5)] * 4


def test_images_in_a_tar_have_cameras_too(tmp_path: Path) -> None:
    write(tmp_path, {"a.tar": tarred({"left/0.png": picture(4, 5), "right/0.png": picture(4, 5)})})
    (tmp_path / "c.json").write_text('{"left": [10, 11, 2, 1], "a.tar/right/0.png": [20, 21, 2, 1]}')
    images = FolderDataset(f"{tmp_path}/a.tar", intrinsics=f"{tmp_path}/c.json")
    assert images.cameras == [(10, 11, 2, 1), (20, 21, 2, 1)]


def test_files_that_contradict_each_other_are_a_sentence(tmp_path: Path) -> None:
    write(tmp_path, {"0.png": picture(4, 5)})
    for name, fx in (("a", 10), ("b", 20)):
        (tmp_path / f"{name}.csv").write_text(f"image,fx,fy,cx,cy\n0.png,{fx},10,2,1\n")
    with pytest.raises(UserError, match=r"b\.csv: 0\.png has other intrinsics in another file of .*\*\.csv"):
        FolderDataset(f"{tmp_path}/0.png", intrinsics=f"{tmp_path}/*.csv")
    for text in ('{"fx": 10, "fy": 10, "cx": 2, "cy": "x"}', '{"fx": 0, "fy": 10, "cx": 2, "cy": 1}'):
        (tmp_path / "c.json").write_text(text)
        with pytest.raises(UserError, match=r"c\.json .*would be fx,fy,cx,cy in pixels, fx and fy above 0"):
            FolderDataset(f"{tmp_path}/0.png", intrinsics=f"{tmp_path}/c.json")
