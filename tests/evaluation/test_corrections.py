"""A corrected setting in the same folder of results is measured anew, and nothing else is."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import CommandLine
from tests.models.graphs import mixer
from tests.models.smallest import run

WORDS = ["--photographs", "false", "--pictures", "0", "--workers", "0", "--keep_predictions", "true"]
Change = tuple[str, str, str]


def fiffdepth() -> dict[str, Any]:
    return {"class_path": "depthkd.runs.TrainedDepth", "path": run(Path("run"), "FiffDepth", size="tiny")}


def graph() -> dict[str, Any]:
    return {"class_path": "depthkd.models.OnnxDepth", "path": mixer(Path("g.onnx")), "threads": 1}


@pytest.mark.parametrize(
    ("model", "option", "first", "corrected"),
    [
        (graph, "space", "affine disparity", "affine depth"),
        (fiffdepth, "settings", "{step: 0}", "{step: -1}"),
    ],
)
def test_a_corrected_setting_is_measured_anew(
    model: Any, option: str, first: str, corrected: str, scene_shards: Path, command_line: CommandLine
) -> None:
    words = [word for key, value in model().items() for word in (f"--models.m.{key}", value)]
    shards = {"class_path": "depthkd.benchmarks.ShardBenchmark", "init_args": {"limit": 3}}
    shards["init_args"] |= {"urls": str(scene_shards / "studio_test")}  # type: ignore[operator]

    def test(value: str, out: str) -> tuple[dict[str, float], str]:
        options = [*words, f"--models.m.{option}", value, "--benchmarks.b", json.dumps(shards), *WORDS]
        status, printed, err = command_line("test", *options, "--out", out)
        assert status == 0, err
        metrics: dict[str, float] = json.loads(Path(out, "results.json").read_text())["benchmarks"]["b"]
        return metrics["metrics"]["m"], printed  # type: ignore[index, return-value]

    def kept() -> str:
        return Path("out/predictions/b/m/identity.json").read_text()

    wrong, _ = test(first, "out")
    answers = kept()
    right, printed = test(corrected, "out")
    assert "measured before" not in printed.splitlines()[0]
    assert right != wrong and kept() != answers
    again, printed = test(corrected, "out")
    assert (again, "m on b: " in printed, "3 of them measured before" in printed) == (right, True, True)
