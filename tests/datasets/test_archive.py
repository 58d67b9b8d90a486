"""Folders, tars and zips read alike."""

import gzip
import zipfile
from pathlib import Path

import pytest

from depthkd.datasets.archive import Archive
from depthkd.formats.sample import BadSample
from tests.datasets.files import Root, write

FILES = {"a/x.png": b"1", "a/b/x.png": b"22", "list.txt": b"333" * 1000}


@pytest.mark.parametrize("kind", ["folder", "tar", "zip"])
def test_names_and_bytes(kind: str, root: Root) -> None:
    archive = Archive(root(FILES, kind))
    below = "" if kind == "folder" else "some_folder/"
    assert archive.names() == sorted(f"{below}{name}" for name in FILES)
    for name, data in FILES.items():
        assert name in archive
        assert archive.read(name) == archive.read(f"{below}{name}") == data
    for absent in ("x", "a", "b/y.png", "b"):
        assert absent not in archive
    with pytest.raises(BadSample, match=r"b/y\.png"):
        archive.read("b/y.png")


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_members_are_found_by_the_end_of_their_path(kind: str, root: Root) -> None:
    archive = Archive(root(FILES, kind))
    assert archive.read("b/x.png") == b"22"
    assert archive.read("x.png") == b"1"  # the first


def test_a_folder_is_looked_through_by_its_usual_folders(root: Root) -> None:
    path = root(FILES)
    assert "b/x.png" not in Archive(path)
    archive = Archive(path, ("", "nowhere", "a"))
    assert "b/x.png" in archive
    assert archive.read("b/x.png") == b"22"
    assert archive.read("x.png") == b"1"
    with pytest.raises(BadSample, match="cannot be read: No such file"):
        archive.read("y.png")


def test_a_cut_or_garbled_member_is_a_sentence(root: Root, tmp_path: Path) -> None:
    tar = root(FILES, "tar")
    opened = Archive(tar)
    assert "list.txt" in opened
    tar.write_bytes(tar.read_bytes()[:2048])
    with pytest.raises(BadSample, match=r"is cut off in the middle of list\.txt"):
        opened.read("list.txt")
    whole = root(FILES, "zip")
    with zipfile.ZipFile(whole) as archive:
        start = archive.getinfo("some_folder/list.txt").header_offset + 60
    data = bytearray(whole.read_bytes())
    data[start : start + 8] = b"garbage!"
    whole.write_bytes(data)
    with pytest.raises(BadSample, match=r"member list\.txt is broken"):
        Archive(whole).read("list.txt")


@pytest.mark.parametrize(
    "data", [b"", b"PK and then nothing of a zip", b"text" * 1000, gzip.compress(b"tar", mtime=0)]
)
def test_what_is_no_archive_is_a_sentence(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.tar (begins like a zip|is no folder, no zip and no plain tar)"):
        Archive(tmp_path / "a.tar").names()


def test_an_empty_zip_has_no_names(tmp_path: Path) -> None:
    assert Archive(write(tmp_path / "a.zip", {}, "zip")).names() == []
