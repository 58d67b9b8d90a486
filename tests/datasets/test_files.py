"""Images in tars, in tars of tars and in LMDBs, packed from where they lie."""

import os
import pickle
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import lmdb
import numpy as np
import pytest
from PIL import Image

from depthkd.datasets import FolderDataset
from depthkd.datasets.files import found_files
from depthkd.errors import UserError
from depthkd.formats.images import IMAGE_SUFFIXES
from depthkd.formats.sample import BadSample
from depthkd.formats.shard_samples import decode_sample
from depthkd.formats.tar import index_tar
from depthkd.verbs.shards.pack import pack
from tests.datasets.files import database, picture, png, tarred, write

CLASSES = {
    "n01440764": {
        "n01440764_1.JPEG": picture(8, 10, jpeg=True),
        "n01440764_2.JPEG": picture(6, 9, jpeg=True),
    },
    "n01443537": {"n01443537_1.JPEG": picture(7, 11, jpeg=True)},
}

GZIP = b"\x1f\x8b" + bytes(600)


def classes(images: Mapping[str, Mapping[str, bytes]] = CLASSES) -> dict[str, bytes]:
    """One tar a class, as ImageNet-21K has them."""
    return {f"{name}.tar": tarred(files) for name, files in images.items()}


def contents(path: Path) -> dict[str, bytes]:
    """Key -> the image of a shard."""
    index = index_tar(path)
    return {key: next(iter(index.read(i, IMAGE_SUFFIXES).values())) for i, key in enumerate(index.keys)}


def test_a_tar_of_tars_is_packed_like_its_images(tmp_path: Path) -> None:
    write(tmp_path, {"whole.tar": tarred({"winter21/LICENSE": b"text", **classes()})})
    write(tmp_path / "by_class", classes())
    write(
        tmp_path / "unpacked",
        {f"{c}/{name}": data for c, files in CLASSES.items() for name, data in files.items()},
    )
    for images in ("whole.tar", "by_class", "by_class/*.tar", "unpacked/**"):
        done = pack(f"{tmp_path}/{images}", f"{tmp_path}/out.tar", overwrite=True)
        assert contents(done.paths[0]) == {
            "n01440764_1": CLASSES["n01440764"]["n01440764_1.JPEG"],
            "n01440764_2": CLASSES["n01440764"]["n01440764_2.JPEG"],
            "n01443537_1": CLASSES["n01443537"]["n01443537_1.JPEG"],
        }


def test_keys_tell_the_classes_apart(tmp_path: Path) -> None:
    image = picture(8, 10)
    files = {"1.png": image, "._1.png": b"of a Mac", "list.txt": b"1.png", "sub/2.png": image}
    write(
        tmp_path, {"a.tar": tarred({"x.tar": tarred({"cat.tar": tarred(files)}), "dog.tar": tarred(files)})}
    )
    done = pack(f"{tmp_path}/a.tar", f"{tmp_path}/out.tar")
    assert list(contents(done.paths[0])) == ["x-cat-1", "x-cat-sub-2", "dog-1", "dog-sub-2"]


def test_a_part_for_another_process_holds_its_own_names_alone(tmp_path: Path) -> None:
    write(tmp_path, {"whole.tar": tarred(classes())})
    whole = FolderDataset(f"{tmp_path}/whole.tar")
    sent = pickle.dumps(whole.between(2, 3))
    assert b"n01443537_1" in sent and b"n01440764" not in sent
    part = pickle.loads(sent)
    assert part.key(0) == whole.key(2) == f"{tmp_path}/whole.tar/n01443537.tar/n01443537_1.JPEG"
    assert part.image_file(0) == ("n01443537_1.JPEG", CLASSES["n01443537"]["n01443537_1.JPEG"])
    np.testing.assert_array_equal(part.sample(0).image, whole.sample(2).image)


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (lambda tar: tar[:2000], "is cut short: .* a member ends at"),
        (lambda tar: tar[:1024], "is cut short: its end-of-archive mark is missing at byte 1024"),
        (lambda tar: b"no tar" * 200, "is not a tar"),
        (lambda tar: b"", "is empty or not a tar"),
        (lambda tar: GZIP, "is compressed, and tars are read by offset"),
    ],
)
def test_a_broken_tar_of_a_class_is_named(
    broken: Callable[[bytes], bytes], sentence: str, tmp_path: Path
) -> None:
    inner = tarred({"1.png": b"x" * 500, "2.png": b"y" * 2000})
    write(tmp_path, {"whole.tar": tarred({"n1.tar": inner, "n2.tar": broken(inner), "n3.tar": inner})})
    with pytest.raises(UserError, match=rf"whole\.tar/n2\.tar {sentence}"):
        found_files(f"{tmp_path}/whole.tar", IMAGE_SUFFIXES)


