"""The paths that users write: folders, patterns, lists, and what lies in the way."""

from pathlib import Path

import pytest

from depthkd.errors import MissingFileError, UserError
from depthkd.formats.images import IMAGE_SUFFIXES
from depthkd.formats.shard_urls import find_shards
from depthkd.paths import expand_paths


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def images(*patterns: str) -> list[str]:
    return expand_paths(list(patterns), IMAGE_SUFFIXES)


def sentence(*patterns: str, suffixes: tuple[str, ...] = IMAGE_SUFFIXES) -> str:
    with pytest.raises(UserError) as caught:
        expand_paths(list(patterns), suffixes)
    return str(caught.value)


def test_a_quoted_pattern_is_as_the_unquoted_one(folder: Path) -> None:
    touch(
        "p/b.jpg",
        "p/2024/c.JPG",
        "p/2024/d.png",
        "p/2024/deep/e.jpg",
        "p/notes.txt",
        "p/Thumbs.db",
        "p/.h.jpg",
    )
    touch("p/._b.jpg", "p/2024/.DS_Store", "p/2024/desktop.ini")
    (folder / "p/empty").mkdir()
    assert images("p/*") == ["p/2024/c.JPG", "p/2024/d.png", "p/b.jpg"]
    assert images("p/*") == images("p/2024", "p/b.jpg")
    assert images("p") == ["p/b.jpg"]
    assert images("p/**") == ["p/b.jpg", "p/2024/c.JPG", "p/2024/d.png", "p/2024/deep/e.jpg"]
    assert images("p/20*") == images("p/2024") == ["p/2024/c.JPG", "p/2024/d.png"]
    assert images("p/{2024/c,b}*") == ["p/2024/c.JPG", "p/b.jpg"]
    assert images("p/?.jpg", "p/2024/[cd].*") == ["p/b.jpg", "p/2024/c.JPG", "p/2024/d.png"]
    assert sentence("p/*/*.txt") == "'p/*/*.txt' matches no .jpg or .jpeg or .png or .webp file"
    assert sentence("p/em*").endswith("file")


def test_names_that_look_like_patterns_are_names(folder: Path) -> None:
    names = ["a[1].jpg", "b{1,2}.jpg", "c{.jpg", "@d.jpg", "e*.jpg", "it's ~, 100%.jpg"]
    touch(*names)
    assert images(*names) == names
    assert sentence("x{0..2.jpg") == "'x{0..2.jpg' has a brace without its partner"
    assert sentence("x" * 5000).endswith("matches no .jpg or .jpeg or .png or .webp file")


@pytest.mark.parametrize("suffix", ["heic", "HEIF", "avif", "tif", "exr", "cr2", "DNG", "gif", "bmp"])
def test_photos_that_cannot_be_read_are_not_passed_over(folder: Path, suffix: str) -> None:
    touch("p/a.jpg", f"p/b.{suffix}", f"p/c.{suffix}", "p/c.jpeg", "p/d.xmp")
    assert images("p") == images("p/*") == ["p/a.jpg", f"p/b.{suffix}", "p/c.jpeg"]
    assert images(f"p/*.{suffix}") == [f"p/b.{suffix}", f"p/c.{suffix}"]
    assert expand_paths("p", ("jpg",)) == ["p/a.jpg", f"p/b.{suffix}", f"p/c.{suffix}"]


