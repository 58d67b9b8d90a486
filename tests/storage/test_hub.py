"""Shards in a repository on the hub, against a server that answers as the hub does."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import pytest

from depthkd.cli import main
from depthkd.data.stream import OpenSource, ShardSource
from depthkd.errors import MissingFileError, UserError
from depthkd.formats.shard_urls import find_shards
from depthkd.storage import hub as hub_room
from depthkd.storage import remote
from depthkd.storage.remote import DeniedError, read_range, small_file, version_of
from tests.data.shards import write_shards, write_tar
from tests.storage.hub_server import SIGNED, TOKEN, hub
from tests.storage.server import FAULTS, FaultyServer
from tests.storage.test_remote_shards import assert_same, batches, samples

REPOSITORY = "hf://datasets/owner/name"


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One in several revisions, and one that is gated: three labelled shards for training, one to test on."""
    folder = tmp_path_factory.mktemp("hub")
    first = folder / "datasets/owner/name"
    (first / "data").mkdir(parents=True)
    write_shards(first / "data", [3, 2, 4, 1], labelled=True)
    for n, name in enumerate(("train-0", "train-1", "train-2", "test-0")):
        (first / f"data/data_{n:02}.tar").rename(first / f"data/{name}.tar")
    (first / "README.md").write_text("# Rooms\n")
    (first / "data/train-0.parquet").write_bytes(b"PAR1")
    for name in ("name@v1", "name@refs_pr_1", "gated"):
        shutil.copytree(first, first.with_name(name))
    (folder / "datasets/owner/name@v1/data/train-2.tar").unlink()
    return folder


