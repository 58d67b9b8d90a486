"""Runs of the command line in processes of their own, forked from a server that is already warm."""

import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from depthkd.runs.folder import read_checkpoint
from depthkd.runs.student import load_student

CONTEXT = multiprocessing.get_context("forkserver")
WARM = ["depthkd.cli", "depthkd.verbs.fit", "depthkd.verbs.test", "depthkd.methods.distill_any_depth"]
WARM += ["torch.utils.tensorboard", "torch.distributed.checkpoint", "accelerate"]  # imported late in a run
WARM += [f"transformers.models.{n}.modeling_{n}" for n in ("depth_anything", "dinov2", "dpt")]
CONTEXT.set_forkserver_preload([*WARM, "tests.processes"])
NOISE = ("LeafSpec", "FLOPs", "TPU available", "litlogger", "FutureWarning", "Loading weights")


class KillAfter(pl.Callback):
    """kill -9 to this very process once so many batches are done: no handler runs, nothing is flushed."""

    def __init__(self, batches: int) -> None:
        self.batches = batches
        self.seen = 0

    def on_train_batch_end(self, *args: Any) -> None:
        self.seen += 1
        if self.seen == self.batches:
            os.kill(os.getpid(), signal.SIGKILL)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def _child(arguments: list[str], folder: str, environment: dict[str, str], log: str) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.environ.update(environment)
    os.chdir(folder)

    from depthkd.cli import main

    torch.set_num_threads(1)
    sys.exit(main(arguments))


def run(
    arguments: list[str],
    folder: Path,
    ranks: int = 1,
    timeout: float = 120.0,
    more: Mapping[str, str] | None = None,
) -> tuple[list[int], str]:
    """`depthkd ARGUMENTS` in `folder`, once a rank, with `more` environment variables; the exit codes (-9:
    killed) and what rank 0 printed."""
    port = str(free_port())
    processes, logs = [], []
    for rank in range(ranks):
        log = folder / f"log-{len(list(folder.glob('log-*')))}.txt"
        log.touch()
        logs.append(log)
        environment = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **(more or {})}
        if ranks > 1:
            environment |= {"LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        process = CONTEXT.Process(target=_child, args=(arguments, str(folder), environment, str(log)))
        process.start()
        processes.append(process)
    for process in processes:
        process.join(timeout)
        if any(p.exitcode == -signal.SIGKILL for p in processes):
            for other in processes:  # a rank whose peer was killed would wait for it
                other.kill()
        if process.exitcode is None:
            process.kill()
            process.join()
            raise TimeoutError(f"depthkd {' '.join(arguments)} hung:\n{logs[0].read_text()[-3000:]}")
    said = logs[0].read_text()
    assert not any(word in said for word in NOISE), said
    return [p.exitcode for p in processes if p.exitcode is not None], said


def assert_resumes(folder: Path, config: str, batches: int, *more: str) -> dict[str, Any]:
    """A run that is killed after so many batches and resumed ends with the weights of one that is not; its
    checkpoint."""
    whole, _ = run(["fit", "--config", config, "--run", "whole", *more], folder)
    kill = ["--trainer.callbacks+", "tests.processes.KillAfter", "--trainer.callbacks.batches", str(batches)]
    killed, _ = run(["fit", "--config", config, "--run", "parts", *more, *kill], folder)
    resumed, output = run(["fit", "--config", config, "--run", "parts", *more, "--ckpt_path", "last"], folder)
    assert (whole, killed, resumed) == ([0], [-9], [0]), output
    one, two = (read_checkpoint(folder / f"{name}/checkpoints/last.ckpt") for name in ("whole", "parts"))
    assert one["state_dict"].keys() == two["state_dict"].keys()
    for key, value in one["state_dict"].items():
        assert torch.equal(value, two["state_dict"][key]), key
    return one


def assert_ranks_train_alike(folder: Path, words: list[str]) -> torch.Tensor:
    """A step on one rank, in the run `one`, and on two, in `two`, move the student alike; by how much."""
    for name, ranks, more in (("one", 1, ["1"]), ("two", 2, ["2", "--trainer.strategy", "ddp"])):
        codes, output = run([*words, "--run", name, "--trainer.devices", *more], folder, ranks)
        assert codes == [0] * ranks, output
    start = load_student(folder / "one", fresh=True).state_dict()
    ends = [read_checkpoint(folder / f"{name}/checkpoints/last.ckpt") for name in ("one", "two")]
    one, two = (
        torch.cat([(end["state_dict"][f"student.{k}"] - v).flatten() for k, v in start.items()])
        for end in ends
    )
    # One step: AdamW makes whole steps of the rounding of gradients near 0, and the next one starts there.
    assert ((one - two).abs() <= 0.05 * one.abs()).float().mean() > 0.99
    return one


def identities() -> list[str]:
    """Of models that are built alike everywhere."""
    from depthkd.models import DepthAnything, Marigold

    torch.manual_seed(0)
    return [Marigold(size="tiny").identity(), DepthAnything(size="tiny").identity()]


def make_scenes(folder: Path, *sets: tuple[str, int, int, str]) -> None:
    """Scenes of 96 x 128 pixels below `runs/scenes`: `<style>_<part>`, seed, how many, in which format."""
    for name, seed, count, form in sets:
        words = ["--style", name.rpartition("_")[0], "--seed", str(seed), "--count", str(count)]
        words += ["--format", form, "--height", "96", "--width", "128", "--workers", "1"]
        codes, output = run(["shards", "scenes", "--out", f"runs/scenes/{name}", *words], folder)
        assert codes == [0], output
