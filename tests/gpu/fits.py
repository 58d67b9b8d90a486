"""`depthkd fit` of each method's tiny twin, on the device beside the CPU."""

import contextlib
import importlib.util
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from depthkd.cli import main
from depthkd.runs.folder import read_checkpoint
from depthkd.verbs.shards.scenes import scenes
from tests.gpu.parts import Place
from tests.gpu.report import Row, compared

ROOT = Path(__file__).parent.parent.parent
STEPS = 20
TWINS = {  # method -> config, its teachers' configs come before it
    "SupervisedDepth": "teacher",
    "MetricFineTune": "sharpdepth/metric_teacher",
    "LatentDiffusion": "sharpdepth/diffusion_teacher",
    "CrossContextDistill": "cross_context",
    "AssistantGuided": "assistant",
    "FiffDepthFeedForward": "fiff",
    "SharpDepthRefiner": "sharpdepth",
}
TEACHERS = ("teacher", "assistant_teacher", "sharpdepth/metric_teacher", "sharpdepth/diffusion_teacher")
SCENES = (  # name, seed, format, as the twins' `needs` have them
    ("studio_train", 1, "labelled"),
    ("studio_test", 2, "labelled"),
    ("film_train", 3, "sa1b"),
    ("film_test", 4, "labelled"),
    ("film_fog_train", 3, "labelled"),
    ("film_fog_test", 4, "labelled"),
    ("studio_fog_train", 1, "labelled"),
    ("film_fog_photos", 6, "sa1b"),
)
FLOAT32, HALF = (1e-4, 0.02), (0.02, 0.05)  # of the first step's loss, and of the last one's


def depthkd(*words: str) -> str:
    """`depthkd WORDS` in this process; what it printed.

    Raises:
        RuntimeError: it did not end well.
    """
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        status = main(list(words))
    if status not in (0, 128 + signal.SIGTERM):
        raise RuntimeError(f"depthkd {' '.join(words[:3])} ended with {status}: {printed.getvalue()[-300:]}")
    return printed.getvalue()


def stand_ins(place: Place) -> None:
    """Go to a folder with what the twins need: a few scenes, and teachers of a few steps."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    (place.folder / "runs/scenes").mkdir(parents=True, exist_ok=True)
    os.chdir(place.folder)
    if not Path("configs").exists():
        Path("configs").symlink_to(ROOT / "configs")
    with contextlib.redirect_stdout(io.StringIO()):
        for name, seed, form in SCENES:
            style = name.rpartition("_")[0]
            place_of = f"runs/scenes/{name}"
            scenes(place_of, style=style, seed=seed, count=12, format=form, height=96, width=128, workers=1)
    for config in TEACHERS:
        if not Path(f"runs/tiny/{config}/checkpoints/last.ckpt").exists():
            fit(config, "cpu", "32-true", f"runs/tiny/{config}")


def fit(config: str, accelerator: str, precision: str, run: str, *more: str) -> str:
    """A twin's first steps; what it printed."""
    return depthkd(*fit_words(config, accelerator, precision, run), *more)


def fit_words(config: str, accelerator: str, precision: str, run: str) -> list[str]:
    """The command line of a twin's first steps."""
    words = ["fit", "--config", f"configs/tiny/{config}.yaml", "--run", run]
    words += ["--trainer.accelerator", accelerator, "--trainer.precision", precision]
    words += ["--trainer.max_steps", str(STEPS), "--trainer.limit_val_batches", "0"]
    return [*words, "--trainer.log_every_n_steps", "1", "--trainer.enable_progress_bar", "false"]


def losses(run: str) -> list[float]:
    """Of each step, from the run's log."""
    log = EventAccumulator(f"{run}/logs")
    log.Reload()
    return [event.value for event in log.Scalars("train/loss")]


def twin(place: Place, method: str) -> list[Row]:
    """A method's losses on the device, in float32 and in the precision that `auto` chooses."""
    stand_ins(place)
    config = TWINS[method]
    accelerator = "cpu" if place.tiny else "cuda"
    fit(config, "cpu", "32-true", f"runs/{config}-cpu")
    wanted = losses(f"runs/{config}-cpu")
    rows = []
    for precision in ("32-true", "bf16-mixed") if place.tiny else ("32-true", "auto", "16-mixed"):
        run = f"runs/{config}-{accelerator}-{precision}"
        said = fit(config, accelerator, precision, run)
        found, (first, last) = losses(run), FLOAT32 if precision == "32-true" else HALF
        rows.append(compared(f"{precision}, loss of step 1", found[0], wanted[0], first))
        rows.append(compared(f"{precision}, loss of step {STEPS}", found[-1], wanted[-1], last))
        if precision == "auto":
            lines = [line.strip() for line in said.splitlines()]
            rows += [Row("preflight", line) for line in lines if line.startswith(("rank 0", "precision "))]
    return rows