@pytest.fixture
def server(repositories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    served = tmp_path / "served"
    shutil.copytree(repositories, served)
    with hub(served, monkeypatch) as running:
        yield running


def local(server: FaultyServer) -> OpenSource:
    return ShardSource(f"{server.folder}/datasets/owner/name/data/train-*.tar", labelled=True).open("s", 0)


def far(urls: str = REPOSITORY, access: str = "range") -> OpenSource:
    return ShardSource(urls, labelled=True, access=access).open("s", 0)


@pytest.mark.parametrize("access", ["range", "cache"])
def test_a_repository_is_the_stream_of_its_training_split(server: FaultyServer, access: str) -> None:
    opened = far(access=access)
    assert opened.paths == [f"{REPOSITORY}/data/train-{n}.tar" for n in range(3)]
    assert opened.fingerprint() == local(server).fingerprint()
    opened.expect(range(9))
    assert_same(samples(opened, 9), samples(local(server), 9))


def test_worker_processes_take_over_what_is_known(server: FaultyServer) -> None:
    opened = far()
    samples(opened, 9)
    server.requests.clear()
    assert batches(opened, 1) == batches(local(server), 0)
    assert not [request for request in server.requests if "/api/" in request]


def test_what_urls_stand_for(server: FaultyServer) -> None:
    train, test = [f"train-{n}" for n in range(3)], ["test-0"]
    for revision, place, split, names in (
        ("", "/", None, train),
        ("", "", "test", test),
        ("", "", "all", train + test),
        ("@v1", "", None, train[:2]),
        ("@refs/pr/1", "", None, train),
        ("@refs%2Fpr%2F1", "", None, train),
        ("@v1", "/data/", "test", test),
        ("", "/data/", None, test + train),
        ("", "/data/train-[01].tar", None, train[:2]),
        ("", "/data/train-{1,0}.tar", None, [train[1], train[0]]),
    ):
        found = find_shards(f"{REPOSITORY}{revision}{place}", split)
        assert found.paths == [f"{REPOSITORY}{revision}/data/{name}.tar" for name in names]
        assert names != test or len(found.index(found.paths[0])) == 1


def test_a_card_tells_the_splits(server: FaultyServer) -> None:
    files = "data_files: [{split: train, path: 'data/t*[01].tar'}]"
    text = f"---\nconfigs:\n- config_name: rooms\n  {files}\n---\n# Rooms\n"
    (server.folder / "datasets/owner/name/README.md").write_text(text)
    names = ("test-0", "train-0", "train-1")
    assert far().paths == [f"{REPOSITORY}/data/{name}.tar" for name in names]


def test_every_read_outlives_every_fault(server: FaultyServer) -> None:
    server.faults = ["short body", "reset"]  # of what is asked about the repository itself
    opened = far()
    faults = cycle(fault for fault in FAULTS if fault != "stall")
    server.plan = lambda number: next(faults) if number % 3 == 0 else ""
    assert_same(samples(opened, 9), samples(local(server), 9))


def test_bytes_come_from_elsewhere_without_the_token(server: FaultyServer) -> None:
    url = "hf://datasets/owner/gated/data/train-0.tar"
    data = (server.folder / "datasets/owner/gated/data/train-0.tar").read_bytes()
    assert read_range(url, 700, 90, version_of(url)) == data[700:790]
    assert small_file("hf://datasets/owner/gated/README.md") == b"# Rooms\n"
    assert [request for request in server.requests if "bytes=700-789" in request] == [
        "GET /datasets/owner/gated/resolve/main/data/train-0.tar bytes=700-789",
        f"GET /elsewhere/datasets/owner/gated/data/train-0.tar?{SIGNED} bytes=700-789",
    ]


def test_a_list_is_asked_for_once(server: FaultyServer) -> None:
    opened = far(f"{REPOSITORY}/data/{{train-0,train-1,train-2}}.tar")
    samples(opened, 9)
    lists = [request for request in server.requests if "/tree/" in request]
    assert len(lists) == 2 and "cursor=3" in lists[1]  # of five files, three a page


def test_a_new_commit_is_noticed_in_a_run_and_read_by_the_next(server: FaultyServer) -> None:
    opened = far()
    write_tar(server.folder / "datasets/owner/name/data/train-1.tar", {"x": {"jpg": b"x" * 20_000}})
    with pytest.raises(UserError, match=rf"^{REPOSITORY}/data/train-1\.tar has changed since the run began"):
        samples(opened, 9)
    assert len(far()) == 8


def test_what_is_not_there_is_said(server: FaultyServer) -> None:
    for urls, split, sentence in (
        ("hf://datasets/owner/none", None, r"hf://datasets/owner/none is not there"),
        (f"{REPOSITORY}@v9", None, rf"{REPOSITORY}@v9 is not there"),
        (f"{REPOSITORY}/data/x.tar", None, rf"{REPOSITORY}/data/x\.tar is not there"),
        (f"{REPOSITORY}/data", None, rf"{REPOSITORY}/data is a folder; with / at its end, it stands for the"),
        ("hf://datasets/owner", None, r"hf://datasets/owner names no repository \(.*\); it would be hf://d"),
        ("hf://", None, "'hf://' names no file or folder"),
        (REPOSITORY, "val", "hf.* has no split 'val'; by the names of its tars, it has 'train', 'test'$"),
    ):
        with pytest.raises(UserError, match=rf"^data\.train\.s\.urls: {sentence}"):
            ShardSource(urls, split=split).open("s", 0)


def test_who_may_not_read_is_told_where_to_log_in(
    server: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", f"not_{TOKEN}")
    with pytest.raises(DeniedError, match=r"gated may not be read .*docs/data\.md says where"):
        find_shards("hf://datasets/owner/gated")


def test_a_repository_without_tars(server: FaultyServer) -> None:
    for path in (server.folder / "datasets/owner/name/data").glob("*.tar"):
        path.unlink()
    with pytest.raises(
        MissingFileError, match=rf"^{REPOSITORY} has no \.tar file; there are 1 \.md, 1 \.parquet$"
    ):
        find_shards(REPOSITORY)


def test_a_hub_that_is_offline_silent_or_none_is_said(
    server: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(remote, "ATTEMPTS", 2)
    monkeypatch.setattr(hub_room, "LISTING", 0.1)
    server.stall, server.faults = 0.4, ["stall", "stall"]
    with pytest.raises(UserError, match=rf"^{REPOSITORY} could not be read in 2 attempts, over .*: Timeout"):
        find_shards(REPOSITORY)
    monkeypatch.setattr(hub_room, "LISTING", 9.0)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(remote, "_systems", {})
    with pytest.raises(UserError, match=r"could not be read in 2 attempts.*onnect"):
        find_shards(REPOSITORY)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"could not be read in 1 attempts.* offline mode is enabled"):
        find_shards(REPOSITORY)


def test_shards_are_indexed_and_verified(server: FaultyServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["shards", "index", REPOSITORY]) == 0
    assert "10 samples with an image in 4 tars" in capsys.readouterr().out
    assert main(["shards", "verify", REPOSITORY, "--split", "test"]) == 0
    assert "1 of 1 samples are good" in capsys.readouterr().out


def test_the_environment_says_where_the_hub_is(server: FaultyServer, tmp_path: Path) -> None:
    code = (
        "from depthkd.storage.remote import read_range, version_of; "
        f"url = '{REPOSITORY}/data/train-0.tar'; print(read_range(url, 0, 9, version_of(url)))"
    )
    environment = {**os.environ, "HF_ENDPOINT": server.url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "b'00_00.png'"
