import io
import os
import pickle
import tarfile
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from depthkd.formats.index_files import keep_index
from depthkd.formats.sample import BadSample
from depthkd.formats.shard_urls import find_shards
from depthkd.formats.tar import index_tar


def make(path: Path, members: dict[str, bytes], form: int = tarfile.GNU_FORMAT) -> Path:
    with tarfile.open(path, "w", format=form) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def contents(path: Path) -> dict[str, dict[str, bytes]]:
    index = index_tar(path)
    return {key: index.read(i) for i, key in enumerate(index.keys)}


def test_sa1b_and_img2dataset(tmp_path: Path) -> None:
    sa1b = {"./sa_9.jpg": b"nine", "./sa_9.json": b"{}", "./sa_1.JPG": b"one", "./sa_1.json": b""}
    assert contents(make(tmp_path / "sa.tar", sa1b)) == {
        "sa_9": {"jpg": b"nine", "json": b"{}"},
        "sa_1": {"jpg": b"one", "json": b""},
    }
    laion = {
        "000000000.jpg": b"a",
        "000000000.txt": b"cat",
        "000000000.json": b"{",
        "000000001.txt": b"no image",
    }
    path = make(tmp_path / "00000.tar", laion)
    assert contents(path) == {"000000000": {"jpg": b"a", "txt": b"cat", "json": b"{"}}
    everything = index_tar(path, images=False)
    assert list(everything.keys) == ["000000000", "000000001"]
    assert everything.members(1) == {"txt": 8}


def test_members_may_be_apart_and_have_several_suffixes(tmp_path: Path) -> None:
    members = {
        "a.jpg": b"1",
        "c.json": b"5",
        "b.png": b"2",
        "a.depth.png": b"3",
        "b.json": b"4",
        "d.webp": b"6",
    }
    index = index_tar(make(tmp_path / "x.tar", members))
    assert list(index.keys) == ["a", "b", "d"]
    assert index.read(0) == {"jpg": b"1", "depth.png": b"3"}
    assert index.read(0, ("depth.png",)) == {"depth.png": b"3"}
    assert index.read(2) == {"webp": b"6"}
    assert len(index) == 3
    assert pickle.loads(pickle.dumps(index)).read(1) == {"png": b"2", "json": b"4"}


def test_folders_are_kept_out_of_keys_unless_they_tell_samples_apart(tmp_path: Path) -> None:
    assert list(contents(make(tmp_path / "a.tar", {"x/1.jpg": b"", "x/1.json": b"", "y/2.jpg": b""}))) == [
        "1",
        "2",
    ]
    both = make(tmp_path / "b.tar", {"x/1.jpg": b"x", "y/1.jpg": b"y", "2.jpg": b""})
    assert {key: data["jpg"] for key, data in contents(both).items()} == {"x/1": b"x", "y/1": b"y", "2": b""}


def test_the_last_member_of_a_name_counts_and_dotfiles_do_not(tmp_path: Path) -> None:
    path = make(
        tmp_path / "a.tar", {"./1.jpg": b"old", "._1.jpg": b"resource fork", "1.jpg": b"new", "README": b""}
    )
    assert contents(path) == {"1": {"jpg": b"new"}}


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_foreign_names(tmp_path: Path, form: int) -> None:
    long = "k" * 90 + ".jpg"
    members = {"f" * 120 + "/" + long: b"long", "short.jpg": b"short", "größe.jpg": b"umlaut"}
    if form != tarfile.USTAR_FORMAT:  # which ends at 256 characters
        members |= {"f/" + "m" * 250 + ".png": b"longer", "after.jpg": b"after"}
    expected = {name.rpartition("/")[2].partition(".")[0]: data for name, data in members.items()}
    found = contents(make(tmp_path / "a.tar", members, form))
    assert {key: next(iter(data.values())) for key, data in found.items()} == expected


