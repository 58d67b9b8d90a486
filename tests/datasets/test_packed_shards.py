"""Packing that is cut off, or shared among processes, writes the bytes of packing that is not."""

import json
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from depthkd.datasets.dataset import Dataset
from depthkd.datasets.packed_shards import SETTINGS, Packing
from depthkd.datasets.packing import Packer
from depthkd.errors import ExistingFileError, UserError
from depthkd.formats.images import encode_jpeg, encode_png
from depthkd.formats.sample import Sample
from depthkd.formats.shard_set import read_manifest
from depthkd.formats.tar import index_tar
from depthkd.verbs.shards.pack import pack

COUNT, EACH = 40, 4
PATTERN = "s-%03d.tar"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs with depth; two of them are broken."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for n in range(COUNT):
        (folder / f"{n:02}.jpg").write_bytes(encode_jpeg(rng.integers(0, 255, (40, 60, 3), dtype=np.uint8)))
        (folder / f"{n:02}.png").write_bytes(encode_png(rng.integers(900, 9000, (40, 60), dtype=np.uint16)))
    for n in (7, 22):
        (folder / f"{n:02}.jpg").write_bytes(b"\xff\xd8\xff broken")
    return folder


def packed(photos: Path, out: Path, **settings: Any) -> list[Path]:
    settings = {"max_bad": 0.2, "samples_per_shard": EACH, "scale": 0.001, **settings}
    return pack(f"{photos}/*.jpg", str(out / PATTERN), depth=f"{photos}/*.png", **settings).paths


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("s-*"))}