def test_a_tar_that_holds_no_image_or_is_compressed_is_a_sentence(tmp_path: Path) -> None:
    write(tmp_path, {"labels.tar": tarred({"a.txt": b"", "b.xml": b""}), "whole.tar.gz": GZIP})
    with pytest.raises(UserError, match=r"labels\.tar holds no \.jpg or .* file among its 2 files"):
        pack(f"{tmp_path}/labels.tar", f"{tmp_path}/out.tar")
    with pytest.raises(UserError, match=r"whole\.tar\.gz is compressed"):
        pack(f"{tmp_path}/whole.tar.gz", f"{tmp_path}/out.tar")
    write(tmp_path, {"tiff.tar": tarred({"a.tif": b"", "b.jpg": b"", "b.cr2": b""})})
    assert [file.name for file in found_files(f"{tmp_path}/tiff.tar", IMAGE_SUFFIXES)] == ["a.tif", "b.jpg"]


def test_a_folder_of_images_does_not_stand_for_the_tars_in_it(tmp_path: Path) -> None:
    write(tmp_path, {"in/a.png": picture(4, 5), "in/backup.tar": tarred({"b.png": picture(4, 5)})})
    assert found_files(f"{tmp_path}/in", IMAGE_SUFFIXES) == [tmp_path / "in/a.png"]


