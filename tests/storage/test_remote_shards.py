"""Shards over HTTP: the same stream as from a local folder, whatever the network does."""

import shutil
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from depthkd.cli import main
from depthkd.data.loaders import StreamLoader
from depthkd.data.stream import OpenSource, ShardSource, StreamBatches
from depthkd.errors import MissingFileError, UserError
from depthkd.formats.sample import BadSample, Sample
from depthkd.formats.shard_set import MANIFEST, survey
from depthkd.formats.tar import index_tar
from depthkd.storage import remote
from tests.data.shards import write_shards
from tests.storage.server import FAULTS, FaultyServer, serving

SHARDS = "s_{00..02}.tar"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three labelled shards without indexes."""
    folder = tmp_path_factory.mktemp("remote") / "s"
    folder.mkdir()
    write_shards(folder, [3, 4, 5], labelled=True)
    return folder


@pytest.fixture
def server(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    served = tmp_path / "served"
    shutil.copytree(folder, served)
    monkeypatch.setattr(remote, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(remote, "PATIENCE", 0.2)
    monkeypatch.setenv("DEPTHKD_CACHE", str(tmp_path / "cache"))
    with serving(served) as running:
        running.stall = 0.35
        yield running


def samples(opened: OpenSource, count: int = 12) -> list[Sample]:
    return [opened.sample(position)[0] for position in range(count)]


def assert_same(found: list[Sample], expected: list[Sample]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.key == other.key and one.digest == other.digest
        assert np.array_equal(one.image, other.image)
        assert one.depth is not None and other.depth is not None and np.array_equal(one.depth, other.depth)


def batches(source: OpenSource, processes: int) -> list[list[str]]:
    """The keys of the first batches, as a loader with worker processes reads them."""
    loader = StreamLoader(
        lambda start: StreamBatches({"photos": source}, 4, start=start), lambda: 0, lambda _: None, processes
    )
    return [batch["photos"].keys for batch in islice(iter(loader), 9)]


def local(folder: Path) -> OpenSource:
    return ShardSource(f"{folder}/{SHARDS}", labelled=True).open("photos", 0)


def far(server: FaultyServer) -> OpenSource:
    return ShardSource(f"{server.url}/{SHARDS}", labelled=True).open("photos", 0)


def test_the_stream_is_that_of_a_local_folder(server: FaultyServer, folder: Path) -> None:
    opened = far(server)
    assert opened.fingerprint() == local(folder).fingerprint()
    assert_same(samples(opened), samples(local(folder)))
    server.requests.clear()
    again = far(server)  # its indexes are in the user's cache by now
    assert not any("bytes=" in request for request in server.requests)
    assert_same(samples(again), samples(local(folder)))


def test_what_lies_beside_the_shards_saves_reading_them(server: FaultyServer, folder: Path) -> None:
    assert main(["shards", "index", str(server.folder)]) == 0
    server.requests.clear()
    opened = far(server)
    assert [request.partition(" bytes")[0] for request in server.requests] == [
        f"HEAD /{MANIFEST}", f"GET /{MANIFEST}",
    ]  # fmt: skip
    assert_same(samples(opened), samples(local(folder)))
    ranges = [
        request for request in server.requests if request.startswith("GET /s_0") and "index" not in request
    ]
    assert len(ranges) == 12  # one of each sample, and none for its headers


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("indexed", [True, False])
def test_every_read_outlives_every_fault(
    server: FaultyServer, folder: Path, fault: str, indexed: bool
) -> None:
    if indexed:
        main(["shards", "index", str(server.folder)])
    server.plan = lambda number: fault if number % 3 == 0 else ""  # every third request fails
    assert_same(samples(far(server)), samples(local(folder)))


@pytest.mark.parametrize("workers", [1, 2])
def test_worker_processes_read_for_themselves(server: FaultyServer, folder: Path, workers: int) -> None:
    opened = far(server)
    samples(opened, 2)  # a file system of this process, which a fork must not take over

    assert batches(opened, workers) == batches(local(folder), 0)


def test_a_changed_shard_stops_the_run_with_a_sentence(server: FaultyServer) -> None:
    opened = far(server)
    samples(opened)
    write_shards(server.folder, [3, 4, 5], labelled=True)
    for path in server.folder.glob("served_*.tar"):
        path.rename(server.folder / path.name.replace("served", "s"))
    shutil.copy(server.folder / "s_01.tar", server.folder / "s_00.tar")
    with pytest.raises(UserError, match=r"s_00\.tar has changed since the run began"):
        samples(opened)
    with pytest.raises(UserError, match=r"s_00\.tar changed while the run was reading it"):
        samples(
            ShardSource(f"{server.url}/{SHARDS}", labelled=True).open("photos", 0) and opened_anew(opened)
        )


def opened_anew(opened: OpenSource) -> OpenSource:
    """The same source in a process that has not read any shard yet."""
    anew = OpenSource.__new__(OpenSource)
    anew.__dict__.update(opened.__dict__)
    anew._indexes = type(opened._indexes)(4)
    return anew


def test_an_index_of_another_tar_is_noticed(server: FaultyServer) -> None:
    main(["shards", "index", str(server.folder)])
    data = bytearray((server.folder / "s_00.tar").read_bytes())
    place = data.index(b"00_01.png")
    data[place : place + 9] = b"xx_01.png"  # a whole tar of the same size, with another content
    checksum = sum(data[place : place + 148]) + 8 * 32 + sum(data[place + 156 : place + 512])
    data[place + 148 : place + 156] = b"%06o\0 " % checksum
    (server.folder / "s_00.tar").write_bytes(data)
    index = index_tar(f"{server.url}/s_00.tar")
    assert set(index.read(0)) == {"png", "depth.png", "json"}
    with pytest.raises(BadSample, match=r"s_00\.tar: sample '00_01' is not where its index says"):
        index.read(1)


def test_what_is_wrong_is_said_by_its_key(server: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        MissingFileError, match=rf"^data\.train\.photos\.urls: {server.url}/s_03\.tar is not there"
    ):
        ShardSource(f"{server.url}/s_{{00..03}}.tar").open("photos", 0)
    assert survey([f"{server.url}/s_{n:02}.tar" for n in range(4)], max_bad=1).counts == [3, 4, 5]
    monkeypatch.setattr(remote, "ATTEMPTS", 2)
    with pytest.raises(UserError, match=r"^data\.train\.photos\.urls: http://127\.0\.0\.1:9/.* 2 attempts"):
        ShardSource("http://127.0.0.1:9/a.tar").open("photos", 0)
    for words in ("pipe:cat x.tar", "ftp://x/a.tar", "scp://x/a.tar"):
        with pytest.raises(UserError):
            ShardSource(words).open("photos", 0)


def test_a_password_is_never_shown(server: FaultyServer) -> None:
    url = f"{server.url}/nothing.tar?X-Amz-Signature=secret"
    with pytest.raises(MissingFileError) as caught:
        ShardSource(url).open("photos", 0)
    assert "secret" not in str(caught.value)


def test_verify_and_inspect_read_remote_shards(
    server: FaultyServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["shards", "verify", f"{server.url}/{SHARDS}"]) == 0
    assert "12 of 12 samples are good" in capsys.readouterr().out
    assert main(["shards", "inspect", f"{server.url}/s_00.tar"]) == 0
    assert "metric depth" in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["index", "inspect", "verify"])
def test_shards_of_a_server_without_ranges_are_read_from_copies(
    server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    server.ranges = False
    for index in server.folder.glob("*.index"):  # with which nothing has to be read
        index.unlink()
    monkeypatch.setattr("depthkd.formats.tar_headers.PIECE", 2048)  # or one request would bring all
    assert main(["shards", verb, f"{server.url}/{SHARDS}"]) == 0
    assert len(list((tmp_path / "cache/shards").glob("*.tar"))) == 3


@pytest.mark.parametrize("indexed", [True, False])
def test_a_run_reads_a_server_without_ranges_through_copies(
    server: FaultyServer, folder: Path, monkeypatch: pytest.MonkeyPatch, indexed: bool
) -> None:
    if indexed:
        main(["shards", "index", str(server.folder)])
    else:
        for index in server.folder.glob("*.index"):
            index.unlink()
    server.ranges = False
    monkeypatch.setattr("depthkd.formats.tar_headers.PIECE", 2048)
    urls = f"{server.url}/{SHARDS}"
    opened = ShardSource(urls, labelled=True, access="cache").open("photos", 0)
    assert_same(samples(opened), samples(local(folder)))
    joined = ShardSource(f"{folder}/{SHARDS}", labels=urls).open("photos", 0)
    assert_same(samples(joined), samples(local(folder)))
    if not indexed:
        with pytest.raises(UserError, match="set access to cache"):
            samples(ShardSource(urls, labelled=True).open("photos", 0))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("access", ["range", "cache"])
def test_what_is_read_ahead_is_the_same_stream(
    server: FaultyServer, folder: Path, tmp_path: Path, access: str, workers: int
) -> None:
    opened = ShardSource(f"{server.url}/{SHARDS}", labelled=True, access=access).open("photos", 0)

    assert batches(opened, workers) == batches(local(folder), 0)
    if access == "cache":
        copies = tmp_path / "cache/shards"
        for _ in range(100):
            if len(list(copies.glob("*.tar"))) == 3:
                break
            time.sleep(0.05)
        assert len(list(copies.glob("*.tar"))) == 3
        server.requests.clear()
        again = ShardSource(f"{server.url}/{SHARDS}", labelled=True, access=access).open("photos", 0)
        assert_same(samples(again), samples(local(folder)))
        assert not [request for request in server.requests if request.startswith("GET /s_")]


def test_latency_is_hidden(server: FaultyServer) -> None:
    main(["shards", "index", str(server.folder)])
    opened = far(server)
    samples(opened, 12)  # the indexes are here by now
    server.delay = 0.1
    begun = time.monotonic()
    stream = iter(StreamBatches({"photos": opened}, 4))
    for _ in range(6):
        next(stream)
    assert time.monotonic() - begun < 0.5 * 24 * 0.1


def test_a_copy_that_cannot_be_made_is_said(
    server: FaultyServer, caplog: pytest.LogCaptureFixture, folder: Path
) -> None:
    source = ShardSource(f"{server.url}/{SHARDS}", labelled=True, access="cache", cache_limit=1e-6)
    opened = source.open("photos", 0)
    batch = next(iter(StreamBatches({"photos": opened}, 4)))
    assert batch["photos"].keys == [local(folder).sample(n)[0].key for n in range(4)]
    for _ in range(100):
        if "no copy of a shard is made" in caplog.text:
            break
        time.sleep(0.05)
    assert "GB, and cache_limit is 1e-06" in caplog.text
    with pytest.raises(UserError, match="cache_limit is in gigabytes and must be above 0, not -1"):
        ShardSource("x.tar", cache_limit=-1.0)
