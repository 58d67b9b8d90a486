"""Training of depth completion as users type it: killed and resumed, and on two ranks."""

from pathlib import Path

import pytest
import yaml

from tests.processes import assert_ranks_train_alike, assert_resumes


@pytest.fixture
def config(home: Path) -> Path:
    """The tiny twin on smaller scenes, with a stage one that is quick."""
    relative = {"class_path": "depthkd.models.DepthAnything", "init_args": {"size": "tiny"}}
    patterns = {"10 to 300 points": 3, "5 % outliers, 50 points": 1}
    transforms = [
        {"class_path": "depthkd.data.WholeImage", "init_args": {"height": 42, "width": 56}},
        {"class_path": "depthkd.data.SparsePoints", "init_args": {"patterns": patterns}},
    ]
    tree = {
        "base": "configs/tiny/completion.yaml",
        "needs": None,
        "model": {"init_args": {"student": {"init_args": {"relative": relative, "widths": [8, 16]}}}},
        "data": {
            "batch_size": 4,
            "train": {
                "lifelike": {
                    "urls": "runs/scenes/studio_train",
                    "transform": {"init_args": {"transforms": transforms}},
                }
            },
            "validation": None,
        },
        "trainer": {"max_steps": 6, "val_check_interval": 6, "limit_val_batches": 0},
        "checkpoint": {"every_n_train_steps": 2},
    }
    path = home / "completion.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.mark.long
def test_a_killed_run_resumes_bit_by_bit(config: Path) -> None:
    end = assert_resumes(config.parent, config.name, 3)
    assert all(name.startswith("student.network.") for name in end["state_dict"])
    assert list(end["depthkd"]["teachers"]) == ["relative"]


@pytest.mark.long
def test_two_ranks_train_like_one(config: Path) -> None:
    words = ["fit", "--config", config.name, "--trainer.max_steps", "1", "--trainer.val_check_interval", "1"]
    assert assert_ranks_train_alike(config.parent, words).abs().max() > 0
