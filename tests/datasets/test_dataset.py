"""Data sets by name and split, folders with cameras beside them, and what goes into shards."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from depthkd import datasets
from depthkd.batch import METRIC_DEPTH
from depthkd.datasets.by_name import dataset_class, named_dataset
from depthkd.datasets.dataset import Dataset
from depthkd.datasets.folder import FolderDataset
from depthkd.datasets.intrinsics import read_intrinsics
from depthkd.datasets.packing import Packer
from depthkd.datasets.scenes import Scenes, scene
from depthkd.errors import UserError
from depthkd.formats.sample import BadSample, Sample
from depthkd.formats.shard_samples import decode_sample
from depthkd.formats.tar import index_tar
from depthkd.verbs.shards.pack import pack
from tests.datasets.files import Root, hdf5, npy, picture, png, write

SIZE = 768, 1024
TABLE = """scene_name,camera_name,frame_id,included_in_public_release,exclude_reason,split_partition_name
ai_001_001,cam_00,0,True,,train
ai_001_002,cam_00,1,True,,train
ai_003_010,cam_01,47,True,,val
"""


def hypersim(distance: np.ndarray) -> dict[str, bytes]:
    """Three frames by the owners' names, and their table."""
    files = {"metadata_images_split_scene_v1.csv": TABLE.encode()}
    for stem, frame in (("ai_001_001", "0000"), ("ai_001_002", "0001"), ("ai_003_010", "0047")):
        camera = "cam_01" if frame == "0047" else "cam_00"
        folder = f"{stem}/images/scene_{camera}"
        image = picture(*distance.shape, jpeg=True)
        files[f"{folder}_final_preview/frame.{frame}.tonemap.jpg"] = image
        files[f"{folder}_geometry_hdf5/frame.{frame}.depth_meters.hdf5"] = hdf5("dataset", distance)
    return files


def virtual_kitti(scenes: tuple[str, ...], frames: int = 1) -> dict[str, bytes]:
    """A few frames of each scene, as the owners' two tars unpack; 20 m, and the sky."""
    centimeters = np.full((375, 1242), 2000, np.uint16)
    centimeters[:100] = 65535
    files = {}
    for name in scenes:
        for i in range(frames):
            path = f"{name}/clone/frames/{{}}/Camera_0/{{}}_{i:05d}"
            files[f"vkitti_2.0.3_rgb/{path.format('rgb', 'rgb')}.jpg"] = picture(375, 1242, jpeg=True)
            files[f"vkitti_2.0.3_depth/{path.format('depth', 'depth')}.png"] = png(centimeters)
    return files


def packed(path: Path) -> list[Sample]:
    index = index_tar(path)
    return [decode_sample(key, index.read(i), str(path), True) for i, key in enumerate(index.keys)]


@pytest.mark.parametrize(
    "name", ["hypersim", "Hypersim", "virtual_kitti_2", "VirtualKITTI2", "nyuv2", "DA-2K"]
)
def test_data_sets_are_found_by_name(name: str) -> None:
    kind = dataset_class(name)
    assert kind.name.replace("_", "") == name.lower().replace("_", "").replace("-", "")


def test_what_is_bundled_has_no_root() -> None:
    assert isinstance(named_dataset("photographs", None, None), datasets.Photographs)
    assert len(named_dataset("scenes", None, None)) == 600
    with pytest.raises(UserError, match="'motorcycle' comes with depthkd: leave out --root"):
        named_dataset("motorcycle", "/data", None)
    with pytest.raises(UserError, match="--root is missing: the folder, tar or zip that holds kitti"):
        named_dataset("kitti", None, None)


def test_every_data_set_says_what_it_is() -> None:
    for name in dir(datasets):
        kind = getattr(datasets, name)
        if issubclass(kind, datasets.ListedDataset) and not kind.__abstractmethods__:
            assert kind.title and kind.layout and kind.places and dataset_class(kind.name) is kind


def test_splits_by_name_and_by_list(root: Root, tmp_path: Path) -> None:
    place = root(hypersim(np.full((12, 16), 5.0)))
    sizes = {split: len(datasets.Hypersim(place, split)) for split in ("train", "val", None)}
    assert sizes == {"train": 2, "val": 1, None: 1}
    (tmp_path / "mine.txt").write_text(" ".join(datasets.Hypersim(place, "val").lines[0]))
    assert datasets.Hypersim(place, tmp_path / "mine.txt").key(0).startswith("ai_003_010-")
    assert len(datasets.VirtualKITTI2("nowhere", "train")) == 20148  # Marigold's
    assert len(datasets.VirtualKITTI2("nowhere", "val")) == len(datasets.VirtualKITTI2("nowhere")) == 5364
    assert len(datasets.NYUv2("nowhere", "test")) == 654


