from collections.abc import Iterator
from pathlib import Path

import pytest

from depthkd.errors import MissingFileError, UserError
from depthkd.storage import remote
from depthkd.storage.remote import ChangedFileError, Version, is_remote, pieces, read_range, shown, version_of
from tests.storage.server import FAULTS, FaultyServer, serving

DATA = bytes(range(256)) * 400


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    (tmp_path / "a.tar").write_bytes(DATA)
    monkeypatch.setattr(remote, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(remote, "PATIENCE", 0.3)
    with serving(tmp_path) as served:
        yield served


def test_which_paths_are_remote() -> None:
    assert is_remote("https://x/a.tar") and is_remote("s3://b/a.tar") and is_remote("hf://datasets/a/b/c.tar")
    assert not is_remote("/a.tar") and not is_remote("file:///a.tar") and not is_remote("pipe:cat x")
    assert shown("https://me:secret@host/a.tar?signature=abc") == "https://host/a.tar"


def test_a_range_and_the_whole_come_as_they_are(
    server: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{server.url}/a.tar"
    version = version_of(url)
    assert version.size == len(DATA) and version.tag.startswith('"')
    assert read_range(url, 1000, 500, version) == DATA[1000:1500]
    assert read_range(url, 0, 0, version) == b""
    monkeypatch.setattr(remote, "PIECE", 30_000)
    assert b"".join(data for _, data in pieces(url, version)) == DATA
    assert b"".join(data for _, data in pieces(url, version, 50_001)) == DATA[50_001:]


@pytest.mark.parametrize("fault", FAULTS)
def test_what_a_network_does_is_waited_out(server: FaultyServer, fault: str) -> None:
    url = f"{server.url}/a.tar"
    server.faults, server.stall = [fault] * 2, 0.5
    version = version_of(url)
    assert version.size == len(DATA)
    server.faults, server.requests = [fault] * 3, []
    server.stall = 0.5
    assert read_range(url, 99, 70_000, version) == DATA[99:70_099]
    assert len(server.requests) == 4


@pytest.mark.parametrize("fault", FAULTS)
def test_what_does_not_end_is_said(server: FaultyServer, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "ATTEMPTS", 3)
    monkeypatch.setattr(remote, "PATIENCE", 0.1)
    url = f"{server.url}/a.tar"
    version = version_of(url)
    server.stall = 0.3
    server.faults = [fault] * 3
    with pytest.raises(UserError, match=rf"^{url} could not be read in 3 attempts, over \d s: "):
        read_range(url, 0, 1000, version)
    if fault in ("reset", "short body"):
        return  # a header that has come is enough
    server.faults = [fault] * 9
    with pytest.raises(UserError, match=rf"^{url} could not be read in 3 attempts, over \d s: "):
        version_of(url)


def test_another_content_is_noticed(server: FaultyServer, tmp_path: Path) -> None:
    url = f"{server.url}/a.tar"
    version = version_of(url)
    (tmp_path / "a.tar").write_bytes(DATA[::-1])
    with pytest.raises(ChangedFileError, match=f"^{url} has changed since the run began"):
        read_range(url, 0, 100, version)
    assert version_of(url) != version


def test_what_is_not_there_and_who_is_not_there(
    server: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(MissingFileError, match=f"^{server.url}/b.tar is not there"):
        version_of(f"{server.url}/b.tar")
    with pytest.raises(MissingFileError, match=f"^{server.url}/b.tar is not there"):
        read_range(f"{server.url}/b.tar", 0, 10, Version(20))
    monkeypatch.setattr(remote, "ATTEMPTS", 2)
    with pytest.raises(
        UserError, match=r"^http://127\.0\.0\.1:9/a\.tar could not be read in 2 attempts.*onnect"
    ):
        version_of("http://127.0.0.1:9/a.tar")


def test_a_server_without_ranges_is_refused(server: FaultyServer) -> None:
    server.ranges = False
    url = f"{server.url}/a.tar"
    with pytest.raises(UserError, match="sends whole files where a part is asked for; set access to cache"):
        read_range(url, 10, 20, version_of(url))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "gcsfs", None)
    with pytest.raises(
        UserError, match=r"^gs://bucket/a\.tar: gs:// is read by gcsfs, which is not installed"
    ):
        version_of("gs://bucket/a.tar")
