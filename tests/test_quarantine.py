"""`depthkd shards verify --quarantine`: what is left, what is moved, and what an interruption leaves."""

import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from depthkd.formats.images import encode_png
from depthkd.formats.shard_set import read_manifest
from depthkd.formats.tar import index_tar
from depthkd.in_use import InUse
from depthkd.verbs import shards
from depthkd.verbs.configs import Command
from depthkd.verbs.shards.quarantine import Quarantine, quarantine_lock
from tests.data.shards import write_shards

FORK = multiprocessing.get_context("fork")


def run(*words: object) -> int:
    return shards.main(Command([str(word) for word in words]))


def cleaned(data: Path, bad: Path) -> int:
    return run("verify", data, "--quarantine", bad)


def contents(folder: Path) -> dict[str, bytes]:
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return {path.name: path.read_bytes() for path in files if path.suffix in (".tar", ".rest", ".jsonl")}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Four labelled tars of 3, one of them with a bad sample, one without a good one, one cut short."""
    folder = tmp_path / "s"
    folder.mkdir()
    write_shards(folder, [3, 3, 3, 3], labelled=True)
    one, two = ((folder / f"s_0{n}.tar").read_bytes() for n in (1, 2))
    (folder / "s_01.tar").write_bytes(one.replace(b"metric depth", b"metric width", 1))
    (folder / "s_02.tar").write_bytes(two.replace(b"metric depth", b"metric width"))
    os.truncate(folder / "s_03.tar", index_tar(folder / "s_03.tar").offsets[7] + 10)
    assert run("index", folder) == 1
    return folder


def keys(tar: Path) -> list[str]:
    return list(index_tar(tar, images=False).keys)


def test_what_is_bad_is_moved_and_what_is_good_stays(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad, before = tmp_path / "bad", contents(data)
    capsys.readouterr()
    assert run("verify", data) == 1
    assert cleaned(data, bad) == 0
    told = capsys.readouterr().out
    assert told.count("7 of 13 samples are good") == 2 and told.count("6 of 13 are bad:\n") == 2
    assert f"moved to {bad}: 5 samples of 3 tars\n" in told
    assert f"gone from their places:\n  {data}/s_02.tar\n" in told
    after = contents(data)
    assert [*after] == ["s_00.tar", "s_01.tar", "s_03.tar"] and after["s_00.tar"] == before["s_00.tar"]
    assert keys(data / "s_01.tar") == ["01_01", "01_02"] and keys(bad / "s_01.tar") == ["01_00"]
    assert keys(data / "s_03.tar") == ["03_00", "03_01"] and keys(bad / "s_03.tar") == ["03_02"]
    assert (bad / "s_02.tar").read_bytes().startswith(before["s_02.tar"])
    reasons = [json.loads(line) for line in (bad / "s_03.tar.jsonl").read_text().splitlines()]
    assert [reason["sample"] for reason in reasons] == ["03_02", None]
    assert "'03_02' is cut short" in reasons[0]["reason"] and "s_03.tar is cut short" in reasons[1]["reason"]
    assert before["s_03.tar"].endswith((bad / "s_03.tar.rest").read_bytes())
    manifest = read_manifest(f"{data}/s_00.tar")
    assert {name: facts.samples for name, facts in manifest.items()} == {
        "s_00.tar": 3, "s_01.tar": 2, "s_03.tar": 2,
    }  # fmt: skip
    assert all(facts.stamp == index_tar(data / name).file.stamp for name, facts in manifest.items())
    assert not (data / "s_02.tar.index").exists() and not [*data.glob(".*"), *bad.glob(".*")]
    assert cleaned(data, bad) == 0
    assert "7 of 7 samples are good\n" in capsys.readouterr().out
    assert run("verify", data) == 0 and contents(data) == after
    (data / "s_00.tar").write_bytes(before["s_02.tar"])
    shutil.rmtree(bad)
    assert cleaned(data / "s_00.tar", bad) == 0
    assert {*read_manifest(f"{data}/s_00.tar")} == {"s_01.tar", "s_03.tar"}


def test_a_tar_that_is_copied_again_meanwhile_is_not_removed(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def copied_again(self: Quarantine) -> None:
        (data / "s_02.tar").write_bytes(b"better")
        remove(self)

    remove = Quarantine.remove_emptied
    monkeypatch.setattr(Quarantine, "remove_emptied", copied_again)
    assert cleaned(data, tmp_path / "bad") == 1
    assert "s_02.tar has changed since its samples were decoded" in capsys.readouterr().out
    assert (data / "s_02.tar").read_bytes() == b"better"


def test_what_cannot_be_moved_is_named(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "x.tar").write_bytes(b"\x1f\x8b" + bytes(600))
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/s_01.tar").write_bytes(b"of somebody else")
    before = contents(data)
    assert cleaned(data, tmp_path / "bad") == 1
    told = capsys.readouterr().out.partition("bad tars that stay as they are:\n")[2].splitlines()
    assert len(told) == 2 and "bad/s_01.tar is there already" in told[0] and "is compressed" in told[1]
    after = contents(data)
    assert [after[name] == before[name] for name in ("s_01.tar", "x.tar", "s_03.tar")] == [True, True, False]


def test_a_quarantine_that_cannot_be_is_one_sentence(data: Path, tmp_path: Path) -> None:
    before = contents(data)
    other = tmp_path / "other"
    other.mkdir()
    (other / "s_00.tar").write_bytes(before["s_00.tar"])
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/s_03.tar.jsonl").write_text('{"tar": "/x/s_03.tar"}\n')
    for urls, folder, sentence in (
        ("http://x/a.tar", "new", "http://x/a.tar is on another machine"),
        (data, "", "a path is empty; the working folder would be '.'"),
        (data, data, "s holds tars that are verified: name another folder"),
        (f"{tmp_path}/{{s,other}}/s_00.tar", "new", "have one name, .* one folder at a time"),
        (data, tmp_path / "bad", "bad holds bad samples of /x/s_03.tar: name another folder"),
        (data, f"{other}/s_00.tar", "s_00.tar cannot be written: "),
    ):
        with pytest.raises(ValueError, match=sentence):
            run("verify", urls, "--quarantine", folder)
    assert contents(data) == before and not Path("new").exists()


def in_another_process(lock: InUse, do: Callable[[], object]) -> None:
    """Do something while another process holds a lock."""
    held, done = FORK.Event(), FORK.Event()

    def hold() -> None:
        with lock:
            held.set()
            done.wait(20)

    child = FORK.Process(target=hold)
    child.start()
    assert held.wait(20)
    try:
        do()
    finally:
        done.set()
        child.join()


def test_nobody_else_writes_the_tars_meanwhile(data: Path, tmp_path: Path) -> None:
    def refused(*words: object) -> Callable[[], None]:
        def check() -> None:
            with pytest.raises(ValueError, match=r"(?:in use|packed).* process \d+ on .*: wait for it"):
                run(*words)

        return check

    verify = ("verify", data, "--quarantine", tmp_path / "bad")
    before = contents(data)
    in_another_process(quarantine_lock(data), refused(*verify))
    in_another_process(quarantine_lock(tmp_path / "bad"), refused(*verify))
    in_another_process(InUse(data / ".s_%02d.tar.in_use", "{who}"), refused(*verify))
    (tmp_path / "a.png").write_bytes(encode_png(np.zeros((9, 9, 3), np.uint8)))
    pack = ("pack", "--images", tmp_path / "a.png", "--out", data / "s_%02d.tar", "--overwrite", "true")
    in_another_process(quarantine_lock(data), refused(*pack))
    assert contents(data) == before and cleaned(data, tmp_path / "bad") == 0


def killed_at(step: int, data: Path, bad: Path) -> int:
    """The exit code of a quarantine that gets kill -9 before one of its changes of names; 0: it has fewer."""
    taken: list[str] = []

    def counted(name: str) -> Callable[..., object]:
        original = getattr(Path, name)

        def change(self: Path, *arguments: object, **more: object) -> object:
            taken.append(name)
            if len(taken) == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(self, *arguments, **more)

        return change

    def clean() -> None:
        for name in ("replace", "unlink"):
            setattr(Path, name, counted(name))
        cleaned(data, bad)

    child = FORK.Process(target=clean)
    child.start()
    child.join()
    return int(child.exitcode or 0)


@pytest.mark.parametrize("steps", [range(2, 30, 9), pytest.param(range(1, 60), marks=pytest.mark.long)])
def test_it_goes_on_wherever_it_is_killed(data: Path, tmp_path: Path, steps: range) -> None:
    bad, before = tmp_path / "bad", contents(data)
    assert cleaned(data, bad) == 0
    after, moved = contents(data), contents(bad)
    codes = []
    for step in steps:
        for name, content in before.items():
            (data / name).write_bytes(content)
        shutil.rmtree(bad)
        codes.append(killed_at(step, data, bad))
        left = contents(data)
        assert all(left.get(name) in (before[name], content) for name, content in after.items())
        assert (left.get("s_02.tar") or contents(bad)["s_02.tar"]).startswith(before["s_02.tar"])
        assert cleaned(data, bad) == 0
        assert (contents(data), contents(bad)) == (after, moved)
        assert {*read_manifest(f"{data}/s_00.tar")} == {*after}
        if codes[-1] == 0:
            break
    assert -signal.SIGKILL in codes