def test_links_folders_and_global_headers_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "hello"}) as tar:
        for name, kind in (("d", tarfile.DIRTYPE), ("l.jpg", tarfile.SYMTYPE), ("h.jpg", tarfile.LNKTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "x" * 150
            tar.addfile(info)
        info = tarfile.TarInfo("1.jpg")
        info.size = 600
        tar.addfile(info, io.BytesIO(b"z" * 600))
    assert contents(path) == {"1": {"jpg": b"z" * 600}}


def test_a_member_beyond_8_gib_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "big.tar"
    big, small = tarfile.TarInfo("big.bin"), tarfile.TarInfo("1.jpg")
    big.size, small.size = (8 << 30) + 5, 3
    with path.open("wb") as file:  # a hole in the file: it takes no room
        file.write(big.tobuf(tarfile.GNU_FORMAT))
        file.seek((8 << 30) + 512, os.SEEK_CUR)
        file.write(small.tobuf(tarfile.GNU_FORMAT) + b"abc" + bytes(509) + bytes(1024))
    assert contents(path) == {"1": {"jpg": b"abc"}}


def test_a_bad_tar_is_one_sentence(tmp_path: Path) -> None:
    whole = make(tmp_path / "whole.tar", {"1.jpg": b"x" * 5000, "2.jpg": b"y" * 5000}).read_bytes()
    path = tmp_path / "bad.tar"
    for data, sentence in (
        (b"", "bad.tar is empty or not a tar: it has 0 bytes"),
        (b"hello", "bad.tar is empty or not a tar: it has 5 bytes"),
        (b"text " * 500, "bad.tar is not a tar"),
        (bytes(10240), "bad.tar holds no sample with an image"),
        (whole[:3000], "bad.tar is cut short: it has 3000 bytes, but a member ends at 5632"),
        (whole[:5632], "bad.tar is cut short: its end-of-archive mark is missing at byte 5632"),
        (whole[:5800], "bad.tar is cut short"),
        (whole[:5632] + b"?" * 512 + whole[6144:], "bad.tar is a broken tar: no valid header at byte 5632"),
        (b"\x1f\x8b" + whole, "bad.tar is compressed"),
    ):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=sentence):
            index_tar(path)
    with pytest.raises(FileNotFoundError, match=r"gone\.tar is not a file"):
        index_tar(tmp_path / "gone.tar")
    with pytest.raises(FileNotFoundError, match="is not a file"):
        index_tar(tmp_path)


@pytest.mark.parametrize("size", [b"-0000000777\0", b"zzzzzzzzzzz\0", b"\xff" * 12])
def test_a_size_that_leads_backwards_is_refused(tmp_path: Path, size: bytes) -> None:
    info = tarfile.TarInfo("1.jpg")
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path = tmp_path / "a.tar"
    path.write_bytes(bytes(header) + bytes(1024))
    with pytest.raises(ValueError, match="the size of the member at byte 0 is unreadable"):
        index_tar(path)


def test_the_index_is_cached_until_the_tar_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(tmp_path / "a.tar", {"1.jpg": b"one"})
    assert list(index_tar(path).keys) == ["1"]
    cache = tmp_path / "a.tar.index"
    assert cache.exists()
    with monkeypatch.context() as patch:
        patch.setattr("depthkd.formats.tar.tar_members", lambda _: pytest.fail("the tar was scanned again"))
        index = index_tar(path)
        assert (list(index.keys), index.read(0)) == (["1"], {"jpg": b"one"})
    other = index_tar(make(tmp_path / "b.tar", {"from the cache.jpg": b"two"}))
    keep_index(replace(other, file=index.file), None)
    assert list(index_tar(path).keys) == ["from the cache"]
    os.utime(path, ns=(1, 1))
    assert list(index_tar(path).keys) == ["1"]
    make(path, {"2.jpg": b"two"})
    assert contents(path) == {"2": {"jpg": b"two"}}


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"\xff" * 9,
        b"\2\0\0\0\0\0\0\0[]",
        b"\2\0\0\0\0\0\0\0{}",
        b'{"version": 2, "stamp": [1, 2]}',
    ],
)
def test_a_damaged_cache_is_made_again(tmp_path: Path, damage: bytes) -> None:
    path = make(tmp_path / "a.tar", {"1.jpg": b"one"})
    index_tar(path)
    cache = tmp_path / "a.tar.index"
    sound = cache.read_bytes()
    cache.write_bytes(damage)
    assert contents(path) == {"1": {"jpg": b"one"}}
    assert cache.read_bytes() == sound
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.tar", "a.tar.index"]