@pytest.mark.parametrize("images", [["a", "b"], ["b", "a"], ["{a,b}"], ["@list"]])
def test_each_pattern_stands_for_images_or_else_for_archives(
    images: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a", {"1.png": picture(8, 10), "thumbnails.tar": tarred({"2.png": picture(2, 3)})})
    write(tmp_path / "b", {"more.tar": tarred({"3.png": picture(8, 10)})})
    (tmp_path / "list").write_text("a\nb\n")
    assert sorted(file.name for file in found_files(images, IMAGE_SUFFIXES)) == ["1.png", "3.png"]


def test_a_tar_of_a_class_that_is_compressed_is_not_passed_over(tmp_path: Path) -> None:
    inner = {"n1.tar": tarred({"1.png": picture(8, 10)}), "n2.tar.gz": GZIP}
    write(tmp_path, {"a.tar": tarred(inner), "b.tar": tarred({"n2.tgz": GZIP})})
    for name, first in (("a.tar", "n2.tar.gz"), ("b.tar", "n2.tgz")):
        with pytest.raises(UserError, match=rf"{name}/{first} is compressed or a tar in more than 4 others"):
            found_files(f"{tmp_path}/{name}", IMAGE_SUFFIXES)
    write(tmp_path, {"c.tar": tarred({"1.png": picture(8, 10), "annotations.tar.gz": GZIP})})
    assert [file.name for file in found_files(f"{tmp_path}/c.tar", IMAGE_SUFFIXES)] == ["1.png"]


def test_a_tar_that_has_changed_gives_bad_samples(tmp_path: Path) -> None:
    write(tmp_path, {"a.tar": tarred({"1.png": picture(4, 5), "2.png": picture(4, 5)})})
    images = FolderDataset(f"{tmp_path}/a.tar")
    (tmp_path / "a.tar").write_bytes((tmp_path / "a.tar").read_bytes()[:600])
    with pytest.raises(BadSample, match=r"a\.tar/2\.png is cut short; the tar has changed"):
        images.sample(1)


def test_depth_may_lie_in_a_tar_too(tmp_path: Path) -> None:
    """As on Taskonomy's server: a tar with the images of a building, and one with their depth."""
    view = "point_7_view_0_domain"
    for building, number in (("adairsville", 1024), ("ackerman", 2048)):
        depth = np.full((4, 5), number, np.uint16)  # 2 m and 4 m at 1/512 m
        depth[0, 0] = 65535
        files = {"rgb": picture(4, 5), "depth_zbuffer": png(depth)}
        write(
            tmp_path,
            {f"{building}_{d}.tar": tarred({f"{d}/{view}_{d}.png": data}) for d, data in files.items()},
        )
    patterns = {"images": f"{tmp_path}/*_rgb.tar", "depth": f"{tmp_path}/*_depth_zbuffer.tar"}
    done = pack(**patterns, out=f"{tmp_path}/out.tar", scale="1/512", invalid="0,65535")
    index = index_tar(done.paths[0])
    found = [decode_sample(key, index.read(i), "", True) for i, key in enumerate(index.keys)]
    assert [s.key for s in found] == [f"{b}_rgb-rgb-{view}_rgb" for b in ("ackerman", "adairsville")]
    for sample, meters in zip(found, (4.0, 2.0), strict=True):
        assert sample.depth is not None and sample.mask is not None
        assert not sample.mask[0, 0] and sample.mask.sum() == 19
        np.testing.assert_allclose(sample.depth[sample.mask], meters, rtol=1e-4)


def webp(folder: Path) -> bytes:
    Image.fromarray(np.full((6, 8, 3), 200, np.uint8)).save(folder / "a.webp", lossless=True)
    return (folder / "a.webp").read_bytes()


def test_an_lmdb_is_packed_by_its_keys(tmp_path: Path) -> None:
    values = {
        b"0001c44e": webp(tmp_path),
        b"000319b7": picture(8, 10, jpeg=True),
        b"\xff\x00\x01": picture(4, 5),
    }
    folder = database(tmp_path / "bedroom_train_lmdb", values)
    folder.chmod(0o500)
    done = pack(str(folder), f"{tmp_path}/out.tar")
    assert contents(done.paths[0]) == {
        "0001c44e": values[b"0001c44e"], "000319b7": values[b"000319b7"], "ff0001": values[b"\xff\x00\x01"],
    }  # fmt: skip
    assert [path.name for path in folder.iterdir()] == ["data.mdb"]
    assert pack(f"{tmp_path}/*_lmdb", f"{tmp_path}/out.tar", overwrite=True).samples == 3
    assert pack(f"{folder}/data.mdb", f"{tmp_path}/out.tar", overwrite=True).samples == 3


def test_no_value_is_lost_whose_key_begins_with_a_dot_or_ends_in_a_slash(tmp_path: Path) -> None:
    for values, keys in (({b".5": picture(4, 5)}, ["_5"]), ({b"a/": picture(4, 5), b"b": b""}, ["a-"])):
        done = pack(str(database(tmp_path / keys[0], values)), f"{tmp_path}/{keys[0]}.tar", max_bad=0.5)
        assert list(index_tar(done.paths[0]).keys) == keys
    with pytest.raises(UserError, match=r"c/a/ has no name that a sample could have: leave it out"):
        pack(str(database(tmp_path / "c", {b"a/": picture(4, 5)})), f"{tmp_path}/c.tar")


def test_values_that_are_no_images_are_bad_by_their_keys(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (f"{tmp_path}/unpickled",)

    values = {b"a": picture(8, 10), b"b/c": b"", b"d": pickle.dumps(Evil()), b"num-samples": b"3"}
    done = pack(str(database(tmp_path / "x_lmdb", values)), f"{tmp_path}/out.tar", max_bad=0.75)
    assert done.samples == 1 and done.bad == [
        f"{tmp_path}/x_lmdb/b/c is not a JPEG, PNG or WebP image, but empty",
        f"{tmp_path}/x_lmdb/d is not a JPEG, PNG or WebP image, but a Python pickle, which is never read",
        f"{tmp_path}/x_lmdb/num-samples is not a JPEG, PNG or WebP image",
    ]
    assert not (tmp_path / "unpickled").exists()


def test_a_process_that_forks_opens_an_lmdb_for_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by: list[int] = []
    original = lmdb.open
    monkeypatch.setattr(lmdb, "open", lambda *path, **how: by.append(os.getpid()) or original(*path, **how))
    image = picture(8, 10)
    images = FolderDataset(str(database(tmp_path / "x_lmdb", {b"a": image})))
    by.clear()
    child = os.fork()
    if not child:
        read = images.image_file(0) == images.image_file(0) == ("a", image)
        os._exit(0 if read and by == [os.getpid()] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert images.image_file(0) == ("a", image) and not by


def test_an_lmdb_is_opened_anew_where_it_has_changed(tmp_path: Path) -> None:
    images = FolderDataset(str(database(tmp_path / "x_lmdb", {b"a": picture(8, 10), b"b": picture(8, 10)})))
    (tmp_path / "x_lmdb/data.mdb").unlink()
    database(tmp_path / "x_lmdb", {b"a": picture(4, 5)})
    assert images.sample(0).image.shape == (4, 5, 3)
    with pytest.raises(BadSample, match=r"x_lmdb/b is not there any more"):
        images.sample(1)


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (lambda data: data[:8192], r"is cut short: it has 8192 bytes of \d+; copy it again"),
        (lambda data: b"no database" * 1000, "is no LMDB that can be read: MDB_INVALID"),
        (lambda data: b"", "is empty; copy it again"),
    ],
)
def test_a_broken_lmdb_is_a_sentence(broken: Callable[[bytes], bytes], sentence: str, tmp_path: Path) -> None:
    folder = database(tmp_path / "x_lmdb", {bytes([i]): bytes(5000) for i in range(9)})
    (folder / "data.mdb").write_bytes(broken((folder / "data.mdb").read_bytes()))
    with pytest.raises(UserError, match=rf"x_lmdb/data\.mdb {sentence}"):
        pack(str(folder), f"{tmp_path}/out.tar")


def test_an_lmdb_without_a_value_or_its_library_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(database(tmp_path / "x_lmdb", {}))
    with pytest.raises(UserError, match="is an LMDB without a value"):
        pack(folder, f"{tmp_path}/out.tar")
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(UserError, match=r"read by lmdb, .* not installed: pip install 'depthkd\[lmdb\]'"):
        pack(folder, f"{tmp_path}/out.tar")
