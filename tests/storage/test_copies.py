import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from depthkd.errors import UserError
from depthkd.storage import remote
from depthkd.storage.ahead import Ahead
from depthkd.storage.copies import LOCK, PART, CopiedFile, Copies, _locked
from depthkd.storage.files import GoneError, RemoteFile
from tests.storage.server import FAULTS, FaultyServer, serving

SIZE = 50_000


def data(seed: int) -> bytes:
    return bytes((seed + i * i) % 256 for i in range(SIZE))


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    served = tmp_path / "served"
    served.mkdir()
    for number in range(4):
        (served / f"{number}.tar").write_bytes(data(number))
    monkeypatch.setattr(remote, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(remote, "PATIENCE", 0.3)
    monkeypatch.setattr(remote, "PIECE", 20_000)
    with serving(served) as running:
        running.stall = 0.5
        yield running


def gets(server: FaultyServer) -> list[str]:
    return [request for request in server.requests if request.startswith("GET")]


def whole(copies: Copies, server: FaultyServer, number: int) -> bytes:
    copy = copies.fetch(RemoteFile(f"{server.url}/{number}.tar"))
    assert copy is not None
    return copy.path.read_bytes()


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("fault", ["", *FAULTS])
def test_a_copy_is_whole(server: FaultyServer, tmp_path: Path, fault: str, ranges: bool) -> None:
    server.ranges = ranges
    server.plan = lambda number: fault if number % 2 == 0 else ""
    copies = Copies(tmp_path / "copies", 1e9)
    assert whole(copies, server, 1) == data(1)
    assert len(list((tmp_path / "copies").iterdir())) == 2  # it, and the folder's lock
    server.requests.clear()
    assert whole(copies, server, 1) == data(1) and not gets(server)


def test_what_a_killed_process_has_left_is_gone_on_with(server: FaultyServer, tmp_path: Path) -> None:
    copies = Copies(tmp_path / "copies", 1e9)
    file = RemoteFile(f"{server.url}/1.tar")
    part = copies._path(file).with_name(copies._path(file).name + ".part")
    part.parent.mkdir()
    part.write_bytes(data(1)[:20_000])
    server.requests.clear()
    assert whole(copies, server, 1) == data(1)
    assert gets(server)[0] == "GET /1.tar bytes=20000-39999"


def test_the_copy_used_longest_ago_makes_room(server: FaultyServer, tmp_path: Path) -> None:
    copies = Copies(tmp_path / "copies", 2.5 * SIZE)
    files = [RemoteFile(f"{server.url}/{number}.tar") for number in range(4)]
    for number in range(3):
        if number == 2:
            assert copies.find(files[0]) is not None  # used now: the other one goes
        assert whole(copies, server, number) == data(number)
        time.sleep(0.02)
    assert [copies.find(file) is not None for file in files] == [True, False, True, False]
    with pytest.raises(UserError, match=r"/3\.tar has 5e-05 GB, and cache_limit is 4e-05"):
        Copies(tmp_path / "copies", 40_000.0).fetch(files[3])


def test_parts_that_nobody_writes_make_room(server: FaultyServer, tmp_path: Path) -> None:
    folder = tmp_path / "copies"
    copies = Copies(folder, 2.5 * SIZE)
    paths = [copies._path(RemoteFile(f"{server.url}/{number}.tar")) for number in range(4)]
    parts = [path.with_name(path.name + PART) for path in paths]
    locks = [path.with_name(path.name + LOCK) for path in paths]
    assert whole(copies, server, 0) == data(0)
    for number in (1, 2):  # what two killed processes have left
        parts[number].write_bytes(data(number)[:20_000])
        locks[number].touch()
    os.utime(parts[1], ns=(1, 1))
    assert whole(copies, server, 3) == data(3)
    assert not parts[1].exists() and parts[2].exists() and paths[0].exists()  # the oldest was enough
    os.utime(parts[2], ns=(1, 1))
    with _locked(locks[2], wait=True):  # now a process writes it, in spite of its time
        assert whole(copies, server, 1) == data(1)
    assert parts[2].exists() and not paths[0].exists() and paths[3].exists()
    assert whole(copies, server, 0) == data(0)
    assert sorted(path.name[17:] for path in folder.iterdir() if path.name != LOCK) == ["0.tar", "1.tar"]


def test_a_lock_whose_file_was_removed_locks_nobody_out_and_nobody_in(tmp_path: Path) -> None:
    lock = tmp_path / "a.lock"
    inside: list[str] = []

    def enter() -> None:
        with _locked(lock, wait=True):
            inside.append("in")
            time.sleep(0.1)
            inside.append("out")

    with _locked(lock, wait=True):
        first = threading.Thread(target=enter)
        first.start()
        time.sleep(0.05)  # it waits for a file that is about to lose its name
        lock.unlink()
        second = threading.Thread(target=enter)
    second.start()
    for thread in (first, second):
        thread.join()
    assert inside == ["in", "out"] * 2


def test_another_version_is_another_copy(server: FaultyServer, tmp_path: Path) -> None:
    copies = Copies(tmp_path / "copies", 1e9)
    assert whole(copies, server, 1) == data(1)
    (server.folder / "1.tar").write_bytes(data(9))
    assert whole(copies, server, 1) == data(9)


def test_processes_make_a_copy_once(server: FaultyServer, tmp_path: Path) -> None:
    copies = Copies(tmp_path / "copies", 1e9)
    server.delay = 0.05
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(whole(copies, server, 1))) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.12)
    assert copies.fetch(RemoteFile(f"{server.url}/1.tar"), wait=False) is None
    for thread in threads:
        thread.join()
    assert found == [data(1)] * 4
    assert len(gets(server)) == 3


