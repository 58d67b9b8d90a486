"""`depthkd test` through its command line, with a run folder whose student is a stand-in."""

import base64
import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from jaxtyping import Float
from torch import Tensor, nn

from depthkd import cli
from depthkd.batch import AFFINE_DEPTH, AFFINE_DISPARITY, METRIC_DEPTH
from depthkd.benchmarks import Benchmark, Motorcycle, Protocol, ShardBenchmark
from depthkd.errors import UserError
from depthkd.evaluation import evaluate, rows
from depthkd.models.model import DepthModel, DepthOutput
from depthkd.runs import named_models
from depthkd.runs.named_models import as_options
from depthkd.verbs.test import expand
from tests.benchmarks.test_labelled_shards import labelled, write_shard


class Knower(DepthModel):
    """Says a power of the row, in the space that it is told."""

    def __init__(self, space: str = "affine disparity", power: float = 1.0) -> None:
        super().__init__()
        self.space = {str(s): s for s in (AFFINE_DEPTH, AFFINE_DISPARITY, METRIC_DEPTH)}[space]
        self.power = power
        self.source, self.license = f"knower of {power}", "MIT"

    def forward(self, image: Float[Tensor, "batch 3 height width"]) -> DepthOutput:
        rows = torch.linspace(0.1, 1, image.shape[-2])[None, :, None]
        return DepthOutput(rows.expand(len(image), -1, image.shape[-1]).pow(self.power).contiguous())

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        return iter(())


KNOWER = f"{__name__}.Knower"


@pytest.fixture(autouse=True)
def few_images_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("depthkd.evaluation.certainty.FEWEST", 5)


@pytest.fixture
def shard(tmp_path: Path) -> str:
    return str(write_shard(tmp_path / "floor.tar", [labelled(f"s{i}", i) for i in range(5)]))


