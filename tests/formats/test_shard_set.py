import json
import logging
import threading
import time
from pathlib import Path

import pytest

from depthkd.cli import main
from depthkd.data.stream import ShardSource
from depthkd.errors import MissingFileError, UserError
from depthkd.formats import shard_set
from depthkd.formats.shard_set import MANIFEST, read_manifest, survey
from depthkd.formats.tar import index_tar
from depthkd.storage.files import StoredFile
from tests.data.shards import write_shards, write_tar


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    """Five shards; shard n has n + 1 samples."""
    tmp_path = tmp_path / "s"
    tmp_path.mkdir()
    write_shards(tmp_path, [1, 2, 3, 4, 5])
    return sorted(map(str, tmp_path.glob("*.tar")))


def never_scan(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("depthkd.formats.tar.tar_members", lambda path: pytest.fail(f"{path} was scanned again"))


def never_load(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(shard_set, "index_tar", lambda path, *_: pytest.fail(f"{path} was opened"))
    patch.setattr(shard_set, "kept_facts", lambda file, _: pytest.fail(f"the index of {file.name} was read"))


def test_shards_are_indexed_once_and_then_known_by_a_header(
    paths: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = survey(paths)
    assert first.counts == [1, 2, 3, 4, 5]
    assert first.digests == [index_tar(path).digest for path in paths]
    never_scan(monkeypatch)
    monkeypatch.setattr(shard_set, "index_tar", lambda path, *_: pytest.fail(f"{path} was opened"))
    assert survey(paths) == first


def test_a_manifest_serves_for_all_and_stops_where_a_shard_has_changed(
    paths: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(paths[0]).parent
    assert main(["shards", "index", str(folder), "--workers", "1"]) == 0
    assert "15 samples with an image in 5 tars" in capsys.readouterr().out
    assert list(read_manifest(f"{folder}/x.tar")) == [Path(path).name for path in paths]
    with monkeypatch.context() as patch:
        never_load(patch)
        before = survey(paths)
        assert before.counts == [1, 2, 3, 4, 5]
    write_tar(Path(paths[1]), {"other": {"jpg": b"x"}})
    after = survey(paths)
    assert after.counts == [1, 1, 3, 4, 5] and after.digests[1] != before.digests[1]
    assert main(["shards", "index", paths[1]]) == 0  # the others stay in the manifest
    with monkeypatch.context() as patch:
        never_load(patch)
        assert survey(paths) == after
    Path(paths[4]).unlink()
    assert main(["shards", "index", paths[0]]) == 0
    assert list(read_manifest(f"{folder}/x.tar")) == [Path(path).name for path in paths[:4]]


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"version": 9, "shards": {}}', '{"version": 1, "shards": {"a": 3}}']
)
def test_a_damaged_manifest_is_no_manifest(paths: list[str], damage: str) -> None:
    main(["shards", "index", *paths])
    (Path(paths[0]).parent / MANIFEST).write_text(damage)
    assert survey(paths).counts == [1, 2, 3, 4, 5]


def test_a_cache_folder_holds_indexes_and_manifests(paths: list[str], tmp_path: Path) -> None:
    folder, cache = Path(paths[0]).parent, tmp_path / "cache"
    assert main(["shards", "index", str(folder), "--cache", str(cache)]) == 0
    assert sorted(folder.iterdir()) == sorted(map(Path, paths))
    assert len(list(cache.iterdir())) == 6
    assert len(read_manifest(f"{folder}/x.tar", cache)) == 5 and read_manifest(f"{folder}/x.tar") == {}
    assert survey(paths, cache).counts == [1, 2, 3, 4, 5]


def test_broken_shards_are_refused_or_counted_and_named(
    paths: list[str], caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(paths[1]).write_bytes(b"x" * 1000)
    Path(paths[3]).unlink()
    with pytest.raises(MissingFileError, match=f"^{paths[3]} is not a file"):
        survey(paths)
    with pytest.raises(UserError, match=f"^{paths[1]} is not a tar"):
        survey(paths[:3])
    with pytest.raises(
        UserError, match=f"2 shards are broken or missing, and max_bad_shards=1: {paths[1]} is"
    ):
        survey(paths, max_bad=1)
    with pytest.raises(MissingFileError, match=r"s_03\.tar"):
        ShardSource(paths, max_bad_shards=1).open("photos", 0)
    left = survey(paths, max_bad=2)
    assert left.paths == [paths[0], paths[2], paths[4]] and left.counts == [1, 3, 5]
    assert [sentence.split(" is")[0] for sentence in left.bad] == [paths[1], paths[3]]
    with caplog.at_level(logging.WARNING):
        opened = ShardSource([*paths[:3], paths[4]], max_bad_shards=1).open("photos", 0)
    assert len(opened) == 9 and opened.fingerprint()["shards"] == 3
    assert f"data.train.photos: left out a shard: {paths[1]} is not a tar" in caplog.text
    with pytest.raises(
        UserError, match=f"data.train.photos.urls: no shard can be read; the first: {paths[1]}"
    ):
        ShardSource(paths[1], max_bad_shards=1).open("photos", 0)
    with pytest.raises(UserError, match="max_bad_shards must be 0 or more, not -1"):
        ShardSource(paths, max_bad_shards=-1)
    assert main(["shards", "index", paths[0], paths[1]]) == 1
    out = capsys.readouterr().out
    assert (
        "1 samples with an image in 1 tars" in out
        and "1 of 2 are bad" in out
        and f"{paths[1]} is not a tar" in out
    )


def test_the_ranks_of_a_machine_share_the_indexing(paths: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    begun: dict[str, list[str]] = {"a": [], "b": []}
    barrier = threading.Barrier(2)

    def noted(file: StoredFile, *rest: object) -> object:
        mine = begun[threading.current_thread().name[0]]
        if not mine:
            barrier.wait(10)
        mine.append(file.name)
        return whole(file, *rest)

    whole = shard_set.index_tar
    monkeypatch.setattr(shard_set, "index_tar", noted)
    monkeypatch.setattr(shard_set, "_each", lambda function, those: map(function, those))
    found = {}
    ranks = [
        threading.Thread(target=lambda i=i: found.update({i: survey(paths, turn=(i, 2))}), name="ab"[i])
        for i in range(2)
    ]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
    assert found[0] == found[1] and found[0].counts == [1, 2, 3, 4, 5]
    assert begun["a"][0] == paths[0] and begun["b"][0] == paths[2]


def test_an_interruption_does_not_wait_for_thousands(
    paths: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def slow(path: str, *_: object) -> UserError:
        asked.append(path)
        time.sleep(0.002)
        return UserError(path)

    monkeypatch.setattr(shard_set, "facts_of", slow)
    with pytest.raises(UserError, match="4 shards are broken or missing"):
        survey([paths[0]] * 2000, max_bad=3)
    assert len(asked) < 200


def test_a_manifest_has_a_line_for_each_shard(paths: list[str]) -> None:
    main(["shards", "index", *paths])
    text = (Path(paths[0]).parent / MANIFEST).read_text()
    assert len(text.splitlines()) == 5 and json.loads(text)["version"] == 1