def test_prepared_hypersim_knows_its_split_by_its_folder_alone(root: Root) -> None:
    names = [
        f"{split}/ai_00{i}_001/{{}}_cam_00_fr0001.png" for i, split in enumerate(("train", "train", "val"))
    ]
    files = {n.format(kind): b"" for n in names for kind in ("rgb", "depth_plane")}
    place = root(files)
    assert len(datasets.Hypersim(place, "train")) == 2 and len(datasets.Hypersim(place)) == 3
    with pytest.raises(FileNotFoundError, match="does not say which images are of split 'test'"):
        len(datasets.Hypersim(place, "test"))


def test_hypersims_distances_become_z_in_shards(root: Root, tmp_path: Path) -> None:
    place = str(root(hypersim(np.full(SIZE, 5.0, np.float16))))
    done = pack(dataset="hypersim", root=place, split="train", out=f"{tmp_path}/h-%d.tar")
    assert done.samples == 2
    first, _ = packed(done.paths[0])
    assert first.depth is not None and first.intrinsics is not None
    # at the center z is the distance; at the corner it is 5 f / |(511.5, 383.5, f)|
    assert first.depth[383:385, 511:513] == pytest.approx(5.0, rel=2e-4)
    corner = 5 * 886.81 / np.sqrt(511.5**2 + 383.5**2 + 886.81**2)
    assert corner == pytest.approx(4.0559, abs=1e-4)
    assert first.depth[0, 0] == pytest.approx(corner, rel=2e-4)
    assert first.depth[-1, -1] == pytest.approx(corner, rel=2e-4)
    assert first.intrinsics.tolist() == [[886.81, 0, 511.5], [0, 886.81, 383.5], [0, 0, 1]]
    assert (
        index_tar(done.paths[0]).keys[0] == "ai_001_001-images-scene_cam_00_final_preview-frame_0000_tonemap"
    )
    about = json.loads(index_tar(done.paths[0]).read(0)["json"])["source"]
    assert about["data_set"] == "Hypersim" and about["image"].endswith("frame.0000.tonemap.jpg")


def test_virtual_kitti_packs_without_its_sky(root: Root, tmp_path: Path) -> None:
    place, split = root(virtual_kitti(("Scene02", "Scene06"))), tmp_path / "few.txt"
    with pytest.raises(
        UserError, match=r"files of 20146 of 20148 samples are missing, such as Scene02/clone"
    ):
        pack(dataset="virtual_kitti_2", root=str(place), split="train", out=f"{tmp_path}/v.tar")
    lines = datasets.VirtualKITTI2(place, "train").lines
    here = [line for line in lines if (place / "vkitti_2.0.3_rgb" / line[0]).exists()]
    split.write_text("\n".join(" ".join(line) for line in here))
    done = pack(dataset="VirtualKITTI2", root=str(place), split=str(split), out=f"{tmp_path}/v.tar")
    samples = packed(done.paths[0])
    assert [s.mask[0, 0] for s in samples if s.mask is not None] == [False, False]
    for sample in samples:
        assert sample.depth is not None and sample.mask is not None and sample.intrinsics is not None
        assert sample.mask.sum() == 275 * 1242
        assert sample.depth[sample.mask] == pytest.approx(20.0, rel=1e-4)
        assert sample.intrinsics[:2, 2].tolist() == [620.5, 187.0]


