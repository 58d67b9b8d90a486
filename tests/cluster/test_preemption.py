"""A signal, then the same command with --ckpt_path last: bitwise the weights of an uninterrupted run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from depthkd.runs.folder import read_checkpoint
from tests.processes import run
from tests.test_resume import Uninterrupted, assert_same, configured, shards, uninterrupted

__all__ = ["shards", "uninterrupted"]

PARTS = ("state_dict", "optimizer_states", "lr_schedulers", "ShardDataModule", "depthkd")


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("ranks", "name", "rank", "status", "step"),
    [
        (1, "SIGUSR1", 0, 75, 3),  # 5 batches are 2 steps and a half: saved at the end of the third
        (1, "SIGTERM", 0, 143, 3),
        (2, "SIGUSR1", 1, 75, 4),  # the vote is read one step later
        (2, "SIGTERM", 0, 143, 4),
    ],
)
def test_all_ranks_save_and_leave_at_one_step(
    workers: int,
    ranks: int,
    name: str,
    rank: int,
    status: int,
    step: int,
    shards: Path,
    uninterrupted: Uninterrupted,
    tmp_path: Path,
) -> None:
    more = {"devices": 2, "strategy": "ddp"} if ranks == 2 else {}
    whole = uninterrupted(ranks, workers=workers, **more)
    config = configured(shards, tmp_path, workers=workers, **more)
    fit = ["fit", "--config", str(config), "--checkpoint.every_n_train_steps", "100", "--run"]
    ask = ["--trainer.callbacks+", "tests.cluster.callbacks.Signal", "--trainer.callbacks.name", name]
    ask += ["--trainer.callbacks.batches", "5", "--trainer.callbacks.rank", str(rank)]
    codes, output = run([*fit, "left", *ask], tmp_path, ranks)
    assert codes == [status] * ranks, output
    assert f"saved step {step} in left/checkpoints/last.ckpt; --ckpt_path last goes on" in output
    assert "Traceback" not in output
    left = read_checkpoint(tmp_path / "left/checkpoints/last.ckpt")
    assert left["global_step"] == step

    codes, output = run([*fit, "left", "--ckpt_path", "last"], tmp_path, ranks)
    assert codes == [0] * ranks, output
    resumed = read_checkpoint(tmp_path / "left/checkpoints/last.ckpt")
    for part in PARTS:
        assert_same(whole[part], resumed[part], part)


def test_the_time_limits_signal_does_not_kill_a_job_that_is_done(tmp_path: Path) -> None:
    """A shutting down interpreter has no handlers any more; only what is ignored stays so."""
    code = (
        "import signal; from depthkd.cli import main; main(['fit', '--config', 'nowhere.yaml']); "
        "assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN; "
        "import atexit, os; atexit.register(os.kill, os.getpid(), signal.SIGUSR1)"
    )
    environment = {**os.environ, "SLURM_STEP_ID": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "nowhere.yaml" in done.stderr
