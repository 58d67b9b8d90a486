import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from depthkd.errors import UserError
from depthkd.formats.quarantine import NotMovedError, check_free, move_bad, remove_moved
from depthkd.storage.files import LocalFile

LONG = f"{'f' * 60}/{'k' * 90}"  # its name has a header of its own, but in a ustar
MEMBERS = {
    "./1.jpg": b"x" * 700, f"{LONG}.jpg": b"long", "2.jpg": b"y" * 512, "1.json": b"{}", "README": b"read me",
    f"{LONG}.json": b"[]", "3.jpg": b"",
}  # fmt: skip
FORMS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


def made(path: Path, names: list[str], form: int = tarfile.GNU_FORMAT, links: bool = True) -> Path:
    """A tar of some of the members, with a folder and a link among them."""
    with tarfile.open(path, "w", format=form, pax_headers={"comment": "of all"} if links else None) as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(MEMBERS[name])
            tar.addfile(info, io.BytesIO(MEMBERS[name]))
            if name == "2.jpg" and links:
                for other, kind in (("folder", tarfile.DIRTYPE), ("link.jpg", tarfile.SYMTYPE)):
                    info = tarfile.TarInfo(other)
                    info.type, info.linkname = kind, "t" * (99 if form == tarfile.USTAR_FORMAT else 130)
                    tar.addfile(info)
    return path


def without_end(path: Path) -> bytes:
    data = path.read_bytes()
    assert data.endswith(bytes(1024))
    return data.rstrip(b"\0")


@pytest.mark.parametrize("form", FORMS)
def test_every_byte_of_the_others_stays_and_every_byte_of_the_bad_moves(tmp_path: Path, form: int) -> None:
    tar = made(tmp_path / "s.tar", [*MEMBERS], form)
    tar.chmod(0o640)
    long = LONG.partition("/")[2]
    assert move_bad(LocalFile(tar), {"1": "broken", long: "worse"}, None, tmp_path / "bad")
    stay = [name for name in MEMBERS if name in ("2.jpg", "README", "3.jpg")]
    assert without_end(tar) == without_end(made(tmp_path / "stay.tar", stay, form))
    assert tar.stat().st_mode & 0o777 == 0o640
    moved = [name for name in MEMBERS if name not in stay]
    assert without_end(tmp_path / "bad/s.tar") == without_end(
        made(tmp_path / "moved.tar", moved, form, links=False)
    )
    lines = (tmp_path / "bad/s.tar.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"tar": str(tar), "sample": "1", "reason": "broken"},
        {"tar": str(tar), "sample": long, "reason": "worse"},
    ]
    assert sorted(path.name for path in (tmp_path / "bad").iterdir()) == ["s.tar", "s.tar.jsonl"]
    with tarfile.open(tar) as reread, tarfile.open(tmp_path / "bad/s.tar") as bad:
        assert [m.name for m in reread] == ["2.jpg", "folder", "link.jpg", "README", "3.jpg"]
        assert {m.name.removeprefix("./") for m in bad} == {name.removeprefix("./") for name in moved}


@pytest.mark.parametrize(
    ("damage", "sound", "left"),
    [
        ("cut in data", 2048, ["1.jpg", "2.jpg"]),  # 2.jpg ends there
        ("cut in a header", 2048 + 1024, ["1.jpg", "2.jpg", "3.jpg"]),
        ("no mark", 4096, ["1.jpg", "2.jpg", "3.jpg", "4.jpg"]),
        ("garbage", 1024, ["1.jpg"]),
    ],
)
def test_a_damaged_tar_ends_where_it_cannot_be_read_on(
    tmp_path: Path, damage: str, sound: int, left: list[str]
) -> None:
    path = tmp_path / "s.tar"
    with tarfile.open(path, "w") as tar:
        for name in ("1.jpg", "2.jpg", "3.jpg", "4.jpg"):  # 1,024 bytes each
            info = tarfile.TarInfo(name)
            info.size = 500
            tar.addfile(info, io.BytesIO(name.encode() * 100))
    whole = path.read_bytes()
    data = {
        "cut in data": whole[:2700],
        "cut in a header": whole[:3100],
        "no mark": whole[:4096],
        "garbage": whole[:1024] + b"?" * 600 + whole[1624:],
    }[damage]
    path.write_bytes(data)
    fault = UserError(damage)
    assert move_bad(LocalFile(path), {}, fault, tmp_path / "bad")
    assert path.read_bytes() == whole[:sound] + bytes(1024)
    with tarfile.open(path) as tar:
        assert tar.getnames() == left
    assert (tmp_path / "bad/s.tar.rest").read_bytes() == data[sound:]
    assert json.loads((tmp_path / "bad/s.tar.jsonl").read_text())["reason"] == damage
    assert not (tmp_path / "bad/s.tar").exists()


