"""A small run that a second or two trains, and what is said of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import CommandLine

Fit = Callable[..., tuple[int, str, str]]
QUIET = ["--trainer.enable_progress_bar", "false"]


def small(shards: Path) -> dict[str, Any]:
    """A config of six steps of four images."""
    crop = {"class_path": "depthkd.data.SquareCrop", "init_args": {"size": 16, "smallest": 24}}
    studio = {"urls": str(shards / "studio_train"), "labelled": True, "transform": crop}
    return {
        "model": {
            "class_path": "depthkd.methods.SupervisedDepth",
            "init_args": {
                "student": {"class_path": "depthkd.models.DepthAnything", "init_args": {"size": "tiny"}},
                "optimization": {"learning_rate": 1e-3, "schedule": "cosine", "warmup_steps": 2},
            },
        },
        "data": {"batch_size": 4, "workers": 0, "train": {"studio": studio}},
        "trainer": {"max_steps": 6, "accelerator": "cpu"},
        "checkpoint": {"every_n_train_steps": 3},
    }


@pytest.fixture
def config(tmp_path: Path, scene_shards: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(small(scene_shards)))
    return path


@pytest.fixture
def fit(config: Path, command_line: CommandLine) -> Fit:
    """`depthkd fit --config small.yaml ...`: status, output and errors."""
    return lambda *words: command_line("fit", "--config", config, *QUIET, *words)
