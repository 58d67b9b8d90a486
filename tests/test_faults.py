"""Whose mistake an error is: users get a sentence, faults of depthkd keep their traceback and say so."""

import errno
import os
import resource
import signal
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException

from depthkd import models
from depthkd.benchmarks.motorcycle import Motorcycle
from depthkd.errors import UserError, mistake_or_fault, sentence
from depthkd.methods.depth_anything_v2 import SupervisedDepth
from depthkd.models.dpt import depth_anything
from depthkd.runs.saving import SafeCheckpointIO
from tests.conftest import CommandLine
from tests.runs.conftest import small

MODEL = ["--models.m.class_path", "depthkd.models.DepthAnything", "--models.m.size", "tiny"]
TEST = ["test", *MODEL, "--benchmarks.b", "depthkd.benchmarks.Motorcycle", "--photographs", "false"]


def not_a_number(*_: Any, **__: Any) -> Any:
    """A ValueError of Python's own, below a line of ours."""
    return int("x")


def unequal(*_: Any, **__: Any) -> Any:
    return list(zip([1], [1, 2], strict=True))


def gone(*_: Any, **__: Any) -> Any:
    return Path("/nowhere/at/all").read_bytes()


@pytest.mark.parametrize(
    ("place", "name", "fault", "message"),
    [
        (depth_anything, "depth_anything_config", not_a_number, "invalid literal"),  # in a parser's union
        (Motorcycle, "sample", unequal, "argument 2 is longer"),
        (SupervisedDepth, "losses", gone, "No such file or directory"),  # in the training loop
    ],
)
def test_a_fault_of_ours_keeps_its_traceback(
    place: Any, name: str, fault: Any, message: str, scene_shards: Path, command_line: CommandLine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    Path("small.yaml").write_text(yaml.safe_dump(small(scene_shards)))
    monkeypatch.setattr(place, name, fault)
    words = ["fit", "--config", "small.yaml"] if place is SupervisedDepth else TEST
    with pytest.raises((ValueError, OSError), match=message) as caught:
        command_line(*words, "--run" if words[0] == "fit" else "--out", "x")
    assert not isinstance(caught.value, UserError)
    ours = f"This is a fault of depthkd {version('depthkd')}, not yours: please report it."
    assert caught.value.__notes__ == [ours]
    assert Path(__file__) in [entry.path for entry in caught.traceback[-3:]]


def test_a_mistake_inside_a_constructor_is_the_users(command_line: CommandLine) -> None:
    for words, expected in (
        (["--models.m.size", "huge"], "models: size: it would be one of 'tiny'"),
        (["--models.m.version", "3"], "Depth Anything has no version 3; it would be 1 or 2"),
        (["--models.m.class_path", "depthkd.models.Nothing"], "depthkd.models has no 'Nothing'; it has"),
    ):
        status, _, err = command_line(*TEST, *words)
        assert status == 2 and err.startswith("depthkd test: ") and expected in err, err
        assert len(err.splitlines()) == 1


def test_errors_are_followed_to_what_was_raised() -> None:
    fault, mistake = KeyError("k"), UserError("the sentence")
    outer = RuntimeError("outer")
    outer.__cause__ = mistake
    assert mistake_or_fault(outer) is mistake
    assert mistake_or_fault(fault) is None  # nobody of ours has raised it
    with pytest.raises(UserError) as caught:
        _ = models.Nothing
    assert isinstance(caught.value, AttributeError) and mistake_or_fault(caught.value) is caught.value
    worker = (
        "Caught UserError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n  x\n"
    )
    assert sentence(UserError(worker + "depthkd.errors.UserError: a: b is c")) == "a: b is c"


def test_a_full_disk_and_a_locked_file_are_no_faults_of_ours() -> None:
    for number, said in (
        (errno.ENOSPC, "x/y cannot be written: No space left on device"),
        (errno.EROFS, "x/y cannot be written: Read-only file system"),
        (errno.EACCES, "x/y cannot be opened: Permission denied"),
        (errno.ENAMETOOLONG, "x/y cannot be opened: File name too long"),
    ):
        found = mistake_or_fault(OSError(number, os.strerror(number), "x/y"))
        assert isinstance(found, UserError) and str(found) == said
    assert mistake_or_fault(OSError(errno.EBADF, "no")) is None
    found = mistake_or_fault(MisconfigurationException("`mode` can be min, max,\n got foo"))
    assert isinstance(found, UserError) and str(found) == "trainer: `mode` can be min, max, got foo"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "the memory of this machine is full: smaller batches or images need less"),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ..."),
            "the memory of the GPU is full (tried to allocate 2.00 GiB): smaller",
        ),
    ],
)
def test_too_little_memory_is_no_fault_of_ours(error: Exception, said: str) -> None:
    found = mistake_or_fault(error)
    assert isinstance(found, UserError) and str(found).startswith(said)
    assert found.__cause__ is error


def test_torch_has_no_class_for_a_full_memory_on_the_cpu() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    found = mistake_or_fault(caught.value)
    assert isinstance(found, UserError) and "of this machine is full" in str(found)
    assert mistake_or_fault(RuntimeError("another one")) is None


def test_a_checkpoint_on_a_full_disk_is_a_sentence_and_the_last_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch hides why it could not write."""
    path = tmp_path / "last.ckpt"
    SafeCheckpointIO().save_checkpoint({"x": torch.ones(3)}, path)
    before = path.read_bytes()
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))  # as a disk with 2 kB left
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with pytest.raises(UserError, match=r"last\.ckpt cannot be written: File too large"):
            SafeCheckpointIO().save_checkpoint({"x": torch.ones(5000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("verb", ["export", "label", "predict", "replicate", "pairs", "pointnet"])
def test_a_verb_alone_names_what_it_needs(verb: str, command_line: CommandLine) -> None:
    status, _, err = command_line(verb)
    assert status == 2 and f"depthkd {verb}: the following arguments are required: " in err
