"""Data sets to train on, in their owners' layouts, with values computed by hand."""

import re
import struct

import numpy as np
import pytest

from depthkd import datasets
from depthkd.batch import METRIC_DEPTH, DepthSpace
from depthkd.datasets import TUMRGBD, BlendedMVS, TartanAir
from depthkd.datasets.dataset import ListedDataset
from depthkd.datasets.encodings import read_pfm
from depthkd.datasets.tum_rgbd import associated
from depthkd.errors import MissingFileError, UserError
from depthkd.formats.sample import BadSample
from depthkd.verbs.shards.pack import pack
from tests.datasets.files import Root, known, npy, picture, png


def pfm(numbers: np.ndarray, little: bool = True) -> bytes:
    header = f"Pf\n{numbers.shape[1]} {numbers.shape[0]}\n{-1.0 if little else 1.0}\n".encode()
    return header + numbers[::-1].astype("<f4" if little else ">f4").tobytes()


@pytest.mark.parametrize("kind", ["folder", "tar", "zip"])
def test_tartanair(root: Root, kind: str) -> None:
    depth = np.full((48, 64), 2.5, np.float32)
    depth[0, 0], depth[0, 1], depth[0, 2] = 10000, np.nan, 900
    place = "abandonedfactory/abandonedfactory/Easy/P001"
    files = {f"{place}/pose_left.txt": b"0"}
    for side in ("left", "right"):
        for frame in (0, 1):
            stem = f"{frame:06d}_{side}"
            files[f"{place}/image_{side}/{stem}.png"] = picture(48, 64)
            files[f"{place}/depth_{side}/{stem}_depth.npy"] = npy(depth + frame)
    found = TartanAir(root(files, kind))
    assert len(found) == 4 and found.missing() == []
    assert [line[0].rpartition("/")[2] for line in found.lines] == [
        "000000_left.png", "000001_left.png", "000000_right.png", "000001_right.png",
    ]  # fmt: skip
    depth, mask, camera = known(found.sample(1))
    assert depth[1, 1] == 3.5 and np.isposinf(depth[0, 0]) and (~mask).sum() == 2 and not mask[0, :2].any()
    assert camera.tolist() == [[320, 0, 320], [0, 320, 240], [0, 0, 1]]
    assert found.sample(0).space == METRIC_DEPTH


def test_blendedmvs_has_no_scale(root: Root) -> None:
    depth = np.arange(1, 13, dtype=np.float32).reshape(3, 4)
    depth[2, 3] = 0
    cam = b"extrinsic\n1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n\n"
    cam += b"intrinsic\n575 0 2\n0 576 1.5\n0 0 1\n\n1.5 0.1 128 9\n"
    files = {
        "5a0271884e62597cdee0d0eb/blended_images/00000007.jpg": picture(3, 4, jpeg=True),
        "5a0271884e62597cdee0d0eb/blended_images/00000007_masked.jpg": b"not read",
        "5a0271884e62597cdee0d0eb/rendered_depth_maps/00000007.pfm": pfm(depth),
        "5a0271884e62597cdee0d0eb/cams/00000007_cam.txt": cam,
        "5a0271884e62597cdee0d0eb/cams/pair.txt": b"1",
    }
    found = BlendedMVS(root(files))
    assert len(found) == 1 and found.missing() == []
    sample = found.sample(0)
    values, mask, camera = known(sample)
    assert (
        values[0].tolist() == [1, 2, 3, 4] and values[2, 0] == 9
    )  # the file's last row is the image's first
    assert (~mask).sum() == 1 and not mask[2, 3]
    assert camera.tolist() == [[575, 0, 2], [0, 576, 1.5], [0, 0, 1]]
    assert sample.space == DepthSpace.parse("scale depth")
    broken = BlendedMVS(root({**files, "5a0271884e62597cdee0d0eb/cams/00000007_cam.txt": b"intrinsic 1 2"}))
    with pytest.raises(BadSample, match="has no matrix of nine numbers behind 'intrinsic'"):
        broken.sample(0)


