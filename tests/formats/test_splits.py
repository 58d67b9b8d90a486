"""Splits of a folder: by its card, or by the names of its tars, as the `datasets` library tells them."""

from pathlib import Path

import pytest

from depthkd.data.stream import ShardSource
from depthkd.errors import UserError
from depthkd.formats.dataset_card import front_matter
from depthkd.formats.shard_urls import find_shards
from depthkd.formats.splits import splits_by_name
from tests.storage.server import serving
from tests.test_paths import folder, touch

__all__ = ["folder"]  # the fixture: a working folder


def card(text: str) -> None:
    Path("s").mkdir(exist_ok=True)
    Path("s/README.md").write_text(f"---\nlicense: mit\n{text}\n---\n# Rooms\n\n---\n")


def named(split: str | None = None, urls: str = "s") -> list[str]:
    return [path.removeprefix("s/") for path in find_shards(urls, split).paths]


@pytest.mark.parametrize(
    ("tars", "expected"),
    [
        ("a.tar b/c.tar", {"train": "a.tar b/c.tar"}),
        ("train.tar test-0.tar", {"train": "train.tar", "test": "test-0.tar"}),
        ("my_train_file.tar training1.tar x.tar", {"train": "my_train_file.tar training1.tar"}),
        ("dev0.tar eval.tar val_1.tar", {"validation": "dev0.tar val_1.tar", "test": "eval.tar"}),
        ("testfile.tar retrain.tar", {"train": "testfile.tar retrain.tar"}),  # no words of their own
        ("train_test.tar", {"train": "train_test.tar", "test": "train_test.tar"}),  # as they do
        ("data/train/test-0.tar data/validation/0.tar x.tar",
         {"train": "data/train/test-0.tar", "validation": "data/validation/0.tar"}),
        ("a/my train 2/b/0.tar a/valid/1.tar",
         {"train": "a/my train 2/b/0.tar", "validation": "a/valid/1.tar"}),
        ("data/val-00000-of-00001.tar data/train-00000-of-00002-ab1.tar data/own-00000-of-00001.tar test.tar",
         {"train": "data/train-00000-of-00002-ab1.tar", "own": "data/own-00000-of-00001.tar",
          "val": "data/val-00000-of-00001.tar"}),
        ("", {}),
    ],
)  # fmt: skip
def test_names_tell_splits(tars: str, expected: dict[str, str]) -> None:
    words = [name.replace("%", " ") for name in tars.replace("my train 2", "my%train%2").split()]
    found = splits_by_name(words)
    assert {split: " ".join(names) for split, names in found.items()} == expected
    assert list(found) == list(expected)


@pytest.mark.parametrize(
    ("configs", "split", "expected"),
    [
        ("[{config_name: x, data_files: [{split: train, path: 'a/*.tar'}, {split: test, path: b.tar}]}]",
         None, "a/1.tar a/2.tar"),
        ("[{config_name: x, data_files: [{split: train, path: [b.tar, 'a/[!2].tar', 'a/1*']}]}]",
         "train", "b.tar a/1.tar"),
        ("[{config_name: x, data_files: './**/*.tar'}]", None, "a/1.tar a/2.tar a/c/3.tar b.tar"),
        ("[{config_name: x, data_files: [b.tar, 'a/**']}]", None, "b.tar a/1.tar a/2.tar a/c/3.tar"),
        ("[{config_name: x, data_dir: a}]", None, "a/1.tar a/2.tar a/c/3.tar"),
        ("[{config_name: x, data_dir: /a/, data_files: [{split: dev, path: 'c/*'}]}]", "dev", "a/c/3.tar"),
        ("[{config_name: x, data_files: b.tar}, {config_name: y, default: true, data_files: 'a/*'}]",
         None, "a/1.tar a/2.tar"),
        ("[{config_name: x, data_files: b.tar}, {config_name: default, data_files: 'a/*'}]",
         None, "a/1.tar a/2.tar"),
        ("[{config_name: x, data_files: b.tar}, {config_name: y, data_files: 'a/*'}]", "x/train", "b.tar"),
        ("[{config_name: x, data_files: b.tar}, {config_name: y, data_files: '*/*'}]",
         "all", "b.tar a/1.tar a/2.tar"),
    ],
)  # fmt: skip
def test_a_card_tells_splits(folder: Path, configs: str, split: str | None, expected: str) -> None:
    touch("s/b.tar", "s/a/1.tar", "s/a/2.tar", "s/a/c/3.tar", "s/a/1.parquet", "s/.hidden/4.tar")
    card(f"configs: {configs}")
    assert " ".join(named(split)) == expected