def folder(tmp_path: Path) -> dict[str, str]:
    write(tmp_path / "in", {f"{s}/rgb/{i}.png": picture(8, 10) for s in "ab" for i in range(2)})
    write(tmp_path / "in", {f"{s}/depth/{i}.npy": npy(np.full((8, 10), 2.0)) for s in "ab" for i in range(2)})
    return {"images": f"{tmp_path}/in/*/rgb/*.png", "depth": f"{tmp_path}/in/*/depth/*.npy"}


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_a_folder_with_a_camera_for_each_image(kind: str, tmp_path: Path) -> None:
    patterns = folder(tmp_path)
    cameras = {f"{s}/rgb/{i}.png": [10.0 + i, 11.0, 4.5, ord(s) * 1.0] for s in "ab" for i in range(2)}
    file = tmp_path / f"cameras.{kind}"
    lines = ["fx,image,fy,cx,cy", *(f"{c[0]},{name},{c[1]},{c[2]},{c[3]}" for name, c in cameras.items())]
    file.write_text(json.dumps(cameras) if kind == "json" else "\n".join(lines))
    done = pack(**patterns, scale=1, intrinsics=str(file), out=f"{tmp_path}/f.tar")
    found = [s.intrinsics for s in packed(done.paths[0])]
    expected = [cameras[f"{s}/rgb/{i}.png"] for s in "ab" for i in range(2)]
    assert [[m[0, 0], m[1, 1], m[0, 2], m[1, 2]] for m in found if m is not None] == expected


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            '{"0.png": [1, 1, 1, 1], "1.png": [1, 1, 1, 1]}',
            "'0.png' stands for 2 images: say more of their paths",
        ),
        ('{"a/rgb/0.png": [1, 1, 1, 1]}', r"has no intrinsics of 3 of 4 images, .*a/rgb/1.png first"),
        ('{"a/rgb/0.png": [1, 1, 1]}', "c.json: 'a/rgb/0.png' 1,1,1 would be fx,fy,cx,cy in pixels"),
        ('{"a/rgb/0.png": 7}', "c.json: 'a/rgb/0.png' 7 would be fx,fy,cx,cy in pixels"),
        ("[1]", r"c.json would be a JSON of the form {image: \[fx, fy, cx, cy\]}"),
        ("{", "c.json is not JSON"),
    ],
)
def test_intrinsics_that_make_no_sense_are_sentences(text: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(UserError, match=sentence):
        FolderDataset(folder(tmp_path)["images"], intrinsics=str(tmp_path / "c.json"))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("fx,fy,cx,cy,image\n60,60,1,2,\n", "line 2 names no image"),
        ("image,fx,fy,cx,cy\na.png,60,60,1\n", "line 2 would have 5 fields, .* not 4"),
        (
            "image,fx,fy,cx,cy\na.png,60,5,60,5,4,5,3,5\n",
            "line 2 would have 5 fields, .* not 9",
        ),
        (
            "image;fx;fy;cx;cy\na.png;60;60;1;2\n",
            "with the columns image, .* not .*image;fx",
        ),
        ("image,fx,fy,cx,cy\na.png,60,60,1,2\na.png,61,60,1,2\n", "line 3: a.png has other intrinsics"),
        ("image,fx,fy,cx,cy\n" + 140000 * "a" + ",60,60,1,2\n", "is not CSV"),
    ],
)
def test_tables_of_intrinsics_that_are_broken(text: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(UserError, match=sentence):
        read_intrinsics(tmp_path / "c.csv")


def test_numbers_of_any_length_and_depth_are_sentences(tmp_path: Path) -> None:
    twice = '{"a.png": [1, 1, 1, 1], "a.png": [2, 2, 1, 1]}'
    for text in (f'{{"a.png": [{"9" * 400}, 1, 1, 1]}}', "[" * 100000, twice):
        (tmp_path / "c.json").write_text(text)
        with pytest.raises(UserError, match=r"c\.json"):
            read_intrinsics(tmp_path / "c.json")


def test_images_are_found_by_whole_paths_and_spaces_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text(f"image, fx, fy, cx, cy\n{tmp_path}/a b/0.png , 60, 61, 1, 2\n")
    write(tmp_path, {"a b/0.png": picture(4, 6)})
    images = FolderDataset(f"{tmp_path}/a b", intrinsics=str(path))
    camera = images.sample(0).intrinsics
    assert camera is not None and camera[0, 0] == 60 and camera[1, 1] == 61
    write(tmp_path, {"a b/1.png": picture(4, 6)})
    with pytest.raises(UserError, match=r"no intrinsics of 1 of 2 images, .*1.png first; it names .*0.png"):
        FolderDataset(f"{tmp_path}/a b", intrinsics=str(path))


def test_a_map_without_a_valid_pixel_is_one_bad_sample(root: Root, tmp_path: Path) -> None:
    rooms = hypersim(np.full((48, 64), 3.0, np.float32))
    name = next(name for name in rooms if "ai_001_001" in name and name.endswith("hdf5"))
    rooms[name] = hdf5("dataset", np.full((48, 64), np.nan, np.float32))
    options = {"dataset": "hypersim", "root": str(root(rooms)), "split": "train"}
    found = pack(**options, out=f"{tmp_path}/o.tar", max_bad=0.5)
    assert found.samples == 1 and found.bad == [f"data set 'hypersim': {name} has no valid pixel"]


def test_a_tar_that_is_cut_between_two_files_is_not_taken_for_whole(tmp_path: Path) -> None:
    path, ends = tmp_path / "rooms.tar", []
    with tarfile.open(path, "w") as tar:
        for name, data in hypersim(np.full((48, 64), 3.0, np.float32)).items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
            ends.append(tar.offset)
    path.write_bytes(path.read_bytes()[: ends[-3]])
    with pytest.raises(UserError, match=r"rooms\.tar is cut short: its end-of-archive mark is missing"):
        _ = datasets.Hypersim(path, "train").lines


def test_lists_and_tables_that_are_broken_are_sentences(root: Root, tmp_path: Path) -> None:
    streets = root(virtual_kitti(("Scene02",)))
    words = {"dataset": "virtual_kitti_2", "root": str(streets), "out": f"{tmp_path}/o.tar"}
    for text, sentence in (
        (b"", "has no samples here"),
        (b"a.jpg\n", "the line 'a.jpg' of .* would have 2 words or more"),
        (b"\xff\xfe\x00", "is no text"),
        (b"a.jpg b.png\na.jpg b.png\n", "is there twice: leave one out"),
    ):
        (tmp_path / "list.txt").write_bytes(text)
        with pytest.raises(UserError, match=sentence):
            pack(**words, split=str(tmp_path / "list.txt"))
    with pytest.raises(UserError, match="--dataset knows its own files: leave out --max_depth"):
        pack(**words, split="train", max_depth=3.0)
    assert not list(tmp_path.glob("*.tar"))
    with pytest.raises(UserError, match="there is no list val; it has no named splits"):
        _ = datasets.AM2k(streets, "val").lines
    (tmp_path / "spring.txt").write_text("a.png a.dsp5 x 1 2 3\n")
    with pytest.raises(BadSample, match=r"words 3 to 6 of the line .* would be numbers"):
        spring = datasets.Spring(streets, tmp_path / "spring.txt")
        spring.intrinsics(spring.line(0))
    for table in ("a,b\n1,2\n", 140000 * "a", TABLE.replace("cam_00,0", "cam_00,x")):
        rooms = root({"metadata_images_split_scene_v1.csv": table.encode()})
        with pytest.raises(UserError, match="is not the owners' table"):
            _ = datasets.Hypersim(rooms, "train").lines


def test_a_table_of_intrinsics_without_its_columns(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("image,f\na,1\n")
    with pytest.raises(UserError, match="would be a CSV with the columns image, fx, fy, cx, cy"):
        read_intrinsics(tmp_path / "c.csv")
    (tmp_path / "c.csv").write_text("image,fx,fy,cx,cy\na,1,x,1,1\n")
    with pytest.raises(UserError, match=r"c\.csv, line 2 1,x,1,1 would be fx,fy,cx,cy"):
        read_intrinsics(tmp_path / "c.csv")


def test_scenes_are_a_data_set_as_any_other(tmp_path: Path) -> None:
    scenes = Scenes("film", seed=7, count=3, height=24, width=32)
    assert len(scenes) == 3 and scenes.missing() == [] and scenes.group(0) is None
    np.testing.assert_array_equal(scenes.sample(2).image, scene(7, 2, "film", 24, 32).sample.image)
    done = pack(dataset=scenes, out=f"{tmp_path}/s.tar", codec="npy")
    for i, sample in enumerate(packed(done.paths[0])):
        original = scenes.sample(i)
        np.testing.assert_array_equal(sample.image, original.image)  # PNG: it has no file of its own
        assert sample.depth is not None and sample.mask is not None and original.depth is not None
        np.testing.assert_array_equal(sample.mask, original.mask)
        np.testing.assert_array_equal(sample.depth[sample.mask], original.depth[sample.mask])
    with pytest.raises(IndexError):
        scenes.sample(3)
    with pytest.raises(UserError, match="'x' is not a style of scenes"):
        Scenes("x")


def test_a_data_set_of_ones_own_needs_two_methods(tmp_path: Path) -> None:
    class Ramps(Dataset):
        name = "ramps"

        def __len__(self) -> int:
            return 2

        def sample(self, index: int) -> Sample:
            depth = np.linspace(1, 2 + index, 80, dtype=np.float32).reshape(8, 10)
            return Sample(self.key(index), np.zeros((8, 10, 3), np.uint8), depth, depth > 0, space=self.space)

    shard = Packer(Ramps(), "labelled").pack(0, 2, tmp_path / "a.tar", 0)
    assert list(index_tar(tmp_path / "a.tar").keys) == ["ramps_000000", "ramps_000001"]
    assert shard.summary(METRIC_DEPTH) == "metric depth from 1 to 3 in log16, 100.0% of pixels valid"
