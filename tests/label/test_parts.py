"""Parts of the labels in other processes: as an array of SLURM starts them, by submitit, and killed."""

import multiprocessing
import os
import signal
import subprocess
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import submitit
import torch

from depthkd.models.model import DepthOutput
from depthkd.shapes import Image
from depthkd.verbs.label.label import label
from depthkd.verbs.label.whole import merge
from tests.label.teachers import Gray, made, run

ROOT = Path(__file__).parent.parent.parent
FORK = multiprocessing.get_context("fork")


class Deadly(Gray):
    """Kills its process as it is asked for the n-th time, where it is told to, and takes its time."""

    caches = ("left", "pause")  # what it says does not depend on them
    left, pause = 0, 0.0

    def forward(self, image: Image) -> DepthOutput:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.pause)
        return super().forward(image)


def deadly(left: int = 0, pause: float = 0.0) -> Deadly:
    model = Deadly()
    model.left, model.pause = left, pause
    return model


def in_a_child(images: Path, out: Path, model: Gray) -> multiprocessing.context.ForkProcess:
    def work() -> None:
        torch.set_num_threads(1)
        run(images, out, model)

    child = FORK.Process(target=work)
    child.start()
    return child


def test_what_kills_leave_becomes_the_same_bytes(images: Path, tmp_path: Path) -> None:
    run(images, tmp_path / "whole", deadly())
    for batches in (1, 3, 5, 4):
        child = in_a_child(images, tmp_path / "killed", deadly(batches))
        child.join(60)
        assert child.exitcode == -signal.SIGKILL
    assert {path.suffix for path in (tmp_path / "killed").iterdir()} >= {".lock", ".writing"}
    assert run(images, tmp_path / "killed", deadly()).labels < 14
    assert made(tmp_path / "killed") == made(tmp_path / "whole")
    left = [path.name for path in (tmp_path / "killed").iterdir() if path.suffix in (".lock", ".writing")]
    assert left == []


@pytest.mark.long
def test_kills_at_random_times_become_the_same_bytes(images: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    model = partial(deadly, 0, 0.05)
    start = time.monotonic()
    run(images, tmp_path / "whole", model())
    took = time.monotonic() - start
    for attempt in range(10):
        out = tmp_path / f"killed{attempt}"
        for _ in range(3):
            child = in_a_child(images, out, model())
            time.sleep(float(rng.uniform(0, took)))
            child.kill()
            child.join(60)
        run(images, out, model())
        assert made(out) == made(tmp_path / "whole")
        assert not merge(out, str(images)).faults


@pytest.mark.long
def test_two_commands_at_once_damage_nothing(images: Path, tmp_path: Path) -> None:
    run(images, tmp_path / "whole", deadly(0, 0.02))
    for attempt in range(5):
        out = tmp_path / f"both{attempt}"
        children = [in_a_child(images, out, deadly(0, 0.02)) for _ in range(2)]
        for child in children:
            child.join(60)
        assert any(child.exitcode == 0 for child in children)
        assert made(out) == made(tmp_path / "whole")


def script(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`slurm/label.sbatch` as SLURM runs it, with an srun that only runs its command."""
    srun = folder / "bin/srun"
    srun.parent.mkdir(exist_ok=True)
    srun.write_text('#!/bin/bash\nwhile [[ $1 == --* ]]; do shift; done\nexec "$@"\n')
    srun.chmod(0o755)
    depthkd = folder / "bin/depthkd"
    depthkd.write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
    depthkd.chmod(0o755)
    path = f"{srun.parent}:{os.environ['PATH']}"
    known = {"PATH": path, "DEPTHKD": str(depthkd)}
    command = ["bash", str(ROOT / "slurm/label.sbatch"), *words]
    return subprocess.run(
        command, cwd=folder, env=known | environment, capture_output=True, text=True, timeout=120
    )


def task(number: int, count: int) -> dict[str, str]:
    numbers = {"ID": number, "COUNT": count, "MIN": 1, "MAX": count}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in numbers.items()}


def test_a_task_of_an_array_labels_its_part(tmp_path: Path) -> None:
    asked = ["--images", "a{0..9}.tar", "--out", "of labels"]
    done = script(tmp_path, *asked, **task(2, 3))
    assert done.stdout.splitlines() == ["label", "--part", "2/3", *asked], done.stderr
    again = task(4, 2) | {"SLURM_ARRAY_TASK_MIN": "4", "SLURM_ARRAY_TASK_MAX": "9", "PARTS": "64"}
    assert script(tmp_path, **again).stdout.splitlines() == ["label", "--part", "4/64"]


def test_what_the_script_says(tmp_path: Path) -> None:
    assert "label.sbatch: which part?" in script(tmp_path).stderr
    odd = task(3, 2) | {"SLURM_ARRAY_TASK_MAX": "3", "SLURM_ARRAY_TASK_MIN": "3"}
    assert "an array would be 1-2, not 3-3; or set PARTS" in script(tmp_path, **odd).stderr
    nowhere = script(tmp_path, **task(1, 2), DEPTHKD="nowhere/depthkd")
    assert nowhere.returncode == 2 and "there is no nowhere/depthkd (seen from" in nowhere.stderr


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # of submitit's logs
def test_submitit_drives_the_same_function(images: Path, tmp_path: Path) -> None:
    executor = submitit.AutoExecutor(folder=tmp_path / "logs", cluster="debug")
    work = partial(label, str(images), tmp_path / "labels", Gray(), None, batch_size=2, device="cpu")
    jobs = [executor.submit(work, part=f"{i}/2") for i in (1, 2)]
    assert sum(job.result().labels for job in jobs) == 14
    assert not merge(tmp_path / "labels", str(images)).faults
    run(images, tmp_path / "whole")
    assert made(tmp_path / "labels") == made(tmp_path / "whole")