def test_without_a_good_sample_all_of_a_tar_goes(tmp_path: Path) -> None:
    tar = made(tmp_path / "s.tar", ["2.jpg", "README", "3.jpg"])
    data = tar.read_bytes()
    assert not move_bad(LocalFile(tar), {"2": "bad", "3": "bad"}, None, tmp_path / "bad")
    assert tar.read_bytes() == data and (tmp_path / "bad/s.tar").read_bytes() == data + bytes(1024)
    (tmp_path / "t.tar").write_bytes(b"no tar" * 200)
    assert not move_bad(LocalFile(tmp_path / "t.tar"), {}, UserError("no tar"), tmp_path / "bad")
    assert (tmp_path / "bad/t.tar.rest").read_bytes() == b"no tar" * 200
    assert not (tmp_path / "bad/t.tar").exists()


def test_an_interrupted_removal_leaves_no_link_to_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(path: Path, missing_ok: bool = False) -> None:
        unlink(path, missing_ok)
        raise KeyboardInterrupt

    (tmp_path / "linked").mkdir()
    made(tmp_path / "linked/s.tar", ["2.jpg"])
    link = tmp_path / "s.tar"
    link.symlink_to("linked/s.tar")
    unlink = Path.unlink
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", interrupted)
        with pytest.raises(KeyboardInterrupt):
            remove_moved(LocalFile(link))
    assert not link.is_symlink()
    link.symlink_to("linked/s.tar")
    file = LocalFile(link)
    assert file.stamp
    remove_moved(file)
    assert not [*tmp_path.glob("**/s.tar*")]


def test_what_was_moved_before_is_never_replaced(tmp_path: Path) -> None:
    tar = made(tmp_path / "s.tar", ["./1.jpg", "2.jpg", "3.jpg"])
    before, bad = tar.read_bytes(), tmp_path / "bad"
    assert move_bad(LocalFile(tar), {"1": "bad"}, None, bad)
    moved, after = (bad / "s.tar").read_bytes(), tar.read_bytes()
    tar.write_bytes(before)  # as if it had been killed in between
    assert move_bad(LocalFile(tar), {"1": "bad"}, None, bad)
    assert (bad / "s.tar").read_bytes() == moved and tar.read_bytes() == after
    assert len((bad / "s.tar.jsonl").read_text().splitlines()) == 1
    with pytest.raises(NotMovedError, match=r"bad/s\.tar is there already, .*: name another folder"):
        move_bad(LocalFile(tar), {"2": "bad"}, None, bad)
    assert (bad / "s.tar").read_bytes() == moved and tar.read_bytes() == after
    (tmp_path / "other").mkdir()
    other = made(tmp_path / "other/s.tar", ["2.jpg", "3.jpg"])
    with pytest.raises(NotMovedError, match=rf"holds bad samples of {tar}: name another folder for .*other"):
        move_bad(LocalFile(other), {"2": "bad"}, None, bad)
    (bad / "s.tar.jsonl").write_text("{}\n")
    with pytest.raises(NotMovedError, match=r"s\.tar\.jsonl does not say which tar it is about"):
        check_free(bad, tar)


def test_a_tar_that_changed_in_the_meantime_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tar = made(tmp_path / "s.tar", ["2.jpg", "3.jpg"])
    file = LocalFile(tar)
    assert file.stamp
    made(tar, ["3.jpg", "2.jpg", "README"])
    data = tar.read_bytes()
    with pytest.raises(NotMovedError, match=r"s\.tar has changed since its samples were decoded"):
        move_bad(file, {"2": "bad"}, None, tmp_path / "bad")
    assert tar.read_bytes() == data and not (tmp_path / "bad/s.tar").exists()
    read = os.pread

    def changes_meanwhile(*where: int) -> bytes:
        if (tmp_path / "bad/s.tar.jsonl").exists():  # what is good is being copied
            os.utime(tar, ns=(1, 1))
        return read(*where)

    monkeypatch.setattr(os, "pread", changes_meanwhile)
    with pytest.raises(NotMovedError, match="has changed since"):
        move_bad(LocalFile(tar), {"2": "bad"}, None, tmp_path / "bad")
    assert tar.read_bytes() == data and not [*tmp_path.glob(".*")]
