"""The main job of `make run`, shortened, interrupted again and again as users do: `make test-long`."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = [str(Path(sys.executable).with_name("depthkd")), "test", "--config", "configs/tiny/demo.yaml"]
SIGNALS = (signal.SIGTERM, signal.SIGKILL, signal.SIGINT)


def shorten(folder: Path) -> None:
    """Configs of the same files and steps in the same order, a tenth as long."""
    (folder / "configs" / "tiny").mkdir(parents=True)
    for path in (ROOT / "configs").glob("*.yaml"):
        (folder / "configs" / path.name).write_text(path.read_text())
    for path in (ROOT / "configs" / "tiny").glob("*.yaml"):
        text = path.read_text().replace("--count 1000", "--count 200").replace("--count 60", "--count 12")
        text = re.sub(r"max_steps: \d+", "max_steps: 120", text)
        text = re.sub(r"(val_check_interval|every_n_train_steps): \d+", r"\1: 60", text)
        (folder / "configs" / "tiny" / path.name).write_text(text.partition("claims:")[0])


def heeding_ctrl_c() -> None:
    """As in a terminal, whatever runs these tests: what is started in the background ignores it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def start(folder: Path) -> "subprocess.Popen[str]":
    """The command in a process group of its own, as a shell starts it in the foreground."""
    return subprocess.Popen(
        SCRIPT,
        **{"cwd": folder, "text": True, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE},
        env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        start_new_session=True,
        preexec_fn=heeding_ctrl_c,
    )


def alive(group: int) -> list[str]:
    """The commands of a process group that still run."""
    listed = subprocess.run(["ps", "-eo", "pgid=,stat=,args="], capture_output=True, text=True, check=True)
    rows = [line.split(None, 2) for line in listed.stdout.splitlines()]
    return [args for pgid, stat, args in rows if pgid == str(group) and not stat.startswith("Z")]


def reported(folder: Path) -> Any:
    """What the report says of every model on every benchmark, but for the times."""
    found = json.loads((folder / "runs/tiny/demo/results.json").read_text())["benchmarks"]
    return {name: {k: v for k, v in said.items() if k != "seconds"} for name, said in found.items()}


@pytest.mark.long
@pytest.mark.timeout(3000)
def test_the_main_job_interrupted_at_random_moments_says_the_same(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        shorten(folder)
    began = time.monotonic()
    process = start(whole)
    output, errors = process.communicate()
    assert process.returncode == 0, output + errors
    length = time.monotonic() - began

    moments = np.random.default_rng().uniform(0.02, 0.5, 9) * length
    print("interrupted after seconds", moments.round(2))  # shown when the test fails
    interrupted = []
    for number, moment in enumerate(moments):
        process, sent = start(parts), SIGNALS[number % 3]
        try:
            output, errors = process.communicate(timeout=float(moment))
        except subprocess.TimeoutExpired:
            if sent == signal.SIGINT:
                os.killpg(process.pid, sent)  # as a terminal does
            else:
                process.send_signal(sent)
            output, errors = process.communicate(timeout=60)
            interrupted.append(sent)
            assert process.returncode in (-sent, 128 + sent), (
                f"{process.returncode} after {sent.name}:\n{output}\n{errors}"
            )
            assert "Traceback" not in errors, errors
        else:
            assert process.returncode == 0, output + errors
        deadline = time.monotonic() + 20
        while (left := alive(process.pid)) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert not left, (sent.name, left)
    assert len(interrupted) >= 4
    process = start(parts)
    output, errors = process.communicate()
    assert process.returncode == 0, output + errors
    assert reported(parts) == reported(whole)