def test_a_folder_that_tells_nothing_is_all_that_is_in_it(folder: Path) -> None:
    touch("s/train_0.tar", "s/test_0.tar", "s/dev/1.tar")
    for text in ("pretty_name: rooms", "pretty_name: [rooms", "- rooms"):
        card(text)
        assert named() == ["test_0.tar", "train_0.tar"]
    Path("s/README.md").write_bytes(b"\xff\xfe---")
    assert named() == ["test_0.tar", "train_0.tar"]
    assert named("validation") == ["dev/1.tar"]
    assert named("validation", "./s/") == ["dev/1.tar"]
    assert front_matter(b"\xef\xbb\xbf---\r\nlicense: mit\r\n---\r\n", "x") == {"license": "mit"}
    assert front_matter(b"license: mit", "x") is front_matter(b"---\nlicense: mit", "x") is None


def test_patterns_of_folders(folder: Path) -> None:
    touch("s/one/train_0.tar", "s/one/test_0.tar", "s/two/train_1.tar", "s/two/test_1.tar")
    for urls in ("s/*", "s/{one,two}"):
        assert named("train", urls) == ["one/train_0.tar", "two/train_1.tar"]
    assert len(named(None, "s/**")) == 4
    with pytest.raises(UserError, match=r"^split 'train' is looked for in .* s/one/test_0\.tar is named"):
        named("train", "s/**")
    with pytest.raises(UserError, match=r"s/one/test_0\.tar is named itself: leave split out, or name its"):
        find_shards(["s/two", "s/one/test_0.tar"], "test")


def test_a_folder_on_a_server_that_lists_nothing(folder: Path) -> None:
    card("configs: [{config_name: x, data_files: '*.tar'}]")
    with (
        serving(folder) as server,
        pytest.raises(UserError, match=rf"^split 'train' of {server.url}/s has no tars: .*no files are lis"),
    ):
        find_shards(f"{server.url}/s/")


@pytest.mark.parametrize(
    ("configs", "sentence"),
    [
        ("[{config_name: x, data_files: '*.parquet'}]",
         r"split 'train' of s has no tars: '\*\.parquet' in its README\.md matches no tar; there are 1 \.md"),
        ("[{config_name: x, data_dir: none}]", r"split 'train' of s has no tars: 'none/\*\*' in its README"),
        ("[{config_name: x, data_files: [{split: test, path: b.tar}]}]",
         r"s has no split 'train'; its README\.md has 'test'$"),
        ("[{config_name: x, data_files: b.tar}, {config_name: y, data_files: b.tar}]",
         r"s has no split 'train'; its README\.md has 'x/train', 'y/train'$"),
        ("[{config_name: x, data_files: 7}]",
         r"s/README\.md has in 'x' 'data_files' that cannot be read; it would be a pattern, a list"),
        ("[{config_name: x, data_files: [{split: test}]}]", r"s/README\.md has in 'x' 'data_files' that can"),
        ("[{config_name: x, data_files: 'a**/b'}]", r"s/README\.md has in 'x' the pattern 'a\*\*/b', whose"),
        ("[{data_files: b.tar}]", r"s/README\.md has 'configs' that cannot be read: each would have a 'con"),
        ("[{config_name: x", r"s/README\.md is not valid YAML at line 3: "),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(folder: Path, configs: str, sentence: str) -> None:
    touch("s/b.tar", "s/a.parquet")
    card(f"configs: {configs}")
    with pytest.raises(UserError, match=rf"^data\.train\.photos\.urls: {sentence}"):
        ShardSource("s").open("photos", 0)
