"""`depthkd cost` through its command line: columns, ratios, files, and what it says of mistakes."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import depthkd.models.onnx as onnx
from depthkd.models import DepthAnything
from tests.conftest import CommandLine
from tests.models.graphs import mixer

TINY = ["--models.tiny.class_path", "depthkd.models.DepthAnything", "--models.tiny.size", "tiny"]
LEVEL = ["--models.level.class_path", "tests.models.smallest.Level"]
QUICK = ["--size", "28", "--repeats", "4", "--memory", "false"]


def cells(out: str) -> dict[str, list[str]]:
    """Row name -> cells, of the first table that has it."""
    found: dict[str, list[str]] = {}
    for line in out.splitlines():
        if line.startswith("| "):
            name, *rest = (cell.strip() for cell in line.strip("|").split("|"))
            found.setdefault(name, rest)
    return found


def test_tables_and_files(tmp_path: Path, command_line: CommandLine) -> None:
    mixer(tmp_path / "mixer.onnx")
    words = ["mixer.onnx", *TINY, *LEVEL, *QUICK, "--compiled", "false", "--out", "o"]
    status, out, err = command_line("cost", *words, "--batch_size", "2", "--threads", "1")
    assert status == 0, err
    rows = cells(out)
    assert rows["model"] == [
        "size", "parameters (M)", "multiply-adds (G)", "eager (ms)", "ONNX Runtime (ms)",
    ]  # fmt: skip
    model = DepthAnything(size="tiny")
    at = "x".join(str(side) for side in model.rounded(28, 28))
    assert rows["tiny"][0].replace(" ", "") == at
    assert rows["tiny"][1] == "0.283"
    assert all(re.fullmatch(r"\S+ \(\S+ to \S+\)", cell) for cell in rows["tiny"][3:])
    assert rows["mixer"][2:4] == ["-", "-"] and rows["level"][0] == "own" and rows["level"][4] == "-"
    assert "mixer: multiply-adds of an ONNX graph are not counted." in out
    assert "mixer: not eager, because it is an ONNX graph." in out
    assert "level: not in ONNX Runtime, because Level brings every image to a size of its own" in out
    assert "2 images in 32-true on " in out and ", 1 thread;" in out and "4 runs after 3" in out
    ratios = out[out.index("| relative to mixer") :]
    assert re.fullmatch(r"[\d.,]+x", cells(ratios)["tiny"][0]) and cells(ratios)["tiny"][1] == "-"

    assert (tmp_path / "o/cost.md").read_text() in out
    kept = json.loads((tmp_path / "o/cost.json").read_text())
    assert kept["settings"] | {"machine": ""} == {
        "size": [28, 28], "device": "cpu", "batch_size": 2, "precision": "32-true", "machine": "",
        "threads": 1, "repeats": 4, "warm_up": 3,
    }  # fmt: skip
    assert kept["models"]["tiny"]["multiply_adds"] > 0
    for name, column in (("tiny", "eager"), ("tiny", "ONNX Runtime"), ("mixer", "ONNX Runtime")):
        time = kept["models"][name]["latency"][column]
        assert 0 < time["low"] <= time["median"] <= time["high"] and time["repeats"] == 4
    assert kept["models"]["mixer"]["latency"]["eager"] is None


def test_what_cannot_be_compiled_or_run_in_half_precision_has_a_sentence(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object, **__: object) -> object:
        def fail(image: object) -> object:
            raise RuntimeError("no compiler is here.\nmore")

        return fail

    monkeypatch.setattr(torch, "compile", failing)
    status, out, err = command_line("cost", *TINY, *QUICK, "--precision", "bf16-mixed")
    assert status == 0, err
    assert "tiny: not compiled, because torch.compile fails with RuntimeError: no compiler is here.\n" in out
    assert "tiny: not in ONNX Runtime, because its graph is in float32, and bf16-mixed is asked for." in out
    assert cells(out)["tiny"][4:] == ["-", "-"] and "(28" not in err
    monkeypatch.setattr(torch, "compile", lambda step, dynamic: step)
    status, out, _ = command_line("cost", *TINY, *QUICK, "--onnx", "false")
    assert status == 0 and "torch.compile finds nothing in it that it could compile" in out


@pytest.mark.long
@pytest.mark.timeout(900)
def test_all_columns() -> None:
    """In a process of its own: annotations that are checked cannot be compiled."""
    code = "from depthkd.cli import console; console()"
    command = [sys.executable, "-c", code, "cost", *TINY, "--size", "28", "--repeats", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=850)
    assert (done.returncode, done.stderr) == (0, "")
    row = cells(done.stdout)["tiny"]
    assert len(row) == 7 and "-" not in row


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--size", "0"], "size would be a side in pixels such as 448, or HEIGHTxWIDTH .*, not '0'"),
        (["--size", "4x4x4"], "size would be .*, not '4x4x4'"),
        (["--size", "99999"], "size would be .* up to 32768, not '99999'"),
        (["--batch_size", "0"], "batch_size must be at least 1, not 0"),
        (["--repeats", "-1"], "repeats must be at least 1, not -1"),
        (["--threads", "0"], "threads must be at least 1, not 0"),
        (["--device", "cuda:77"], "device 'cuda:77' is not there: torch sees"),
        (["--device", "gpu"], "device 'gpu' does not exist; it would be auto, cpu, cuda or cuda:1"),
        (["--precision", "fp16"], "precision.*'32-true'.*'bf16-mixed'.*'16-mixed'"),
        (["--sise", "4"], "sise"),
    ],
)
def test_a_mistake_is_one_sentence(words: list[str], sentence: str, command_line: CommandLine) -> None:
    status, _, err = command_line("cost", *TINY, *words)
    assert status == 2
    assert err.startswith("depthkd cost: ") and err.count("\n") == 1
    assert re.search(sentence, err), err


def test_a_model_that_is_not_there_is_one_sentence(command_line: CommandLine, tmp_path: Path) -> None:
    status, _, err = command_line("cost", "nowhere", *QUICK)
    assert status == 2 and "there is no nowhere; a model would be 'embedded', a run folder" in err
    (tmp_path / "a").mkdir()
    (tmp_path / "f").write_text("x")
    status, out, err = command_line("cost", *TINY, *QUICK, "--out", "f")
    assert status == 2 and err == "depthkd cost: out f is a file; it would be a folder\n"
    status, out, err = command_line("cost", *TINY, "--models.other", "nowhere", *QUICK)
    assert status == 2 and "there is no nowhere" in err and "tiny" not in out
    status, _, err = command_line("cost", "a", *QUICK)
    assert status == 2 and "a is not a run folder" in err and err.count("\n") == 1
    status, _, err = command_line("cost", *TINY, *QUICK, "--out", "a", "--compiled", "maybe")
    assert status == 2 and err.count("\n") == 1


def test_a_graph_is_opened_with_the_threads_that_are_asked_for(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mixer(tmp_path / "mixer.onnx")
    threads: list[int] = []
    opened = onnx.InferenceSession

    def session(path: str, options: Any, **more: Any) -> object:
        threads.append(options.intra_op_num_threads)
        return opened(path, options, **more)

    monkeypatch.setattr(onnx, "InferenceSession", session)
    words = ["--models.m.class_path", "depthkd.models.OnnxDepth", "--models.m.path", "mixer.onnx"]
    status, _, err = command_line("cost", *words, *QUICK, "--compiled", "false", "--threads", "2")
    assert status == 0, err
    assert threads[0] == 1 and threads[-1] == 2
