"""A run folder that version 0.1.0 wrote (commit 4fb3203): config, checkpoint and student are still read.

`kept/run_4fb3203.tar.xz` holds the run, its shards, its student's prediction of one image, and test results.
"""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from depthkd.benchmarks import ShardBenchmark
from depthkd.runs.student import load_student
from tests.conftest import CommandLine

KEPT = Path(__file__).parent / "kept/run_4fb3203.tar.xz"


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    with tarfile.open(KEPT) as tar:
        trusted = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # Python 3.11.4 and later
        tar.extractall(tmp_path, **trusted)
    return tmp_path


def test_student_predicts_what_it_did(kept: Path) -> None:
    image = torch.tensor(ShardBenchmark(str(kept / "frames.tar")).sample(0).image)
    depth = load_student(kept / "run").predict(image.permute(2, 0, 1)[None].float() / 255)
    np.testing.assert_allclose(depth[0], np.load(kept / "prediction.npy"), rtol=1e-5)


def test_test_reaches_the_same_metrics(kept: Path, command_line: CommandLine) -> None:
    status, _, errors = command_line("test", "run", "--out", "again", "--photographs", "false")
    assert status == 0, errors
    before, now = (json.loads((kept / f).read_text()) for f in ("results.json", "again/results.json"))
    then = before["benchmarks"]["frames"]["figures"]["run"]  # as 0.1.0 called metrics
    assert now["benchmarks"]["frames"]["metrics"]["run"] == pytest.approx(then, rel=1e-4)


def test_run_goes_on_from_its_checkpoint(kept: Path, command_line: CommandLine) -> None:
    words = ("--run", "run", "--ckpt_path", "last", "--trainer.max_steps", 6)
    status, out, errors = command_line("fit", "--config", "run/config.yaml", *words)
    assert status == 0, errors
    facts = torch.load(kept / "run/checkpoints/last.ckpt", weights_only=True)
    assert facts["global_step"] == 6
    status, out, errors = command_line("validate", "--config", "run/config.yaml", "--run", "run")
    assert status == 0 and "val/frames" in out, errors
