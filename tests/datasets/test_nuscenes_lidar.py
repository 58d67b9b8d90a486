"""nuScenes' points drawn into images, with values computed by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from depthkd.benchmarks.public import NuScenes as Benchmark
from depthkd.datasets import NuScenes
from depthkd.datasets.nuscenes_lidar import drawn, read_points
from depthkd.errors import MissingFileError, UserError
from depthkd.formats.sample import BadSample
from depthkd.verbs.shards.pack import pack
from tests.datasets.files import Root, known, picture, png

HALF = 0.5**0.5
IMAGE, SCAN = "samples/CAM_FRONT/a__CAM_FRONT__1.jpg", "samples/LIDAR_TOP/a__LIDAR_TOP__1.pcd.bin"
# The car looks along the world's y. The LiDAR, x to the right and y forward, is 1 m before and 2 m above the
# car's origin; the camera 2 m before and 1.5 m above. Between the two, the car moves 1 m ahead. So the point
# (x, y, z) of the LiDAR is (x, -z - .5, y - 2) in the camera's frame.
SENSORS = {
    "lidar": {"translation": [1, 0, 2], "rotation": [HALF, 0, 0, -HALF], "camera_intrinsic": []},
    "camera": {
        "translation": [2, 0, 1.5],
        "rotation": [0.5, -0.5, 0.5, -0.5],
        "camera_intrinsic": [[10, 0, 8], [0, 10, 6], [0, 0, 1]],
    },
}
EGOS = {"before": [100, 50, 0], "after": [100, 51, 0], "never": [0, 0, 0]}
POINTS = [
    (0, 12, -0.5),  # 10 m ahead, in pixel (8, 6)
    (0, 7, -0.5),  # 5 m ahead, in the same pixel
    (3, 12, -1.5),  # 10 m ahead, 3 right, 1 down
    (6.8, 12, -0.5),  # at 14.8, the last column that counts
    (7.2, 12, -0.5),  # at 15.2, too close to the edge
    (-7.2, 12, -0.5),  # at 0.8, likewise
    (0, 12, -5.7),  # at row 11.2, likewise
    (0, 2.9, -0.5),  # 0.9 m ahead, too near
    (0, -5, -0.5),  # behind
]


def table(records: dict[str, dict[str, Any]]) -> bytes:
    """As the owners write them."""
    return json.dumps([{"token": token, **record} for token, record in records.items()], indent=0).encode()


def file(name: str, ego: str, sensor: str, sample: str = "s1") -> dict[str, Any]:
    tokens = {"sample_token": sample, "ego_pose_token": ego, "calibrated_sensor_token": sensor}
    return {**tokens, "filename": name, "is_key_frame": name.startswith("samples"), "prev": "", "next": ""}


def scene() -> dict[str, bytes]:
    points = np.array([(*point, 7, 1) for point in POINTS], "<f4")
    files = {
        "scan": file(SCAN, "before", "lidar"),
        "sweep": file("sweeps/LIDAR_TOP/b.pcd.bin", "never", "lidar"),
        "radar": file("samples/RADAR_FRONT/a.pcd", "never", "lidar"),
        "image": file(IMAGE, "after", "camera"),
        "absent": file("samples/CAM_BACK/b.jpg", "after", "camera"),
        "lone": file("samples/CAM_FRONT/c.jpg", "after", "camera", "s2"),
    }
    egos = {t: {"translation": at, "rotation": [HALF, 0, 0, HALF]} for t, at in EGOS.items()}
    return {
        IMAGE: picture(12, 16, jpeg=True),
        SCAN: points.tobytes(),
        "samples/CAM_FRONT/c.jpg": picture(12, 16, jpeg=True),
        "v1.0-mini/sample_data.json": table(files),
        "v1.0-mini/calibrated_sensor.json": table(SENSORS),
        "v1.0-mini/ego_pose.json": table(egos),
    }


@pytest.mark.parametrize("kind", ["folder", "tar"])
def test_points_are_drawn_where_the_camera_saw_them(root: Root, kind: str) -> None:
    prefix = "" if kind == "folder" else "some_folder/"
    found = NuScenes(root(scene(), kind))
    assert found.lines == [[prefix + IMAGE, prefix + SCAN]] and found.missing() == []
    assert "recordings" in vars(found)  # so that a process that packs gets it
    depth, mask, camera = known(found.sample(0))
    expected = np.zeros((12, 16), np.float32)
    expected[6, 8], expected[7, 11], expected[6, 15] = 5, 10, 10
    np.testing.assert_allclose(depth, expected, rtol=1e-6)
    assert np.array_equal(mask, expected > 0)
    assert camera.tolist() == [[10, 0, 8], [0, 10, 6], [0, 0, 1]]


def test_the_steps_are_the_devkits(root: Root) -> None:
    """Random frames, against matrices made of the quaternions by their formula."""
    rng = np.random.default_rng(0)

    def matrix(rotation: np.ndarray) -> np.ndarray:
        w, x, y, z = rotation / np.linalg.norm(rotation)
        return np.array(
            [
                [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
                [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
                [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
            ]
        )

    frames = {token: (rng.normal(size=3) * 20, rng.normal(size=4)) for token in ("l", "c", "b", "a")}
    told = {
        t: {"translation": list(at), "rotation": list(q), "camera_intrinsic": []}
        for t, (at, q) in frames.items()
    }
    files = {"scan": file(SCAN, "b", "l"), "image": file(IMAGE, "a", "c")}
    tables = {"sample_data": files, "calibrated_sensor": told, "ego_pose": told}
    path = root({f"v1.0-mini/{name}.json": table(records) for name, records in tables.items()})
    recordings = NuScenes(path).recordings
    points = rng.normal(size=(20, 3)) * 30
    expected = points.T
    for token in ("l", "b"):
        at, rotation = frames[token]
        expected = matrix(rotation) @ expected + at[:, None]
    for token in ("a", "c"):
        at, rotation = frames[token]
        expected = matrix(rotation).T @ (expected - at[:, None])
    np.testing.assert_allclose(recordings.in_camera(points, SCAN, IMAGE), expected.T, atol=1e-10)


def test_lists_name_files_from_samples_on_wherever_they_stand(root: Root) -> None:
    path = root(scene(), "tar")
    (path.parent / "list.txt").write_text(f"{IMAGE} {SCAN}\n")
    assert known(NuScenes(path, path.parent / "list.txt").sample(0))[1].sum() == 3


def test_what_was_drawn_before_is_read_instead(root: Root) -> None:
    depth = np.full((12, 16), 7 * 256, np.uint16)
    path = root(scene() | {IMAGE.replace("samples", "depth").replace("jpg", "png"): png(depth)})
    found = NuScenes(path)
    assert found.lines[0][1].endswith(".png") and "recordings" not in vars(found)
    mask = found.sample(0).mask
    assert mask is not None and mask.all()
    (path.parent / "list.txt").write_text(f"{IMAGE} {SCAN}\n")
    assert known(NuScenes(path, path.parent / "list.txt").sample(0))[1].sum() == 3
    assert known(Benchmark(path, split=path.parent / "list.txt").sample(0))[0].max() == 10


def test_roots_without_tables_or_points(root: Root) -> None:
    files = scene()
    with pytest.raises(MissingFileError, match=r"has no images with depth or points; it would hold v1\.0-"):
        NuScenes(root({IMAGE: files[IMAGE], SCAN: files[SCAN]})).lines  # noqa: B018
    path = root({IMAGE: files[IMAGE], SCAN: files[SCAN]}, "tar")
    (path.parent / "list.txt").write_text(f"{IMAGE} {SCAN}\n")
    with pytest.raises(MissingFileError, match="without which no points can be drawn; it would hold"):
        NuScenes(path, path.parent / "list.txt").lines  # noqa: B018


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("sample_data", b"{}", "sample_data.json is no list of records, or is cut off"),
        ("sample_data", scene()["v1.0-mini/sample_data.json"][:-20], "is no list of records, or is cut off"),
        ("sample_data", table({"x": {"file": 1}}), r"sample_data.json is not a table .*'filename'"),
        ("ego_pose", table({"before": {"translation": [0, 0, 0]}}), "ego_pose.json is not a table of "),
        ("ego_pose", b"[\n]", "do not go together: none has the token 'before'"),
        ("calibrated_sensor", table(SENSORS | {"lidar": SENSORS["camera"] | {"rotation": [0, 0, 0, 0]}}),
         "calibrated_sensor.json is not a table of nuScenes: .*translation and rotation of lidar are"),
    ],
)  # fmt: skip
def test_broken_tables_are_sentences(root: Root, name: str, data: bytes, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        NuScenes(root(scene() | {f"v1.0-mini/{name}.json": data})).lines  # noqa: B018


def test_files_that_no_table_knows_and_points_that_are_cut_off(root: Root) -> None:
    path = root(scene() | {SCAN: bytes(27), "other.jpg": picture(12, 16)})
    with pytest.raises(BadSample, match=r"LIDAR_TOP__1\.pcd\.bin has 27 bytes; points have 5 numbers of 4"):
        NuScenes(path).sample(0)
    (path / SCAN).write_bytes(bytes(40))
    (path.parent / "list.txt").write_text(f"other.jpg {SCAN}\n")
    with pytest.raises(BadSample, match=r"other\.jpg is no key frame in a table sample_data\.json"):
        NuScenes(path, path.parent / "list.txt").sample(0)


def test_points_that_are_not_finite_are_not_drawn() -> None:
    data = np.array(
        [(0, 0, 9, 1, 1), (np.nan, 0, 9, 1, 1), (0, 0, np.nan, 1, 1), (0, 0, np.inf, 1, 1)], "<f4"
    )
    camera = np.array([[10, 0, 8.0], [0, 10, 6], [0, 0, 1]])
    depth, mask = drawn(read_points(data.tobytes(), "p"), camera, 12, 16)
    assert mask.sum() == 1 and depth[6, 8] == 9


def test_a_scan_without_a_point_in_the_image_has_no_depth(root: Root) -> None:
    path = root(scene() | {SCAN: np.full((2, 5), np.nan, "<f4").tobytes()})
    mask = NuScenes(path).sample(0).mask
    assert mask is not None and not mask.any()


def test_it_is_packed_by_name(root: Root, tmp_path: Path) -> None:
    done = pack(dataset="nuscenes", root=str(root(scene())), out=f"{tmp_path}/o.tar")
    assert done.samples == 1
