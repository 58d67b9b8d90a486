"""`depthkd shards scenes`: the same bytes for the same settings, whole or absent, and nobody else's files."""

import json
from pathlib import Path
from typing import Any

import pytest

from depthkd.batch import METRIC_DEPTH
from depthkd.errors import UserError
from depthkd.formats.tar import index_tar
from depthkd.verbs.shards import scenes as scene_shards
from depthkd.verbs.shards.scenes import MANIFEST, scenes
from tests.test_shards import read, run

SMALL: dict[str, Any] = {"count": 2, "height": 16, "width": 16, "samples_per_shard": 1, "workers": 1}


def test_scenes_are_the_same_each_time_and_continue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"seed": 3, "count": 5, "height": 24, "width": 32, "samples_per_shard": 2, "workers": 1}
    whole = scenes(str(tmp_path / "whole"), **settings)
    assert [path.name for path in whole] == [f"studio-00000{n}.tar" for n in range(3)]
    samples = [sample for path in whole for sample in read(path, labelled=True)]
    assert len({sample.key for sample in samples}) == 5
    assert samples[0].space == METRIC_DEPTH
    assert samples[0].image.shape == (24, 32, 3)

    made: list[int] = []
    make = scene_shards._scene

    def fails_at_four(*arguments: int) -> tuple[str, dict[str, bytes]]:
        made.append(arguments[-1])
        if arguments[-1] == 3 and made.count(3) == 1:
            raise KeyboardInterrupt
        return make(*arguments)

    monkeypatch.setattr(scene_shards, "_scene", fails_at_four)
    with pytest.raises(KeyboardInterrupt):
        scenes(str(tmp_path / "again"), **settings)
    assert not (tmp_path / "again").exists()
    again = scenes(str(tmp_path / "again"), **settings)
    assert made == [0, 1, 2, 3, 2, 3, 4]
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in whole]
    assert scenes(str(tmp_path / "again"), **settings) == again
    assert len(made) == 7
    with pytest.raises(FileExistsError, match="again holds other files or other scenes"):
        scenes(str(tmp_path / "again"), **{**settings, "seed": 4})


def test_an_interrupted_run_with_other_settings_is_not_continued(tmp_path: Path) -> None:
    [first, _] = scenes(str(tmp_path / "a"), **SMALL, seed=1)
    draft = tmp_path / "b.partial"
    draft.mkdir()
    (draft / MANIFEST).write_bytes((tmp_path / "a" / MANIFEST).read_bytes())
    (draft / first.name).write_bytes(first.read_bytes())
    other = scenes(str(tmp_path / "b"), **SMALL, seed=2)
    assert other[0].read_bytes() != first.read_bytes()


def test_scenes_through_the_command_line(tmp_path: Path) -> None:
    words = ("--style", "film", "--count", 2, "--height", 16, "--width", 24, "--format", "sa1b")
    assert run("scenes", "--out", tmp_path / "s", *words) == 0
    index = index_tar(tmp_path / "s" / "film-000000.tar")
    assert set(index.read(1)) == {"jpg", "json"}
    assert json.loads(index.read(1)["json"])["image"]["image_id"] == 1
    with pytest.raises(ValueError, match=r"count \(0\)"):
        scenes(str(tmp_path / "t"), count=0)
    with pytest.raises(ValueError, match="'oil' is not a style"):
        scenes(str(tmp_path / "t"), style="oil", workers=1)


def test_files_of_others_stay(tmp_path: Path) -> None:
    mine = tmp_path / "a.partial" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("precious")
    with pytest.raises(FileExistsError, match=r"a\.partial is there, where scenes are drafted: remove it"):
        scenes(str(tmp_path / "a"), **SMALL)
    assert mine.read_text() == "precious"
    (tmp_path / "b.partial").write_text("precious")
    with pytest.raises(FileExistsError, match=r"b\.partial is there"):
        scenes(str(tmp_path / "b"), **SMALL)
    (tmp_path / "c.partial").mkdir()
    (tmp_path / "c.partial" / f".{MANIFEST}.writing").touch()  # killed in its very first moment
    assert len(scenes(str(tmp_path / "c"), **SMALL)) == 2


def test_the_folder_is_one_that_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("link").symlink_to("target")
    for out, said in ((".", "out '.' would be a folder"), ("..", "would be a folder to make"),
                      ("/", "would be a folder to make"), ("", "a path is empty"),
                      ("file", "file is a file; out would be"), ("file/x", "cannot be written")):  # fmt: skip
        with pytest.raises(UserError, match=said):
            scenes(out, **SMALL)
    scenes("link", **SMALL)
    assert sorted(p.name for p in Path("target").iterdir()) == [
        MANIFEST,
        *(f"studio-00000{i}.tar" for i in (0, 1)),
    ]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "link", "target"]


def test_what_is_there_is_left_alone_where_nothing_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = scenes(str(tmp_path / "a"), **SMALL)
    monkeypatch.setattr(scene_shards, "InUse", None)  # whose file could not be written
    assert scenes(str(tmp_path / "a"), **SMALL) == made