def test_what_lies_there_instead_is_said(folder: Path) -> None:
    touch("p/2023/a.jpg", "p/2024/x/b.jpg", "p/2024/c.PNG", "p/.trash/d.jpg", "p/readme.txt")
    told = f"matches no .{' or .'.join(IMAGE_SUFFIXES)} file; subfolders hold 3: "
    told += "'{}/**', in quotes, stands for them"
    assert sentence("p") == f"'p' {told.format('p')}"
    assert images("p/**") == ["p/2023/a.jpg", "p/2024/c.PNG", "p/2024/x/b.jpg"]
    touch("q[1]/x/y/1.jpg", "q[1]/x/y/2.jpg", "q[1]/x/3.jpg")
    assert sentence("q[1]") == f"'q[1]' {told.format('q[[]1]')}"
    assert images("q[[]1]/**") == [f"q[1]/x/{name}.jpg" for name in ("3", "y/1", "y/2")]
    touch("r/a/b/1.jpg", "r/a/b/2.jpg", "r/c/d/3.jpg")
    assert sentence("r/*") == f"'r/*' {told.format('r/*')}"
    assert images("r/*/**") == ["r/a/b/1.jpg", "r/a/b/2.jpg", "r/c/d/3.jpg"]
    touch("d/1.exr", "d/2.exr", "d/README")
    told = "matches no .png or .npy file; there are 2 .exr, 1 without a suffix"
    assert sentence("d", suffixes=("png", "npy")) == f"'d' {told}"
    assert sentence("d/[0-9]*", suffixes=("tar",)) == "'d/[0-9]*' matches no .tar file; there are 2 .exr"
    touch("s.tar/1.jpg", "s.tar/1.json")
    assert sentence("s.tar", suffixes=("tar",)) == "'s.tar' matches no .tar file; there are 1 .jpg, 1 .json"


def test_shards(folder: Path) -> None:
    touch("s/a.tar", "s/a.tar.index.json", "s/b.tar", "s/.c.tar.writing", "s/b.tar.gz", "s/a.txt")
    for urls in ("s", "s/*", "s/*.tar"):
        assert find_shards(urls).paths == ["s/a.tar", "s/b.tar"]
    touch("s/c.tgz", "s/d.tar.zst")
    assert find_shards("s").paths == [
        "s/a.tar",
        "s/b.tar",
        "s/c.tgz",
        "s/d.tar.zst",
    ]  # refused by whoever opens them
    (folder / "s/e.tar").mkdir()
    for pattern in ("s", "s/*", "s/*.tar"):
        assert (
            sentence(pattern, suffixes=("tar",))
            == "s/e.tar is a folder, though it is named like a .tar file: rename it"
        )
    assert sentence("s/a.tar", "./s/a.tar", suffixes=("tar",)) == "s/a.tar is given 2 times"


def test_a_link_to_nothing_is_not_lost(folder: Path) -> None:
    touch("p/a.jpg")
    (folder / "p/b.jpg").symlink_to("gone.jpg")
    assert images("p") == images("p/*") == images("p/a.jpg", "p/b.jpg") == ["p/a.jpg", "p/b.jpg"]


def test_lists(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch("p/a.jpg", "p/b.jpg", "p/c d.jpg", "home/e.jpg")
    monkeypatch.setenv("HOME", str(folder / "home"))
    lines = "\ufeff# a comment\r\np/b.jpg\r\n\r\n  p/{a,c*}.jpg  \r\n~/e.jpg\r\n"
    Path("home/list.txt").write_text(lines, encoding="utf-8", newline="")
    expected = ["p/b.jpg", "p/a.jpg", "p/c d.jpg", f"{folder}/home/e.jpg"]
    assert images("@home/list.txt") == images("@~/list.txt") == expected
    Path("list.txt").write_text("p/a.jpg\np/x.jpg\n")
    assert sentence("@list.txt").startswith("'p/x.jpg' (line 2 of list.txt) matches no .jpg")
    Path("list.txt").write_text("p/a.jpg\np/b.jpg\np/a.jpg\n")
    assert sentence("@list.txt") == "p/a.jpg is given 2 times"
    Path("list.txt").write_text("\n# nothing\n")
    assert sentence("@list.txt") == "the list list.txt names nothing; it would have a path on each line"
    assert sentence("@gone.txt") == "there is no list gone.txt"
    assert sentence("@p") == "the list p cannot be read: Is a directory"
    Path("list.txt").write_bytes(bytes(range(128, 256)))
    assert sentence("@list.txt") == "the list list.txt is no text; it would have a path on each line"
    with pytest.raises(MissingFileError):
        images("@gone.txt")
