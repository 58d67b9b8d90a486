"""Whether a run resumes on the shards that it was trained on."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from depthkd.data.datamodule import ShardDataModule
from depthkd.data.fingerprint import stream_changes
from depthkd.data.stream import ShardSource
from depthkd.errors import UserError
from depthkd.formats.tar import index_tar
from tests.data.shards import write_tar

Rename = Callable[[Path], object]


def shard(path: Path, start: int, count: int = 3, size: int = 10) -> Path:
    return write_tar(
        path, {f"{n:03}": {"jpg": bytes(size), "json": b"{}"} for n in range(start, start + count)}
    )


def opened(urls: object) -> ShardDataModule:
    module = ShardDataModule({"photos": ShardSource(urls)}, batch_size=4)  # type: ignore[arg-type]
    module.setup("fit")
    return module


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for n in range(4):
        shard(tmp_path / f"s{n}.tar", 10 * n)
    return tmp_path


def resumed(state: dict[str, object], urls: object) -> str | None:
    try:
        opened(urls).load_state_dict(state)
    except UserError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda f: None, None),
        (lambda f: [p.rename(f / f"renamed-{p.name}") for p in sorted(f.glob("s*.tar"))], None),
        (lambda f: os.utime(f / "s1.tar", ns=(1, 1)), None),
        (
            lambda f: shard(f / "s2.tar", 50),
            "photos.urls: shard number 3, {}/s2.tar, holds other samples; restore",
        ),
        (lambda f: shard(f / "s2.tar", 20, size=11), "shard number 3, {}/s2.tar, holds other samples"),
        (lambda f: (f / "s1.tar").rename(f / "z.tar"), "in another order, from number 2, {}/s2.tar, on"),
        (
            lambda f: shard(f / "s1b.tar", 60),
            "photos.urls: shards were added, {}/s1b.tar first of 1, .*samples was 12 and is 15",
        ),
        (
            lambda f: shard(f / "s9.tar", 60),
            "shards were added, {}/s9.tar first of 1, .*shards was 4 and is 5",
        ),
        (lambda f: (f / "s2.tar").unlink(), "shards are gone, number 3 of 4 first of 1, "),
        (
            lambda f: [shard(f / "s0.tar", 70, 2), shard(f / "s3.tar", 80, 4)],
            "shard number 1, {}/s0.tar, holds other",
        ),
    ],
)
def test_other_samples_are_refused_and_other_names_are_not(
    folder: Path, change: Rename, sentence: str | None
) -> None:
    state = json.loads(json.dumps(opened(f"{folder}/*.tar").state_dict()))  # as a checkpoint holds it
    change(folder)
    told = resumed(state, f"{folder}/*.tar")
    if sentence is None:
        assert told is None
        return
    assert told is not None
    pattern = rf"^the checkpoint was trained on another stream: .*{sentence.format(folder)}"
    assert re.search(pattern, told)
    assert told.count("data.train.photos.urls") == 1 and len(told) < 600


def test_an_older_checkpoint_is_compared_by_its_numbers(folder: Path) -> None:
    state = opened(f"{folder}/*.tar").state_dict()
    old = {key: value for key, value in state["fingerprint"].items() if not key.endswith(".contents")}
    assert len(old) == len(state["fingerprint"]) - 1 == 6
    shard(folder / "s2.tar", 50)
    assert resumed({**state, "fingerprint": old}, f"{folder}/*.tar") is None
    shard(folder / "s2.tar", 50, count=4)
    told = resumed({**state, "fingerprint": old}, f"{folder}/*.tar")
    assert told is not None and "data.train.photos.samples was 12 and is 13; restore" in told


def test_another_source_is_another_stream() -> None:
    before = {"data.train.a.samples": 3, "data.train.a.contents": ["x"]}
    now = {"data.train.b.samples": 3, "data.train.b.contents": ["x"]}
    assert stream_changes(before, now, {"data.train.b": ["x.tar"]}) == [
        "data.train.a.samples was 3 and is None",
        "data.train.b.samples was None and is 3",
    ]


def test_a_digest_is_of_the_content_and_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = index_tar(shard(tmp_path / "a.tar", 0))
    members = {
        f"./x/{n:03}": {"json": b"{}", "jpg": bytes(10)} for n in range(3)
    }  # another place, another order
    assert index_tar(write_tar(tmp_path / "b.tar", members)).digest == first.digest
    assert index_tar(shard(tmp_path / "c.tar", 0, size=11)).digest != first.digest
    swapped = {f"{n:03}": {"jpg": bytes(10), "json": b"{}"} for n in (0, 2, 1)}
    assert index_tar(write_tar(tmp_path / "d.tar", swapped)).digest != first.digest
    with monkeypatch.context() as patch:
        patch.setattr("depthkd.formats.tar.tar_members", lambda _: pytest.fail("the tar was scanned again"))
        assert index_tar(tmp_path / "a.tar").digest == first.digest
    assert len(first.digest) == 16