@pytest.fixture
def run(tmp_path: Path, shard: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run folder that was validated on the shard; its student has learned power 1, from power 5."""
    folder = tmp_path / "runs" / "foo"
    folder.mkdir(parents=True)
    validation = {"floor": {"class_path": "depthkd.benchmarks.ShardBenchmark", "init_args": {"urls": shard}}}
    (folder / "config.yaml").write_text(yaml.safe_dump({"data": {"validation": validation}}))
    for place in (rows, named_models):
        monkeypatch.setattr(place, "load_student", lambda _, fresh=False: Knower(power=5.0 if fresh else 1.0))
    return folder


def test_a_run_folder_alone_is_tested_on_its_own_validation(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert cli.main(["test", str(run), "--out", str(out), "--pictures", "2"]) == 0
    results = json.loads((out / "results.json").read_text())
    floor = results["benchmarks"]["floor"]
    assert list(floor["metrics"]) == ["foo", "foo, untrained", "best constant per image", "vertical ramp"]
    errors = {name: metrics["abs_rel"] for name, metrics in floor["metrics"].items()}
    assert errors["foo"] < 0.1 < errors["foo, untrained"] < errors["best constant per image"]
    assert errors["foo"] == pytest.approx(errors["vertical ramp"], rel=0.05)  # it is one
    assert floor["protocol"] == str(Protocol.named("marigold", min_depth=1e-3, max_depth=80.0))
    assert floor["samples"] == 5 and floor["unreadable"] == []
    about = results["models"]["foo"]
    assert (about["source"], about["license"], about["space"]) == ("knower of 1.0", "MIT", "affine disparity")
    assert about["weights"] != results["models"]["foo, untrained"]["weights"]
    low, high = floor["intervals"]["foo"]["abs_rel"]
    assert low <= errors["foo"] <= high
    with (out / "per_sample.csv").open() as file:
        rows = list(csv.DictReader(file))
    mine = [float(row["abs_rel"]) for row in rows if row["model"] == "foo"]
    assert len(rows) == 4 * 5
    assert sum(mine) / 5 == pytest.approx(errors["foo"], rel=1e-6)
    said = capsys.readouterr().out
    assert (out / "table.md").read_text() in said
    assert said.count(floor["protocol"]) == 1
    assert said.splitlines()[-2:] == [f"pictures: {out / 'sheet.png'}", f"report: {out / 'report.html'}"]
    assert (out / "sheet.png").stat().st_size > 1000


def test_a_config_names_models_and_benchmarks(shard: str, tmp_path: Path) -> None:
    config = tmp_path / "zero_shot.yaml"
    tree = {
        "models": {"knower": {"class_path": KNOWER, "init_args": {"power": 1.0}}},
        "benchmarks": {
            "floor": {
                "class_path": "depthkd.benchmarks.ShardBenchmark",
                "init_args": {"urls": shard, "protocol": "depth_anything"},
            },
            "motorcycle": {"class_path": "depthkd.benchmarks.Motorcycle"},
        },
        "mean_map": shard,
        "photographs": False,
    }
    config.write_text(yaml.safe_dump(tree))
    out = tmp_path / "out"
    assert cli.main(["test", "--config", str(config), "--out", str(out), "--resolution", "12"]) == 0
    results = json.loads((out / "results.json").read_text())
    for name in ("floor", "motorcycle"):
        benchmark = results["benchmarks"][name]
        assert "run at 12 px" in benchmark["protocol"]
        assert list(benchmark["metrics"])[-1] == "mean training map"
    floor = results["benchmarks"]["floor"]["metrics"]
    assert floor["mean training map"]["abs_rel"] < floor["best constant per image"]["abs_rel"] / 2


def test_models_alone_are_named_by_their_classes(shard: str, tmp_path: Path) -> None:
    words = ["--models.a.class_path", KNOWER, "--models.a.init_args.power", "1.0"]
    words += ["--models.b.class_path", KNOWER, "--models.b.init_args.power", "2.0"]
    words += ["--benchmarks.floor", "depthkd.benchmarks.ShardBenchmark", "--benchmarks.floor.urls", shard]
    assert cli.main(["test", *words, "--photographs", "false", "--out", str(tmp_path / "out")]) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {"a", "b"} < set(results["benchmarks"]["floor"]["metrics"])


def test_a_run_joins_what_a_config_or_an_option_says(run: Path, tmp_path: Path) -> None:
    own = run / "config.yaml"  # what it was validated on is not asked for, and need not be there
    own.write_text(own.read_text().replace("urls: ", "urls: /gone"))
    config = tmp_path / "c.yaml"
    motorcycle = {"motorcycle": {"class_path": "depthkd.benchmarks.Motorcycle"}}
    config.write_text(yaml.safe_dump({"models": {"other": {"class_path": KNOWER}}, "benchmarks": motorcycle}))
    arguments = ["--photographs", "false", "--untrained", "false", "--pictures", "0", "--out"]
    assert cli.main(["test", str(run), "--config", str(config), *arguments, str(tmp_path / "a")]) == 0
    results = json.loads((tmp_path / "a" / "results.json").read_text())
    assert list(results["benchmarks"]) == ["motorcycle"]
    assert {"foo", "other"} < set(results["benchmarks"]["motorcycle"]["metrics"])
    assert not (tmp_path / "a" / "sheet.png").exists()


def test_trivial_rows_are_left_out_where_a_protocol_does_not_suit_them(tmp_path: Path) -> None:
    results = evaluate.evaluate(
        {"metric": Knower("metric depth")}, {"m": Motorcycle("metric")}, out=tmp_path, photographs=False
    )
    benchmark = results["benchmarks"]["m"]
    assert list(benchmark["metrics"]) == ["metric"]
    assert len(benchmark["notes"]) == 2
    assert "No row for vertical ramp: protocol 'metric'" in (tmp_path / "table.md").read_text()


def test_one_table_has_the_same_predictions_under_each_protocol(tmp_path: Path) -> None:
    protocols = ["metric", "median", "log_affine", "marigold"]
    results = evaluate.evaluate(
        {"k": Knower("metric depth", power=0.5)},
        {"m": Motorcycle()},
        out=tmp_path,
        protocol=protocols,
        photographs=False,
    )
    found = [results["benchmarks"][f"m ({name})"]["metrics"]["k"]["abs_rel"] for name in protocols]
    assert found[2] < min(found[0], found[1]) and len(set(found)) == 4
    shown = (tmp_path / "table.md").read_text().split("## m under each protocol")[1]
    assert [f"| k, {name} " in shown for name in protocols] == [True] * 4 and "ramp" not in shown


def test_unreadable_samples_are_counted_and_told(tmp_path: Path) -> None:
    samples = [labelled(f"s{i}", i) for i in range(3)]
    damaged = ShardBenchmark(str(write_shard(tmp_path / "d.tar", samples, broken="s0")))
    results = evaluate.evaluate({"k": Knower()}, {"d": damaged}, out=tmp_path / "o", photographs=False)
    assert results["benchmarks"]["d"]["metrics"]["k"]["images"] == 2
    words = [
        "--benchmarks.d",
        "depthkd.benchmarks.ShardBenchmark",
        "--benchmarks.d.urls",
        str(tmp_path / "d.tar"),
    ]
    words += ["--models.k.class_path", KNOWER, "--out", str(tmp_path / "q"), "--photographs", "false"]
    assert cli.main(["test", *words]) == 1  # what could be measured is there, but something is wrong
    (sentence,) = results["benchmarks"]["d"]["unreadable"]
    assert "'s0'" in sentence
    assert f"1 sample could not be read, the first: {sentence}." in (tmp_path / "o" / "table.md").read_text()
    nothing = ShardBenchmark(str(write_shard(tmp_path / "n.tar", samples[:1], broken="s0")))
    with pytest.raises(ValueError, match="'n': none of its 1 samples can be read"):
        evaluate.evaluate({"k": Knower()}, {"n": nothing}, out=tmp_path / "p")


def test_an_interrupted_test_goes_on_where_it_stopped(shard: str, tmp_path: Path) -> None:
    class Counter(Knower):
        seen = 0

        def forward(self, image: Float[Tensor, "batch 3 height width"]) -> DepthOutput:
            Counter.seen += len(image)
            return super().forward(image)

    def test(out: str, power: float = 1.0, **options: Any) -> dict[str, Any]:
        Counter.seen = 0
        models: dict[str, str | DepthModel] = {"counter": Counter(power=power)}
        options = {"pictures": 1, "photographs": False} | options
        return evaluate.evaluate(models, {"floor": ShardBenchmark(shard)}, out=tmp_path / out, **options)

    whole = test("whole")
    pictures = Counter.seen - 5
    test("cut")
    table = tmp_path / "cut" / "per_sample.csv"
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join([*lines[:4], lines[4][:30]]))  # killed while it wrote the fourth sample
    again = test("cut")
    assert Counter.seen == 2 + pictures
    same = [results["benchmarks"]["floor"]["metrics"]["counter"] for results in (whole, again)]
    assert {k: v for k, v in same[0].items() if k != "seconds"} == {
        k: v for k, v in same[1].items() if k != "seconds"
    }
    assert table.read_text() == (tmp_path / "whole" / "per_sample.csv").read_text()
    test("cut", power=2.0)  # another model under the same name
    assert Counter.seen == 5 + pictures
    test("cut", power=2.0, resolution=12)  # another protocol
    assert Counter.seen == 5 + pictures


def test_other_data_or_settings_are_measured_anew(tmp_path: Path) -> None:
    path = tmp_path / "floor.tar"

    def error(first: int, **settings: Any) -> float:
        write_shard(path, [labelled(f"s{i}", first + i) for i in range(3)])
        benchmarks: dict[str, Benchmark] = {"floor": ShardBenchmark(str(path), **settings)}
        options = {"out": tmp_path / "out", "photographs": False, "pictures": 0}
        results = evaluate.evaluate({"k": Knower(power=2.0)}, benchmarks, **options)  # type: ignore[arg-type]
        return float(results["benchmarks"]["floor"]["metrics"]["k"]["abs_rel"])

    before = error(0)
    assert error(0) == before
    assert error(20) != before  # the same names in the same file, with other content
    assert error(0, limit=2) != before


def test_few_images_decide_nothing(tmp_path: Path) -> None:
    four = ShardBenchmark(str(write_shard(tmp_path / "four.tar", [labelled(f"s{i}", i) for i in range(4)])))
    models: dict[str, str | DepthModel] = {"a": Knower(), "b": Knower(power=3.0)}
    results = evaluate.evaluate(models, {"four": four}, out=tmp_path / "out", photographs=False)
    assert results["benchmarks"]["four"]["intervals"] == {}
    assert "decided" not in (tmp_path / "out" / "table.md").read_text()


def test_the_report_is_one_page_with_every_picture(shard: str, tmp_path: Path) -> None:
    models: dict[str, str | DepthModel] = {"good": Knower(), "<bad>": Knower(power=3.0)}
    evaluate.evaluate(models, {"floor": ShardBenchmark(shard)}, out=tmp_path, pictures=1)
    page = (tmp_path / "report.html").read_text()
    assert "Protocol marigold: least-squares scale and shift" in page
    assert "good minus &lt;bad&gt;, image by image: AbsRel -" in page
    assert "<bad>" not in page
    assert "http" not in page  # nothing is loaded from elsewhere
    for word in ("best", "median", "worst", "good: error", "good: edges", "truth", "a photograph"):
        assert word in page
    images = re.findall('src="data:image/jpeg;base64,([^"]+)"', page)
    assert len(images) == page.count("<img") >= 2 * 8
    for data in images:
        assert cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR) is not None


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere"], "there is no nowhere; a model would be 'embedded', a run folder"),
        (["--models.a", "nowhere"], "one or more benchmarks"),
        (["--benchmarks", "{}", "--models.a", "nowhere"], "one or more benchmarks"),
        (["--benchmarks.m", "depthkd.benchmarks.Motorcycle", "--models.a", "nowhere"], "nowhere"),
        (["--speed", "9"], "--speed"),
    ],
)
def test_mistakes_end_with_a_sentence(
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["test", *arguments]) == 2
    complaint = capsys.readouterr().err
    assert sentence in complaint and complaint.count("\n") == 1


def test_a_model_of_the_wrong_space_is_refused_before_anything_is_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmarks = {"fine": Motorcycle(), "disparity": Motorcycle("depth_anything")}
    with pytest.raises(ValueError, match="model 'd' on benchmark 'disparity': protocol 'depth_anything'"):
        evaluate.evaluate({"d": Knower("affine depth")}, benchmarks, out=tmp_path)
    assert capsys.readouterr().out == ""


def test_checkpoints_are_called_by_run_and_name(tmp_path: Path, run: Path) -> None:
    checkpoint = run / "checkpoints" / "step=5.0.ckpt"
    checkpoint.parent.mkdir()
    checkpoint.touch()
    words = expand([str(checkpoint), "--pictures", "1"])
    assert words[0] == "--models={}"
    assert words[1].startswith('--benchmarks={"floor"')
    assert words[2:] == [f"--models.foo-step-5-0={checkpoint}", "--pictures", "1"]


def test_models_of_one_name_do_not_take_each_others_place(tmp_path: Path, run: Path) -> None:
    for name in ("a/model.onnx", "b/model.onnx", "a/sharp.onnx", "b/sharp.onnx"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    exported = [str(tmp_path / name / "model.onnx") for name in "ab"]
    assert as_options(exported) == [f"--models.a-onnx={exported[0]}", f"--models.b-onnx={exported[1]}"]
    for words in (["a/sharp.onnx", "b/sharp.onnx"], [str(run), str(run)]):
        places = [str(tmp_path / word) for word in words]
        with pytest.raises(UserError, match=r"would both be called .* --models.NAME"):
            as_options(places)
