"""Energon's data sets are read as they are: splits, brace lists, what is excluded."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
import yaml

from depthkd.benchmarks import ShardBenchmark
from depthkd.cli import main
from depthkd.data.fingerprint import stream_changes
from depthkd.data.stream import OpenSource, ShardSource
from depthkd.errors import UserError
from depthkd.formats.shard_set import read_manifest
from depthkd.formats.shard_urls import find_shards
from depthkd.formats.tar import index_tar
from tests.data.shards import write_shards, write_tar
from tests.storage.server import serving

TRAIN = ["shards/shards_{00..02}.tar"]
EXCLUDE = ["shards/shards_01.tar", "shards/shards_02.tar/02_0{1,3}", "shards/shards_03.tar/03_00"]
LEFT = ["00_00", "00_01", "00_02", "02_00", "02_02"]


def write_meta(folder: Path, **tree: object) -> None:
    """split.yaml, of three training tars and one to validate on unless `tree` says otherwise."""
    parts = {"train": TRAIN, "val": ["shards/shards_03.tar"], "test": []}
    whole = {"exclude": EXCLUDE, "split_parts": parts, **tree}
    (folder / ".nv-meta/split.yaml").write_text(yaml.safe_dump(whole, sort_keys=False))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `energon prepare` leaves: four tars of 3, 2, 4 and 2 samples below `shards`, and `.nv-meta`."""
    folder = tmp_path_factory.mktemp("energon") / "set"
    (folder / "shards").mkdir(parents=True)
    (folder / ".nv-meta").mkdir()
    write_shards(folder / "shards", [3, 2, 4, 2], labelled=True)
    about = "__module__: megatron.energon\n__class__: CrudeWebdataset\n"
    (folder / ".nv-meta/dataset.yaml").write_text(about)
    counts = {f"shards/shards_{n:02}.tar": count for n, count in enumerate([3, 2, 4, 2])}
    info = {"energon_version": "7.4.0", "shard_counts": counts}
    (folder / ".nv-meta/.info.json").write_text(json.dumps(info))
    (folder / ".nv-meta/index.sqlite").write_bytes(b"SQLite format 3\0")
    (folder / ".nv-meta/index.uuid").write_text("6b8d9c1e")
    write_meta(folder)
    return folder


@pytest.fixture
def folder(prepared: Path, tmp_path: Path) -> Path:
    shutil.copytree(prepared, tmp_path / "set")
    return tmp_path / "set"


def opened(urls: object, **settings: object) -> OpenSource:
    return ShardSource(str(urls), labelled=True, **settings).open("s", 0)


def keys(source: OpenSource) -> list[str]:
    """Of one pass."""
    return [source.sample(position)[0].key for position in range(len(source))]


def test_what_is_excluded_is_in_no_pass(folder: Path) -> None:
    source = opened(folder)
    assert [Path(path).name for path in source.paths] == ["shards_00.tar", "shards_02.tar"]
    assert sorted(keys(source)) == LEFT
    later = [source.sample(position)[0].key for position in range(5, 15)]
    assert sorted(later) == sorted(LEFT * 2)
    assert keys(opened(folder, split="val")) == ["03_01"]
    assert sorted(keys(opened(folder, split="all"))) == [*LEFT, "03_01"]


def test_the_stream_is_known_by_what_is_left(folder: Path, tmp_path: Path) -> None:
    before = opened(folder)
    shutil.copytree(folder, tmp_path / "copy")
    assert opened(tmp_path / "copy").fingerprint() == before.fingerprint() == opened(folder).fingerprint()
    write_meta(folder, exclude=[*EXCLUDE[:1], "shards/shards_02.tar/02_0{1,2}"])  # as many, and others
    after = opened(folder)
    facts = [{f"data.train.s.{k}": v for k, v in one.fingerprint().items()} for one in (before, after)]
    paths = {"data.train.s": after.paths}
    assert stream_changes(*facts, paths) == [
        f"data.train.s.urls: shard number 2, {after.paths[1]}, holds other samples"
    ]
    write_meta(folder, exclude=[])
    assert len(opened(folder)) == 9


