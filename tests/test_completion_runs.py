"""Training of depth completion as users type it: killed and resumed, and on two ranks."""

import json
from pathlib import Path

import pytest
import yaml

from tests.processes import assert_ranks_train_alike, assert_resumes, run

ROOT = Path(__file__).parent.parent


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


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_tiny_twin_learns(tmp_path: Path) -> None:
    def typed(*words: str) -> None:
        codes, output = run(list(words), tmp_path, timeout=1500.0)
        assert codes == [0], output

    (tmp_path / "configs").symlink_to(ROOT / "configs")
    for name, seed, count in (("lifelike_completion", 61, 300), ("lifelike_completion_test", 62, 30)):
        size = ["--count", str(count), "--height", "96", "--width", "128", "--seed", str(seed)]
        typed("shards", "scenes", "--out", f"runs/scenes/{name}", "--style", "lifelike", *size)
    steps = ["--trainer.max_steps", "500", "--trainer.val_check_interval", "500"]
    quiet = ["--trainer.enable_progress_bar", "false"]
    typed("fit", "--config", "configs/tiny/completion.yaml", *steps, *quiet)
    benchmark = {"class_path": "depthkd.benchmarks.ShardBenchmark"}
    benchmark |= {"init_args": {"urls": "runs/scenes/lifelike_completion_test", "max_depth": 80}}
    tree = {
        "models": {"network": "runs/tiny/completion"},
        "benchmarks": {"scenes": benchmark},
        "completion": ["200 points", "50 points"],
    }
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(tree))
    typed("test", "--config", "test.yaml", "--photographs", "false", "--pictures", "0", "--out", "out")
    found = json.loads((tmp_path / "out/results.json").read_text())["benchmarks"]
    for pattern in tree["completion"]:
        rmse = {row: one["rmse"] for row, one in found[f"scenes, {pattern}"]["metrics"].items()}
        assert rmse["network"] < 0.65 * rmse["network, global fit"], rmse
        others = {row: value for row, value in rmse.items() if row != "network"}
        assert rmse["network"] < 0.97 * min(others.values()), rmse