def test_ranges_serve_until_there_is_a_copy_and_after_it_has_gone(
    server: FaultyServer, tmp_path: Path
) -> None:
    file = CopiedFile(RemoteFile(f"{server.url}/1.tar"), Copies(tmp_path / "copies", 1e9))
    parts = [(10, 100), (30_000, 50)]
    expected = [data(1)[10:110], data(1)[30_000:30_050]]
    assert file.read(parts) == expected
    assert len(gets(server)) == 1  # the parts are near each other
    file.fetch()
    server.requests.clear()
    assert file.read(parts) == expected and not gets(server)
    for path in (tmp_path / "copies").glob("*.tar"):
        path.unlink()
    assert file.read(parts) == expected and len(gets(server)) == 1


def test_a_copy_that_was_cut_short_is_said(server: FaultyServer, tmp_path: Path) -> None:
    file = CopiedFile(RemoteFile(f"{server.url}/1.tar"), Copies(tmp_path / "copies", 1e9))
    file.fetch()
    (copy,) = (tmp_path / "copies").glob("*.tar")
    os.truncate(copy, 20_000)
    with pytest.raises(GoneError, match=f"is cut short in its copy {copy}; remove that"):
        file.read([(19_990, 20)])


def test_a_server_without_ranges_is_copied(server: FaultyServer, tmp_path: Path) -> None:
    server.ranges = False
    file = CopiedFile(RemoteFile(f"{server.url}/2.tar"), Copies(tmp_path / "copies", 1e9))
    assert file.read([(10, 100)]) == [data(2)[10:110]]
    server.requests.clear()
    assert file.read([(500, 5)]) == [data(2)[500:505]] and not gets(server)


def test_what_is_read_ahead_is_made_once_by_a_few_threads() -> None:
    ahead: Ahead[int, int] = Ahead(3)
    running, most = 0, 0
    lock = threading.Lock()

    def make(number: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.01)
        with lock:
            running -= 1
        if number == 5:
            raise UserError("five")
        return number * number

    for number in range(12):
        ahead.begin(number, lambda number=number: make(number))
        ahead.begin(number, lambda: pytest.fail("made twice"))
    assert [ahead.take(n, lambda: -1) for n in range(12) if n != 5] == [n * n for n in range(12) if n != 5]
    with pytest.raises(UserError, match="five"):
        ahead.take(5, lambda: -1)
    assert most == 3 and ahead.take(5, lambda: -1) == -1


def test_a_fork_begins_without_what_its_parent_was_about_to_read() -> None:
    ahead: Ahead[int, int] = Ahead(2)
    ahead.begin(1, lambda: 1)
    child = os.fork()
    if not child:
        ahead.begin(2, lambda: 2)
        os._exit(0 if (ahead.take(1, lambda: 7), ahead.take(2, lambda: 8)) == (7, 2) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert ahead.take(1, lambda: -1) == 1