def test_the_cache_is_elsewhere_when_it_must(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(tmp_path / "a.tar", {"1.jpg": b"one"})
    index_tar(path, cache=tmp_path / "given")
    assert len(list((tmp_path / "given").iterdir())) == 1
    assert not (tmp_path / "a.tar.index").exists()
    monkeypatch.setenv("DEPTHKD_CACHE", str(tmp_path / "mine"))
    (tmp_path / "a.tar.index").mkdir()  # in the way, as a folder that cannot be written would be
    for _ in range(2):
        assert list(index_tar(path).keys) == ["1"]
    assert len(list((tmp_path / "mine").iterdir())) == 1


def test_reads_follow_the_file_and_notice_a_change(tmp_path: Path) -> None:
    path = make(tmp_path / "a.tar", {"1.jpg": b"x" * 2000})
    index = index_tar(path)
    assert index.read(0) == {"jpg": b"x" * 2000}
    with path.open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(BadSample, match=r"a\.tar: sample '1' is cut short; the tar has changed"):
        index.read(0)


def test_many_tars_many_threads_few_open_files(tmp_path: Path) -> None:
    indices = [index_tar(make(tmp_path / f"{n:03d}.tar", {"1.jpg": b"%d" % n})) for n in range(150)]
    before = len(list(Path("/proc/self/fd").iterdir()))
    wrong: list[int] = []

    def read_all() -> None:
        wrong.extend(n for n, index in enumerate(indices) if index.read(0) != {"jpg": b"%d" % n})

    threads = [threading.Thread(target=read_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 64


def test_urls_expand_in_order(tmp_path: Path) -> None:
    for name in ("sa_000000.tar", "sa_000001.tar", "sa_000002.tar", "notes.txt"):
        (tmp_path / name).touch()
    tars = [str(tmp_path / f"sa_00000{n}.tar") for n in range(3)]
    assert find_shards(f"{tmp_path}/sa_{{000000..000002}}.tar").paths == tars
    assert find_shards(f"file://{tmp_path}/sa_000001.tar").paths == tars[1:2]
    assert find_shards(f"{tmp_path}/sa_*.tar").paths == tars
    assert find_shards(str(tmp_path)).paths == tars
    assert find_shards([tars[2], tars[0]]).paths == [tars[2], tars[0]]


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("pipe:cat a.tar", "'pipe:cat a.tar' would run a program"),
        ("PIPE:touch owned", "would run a program"),
        ("file://pipe:touch owned", "would run a program"),
        ("ftp://x.org/a.tar", "is remote: shards are read from http://.*copy it there first"),
        ("az://b/{0..3}.tar", "is remote"),
        ("gopher://x/a.tar", "unknown scheme 'gopher:'"),
        ([], "no urls are given"),
    ],
)
def test_only_files_are_opened(url: str | list[str], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        find_shards(url)


def test_a_pattern_that_matches_nothing_says_so(tmp_path: Path) -> None:
    (tmp_path / "a0.tar").touch()
    (tmp_path / "empty").mkdir()
    for pattern, missing in (
        ("b*.tar", "b*.tar"),
        ("a{0..1}.tar", "a1.tar"),
        ("a1.tar", "a1.tar"),
        ("empty", "empty"),
    ):
        with pytest.raises(FileNotFoundError) as caught:
            find_shards(f"{tmp_path}/{pattern}")
        assert f"'{tmp_path}/{missing}'" in str(caught.value)
        assert str(caught.value).endswith("matches no .tar file")
