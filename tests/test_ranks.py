"""The number of ranks does not matter: two train to what one trains to, and score what one scores."""

import json
from pathlib import Path

import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from depthkd.methods.distill_any_depth import drawn_teacher
from tests.processes import assert_ranks_train_alike, run

ROOT = Path(__file__).parent.parent


STUDENTS = {
    "transformer": {"class_path": "depthkd.models.DepthAnything", "init_args": {"size": "tiny"}},
    "frozen batch normalization": {
        "class_path": "depthkd.models.TimmDepth",
        "init_args": {"backbone": "mobilenetv4_conv_small_035", "fusion": 8, "frozen_statistics": True},
    },
}


@pytest.mark.parametrize("student", STUDENTS)
def test_two_ranks_train_and_validate_like_one(student: str, home: Path) -> None:
    words = ["fit", "--config", "configs/tiny/teacher.yaml"]
    words += ["--model.init_args.student", json.dumps(STUDENTS[student])]
    words += ["--data.batch_size", "4", "--data.workers", "0", "--trainer.max_steps", "1"]
    words += ["--trainer.val_check_interval", "1", "--trainer.enable_progress_bar", "false"]
    words += ["--data.validation.studio.init_args.limit", "5"]  # an uneven last batch: 3 samples and 2
    moved = assert_ranks_train_alike(home, words)
    assert (moved != 0).float().mean() > 0.9
    metrics = []
    for name in ("one", "two"):
        log = EventAccumulator(str(home / name / "logs"))
        log.Reload()
        metrics.append(log.Scalars("val/studio/abs_rel")[-1].value)
    assert metrics[0] == pytest.approx(metrics[1], rel=1e-3)


def test_both_ranks_ask_the_same_teacher_at_every_step(tmp_path: Path, scene_shards: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/scenes").symlink_to(scene_shards)
    untrained = {"class_path": "depthkd.models.DepthAnything", "init_args": {"size": "tiny"}}
    tree = {
        "base": str(ROOT / "configs/tiny/assistant.yaml"),
        "needs": None,
        "model": {"init_args": {"teachers": {"depth_anything_v2": untrained, "genpercept": untrained}}},
        "data": {"batch_size": 2},
        "trainer": {
            "max_steps": 12,
            "val_check_interval": 12,
            "limit_val_batches": 0,
            "devices": 2,
            "strategy": "ddp",
            "enable_progress_bar": False,
            "callbacks": [{"class_path": "tests.cluster.callbacks.TeacherCalls"}],
        },
    }
    (tmp_path / "guided.yaml").write_text(yaml.safe_dump(tree))
    codes, output = run(["fit", "--config", "guided.yaml", "--run", "guided"], tmp_path, 2)
    assert codes == [0, 0], output
    calls = [json.loads((tmp_path / f"calls-{rank}.json").read_text()) for rank in (0, 1)]
    probabilities = {"depth_anything_v2": 0.7, "genpercept": 0.3}
    expected = [{drawn_teacher(probabilities, 0, step): 2} for step in range(12)]  # the crop, and all windows
    assert calls[0] == calls[1] == expected
    assert len({next(iter(step)) for step in expected}) == 2
