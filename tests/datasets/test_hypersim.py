"""Hypersim, by both namings; its samples are what the root holds."""

import numpy as np
import pytest
import torch

from depthkd.benchmarks.public import Hypersim
from depthkd.datasets.hypersim import SPLIT_TABLE, partition_lines
from depthkd.formats.sample import BadSample
from depthkd.geometry import back_project
from tests.datasets.files import Root, hdf5, picture, png

SIZE = (768, 1024)
TABLE = """scene_name,camera_name,frame_id,included_in_public_release,exclude_reason,split_partition_name
ai_001_001,cam_00,0,True,,train
ai_003_010,cam_01,47,True,,val
ai_003_010,cam_01,48,False,CONTENT FLAGGED FOR REMOVAL,
ai_004_001,cam_00,3,False,BAD,val
ai_005_001,cam_00,7,True,,test
"""


def shipped(scene: str, camera: str, frame: int, distance: np.ndarray) -> dict[str, bytes]:
    stem = f"{scene}/images/scene_{camera}"
    return {
        f"{stem}_final_preview/frame.{frame:04d}.tonemap.jpg": picture(*distance.shape, jpeg=True),
        f"{stem}_final_preview/frame.{frame:04d}.color.jpg": b"not read",
        f"{stem}_geometry_hdf5/frame.{frame:04d}.depth_meters.hdf5": hdf5("dataset", distance),
    }


def test_the_owners_files_are_those_of_their_table(root: Root) -> None:
    distance = np.full(SIZE, 5, np.float16)
    distance[0, 0] = np.nan
    files = shipped("ai_001_001", "cam_00", 0, distance[:8, :8]) | shipped(
        "ai_003_010", "cam_01", 47, distance
    )
    benchmark = Hypersim(root(files | {SPLIT_TABLE: TABLE.encode()}))
    assert len(benchmark) == 1 and benchmark.dataset.missing() == []
    sample = benchmark.sample(0)
    assert sample.key == "ai_003_010/images/scene_cam_01_final_preview/frame.0047.tonemap.jpg"
    assert sample.depth is not None and sample.mask is not None and sample.intrinsics is not None
    assert (~sample.mask).sum() == 1 and not sample.mask[0, 0]
    camera, depth = (np.asarray(a, np.float64) for a in (sample.intrinsics, sample.depth))
    points = back_project(torch.from_numpy(depth), torch.from_numpy(camera)).numpy()
    lengths = np.linalg.norm(points, axis=0)[sample.mask]
    assert lengths == pytest.approx(5, abs=1e-5)  # a sphere around the camera
    assert sample.depth[383:385, 511:513] == pytest.approx(5, abs=1e-5)


def test_without_the_table_all_scenes_count(root: Root) -> None:
    distance = np.full(SIZE, 5, np.float16)
    files = shipped("ai_003_010", "cam_01", 47, distance) | shipped("ai_001_001", "cam_00", 0, distance)
    benchmark = Hypersim(root(files, "zip"))
    assert [line[0].split("/")[1] for line in benchmark.dataset.lines] == ["ai_001_001", "ai_003_010"]
    assert benchmark.dataset.missing() == []
    assert benchmark.sample(1).image.shape == (*SIZE, 3)


@pytest.mark.parametrize("kind", ["folder", "tar"])
def test_marigolds_samples_are_found(kind: str, root: Root) -> None:
    depth = png(np.full((12, 16), 1500, np.uint16))
    files = {f"ai_00{i}_001/rgb_cam_00_fr0001.png": picture(12, 16) for i in range(3)}
    files |= {f"ai_00{i}_001/depth_plane_cam_00_fr0001.png": depth for i in range(2)}
    benchmark = Hypersim(root(files | {"filename_list_val.txt": b"not read"}, kind))
    assert len(benchmark) == 3
    assert [path.split("/")[-2] for path in benchmark.dataset.missing()] == ["ai_002_001"]
    found = benchmark.sample(1).depth
    assert found is not None and (found == 1.5).all()
    with pytest.raises(BadSample, match=r"ai_002_001/depth_plane_cam_00_fr0001\.png"):
        benchmark.sample(2)


def test_a_root_without_images_is_a_sentence(root: Root) -> None:
    with pytest.raises(FileNotFoundError, match=r"'hypersim': .* has no images; it would hold <scene>/"):
        len(Hypersim(root({"readme.txt": b""})))


def test_partitions() -> None:
    (line,) = partition_lines(TABLE, "test")
    image, truth = line.split()
    assert image == "ai_005_001/images/scene_cam_00_final_preview/frame.0007.tonemap.jpg"
    assert truth == "ai_005_001/images/scene_cam_00_geometry_hdf5/frame.0007.depth_meters.hdf5"
    assert partition_lines(TABLE, "nothing") == []
