"""The number of ranks does not matter: two train to what one trains to, and score what one scores."""

from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from depthkd.runs import read_checkpoint
from tests.processes import run

ROOT = Path(__file__).parent.parent


def test_two_ranks_train_and_validate_like_one(tmp_path: Path, scene_shards: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/scenes").symlink_to(scene_shards)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    words = [
        "fit",
        "--config",
        "configs/tiny/teacher.yaml",
        "--model.init_args.student.init_args.size",
        "tiny",
    ]
    words += ["--data.batch_size", "4", "--data.workers", "0", "--trainer.max_steps", "4"]
    words += ["--trainer.val_check_interval", "4", "--trainer.enable_progress_bar", "false"]
    words += ["--data.validation.studio.init_args.limit", "5"]  # an uneven last batch: 3 samples and 2
    for name, ranks, more in (("one", 1, ["1"]), ("two", 2, ["2", "--trainer.strategy", "ddp"])):
        codes, output = run([*words, "--run", name, "--trainer.devices", *more], tmp_path, ranks)
        assert codes == [0] * ranks, output
    one, two = (read_checkpoint(tmp_path / f"{name}/checkpoints/last.ckpt") for name in ("one", "two"))
    moved = 0.0
    for key, value in one["state_dict"].items():
        torch.testing.assert_close(two["state_dict"][key], value, rtol=1e-3, atol=2e-4, msg=key)
        moved += float(value.abs().sum())
    assert moved > 0
    figures = []
    for name in ("one", "two"):
        log = EventAccumulator(str(tmp_path / name / "logs"))
        log.Reload()
        figures.append(log.Scalars("val/studio/abs_rel")[-1].value)
    assert figures[0] == pytest.approx(figures[1], rel=1e-3)
