"""Label-free distillation as users type it, on scenes of a few pixels: resuming, ranks, mistakes."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from depthkd.runs.folder import read_checkpoint
from depthkd.runs.student import load_student
from tests.conftest import CommandLine
from tests.processes import assert_resumes, run

UNTRAINED = {"class_path": "depthkd.models.DepthAnything", "init_args": {"size": "tiny"}}
CROP = {"class_path": "depthkd.data.ResizeCrop", "init_args": {"size": 32}}
FILM = {"urls": "runs/scenes/film_train", "transform": CROP}
STUDIO = {"urls": "runs/scenes/studio_train", "labelled": True, "transform": CROP}


def tree(steps: int = 3, sources: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    """A small run; `options` of the method."""
    model = {
        "student": UNTRAINED,
        "teacher": {"class_path": "depthkd.models.Embedded"},
        "pointnet": {"class_path": "depthkd.models.PointNet"},
        "geometry": {"points": 200},
        **options,
    }
    trainer = {"max_steps": steps, "accelerator": "cpu", "enable_progress_bar": False}
    return {
        "model": {"class_path": "depthkd.methods.LabelFreeDistill", "init_args": model},
        "data": {"batch_size": 4, "workers": 0, "train": sources or {"target": FILM}},
        "trainer": {**trainer, "log_every_n_steps": 1, "gradient_clip_val": 1.0},
        "checkpoint": {"every_n_train_steps": 2},
    }


def write(home: Path, config: dict[str, Any]) -> str:
    (home / "config.yaml").write_text(yaml.safe_dump(config))
    return "config.yaml"


def test_a_killed_run_resumes_bit_by_bit_and_holds_the_student_alone(home: Path) -> None:
    weights = {"image_level": 0.5, "gradient": 0.5}
    sources = {"target": FILM | {"share": 0.5}, "labelled": STUDIO | {"share": 0.5}}
    checkpoint = assert_resumes(home, write(home, tree(6, sources, weights=weights)), 5)
    assert {name.partition(".")[0] for name in checkpoint["state_dict"]} == {"student"}
    teachers = checkpoint["depthkd"]["teachers"]
    assert set(teachers) == {"teacher", "pointnet"}
    assert teachers["pointnet"] == {
        "source": "a random PointNet",
        "license": "Apache-2.0",
        "training_sets": [],
    }


def test_two_ranks_train_like_one(home: Path) -> None:
    config = write(home, tree(1))
    for name, ranks, more in (("one", 1, ["1"]), ("two", 2, ["2", "--trainer.strategy", "ddp"])):
        words = ["fit", "--config", config, "--run", name, "--trainer.devices", *more]
        codes, output = run(words, home, ranks)
        assert codes == [0] * ranks, output
    one, two = (read_checkpoint(home / f"{name}/checkpoints/last.ckpt") for name in ("one", "two"))
    start = load_student(home / "one", fresh=True).state_dict()
    ends = [
        torch.cat([(end["state_dict"][f"student.{k}"] - v).flatten() for k, v in start.items()])
        for end in (one, two)
    ]
    alike = (ends[0] - ends[1]).abs() <= 0.05 * ends[0].abs()
    assert (ends[0] != 0).float().mean() > 0.9
    assert alike.float().mean() > 0.99  # AdamW makes whole steps of the rounding of gradients near 0


def test_mistakes_get_a_sentence(home: Path, command_line: CommandLine) -> None:
    nowhere = {"class_path": "depthkd.models.PointNet", "init_args": {"weights": "nowhere.safetensors"}}
    for config, sentence in (
        (tree(pointnet=nowhere), "`depthkd pointnet --out nowhere.safetensors` makes one"),
        (tree(pointnet=None), "model.init_args.pointnet is missing"),
        (tree(teacher=None), "there is no model.init_args.teacher to make some"),
        (tree(sources={"x": STUDIO}), "data.train.x is labelled, and LabelFreeDistill looks at no label"),
        (tree(geometry={"points": 0}), "geometry.points must be 1 or more, not 0"),
        (tree(geometry={"point": 5}), "point"),
        (tree(normalization="median"), "normalization"),
    ):
        status, _, err = command_line("fit", "--config", write(home, config), "--run", "runs/x")
        assert status == 2 and sentence in err and "Traceback" not in err, err
        assert not (home / "runs/x/checkpoints").exists()


@pytest.mark.parametrize("precision", ["bf16-mixed"])
def test_half_precision_trains(precision: str, home: Path, command_line: CommandLine) -> None:
    config = tree(2)
    config["trainer"]["precision"] = precision
    status, _, err = command_line("fit", "--config", write(home, config), "--run", "runs/x")
    assert status == 0, err
