"""Long runs of what the short tests do once: `make test-long`."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from depthkd.runs.folder import CHECKPOINT, read_checkpoint
from tests.processes import run
from tests.test_resume import assert_same, configured, shards

__all__ = ["shards"]  # the fixture

pytestmark = [pytest.mark.long, pytest.mark.timeout(3000)]


def test_many_kills_leave_no_trace(shards: Path, tmp_path: Path) -> None:
    config = configured(shards, tmp_path, workers=2, max_steps=60)
    fit = ["fit", "--config", str(config), "--run"]
    codes, output = run([*fit, "whole"], tmp_path)
    assert codes == [0], output
    rng, kills = np.random.default_rng(0), 0
    last = tmp_path / "killed" / CHECKPOINT
    while True:
        resume = ["--ckpt_path", "last"] if last.is_file() else []
        kill = ["--trainer.callbacks+", "tests.processes.KillAfter"]
        kill += ["--trainer.callbacks.batches", str(rng.integers(9, 24))]
        codes, output = run([*fit, "killed", *resume, *kill], tmp_path)
        if codes == [0]:
            break
        assert codes == [-9], output
        kills += 1
    assert kills >= 4
    whole, killed = (read_checkpoint(tmp_path / name / CHECKPOINT) for name in ("whole", "killed"))
    assert_same(whole["state_dict"], killed["state_dict"])
    assert_same(whole["optimizer_states"], killed["optimizer_states"])


def test_a_real_process_killed_from_outside(shards: Path, tmp_path: Path) -> None:
    """As a user would meet it: the installed script, SIGKILL at any moment, then the same command."""
    config = configured(shards, tmp_path, workers=1, max_steps=40)
    script = str(Path(sys.executable).with_name("depthkd"))
    fit = [script, "fit", "--config", str(config), "--run"]
    subprocess.run([*fit, "whole"], cwd=tmp_path, check=True, capture_output=True, timeout=600)
    process = subprocess.Popen(
        [*fit, "killed"], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    last = tmp_path / "killed" / CHECKPOINT
    deadline = time.monotonic() + 600
    while not last.is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    stopped = read_checkpoint(last)["global_step"]
    assert 0 < stopped < 40
    subprocess.run(
        [*fit, "killed", "--ckpt_path", "last"], cwd=tmp_path, check=True, capture_output=True, timeout=600
    )
    whole, killed = (read_checkpoint(tmp_path / name / CHECKPOINT) for name in ("whole", "killed"))
    assert_same(whole["state_dict"], killed["state_dict"])