@pytest.mark.parametrize("access", ["range", "cache"])
def test_it_is_read_over_http(
    folder: Path, tmp_path: Path, access: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEPTHKD_CACHE", str(tmp_path / "cache"))
    with serving(folder) as server:
        far = opened(f"{server.url}/", access=access)
        far.expect(range(5))
        assert far.fingerprint() == opened(folder).fingerprint()
        assert keys(far) == keys(opened(folder))


def test_verbs_see_every_split_and_leave_out_what_is_excluded(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tar = folder / "shards/shards_03.tar"
    index = find_shards(str(tar)).index(str(tar))
    whole = {key: index.read(i) for i, key in enumerate(index.keys)}
    write_tar(tar, {**whole, "03_00": {"png": b"broken"}})
    assert main(["shards", "verify", str(folder)]) == 0
    assert "6 of 6 samples are good" in capsys.readouterr().out
    assert main(["shards", "verify", str(folder), "--split", "val"]) == 0
    assert "1 of 1 samples are good" in capsys.readouterr().out
    assert main(["shards", "inspect", str(folder), "--split", "train"]) == 0
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()[1:3]] == ["3", "2"]
    assert main(["shards", "index", str(folder)]) == 0  # whole tars, as other settings may read them
    known = read_manifest(str(tar))
    assert {name: facts.samples for name, facts in known.items()} == {
        "shards_00.tar": 3, "shards_02.tar": 4, "shards_03.tar": 2,
    }  # fmt: skip
    assert sorted(keys(opened(folder))) == LEFT
    assert [sample.key for sample in ShardBenchmark(str(folder), split="val").samples()] == ["03_01"]


def test_a_quarantine_leaves_a_set_that_can_be_read(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tars = [folder / f"shards/shards_0{n}.tar" for n in range(4)]
    (tmp_path / "whole").write_bytes(tars[0].read_bytes())
    for tar, samples in ((tars[0], 1), (tars[2], 9), (tars[3], 9)):  # the last two have an excluded one
        tar.write_bytes(tar.read_bytes().replace(b"metric depth", b"metric width", samples))
    before = {tar: tar.read_bytes() for tar in tars}
    verify = ["shards", "verify", str(folder), "--quarantine", str(tmp_path / "bad")]
    assert main(verify) == 1
    left = "has no good sample, and .*split\\.yaml names it: exclude it there"
    told = capsys.readouterr().out.partition("bad tars that stay as they are:\n")[2].splitlines()
    assert [re.search(f"shards_0(.).tar {left}", line)[1] for line in told] == ["2", "3"]  # type: ignore[index]
    assert [tar.read_bytes() == before[tar] for tar in tars] == [False, True, True, True]
    write_meta(folder, exclude=[f"shards/{tar.name}" for tar in tars[1:]])
    assert main(verify) == 0
    assert sorted(keys(opened(folder))) == ["00_01", "00_02"]


def test_a_damaged_tar_without_what_is_excluded_stays(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tar = folder / "shards/shards_02.tar"
    os.truncate(tar, index_tar(tar).offsets[7])
    before = tar.read_bytes()
    assert main(["shards", "verify", str(folder), "--quarantine", str(tmp_path / "bad")]) == 1
    assert re.search(r"02\.tar is cut short: .*; .* no sample '02_03', which is ex", capsys.readouterr().out)
    assert tar.read_bytes() == before
    write_meta(folder, exclude=["shards/shards_02.tar/02_01"])
    (folder / "shards/shards_02.tar.index").unlink(missing_ok=True)
    assert main(["shards", "verify", str(folder), "--quarantine", str(tmp_path / "bad")]) == 0
    assert "sample '02_02' is cut short" in capsys.readouterr().out
    assert "02_00" in keys(opened(folder))


def test_labels_lie_in_a_set_of_the_same_splits(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "labels")
    joined = opened(folder, labels=str(tmp_path / "labels"), split="val")
    assert joined.sample(0)[0].depth is not None
    assert opened(folder, labels=str(tmp_path / "labels/shards")).sample(0)[0].depth is not None


def test_keys_have_the_folders_that_energon_gives_them(folder: Path) -> None:
    image = find_shards(str(folder), "val").index(f"{folder}/shards/shards_03.tar").read(0, ("png",))
    tar = folder / "shards/shards_00.tar"
    write_tar(tar, {"./a/x": image, "./a/y": image})
    write_meta(folder, exclude=["shards/shards_00.tar/./a/x"])
    assert list(find_shards(str(folder)).index(str(tar)).keys) == ["y"]
    write_tar(tar, {"a/x": image, "b/x": image})
    write_meta(folder, exclude=["shards/shards_00.tar/a/x"])
    assert list(find_shards(str(folder)).index(str(tar)).keys) == ["b/x"]


def test_other_files_that_tell_the_splits(folder: Path) -> None:
    meta = folder / ".nv-meta"
    (meta / "split.json").write_text((meta / "split.yaml").read_text())
    tree = yaml.safe_load((meta / "split.yaml").read_text())
    (meta / "split.yaml").unlink()
    (meta / "split.json").write_text(json.dumps(tree, indent=2))
    assert len(opened(folder)) == 5
    (meta / "two.yaml").write_text(yaml.safe_dump({"split_parts": {"train": ["shards/shards_03.tar"]}}))
    (meta / "dataset.yaml").write_text("split_config: two.yaml\n")
    assert len(opened(folder)) == 2


def test_what_is_wrong_is_said(folder: Path) -> None:
    split = folder / ".nv-meta/split.yaml"
    parts = {"train": TRAIN}
    for tree, asked, sentence in (
        ({}, "dev", rf"{folder} has no split 'dev'; \.nv-meta/split\.yaml has 'train', 'val', 'test'"),
        ({}, "test", rf"split 'test' of {folder} has no tars: \.nv-meta/split\.yaml lists none"),
        ({"exclude": TRAIN}, None, rf"split 'train' of {folder} has no tars: .*split\.yaml excludes all"),
        (
            {"exclude": ["shards/a.tar"]},
            None,
            rf"{split} excludes 'shards/a\.tar', but {folder} has no",
        ),
        ({"exclude": ["s.tar/1"]}, None, rf"{split} excludes 's\.tar/1', but {folder} has no tar 's\.tar'"),
        ({"exclude": [f"{TRAIN[0]}/x"]}, None, r".*shards_00\.tar has no sample 'x', which is excluded"),
        ({"exclude": ["shards/shards_00.tar/00_0{0..2}"]}, None, r".*00\.tar: all of its samples are excl"),
        ({"exclude": ["a{.tar"]}, None, rf"{split} has 'a\{{\.tar', with a brace without its partner"),
        ({"exclude": "x.tar"}, None, rf"{split} has an 'exclude' that cannot be read; it would be a list"),
        ({"split_parts": {"train": ["b_{0..9}.tar"]}}, None, rf"{folder}/b_0\.tar is not there, but \.nv-me"),
        ({"split_parts": ["a.tar"]}, None, rf"{split} has no 'split_parts' that can be read; it would be a"),
        ({"split_parts": {"train": "a.tar"}}, None, rf"{split} has no 'split_parts' that can be read"),
        ({"split_parts": {**parts, "val": None}}, "val", rf"split 'val' of {folder} has no tars: .* lists"),
    ):
        write_meta(folder, **tree)
        with pytest.raises(UserError, match=rf"^data\.train\.s\.urls: {sentence}"):
            opened(folder, split=asked)
    split.write_text("split_parts: {train: [\n")
    with pytest.raises(UserError, match=rf"^data\.train\.s\.urls: {split} is not valid YAML at line 2: "):
        opened(folder)
    split.write_text("split_parts: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(UserError, match=rf"{split} is not valid YAML at line 1: .*could not determine a con"):
        opened(folder)
    split.unlink()
    with pytest.raises(UserError, match=rf"{split} is not there; it says which tars each split has"):
        opened(folder)
