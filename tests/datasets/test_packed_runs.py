"""Data sets in their owners' layouts, packed by name, train and are known to the zero-shot guard."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from depthkd import datasets
from depthkd.runs.folder import Progress, Run
from depthkd.runs.trained_on import read_data_sets
from depthkd.verbs.shards.pack import pack
from tests.conftest import CommandLine
from tests.datasets.files import write
from tests.datasets.test_dataset import hypersim, virtual_kitti
from tests.models.smallest import run

RUN = "runs/tiny/fiff"


@pytest.fixture
def shards(home: Path) -> list[str]:
    """Hypersim's and Virtual KITTI 2's training images, as `depthkd shards pack` writes them."""
    distance = np.tile(np.linspace(2, 9, 64, dtype=np.float32), (48, 1))
    rooms = str(write(home / "hypersim", hypersim(distance)))
    streets = write(home / "vkitti", virtual_kitti(("Scene02",), frames=2))
    few = home / "few.txt"
    few.write_text("\n".join(" ".join(line) for line in datasets.VirtualKITTI2(streets, "train").lines[:2]))
    paths = pack(dataset="hypersim", root=rooms, split="train", out=f"{home}/h.tar").paths
    paths += pack(dataset="virtual_kitti_2", root=str(streets), split=str(few), out=f"{home}/v.tar").paths
    return [str(path) for path in paths]


def test_fiffdepth_trains_on_them_and_is_not_zero_shot_there(
    shards: list[str], home: Path, command_line: CommandLine
) -> None:
    run(home / "runs/tiny/teacher", "DepthAnything", size="tiny")
    steps: list[object] = [
        "--trainer.max_steps",
        5,
        "--trainer.val_check_interval",
        5,
        "--data.batch_size",
        4,
    ]
    urls = ["--data.train.synthetic.urls", yaml.safe_dump(shards), "--data.validation", "{}"]
    status, _, errors = command_line("fit", "--config", "configs/tiny/fiff.yaml", *steps, *urls)
    assert status == 0, errors
    assert Run(RUN).progress() == Progress(5, 5)
    assert read_data_sets(Path(RUN)) == ["Hypersim", "Virtual KITTI 2"]
    pack(dataset="hypersim", root=f"{home}/hypersim", split="val", out=f"{home}/val.tar")
    benchmark: dict[str, Any] = {"class_path": "depthkd.benchmarks.ShardBenchmark"}
    benchmark["init_args"] = {"urls": f"{home}/val.tar"}
    words = ["--benchmarks", yaml.safe_dump({"h": benchmark}), "--photographs", "false", "--workers", "0"]
    status, out, errors = command_line("test", RUN, *words, "--untrained", "false")
    assert status == 0, errors
    assert "† not zero-shot: fiff was trained on Hypersim." in out