@pytest.fixture(scope="module")
def whole(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    packed(photos, folder)
    return {name: data for name, data in contents(folder).items() if name.endswith(".tar")}


def tars(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in contents(folder).items() if name.endswith(".tar")}


def killed(photos: Path, out: Path, after: float) -> int:
    """The exit code of packing that gets kill -9 after some seconds."""
    child = multiprocessing.get_context("fork").Process(target=packed, args=(photos, out))
    child.start()
    time.sleep(after)
    if child.is_alive() and child.pid:
        os.kill(child.pid, signal.SIGKILL)
    child.join()
    return int(child.exitcode or 0)


def kill_often(photos: Path, out: Path, whole: dict[str, bytes], times: int) -> None:
    moments = random.Random(0)
    codes = []
    for _ in range(times):
        codes.append(killed(photos, out, moments.uniform(0.01, 0.12)))
        assert all(data == whole[name] for name, data in tars(out).items())
        if codes[-1] == 0:
            break
    if tars(out) != whole:
        packed(photos, out)
    assert tars(out) == whole
    assert sorted(contents(out)) == sorted([*whole, *(f"{name}.index" for name in whole)])
    assert -signal.SIGKILL in codes


def test_packing_goes_on_where_it_was_killed(photos: Path, tmp_path: Path, whole: dict[str, bytes]) -> None:
    kill_often(photos, tmp_path, whole, 4)


@pytest.mark.long
def test_packing_goes_on_wherever_it_is_killed(photos: Path, tmp_path: Path, whole: dict[str, bytes]) -> None:
    for attempt in range(10):
        kill_often(photos, tmp_path / str(attempt), whole, 10)


def test_several_processes_write_the_same_bytes(
    photos: Path, tmp_path: Path, whole: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    packed(photos, tmp_path, workers=2)
    assert tars(tmp_path) == whole
    told = capsys.readouterr().out
    assert "38 samples, 10 tars" in told and "2 of 40 are bad" in told and "metric depth from 0.9" in told
    manifest = read_manifest(str(tmp_path / "s-000.tar"))
    assert [facts.samples for facts in manifest.values()] == [4, 3, 4, 4, 4, 3, 4, 4, 4, 4]


def test_what_is_whole_is_not_packed_again_unless_settings_change(
    photos: Path, tmp_path: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    original = Packer.pack

    def stops(self: Packer, start: int, *arguments: Any) -> Any:
        made.append(start)
        if len(made) == 4:
            raise UserError("the disk is full")
        return original(self, start, *arguments)

    monkeypatch.setattr(Packer, "pack", stops)
    with pytest.raises(UserError, match="the disk is full"):
        packed(photos, tmp_path)
    assert made == [0, 4, 8, 12] and not tars(tmp_path)
    packed(photos, tmp_path)
    assert made[4:] == [12, 16, 20, 24, 28, 32, 36] and tars(tmp_path) == whole

    made.clear()
    with pytest.raises(UserError, match="the disk is full"):
        packed(photos, tmp_path, overwrite=True, codec="npy")
    assert tars(tmp_path) == whole
    packed(photos, tmp_path, overwrite=True)  # with the codec of before
    assert made == [0, 4, 8, 12, 0, 4, 8, 12, 16, 20, 24, 28, 32, 36] and tars(tmp_path) == whole


def test_other_images_of_the_same_names_are_packed_anew(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Packer.pack

    def stops(self: Packer, start: int, *arguments: Any) -> Any:
        if start == 2:
            raise UserError("the disk is full")
        return original(self, start, *arguments)

    for folder, source in (("a", "00"), ("b", "01")):
        for name in range(3):
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / f"{name}.jpg").write_bytes((photos / f"{source}.jpg").read_bytes())
    with monkeypatch.context() as patch, pytest.raises(UserError, match="the disk is full"):
        patch.setattr(Packer, "pack", stops)
        pack(f"{tmp_path}/a", str(tmp_path / PATTERN), samples_per_shard=1)
    done = pack(f"{tmp_path}/b", str(tmp_path / PATTERN), samples_per_shard=1)
    image = (photos / "01.jpg").read_bytes()
    assert [index_tar(path).read(0)["jpg"] == image for path in done.paths] == [True] * 3


def test_names_are_given_to_all_even_after_an_interruption(
    photos: Path, tmp_path: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    original, moved = Path.replace, []

    def stops(self: Path, target: Path) -> Path:
        if target.name.startswith("s-") and target.suffix == ".tar":
            moved.append(target)
            if len(moved) == 3:
                raise KeyboardInterrupt
        return original(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", stops)
        with pytest.raises(KeyboardInterrupt):
            packed(photos, tmp_path)
    assert len(tars(tmp_path)) == 2
    with pytest.raises(ExistingFileError, match=r"s-000\.tar exists already"):
        packed(photos, tmp_path, codec="npy")  # another packing does not go on with this one
    packed(photos, tmp_path)
    assert tars(tmp_path) == whole and not list(tmp_path.glob(".*"))
    with pytest.raises(ExistingFileError, match=r"s-000\.tar exists already"):
        packed(photos, tmp_path)


def test_too_many_bad_ones_stop_it_and_leave_nothing(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"^2 of 40 samples are bad, and max_bad allows 1: .*22\.jpg is broken"
    ):
        packed(photos, tmp_path, max_bad=0.02)
    assert not tars(tmp_path)
    packed(photos, tmp_path, max_bad=0.05)  # what was whole is kept for it
    assert len(tars(tmp_path)) == 10


def test_a_data_set_that_cannot_be_sent_is_packed_here(tmp_path: Path) -> None:
    class Local(Dataset):
        name = "local"

        def __init__(self) -> None:
            self.hook = lambda: 3

        def __len__(self) -> int:
            return 6

        def sample(self, index: int) -> Sample:
            depth = np.full((8, 10), self.hook() + index, np.float32)
            depth[0] = 9
            return Sample(self.key(index), np.zeros((8, 10, 3), np.uint8), depth, depth > 0, space=self.space)

    done = pack(dataset=Local(), out=str(tmp_path / PATTERN), samples_per_shard=2, workers=2)
    assert done.samples == 6 and len(done.paths) == 3


def test_arguments_of_a_data_set_make_another_packing(tmp_path: Path) -> None:
    class Sized(Dataset):
        name = "sized"

        def __init__(self, factor: int) -> None:
            self.factor = factor

        def __len__(self) -> int:
            return 1

        def sample(self, index: int) -> Sample:
            raise AssertionError

    one, other = (Packing(Packer(Sized(n)), str(tmp_path / PATTERN), EACH, 0, {}).digest() for n in (1, 2))
    assert one != other


def test_a_folder_of_drafts_that_says_nothing_is_made_anew(
    photos: Path, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    drafts = tmp_path / f".{PATTERN}.packing"
    drafts.mkdir()
    (drafts / SETTINGS).write_text("{")
    (drafts / "000000.tar").write_bytes(b"half")
    (drafts / "000000.json").write_text(json.dumps({"samples": 4}))
    packed(photos, tmp_path)
    assert tars(tmp_path) == whole
