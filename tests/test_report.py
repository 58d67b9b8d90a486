"""`depthkd report`: runs and tests as one page and as Markdown, with what is unfinished said to be so."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from depthkd.evaluation.saved_results import read_results
from depthkd.report.document import Text
from depthkd.runs.named_models import named_model
from depthkd.verbs.report import report, short_names
from depthkd.verbs.report.drawn import models_to_draw, pictures_part
from depthkd.verbs.report.trained import flattened
from tests.models.smallest import run

PROTOCOL = {"name": "marigold"}
DESCRIBED = "marigold: a fit"


def results_in(folder: Path, rows: dict[str, float], whole: bool = True, **others: Any) -> Path:
    """Results as `depthkd test` writes them."""
    folder.mkdir(parents=True)
    metrics = {name: {"abs_rel": value, "delta1": 1 - value, "images": 3.0} for name, value in rows.items()}
    cost = {"parameters": 2_000_000, "machine": "a CPU", "latency": {"eager": {"median": 0.02}}}
    benchmark = {
        "benchmark": "nyuv2",
        "protocol": DESCRIBED,
        "protocol_fields": PROTOCOL,
        "data": "d1",
        "samples": 3,
        "metrics": metrics,
        "trivial": ["ramp"],
        "intervals": {name: {"abs_rel": [v - 0.01, v + 0.01]} for name, v in rows.items() if name != "ramp"},
        "costs": {name: cost for name in rows if name != "ramp"},
        "notes": ["A remark."],
        **others,
    }
    about = {"source": "nowhere", "license": "mit", "space": "metric depth", "weights": "w", "parameters": 9}
    tree = {
        "versions": {"depthkd": "0.2.0"},
        "device": "cpu",
        "models": dict.fromkeys(rows, about),
        "benchmarks": {"nyuv2": benchmark},
        **({"claims": {}} if whole else {}),
    }
    (folder / "results.json").write_text(json.dumps(tree))
    return folder


def tables(text: str) -> list[list[list[str]]]:
    """The tables of Markdown, as cells."""
    found = re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE)
    return [[[c.strip() for c in line.strip("|").split("|")] for line in t.splitlines()] for t in found]


def test_runs_of_other_settings_and_tests_are_one_page(tmp_path: Path) -> None:
    one, two = run(tmp_path / "one", "DepthAnything", size="tiny"), tmp_path / "two"
    two.mkdir()
    settings = yaml.safe_load((tmp_path / "one/config.yaml").read_text()) | {"trainer": {"max_steps": 9}}
    (two / "config.yaml").write_text(yaml.safe_dump(settings))
    (two / "logs").mkdir()
    (two / "logs/metrics.csv").write_text("epoch,step,train/loss\n0,1,2.0\n0,2,1.0\n")
    results = results_in(tmp_path / "test", {"mine": 0.1, "ramp": 0.4}, public="nyuv2")
    page = report([one, str(two), str(results)], out=tmp_path / "out", pictures=1).read_text()
    text = (tmp_path / "out/report.md").read_text()
    assert len(page) < 5_000_000 and "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    for word in (
        "Finished, step 1 of 1",
        "Unfinished: it has no checkpoint yet",
        "AbsRel",
        "0.1000",
        "A remark.",
    ):
        assert word in page and word in text
    assert ["trainer.max_steps", "-", "9"] in [row for table in tables(text) for row in table]
    assert "two (unfinished)" in text and "one (unfinished)" not in text
    assert 'class="stage"' in page and "<canvas" in page and "polyline" in page
    ours = next(t for t in tables(text) if t[0][:2] == ["model", "nyuv2 AbsRel ↓"])
    assert ours[2][:2] == ["mine", "0.1000 (0.0900 to 0.1100)"]
    assert any(row[0].startswith("Distill Any Depth, Table 5") for row in ours), (
        "the papers' rows stand below"
    )


def test_what_differs_in_protocol_or_data_never_shares_a_column(tmp_path: Path) -> None:
    folders = [
        results_in(tmp_path / "a", {"mine": 0.1, "ramp": 0.4}),
        results_in(tmp_path / "b", {"mine": 0.2, "other": 0.3, "ramp": 0.4}),
        results_in(tmp_path / "c", {"mine": 0.5}, protocol="marigold: another range"),
        results_in(tmp_path / "d", {"mine": 0.6}, data="d2", whole=False),
    ]
    report([str(folder) for folder in folders], out=tmp_path / "out", pictures=0)
    text = (tmp_path / "out/report.md").read_text()
    metrics = [table for table in tables(text) if table[0][:2] == ["model", "AbsRel ↓"]]
    assert [[row[0] for row in table[2:]] for table in metrics] == [
        ["mine (a)", "mine (b)", "other", "ramp"], ["mine"], ["mine"],
    ]  # fmt: skip
    assert metrics[0][2][1] == "**0.1000** (0.0900 to 0.1100)" and metrics[0][3][1].startswith("0.2000")
    assert "parameters (M)" in metrics[0][0] and "latency (ms)" in metrics[0][0]
    assert "d: the test is unfinished" in text
    page = (tmp_path / "out/report.html").read_text()
    assert page.count("against latency") == 2 and "<canvas" not in page  # a plot, and its title for readers


def test_mistakes_are_one_sentence(command_line: Any) -> None:
    Path("empty").mkdir()
    results_in(Path("test"), {"mine": 0.1})
    results_in(Path("torn"), {"mine": 0.1})
    Path("torn/results.json").write_text(Path("torn/results.json").read_text()[:300])
    results_in(Path("old"), {"mine": 0.1})
    Path("old/results.json").write_text('{"benchmarks": {"a": {}}, "models": {}}')
    for words, sentence in {
        ("empty",): "empty is neither a run folder, for it has no config.yaml, nor a test's results",
        ("nowhere",): "there is no nowhere; it would be a run folder or a test's results",
        ("torn",): "torn/results.json is not what `depthkd test` writes: ",
        ("old",): "old/results.json is not what `depthkd test` writes: it lacks 'metrics'",
        ("test", "./test"): "test is given 2 times",
        ("test", "--out", "test"): "test holds a test's results, whose own report.html would be lost",
        ("test", "--pictures", "-1"): "pictures would be 0 or more, not -1",
        ("test", "--teacher", "no/such/thing"): "there is no no/such/thing; a model would be",
        ("test", "--images", "none.jpg"): "none.jpg",
    }.items():
        status, _, said = command_line("report", *words)
        assert status == 2 and sentence in said and said.count("\n") == 1, said


def test_pictures_of_a_model_that_is_another_than_the_tested_one(tmp_path: Path) -> None:
    word = run(tmp_path / "one", "DepthAnything", size="tiny")
    network = named_model(word).load()
    facts = {"source": word, "space": str(network.space), "weights": network.identity()}
    notes = {}
    for name, other in (("same", {}), ("changed", {"weights": "0"}), ("flipped", {"space": "metric depth"})):
        folder = results_in(tmp_path / name, {"mine": 0.1})
        tree = json.loads((folder / "results.json").read_text())
        tree["models"]["mine"] |= facts | other
        (folder / "results.json").write_text(json.dumps(tree))
        tested = [(name, read_results(folder))]
        part, _ = pictures_part(models_to_draw([], tested, None), [], torch.device("cpu"), 0)
        notes[name] = " ".join(block.text for block in part.blocks if isinstance(block, Text))
    assert "mine" not in notes["same"]
    assert f"Pictures by mine: {word} has changed since the test" in notes["changed"]
    assert notes["flipped"].startswith("No pictures by mine: it was tested as metric depth, and ")


def test_a_model_that_a_test_names_from_another_folder_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there/runs").mkdir(parents=True)
    (tmp_path / "there/runs/mine.onnx").touch()
    folder = results_in(tmp_path / "there/runs/test", {"mine": 0.1})
    tree = json.loads((folder / "results.json").read_text())
    tree["models"]["mine"]["source"] = "runs/mine.onnx"
    (folder / "results.json").write_text(json.dumps(tree))
    monkeypatch.chdir(tmp_path)
    (drawn,) = models_to_draw([], [("test", read_results(Path("there/runs/test")))], None)
    assert drawn.word == str(tmp_path / "there/runs/mine.onnx")


def test_names_and_settings() -> None:
    paths = [Path(p) for p in ("/a/x/run", "/a/y/run", "/a/z")]
    assert short_names(paths) == ["x/run", "y/run", "z"]
    assert flattened({"a": {"b": [1, 2], "c": None, "d": {}}, "e": [{"f": "g"}]}) == {
        "a.b": "[1, 2]", "a.c": "null", "a.d": "{}", "e.0.f": "g",
    }  # fmt: skip