def test_tum_pairs_by_time(root: Root) -> None:
    depth = np.full((4, 6), 5000, np.uint16)
    depth[0, 0], depth[0, 1] = 0, 12500
    place = "rgbd_dataset_freiburg1_desk"
    files = {
        f"{place}/rgb.txt": b"# color images\n1.000 rgb/1.000.png\n1.033 rgb/1.033.png\n9.0 rgb/9.0.png\n",
        f"{place}/depth.txt": b"# depth maps\n1.012 depth/1.012.png\n1.040 depth/1.040.png\n",
        f"{place}/rgb/1.000.png": picture(4, 6),
        f"{place}/rgb/1.033.png": picture(4, 6),
        f"{place}/depth/1.012.png": png(depth),
        f"{place}/depth/1.040.png": png(depth),
    }
    found = TUMRGBD(root(files))
    assert [[word.rpartition("/")[2] for word in line] for line in found.lines] == [
        ["1.000.png", "1.012.png"], ["1.033.png", "1.040.png"],
    ]  # fmt: skip
    values, mask, camera = known(found.sample(0))
    assert values[1, 1] == 1.0 and values[0, 1] == 2.5 and not mask[0, 0] and (~mask).sum() == 1
    assert camera.tolist() == [[517.3, 0, 318.6], [0, 516.5, 255.3], [0, 0, 1]]
    with pytest.raises(UserError, match=r"rgb\.txt, line 1 would be a time and a file, and is 'one'"):
        TUMRGBD(root({f"{place}/rgb.txt": b"one\n", f"{place}/depth.txt": b""})).lines  # noqa: B018


def test_association_is_the_owners() -> None:
    rng = np.random.default_rng(0)
    images = [(time, f"i{n}") for n, time in enumerate(np.sort(rng.uniform(0, 2, 60)).tolist())]
    depths = [(time, f"d{n}") for n, time in enumerate(np.sort(rng.uniform(0, 2, 60)).tolist())]
    # associate.py, in words: all pairs that are near, by how near they are, if both are still free
    free_images, free_depths = dict(images), dict(depths)
    expected = []
    for _, a, b in sorted((abs(a - b), a, b) for a in free_images for b in free_depths if abs(a - b) < 0.02):
        if a in free_images and b in free_depths:
            expected.append((free_images.pop(a), free_depths.pop(b)))
    assert sorted(associated(images, depths)) == sorted(expected) and len(expected) > 20


@pytest.mark.parametrize(
    "name",
    "TartanAir BlendedMVS TUMRGBD ARKitScenes IRS HRWSI DIML NuScenes ScanNet KITTI NYUv2".split(),  # noqa: SIM905
)
@pytest.mark.parametrize("kind", ["folder", "tar"])
def test_an_empty_root_says_what_would_be_there(root: Root, name: str, kind: str) -> None:
    found: type[ListedDataset] = getattr(datasets, name)
    split = "train" if "train" in found.splits else None
    with pytest.raises(
        MissingFileError, match=f"'{found.name}': .* has no .*it would hold {re.escape(found.layout)}"
    ):
        found(root({"x/readme.txt": b""}, kind), split).lines  # noqa: B018


def test_paths_with_spaces_stand_between_tabs(root: Root) -> None:
    place = "my copy/P001"
    files = {f"{place}/image_left/000000_left.png": picture(4, 6)}
    files[f"{place}/depth_left/000000_left_depth.npy"] = npy(np.ones((4, 6), np.float32))
    path = root(files)
    (path.parent / "list.tsv").write_text("\t".join(files))
    for split in (None, path.parent / "list.tsv"):
        assert TartanAir(path, split).lines == [list(files)]
        assert known(TartanAir(path, split).sample(0))[0][0, 0] == 1


def test_they_are_packed_by_name_with_their_space(root: Root, tmp_path: object) -> None:
    depth = np.linspace(1, 2, 12, dtype=np.float32).reshape(3, 4)
    files = {
        "s/blended_images/00000000.jpg": picture(3, 4, jpeg=True),
        "s/rendered_depth_maps/00000000.pfm": pfm(depth, little=False),
        "s/cams/00000000_cam.txt": b"intrinsic\n5 0 2\n0 5 1\n0 0 1\n",
    }
    done = pack(dataset="blendedmvs", root=str(root(files)), out=f"{tmp_path}/o.tar")
    assert done.samples == 1


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "is not a PFM file"),
        (b"PF\n4 3\n-1\n" + bytes(200), "is not a PFM file of one channel"),
        (b"Pf\n4 3\n0\n" + bytes(48), "is not a PFM file of one channel"),
        (b"Pf\n4000000 3000000\n-1\n", "is not a PFM file of one channel"),
        (b"Pf\n4 3\n-1\n" + bytes(47), "is cut off: 4 x 3 numbers of float32 take 48 bytes"),
        (b"Pf\nfour 3\n-1\n", "is not a PFM file"),
    ],
)
def test_a_broken_pfm_is_a_bad_sample(data: bytes, sentence: str) -> None:
    with pytest.raises(BadSample, match=f"d {sentence}"):
        read_pfm(data, "d")
    assert struct.unpack("<f", pfm(np.ones((1, 1)))[-4:]) == (1.0,)
