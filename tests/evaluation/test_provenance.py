"""The zero-shot guard: metrics on data that a model, or its teacher, was trained on are marked."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from depthkd.evaluation.evaluate import evaluate
from depthkd.evaluation.provenance import Provenance, provenance
from depthkd.formats.sample import content_digest
from depthkd.runs.trained_on import TrainedOn, read_digests
from tests.conftest import CommandLine
from tests.evaluation.subjects import Boxes, Seer

QUIET = ["--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]
STEPS = ["--data.workers", "0", "--data.batch_size", "4", "--trainer.max_steps", "6", *QUIET]


def test_a_digest_tells_files_apart() -> None:
    data = bytes(range(256)) * 1000
    middle = data[:120_000] + b"x" + data[120_001:]
    assert content_digest(data) == content_digest(bytes(data)) < 2**64
    others = [data[:-1], data + b"\0", b"x" + data[1:], data[:-1] + b"x", b"", data[:100]]
    assert len({content_digest(d) for d in [data, *others]}) == len(others) + 1
    assert content_digest(middle) == content_digest(data)  # its ends and its length are enough


def test_digests_survive_an_interruption_and_join_over_ranks(tmp_path: Path) -> None:
    first = TrainedOn(tmp_path, 0)
    first.add([5, 2**64 - 1])
    first.save()
    resumed, other = TrainedOn(tmp_path, 0), TrainedOn(tmp_path, 1)
    resumed.add([7, 5])
    other.add([1])
    resumed.save()
    other.save()
    assert read_digests(tmp_path).tolist() == [1, 5, 7, 2**64 - 1]
    checkpoint = tmp_path / "checkpoints/last.ckpt"
    assert read_digests(checkpoint).tolist() == [1, 5, 7, 2**64 - 1]
    (tmp_path / "trained_on/1.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(ValueError, match=r"trained_on/1.npy does not hold the digests of images"):
        read_digests(tmp_path)


def test_what_was_seen_is_known() -> None:
    known = Provenance(digests=np.array([3, 9, 2**64 - 1], np.uint64))
    assert [known.saw(d) for d in (3, 9, 2**64 - 1, 4, 0, None)] == [True] * 3 + [False] * 3
    assert not Provenance().saw(3)


def test_data_sets_by_name_mark_a_row(tmp_path: Path) -> None:
    class Taught(Seer):
        training_sets = ("KITTI", "Cityscapes")

    options: dict[str, Any] = {"photographs": False, "pictures": 1, "workers": 0, "out": tmp_path}
    benchmarks: Any = {"k": Boxes(data_set="KITTI"), "n": Boxes(data_set="NYUv2"), "b": Boxes()}
    results = evaluate({"taught": Taught(), "other": Seer()}, benchmarks, **options)
    marked = {name: found["not_zero_shot"] for name, found in results["benchmarks"].items()}
    assert marked == {"k": {"taught": ["taught was trained on KITTI."]}, "n": {}, "b": {}}
    assert results["models"]["taught"]["training_sets"] == {"taught": ["KITTI", "Cityscapes"]}
    table = (tmp_path / "table.md").read_text()
    assert "| taught † " in table and "† not zero-shot: taught was trained on KITTI." in table
    assert "taught †" in (tmp_path / "report.html").read_text()


def test_a_student_is_marked_on_its_own_images_and_for_its_teacher(
    home: Path, scene_shards: Path, command_line: CommandLine
) -> None:
    size = ["--model.init_args.student.init_args.size", "tiny"]
    assert command_line("fit", "--config", "configs/tiny/teacher.yaml", *size, *STEPS)[0] == 0
    assert command_line("fit", "--config", "configs/tiny/cross_context.yaml", *STEPS)[0] == 0
    for name in ("teacher", "cross_context"):
        assert len(read_digests(home / "runs/tiny" / name)) == 24  # all of 24 images, in 6 x 4 draws
    labelled = {
        name: {
            "class_path": "depthkd.benchmarks.ShardBenchmark",
            "init_args": {"urls": str(next((scene_shards / folder).glob("*.tar")))},
        }
        for name, folder in (("taught", "studio_train"), ("held_out", "studio_test"))
    }
    words = ["--benchmarks", yaml.safe_dump(labelled), "--photographs", "false", "--workers", "0"]
    status, out, err = command_line(
        "test", "runs/tiny/teacher", "runs/tiny/cross_context", *words, "--pictures", "0", "--out", "o"
    )
    assert status == 0, err
    # the teacher was trained on these images, and what the student knows comes from it
    assert "† not zero-shot: teacher was trained on 24 of these very images." in out
    assert "† not zero-shot: cross_context was trained on 24 of these very images." in out
    assert out.count("not zero-shot") == 2
    lines = (home / "o/per_sample.csv").read_text().splitlines()
    assert {line.split(",")[5] for line in lines if line.startswith("held_out")} == {""}


def test_a_teachers_data_sets_reach_its_student(tmp_path: Path) -> None:
    known_teacher = {"source": "hub/id", "license": "x", "training_sets": ["NYUv2"]}
    teachers = {"t": known_teacher, "u": {"source": "nowhere"}}
    content = {"depthkd": {"averaged": False, "teachers": teachers}, "state_dict": {}}
    (tmp_path / "checkpoints").mkdir()
    torch.save(content, tmp_path / "checkpoints/last.ckpt")
    known = provenance("student", Seer(), tmp_path)
    (said,) = known.sentences("student", "NYUv2", 0)
    assert said == "hub/id, which student learned from, was trained on NYUv2."
    assert known.sentences("student", "KITTI", 0) == []
