"""FiffDepth as users type it, on scenes of a few pixels: resuming, validation against test, ablations."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from depthkd.runs.student import TrainedDepth
from tests.conftest import CommandLine
from tests.processes import assert_resumes

ROOT = Path(__file__).parent.parent
UNTRAINED = {"class_path": "depthkd.models.DepthAnything", "init_args": {"size": "tiny"}}


def write(home: Path, name: str, steps: int, base: str = "tiny/fiff.yaml", **changes: Any) -> str:
    """The tiny twin, a few steps of it, with a teacher of random weights."""
    crop = {"transform": {"class_path": "depthkd.data.SquareCrop", "init_args": {"size": 32, "smallest": 40}}}
    tree: dict[str, Any] = {
        "base": f"configs/{base}",
        "needs": None,
        "model": {"init_args": {"teacher": UNTRAINED}},
        "data": {"batch_size": 4, "train": {"synthetic": crop, "laion_art": crop}},
        "trainer": {"max_steps": steps, "val_check_interval": steps, "enable_progress_bar": False},
        "checkpoint": {"every_n_train_steps": 2},
        "watch": {"pictures_every_n_steps": 2},
    }
    tree["trainer"] |= changes
    (home / name).write_text(yaml.safe_dump(tree))
    return name


def test_a_killed_run_resumes_bit_by_bit(home: Path) -> None:
    config = write(home, "fiff.yaml", 6, accumulate_grad_batches=2, limit_val_batches=0)
    assert_resumes(home, config, 9, "--model.init_args.optimization.ema_decay", "0.9")


def test_test_gives_the_metrics_of_validation_and_the_floor(home: Path, command_line: CommandLine) -> None:
    config = write(home, "fiff.yaml", 4)
    status, _, err = command_line("fit", "--config", config, "--run", "runs/fiff")
    assert status == 0, err
    words = ["--out", "out", "--photographs", "false", "--pictures", "1", "--workers", "0"]
    second = ["--models.end.class_path", "depthkd.runs.TrainedDepth", "--models.end.path", "runs/fiff"]
    second += ["--models.end.settings", "{step: -1}"]
    status, _, err = command_line("test", "runs/fiff", *second, *words)
    assert status == 0, err
    found = json.loads((home / "out/results.json").read_text())["benchmarks"]
    log = EventAccumulator(str(home / "runs/fiff/logs"))
    log.Reload()
    for name, benchmark in found.items():
        metrics = benchmark["metrics"]
        for metric in ("abs_rel", "delta1"):
            logged = log.Scalars(f"val/{name}/{metric}")[-1].value
            assert metrics["fiff"][metric] == pytest.approx(logged, rel=1e-5), (name, metric)
        floor = metrics["fiff, given the truth"]["abs_rel"]
        assert 0 < floor < 0.1 < metrics["fiff"]["abs_rel"]
        assert metrics["end"] != metrics["fiff"]
    assert "train/label_d0_and_end" in log.Tags()["images"]
    assert TrainedDepth("runs/fiff", settings={"step": -1}).network.step == -1  # type: ignore[union-attr]
    start = "{class_path: depthkd.runs.TrainedDepth, init_args: {path: runs/fiff}}"
    words = ["--model.init_args.student", start, "--model.init_args.optimization.learning_rate", "1e-9"]
    status, _, err = command_line("fit", "--config", config, "--run", "runs/on", *words)
    assert status == 0, err
    before, after = (TrainedDepth(f"runs/{run}").unwrapped().state_dict() for run in ("fiff", "on"))
    for weight, other in zip(before.values(), after.values(), strict=True):
        torch.testing.assert_close(weight, other, rtol=0, atol=1e-6)  # it goes on from the other run's


@pytest.mark.parametrize(
    ("name", "absent"),
    [
        ("image_only", set()),
        ("no_keeping", {"keep"}),
        ("no_dino", {"real_mae", "real_gradient"}),
        ("dino_at_d0", set()),
    ],
)
def test_each_ablation_trains(name: str, absent: set[str], home: Path, command_line: CommandLine) -> None:
    difference = yaml.safe_load((ROOT / f"configs/ablations/fiffdepth/{name}.yaml").read_text())
    del difference["base"]
    (home / "difference.yaml").write_text(yaml.safe_dump(difference))
    config = write(home, "fiff.yaml", 3, limit_val_batches=0, log_every_n_steps=1)
    words = ["--config", config, "--config", "difference.yaml", "--run", "runs/ablation"]
    status, _, err = command_line("fit", *words)
    assert status == 0, err
    log = EventAccumulator(str(home / "runs/ablation/logs"))
    log.Reload()
    logged = {tag.removeprefix("train/") for tag in log.Tags()["scalars"]}
    everything = {"synthetic_mae", "synthetic_gradient", "real_mae", "real_gradient", "keep"}
    assert logged & everything == everything - absent
