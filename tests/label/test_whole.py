"""`depthkd label --merge` and `--audit`: what is missing, damaged or odd; and a config that needs labels."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from depthkd.batch import AFFINE_DISPARITY
from depthkd.errors import MissingFileError, UserError
from depthkd.formats.images import encode_png
from depthkd.formats.sample import Sample
from depthkd.formats.shard_samples import encode_label
from depthkd.formats.shard_set import read_manifest as read_facts
from depthkd.verbs.label.audit import audit
from depthkd.verbs.label.whole import array, merge, not_whole
from depthkd.verbs.needs import make, unmade
from tests.conftest import CommandLine
from tests.data.shards import write_tar
from tests.label.teachers import run


def test_a_whole_folder_is_proved(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "labels"
    for part in (1, 2):
        run(images, out, part=f"{part}/2")
    assert unmade(out) == "is not labelled to its end"
    checked = merge(out, str(images))
    assert (checked.labelled, checked.bad, checked.faults, checked.missing) == (14, 1, [], [])
    assert "3 of 3 shards are whole, 14 labels, 1 bad images" in capsys.readouterr().out
    told = json.loads((out / "labels.json").read_text())
    assert told["whole"] and told["labelled"] == 14 and told["settings"]["teacher"]["name"] == "gray"
    assert [*told["tars"]] == ["sa_0.tar", "sa_1.tar", "sa_2.tar"] and unmade(out) is None
    assert set(read_facts(str(out / "sa_0.tar"))) == {*told["tars"]}
    run(images, tmp_path / "at once")
    assert (tmp_path / "at once/labels.json").read_bytes() == (out / "labels.json").read_bytes()


def damage(out: Path) -> None:
    data = bytearray((out / "sa_1.tar").read_bytes())
    data[600] ^= 1
    (out / "sa_1.tar").write_bytes(data)


def drop(out: Path) -> None:
    (out / "sa_1.tar").unlink()


def cut(out: Path) -> None:
    data = (out / "sa_1.tar").read_bytes()
    (out / "sa_1.tar").write_bytes(data[:-1024])


def forget(out: Path) -> None:
    (out / "sa_1.tar.json").unlink()


def exchange(out: Path) -> None:
    told = json.loads((out / "sa_1.tar.json").read_text())
    told["settings"]["flip"] = True
    (out / "sa_1.tar.json").write_text(json.dumps(told))


def lose_a_sample(out: Path) -> None:
    told = json.loads((out / "sa_1.tar.json").read_text())
    told["bad"] = {}
    (out / "sa_1.tar.json").write_text(json.dumps(told))


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (damage, r"sa_1\.tar is damaged: its SHA-256 is another"),
        (drop, r"sa_1\.tar is not there"),
        (cut, r"sa_1\.tar is damaged: it has \d+ bytes, and was made of \d+"),
        (forget, r"sa_1\.tar has no sa_1\.tar\.json beside its labels"),
        (exchange, r"sa_1\.tar holds labels of another model, or with other settings, than sa_0\.tar"),
        (lose_a_sample, r"sa_1\.tar: sample '12' has no label, one of 1"),
    ],
)
def test_what_is_not_whole_is_found(
    fault: Any, sentence: str, images: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    out = tmp_path / "labels"
    run(images, out)
    fault(out)
    status, told, _ = command_line("label", "--merge", str(out), "--images", str(images))
    assert status == 1 and "1 of 3 shards are not whole:" in told and "--part 2/3\n" in told
    assert "PARTS=3 sbatch --array=2 slurm/label.sbatch" in told
    [told] = merge(out, str(images)).faults
    assert re.search(sentence, told)
    assert unmade(out) == "is not labelled to its end"


def test_images_that_changed_are_found(images: Path, tmp_path: Path) -> None:
    run(images, tmp_path / "labels")
    shutil.copy(images / "sa_0.tar", images / "sa_2.tar")
    assert "holds labels of other images than" in merge(tmp_path / "labels", str(images)).faults[0]
    (images / "sa_0.tar").write_bytes(b"x")
    checked = merge(tmp_path / "labels", str(images))
    assert checked.missing == [1, 3] and len(checked.faults) == 2


def test_a_folder_that_is_not_there_is_a_sentence(images: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="there is no folder"):
        merge(tmp_path / "nowhere", str(images))
    assert not (tmp_path / "nowhere").exists()


def test_numbers_as_an_array() -> None:
    assert array([1]) == "1" and array([1, 2, 3, 7, 9, 10]) == "1-3,7,9-10"


def test_a_config_that_needs_labels_gets_them_whole(images: Path, tmp_path: Path) -> None:
    out, calls = tmp_path / "labels", []

    def label(words: list[str], makes: tuple[str, ...]) -> int:
        calls.append(words)
        run(images, out)
        return 0

    needs = {str(out): f"label --images {images} --out {out}"}
    make(needs, label)
    make(needs, label)
    assert len(calls) == 1
    (out / "sa_2.tar").unlink()
    assert not_whole(out) == "lacks sa_2.tar, or has another one"
    make(needs, label)
    assert len(calls) == 2 and unmade(out) is None


def test_labels_are_drawn_beside_their_images(
    images: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    out = tmp_path / "labels"
    run(images, out)
    status, told, _ = command_line("label", "--audit", str(out), "--images", str(images))
    assert status == 0 and "14 labels: 0.0% constant, 0.0% clipped" in told
    sheet = cv2.imread(str(out / "audit.png"))
    assert sheet is not None
    first = sheet.copy()
    audit(out, None)  # the images' cells are gone
    assert cv2.imread(str(out / "audit.png")).shape != first.shape
    run(images, tmp_path / "copied", copy_images=True)
    audit(tmp_path / "copied", None)
    assert np.array_equal(cv2.imread(str(tmp_path / "copied/audit.png")).shape, first.shape)


def test_odd_labels_are_faults(tmp_path: Path) -> None:
    rows = np.linspace(0, 1, 12, dtype=np.float32)[:, None] + np.zeros((1, 8), np.float32)
    maps = {
        "good": rows**2,
        "clipped": np.where(rows > 0.9, rows, 0).astype(np.float32),
        "flat": np.full_like(rows, 3),
        "once": rows,
        "twice": rows,
    }
    members = {}
    for key, depth in maps.items():
        sample = Sample(key, np.zeros((12, 8, 3), np.uint8), depth, space=AFFINE_DISPARITY)
        members[key] = {"png": encode_png(sample.image), **encode_label(sample, "npy", {"teacher": "x"})}
    broken = dict(members["good"])
    broken["json"] = broken["json"].replace(b"disparity", b"clarity")
    write_tar(tmp_path / "a.tar", {**members, "broken": broken})
    found = audit(tmp_path)
    assert found.labels == 6
    assert dict(found.kinds) == {"constant": 1, "clipped": 1, "repeated": 1, "unreadable or not finite": 1}
    assert sum("3 everywhere" in fault for fault in found.faults) == 1
    assert found.faults[-1].startswith("1 of 6 labels are clipped")


def test_an_audit_of_nothing_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"labels"):
        audit(tmp_path / "labels")
    write_tar(tmp_path / "a.tar", {"a": {"png": encode_png(np.zeros((4, 4, 3), np.uint8))}})
    assert "has no .json" in audit(tmp_path).faults[0]