def resume(place: Place) -> list[Row]:
    """A run that is gone on with equals one that is not, bit by bit, where kernels are deterministic."""
    stand_ins(place)
    accelerator = "cpu" if place.tiny else "cuda"
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    more = ["--trainer.deterministic", "warn", "--checkpoint.every_n_train_steps", "100"]
    leave = ["--trainer.callbacks+", "tests.cluster.callbacks.Signal", "--trainer.callbacks.name", "SIGTERM"]
    leave += ["--trainer.callbacks.batches", "9"]
    try:
        said = fit("teacher", accelerator, "32-true", "runs/whole", *more)
        fit("teacher", accelerator, "32-true", "runs/parts", *more, *leave)
        fit("teacher", accelerator, "32-true", "runs/parts", *more, "--ckpt_path", "last")
    finally:
        torch.use_deterministic_algorithms(False)
    whole, parts = (
        read_checkpoint(Path(f"runs/{name}/checkpoints/last.ckpt"))["state_dict"]
        for name in ("whole", "parts")
    )
    differing = [key for key, value in whole.items() if not torch.equal(value, parts[key])]
    kernels = sorted(set(re.findall(r"(\S+) does not have a deterministic implementation", said)))
    metric = f"{len(differing)} of {len(whole)} tensors differ"
    rows = [
        Row(f"resumed at step 9 of {STEPS}", metric, "none, or see below", not differing or bool(kernels))
    ]
    return [*rows, Row("kernels that are not deterministic", ", ".join(kernels) or "none")]


def launched(words: list[str], **environment: str) -> "subprocess.Popen[str]":
    """`depthkd WORDS` in a process of its own."""
    code = "from depthkd.cli import console; console()"
    paths = os.pathsep.join([str(ROOT), *sys.path])
    return subprocess.Popen(
        [sys.executable, "-c", code, *words],
        env={**os.environ, "PYTHONPATH": paths, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(processes: "list[subprocess.Popen[str]]", seconds: float) -> None:
    """Wait for processes.

    Raises:
        RuntimeError: one did not end well.
    """
    try:
        said = [process.communicate(timeout=seconds)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    if any(process.returncode for process in processes):
        raise RuntimeError(f"status {[process.returncode for process in processes]}: {said[0][-300:]}")


def watched(place: Place) -> list[Row]:
    """How long a run takes to its first step, and what its steps make the host do."""
    stand_ins(place)
    words = fit_words("cross_context", "cpu" if place.tiny else "cuda", "32-true", "runs/watched")
    start = time.time()
    watch = ["--trainer.callbacks+", "tests.gpu.callbacks.Watch", "--data.workers", "2"]
    ended([launched([*words, *watch])], 60)
    found = json.loads(Path("watched.json").read_text())
    rows = [Row("from the command to the first step", f"{found['first_step'] - start:.1f} s")]
    if place.tiny:
        return [*rows, Row("page-locked copies; waits in a step", "not seen: there is no GPU here")]
    rows.append(Row("batches in page-locked memory", str(found["pinned"]), "True", found["pinned"]))
    ours = [[line for line in step if "/depthkd/" in line] for step in found["waits"]]
    where = sorted({line.rpartition("/depthkd/")[2] for step in ours for line in step})
    metric = f"{max(map(len, ours))} of depthkd's own ({', '.join(where)})"
    metric += f", {max(map(len, found['waits']))} in all"
    return [*rows, Row("waits for the GPU in a step", metric, "none of depthkd's own", not where)]


def onnx_teacher(place: Place) -> list[Row]:
    """A teacher in onnxruntime beside a student on the device."""
    if importlib.util.find_spec("onnx") is None:
        return [Row("loss of step 1", "not checked: the package onnx, which writes the graph, is not here")]
    from tests.models.graphs import mixer

    stand_ins(place)
    arguments = {"path": mixer(Path("mixer.onnx")), "space": "affine disparity"}
    teacher = json.dumps({"class_path": "depthkd.models.OnnxDepth", "init_args": arguments})
    more = ["--model.init_args.teacher", teacher, "--model.init_args.weights.features", "0"]
    found = []
    for accelerator in ("cpu", "cpu" if place.tiny else "cuda"):
        fit("cross_context", accelerator, "32-true", f"runs/onnx-{accelerator}", *more)
        found.append(losses(f"runs/onnx-{accelerator}"))
    return [compared("loss of step 1", found[1][0], found[0][0], FLOAT32[0])]


def two_ranks(place: Place) -> list[Row]:
    """Two processes on one device, which NCCL refuses and gloo does not, end where one process ends."""
    stand_ins(place)
    accelerator = "cpu" if place.tiny else "cuda"
    one_step = ["--trainer.max_steps", "1"]
    fit("teacher", accelerator, "32-true", "runs/one", *one_step)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = str(s.getsockname()[1])
    strategy = {"class_path": "lightning.pytorch.strategies.DDPStrategy"}
    more = ["--trainer.strategy", json.dumps(strategy | {"init_args": {"process_group_backend": "gloo"}})]
    more += ["--trainer.num_nodes", "2", "--trainer.devices", "1", *one_step]
    words = [*fit_words("teacher", accelerator, "32-true", "runs/two"), *more]
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    ended([launched(words, NODE_RANK=str(rank), **meeting) for rank in range(2)], 90)
    one, two = (
        read_checkpoint(Path(f"runs/{name}/checkpoints/last.ckpt"))["state_dict"] for name in ("one", "two")
    )
    near = [torch.isclose(two[k], v, rtol=0.05, atol=1e-6).float().mean().item() for k, v in one.items()]
    share = sum(near) / len(near)
    return [Row("weights after one step, as of one process", f"{share:.2%}", "at least 99%", share > 0.99)]
