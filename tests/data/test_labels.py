"""Depth from other tars than the images."""

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from depthkd.batch import AFFINE_DISPARITY, METRIC_DEPTH, DepthSpace
from depthkd.cli import main
from depthkd.data import ShardDataModule
from depthkd.data.stream import ATTEMPTS, ShardSource
from depthkd.errors import UserError
from depthkd.formats.images import encode_jpeg
from depthkd.formats.sample import Sample
from depthkd.formats.shard_samples import encode_label
from tests.data.shards import write_tar

TALL, WIDE = 48, 64
COUNTS = (3, 4)


def image(key: str) -> np.ndarray:
    return np.full((TALL, WIDE, 3), sum(key.encode()) % 256, np.uint8)


def label(key: str, size: tuple[int, int] = (12, 16)) -> np.ndarray:
    """A slope that begins at a number of its own."""
    return (np.linspace(1, 2, size[1])[None] + np.zeros((size[0], 1)) + sum(key.encode())).astype(np.float32)


def keys(shard: int) -> list[str]:
    return [f"{shard}{n}" for n in range(COUNTS[shard])]


def of_label(key: str, depth: np.ndarray, space: DepthSpace) -> Sample:
    return Sample(key, np.zeros((*depth.shape, 3), np.uint8), depth, space=space)


def write(folder: Path, without: tuple[str, ...] = (), predicted: bool = True, **settings: Any) -> None:
    for name in ("images", "labels"):
        (folder / name).mkdir(exist_ok=True)
    extra = {"teacher": "x"} if predicted else {}
    for shard in range(len(COUNTS)):
        write_tar(
            folder / f"images/{shard}.tar", {key: {"jpg": encode_jpeg(image(key))} for key in keys(shard)}
        )
        labels = {
            key: encode_label(
                of_label(key, label(key, **settings), AFFINE_DISPARITY), "linear16_blosc", extra
            )
            for key in reversed(keys(shard))  # in another order
            if key not in without
        }
        write_tar(folder / f"labels/{shard}.tar", labels)


def source(folder: Path, **settings: Any) -> ShardSource:
    return ShardSource(str(folder / "images"), labels=str(folder / "labels"), **settings)


def test_images_and_labels_are_joined_by_key(tmp_path: Path) -> None:
    write(tmp_path)
    opened = source(tmp_path).open("photos", 0)
    assert len(opened) == 7
    for position in range(14):
        sample, skipped = opened.sample(position)
        assert not skipped and sample.space == AFFINE_DISPARITY and sample.depth is not None
        assert (
            np.array_equal(sample.image, image(sample.key)) and sample.mask is not None and sample.mask.all()
        )
        expected = cv2.resize(label(sample.key), (WIDE, TALL), interpolation=cv2.INTER_LINEAR)
        np.testing.assert_allclose(sample.depth, expected, atol=1e-4)


def test_measured_depth_takes_the_nearest_pixel_and_keeps_its_holes(tmp_path: Path) -> None:
    write(tmp_path, predicted=False)
    sample = source(tmp_path).open("photos", 0).sample(0)[0]
    assert sample.depth is not None and len(np.unique(sample.depth)) == 16
    expected = np.repeat(np.repeat(label(sample.key), 4, axis=0), 4, axis=1)
    np.testing.assert_allclose(sample.depth, expected, atol=1e-4)


def test_what_surrounds_a_hole_is_not_interpolated(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    depth = label("a")
    depth[4:8, 4:8] = np.nan
    write_tar(tmp_path / "images/0.tar", {"a": {"jpg": encode_jpeg(image("a"))}})
    members = encode_label(of_label("a", depth, METRIC_DEPTH), "log16_blosc", {"teacher": "x"})
    write_tar(tmp_path / "labels/0.tar", {"a": members})
    sample = source(tmp_path).open("photos", 0).sample(0)[0]
    assert sample.depth is not None and sample.mask is not None
    assert np.array_equal(~sample.mask, np.kron(np.isnan(depth), np.ones((4, 4), bool)))
    assert sample.depth[sample.mask].min() >= label("a").min() - 1e-3


def test_a_missing_label_is_a_bad_sample(tmp_path: Path) -> None:
    write(tmp_path, without=("01",))
    opened = source(tmp_path).open("photos", 0)
    skipped = [bad for position in range(7) for bad in opened.sample(position)[1]]
    assert {bad.kind for bad in skipped} == {"label"}
    assert {bad.sentence for bad in skipped} == {f"{tmp_path}/labels/0.tar has no label of sample '01'"}


def test_who_made_the_labels_is_known_where_a_file_beside_them_says_so(tmp_path: Path) -> None:
    write(tmp_path)
    data = ShardDataModule({"photos": source(tmp_path)}, workers=0)
    data.setup("fit")
    assert data.label_teachers() == {}
    teacher = {"name": "hub/large", "license": "cc-by-nc-4.0", "training_sets": ["SA-1B"], "identity": "x"}
    settings = {"teacher": teacher, "metric_teacher": teacher | {"name": "m"}, "view": "whole", "seed": 0}
    (tmp_path / "labels/0.tar.json").write_text(json.dumps({"settings": settings}))
    (tmp_path / "labels/1.tar.json").write_text("[1")
    data.setup("fit")
    made = {"source": "hub/large", "license": "cc-by-nc-4.0", "training_sets": ["SA-1B"]}
    assert data.label_teachers() == {"labels of photos": made, "labels of photos, 2": made | {"source": "m"}}


def test_labels_are_part_of_the_stream(tmp_path: Path) -> None:
    write(tmp_path)
    before = source(tmp_path).open("photos", 0).fingerprint()
    assert len(str(before["labels"])) == 16
    write(tmp_path, without=("01",))
    after = source(tmp_path).open("photos", 0).fingerprint()
    assert {key for key in before if before[key] != after[key]} == {"labels"}


def test_what_does_not_go_together_is_said(tmp_path: Path) -> None:
    write(tmp_path, size=(12, 20))
    with pytest.raises(
        UserError, match=f"{ATTEMPTS} samples .* 64 x 48 and depth of 20 x 12, of another shape"
    ):
        source(tmp_path).open("photos", 0).sample(0)
    write(tmp_path)
    (tmp_path / "labels/1.tar").rename(tmp_path / "labels/2.tar")
    with pytest.raises(
        UserError, match=r"^data\.train\.photos\.labels: 1 of 2 tars of images .*/1\.tar first"
    ):
        source(tmp_path).open("photos", 0)
    with pytest.raises(UserError, match=r"^data\.train\.photos\.labels: .*nothing"):
        ShardSource(str(tmp_path / "images"), labels=str(tmp_path / "nothing")).open("photos", 0)
    with pytest.raises(UserError, match=r"^data\.train\.photos\.urls: .* holds no sample with an image"):
        ShardSource(str(tmp_path / "labels")).open("photos", 0)
    names = [str(tmp_path / "labels/0.tar"), str(tmp_path / "images/0.tar")]
    with pytest.raises(UserError, match=r"labels: 2 tars of labels are named 0\.tar"):
        ShardSource(str(tmp_path / "images/0.tar"), labels=names).open("photos", 0)
    (tmp_path / "b").mkdir()
    images = [str(shutil.copy(tmp_path / "images/0.tar", place)) for place in (tmp_path, tmp_path / "b")]
    with pytest.raises(UserError, match=rf"labels: {images[0]} and {images[1]} have one name, by which"):
        ShardSource(images, labels=str(tmp_path / "labels")).open("photos", 0)


def test_labels_are_indexed_ahead_like_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path)
    assert main(["shards", "index", str(tmp_path / "labels")]) == 0
    assert "0 samples with an image in 2 tars" in capsys.readouterr().out
    assert len(source(tmp_path).open("photos", 0)) == 7
    assert main(["shards", "verify", str(tmp_path / "labels")]) == 0
