"""The lightweight student as users type it: labels, distillation, and graphs that predict what it does."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from depthkd.runs.folder import read_checkpoint
from depthkd.runs.named_models import named_model
from depthkd.runs.student import load_student
from depthkd.verbs.configs import load_config
from tests.conftest import CommandLine
from tests.processes import assert_resumes, make_scenes, run

ROOT = Path(__file__).parent.parent
CONFIG = "configs/tiny/lightweight.yaml"
QUIET = ["--trainer.enable_progress_bar", "false"]


def shrunk(steps: int) -> dict[str, Any]:
    """The tiny twin on images of a few pixels, taught by an untrained network."""
    tree = load_config(ROOT / CONFIG)
    model, data = tree["model"]["init_args"], tree["data"]
    model["student"]["init_args"]["width"] = 4
    model["teacher"] = {"class_path": "depthkd.models.DepthAnything", "init_args": {"size": "tiny"}}
    crop = {"class_path": "depthkd.data.ResizeCrop", "init_args": {"size": 32}}
    data["train"] = {"real": {"urls": "runs/scenes/film_train", "transform": crop}}
    data |= {"batch_size": 4, "validation": None}
    tree["trainer"] |= {"max_steps": steps, "enable_progress_bar": False}
    tree.pop("needs", None)
    return tree | {"checkpoint": {"every_n_train_steps": 2}}


def test_three_steps_move_all_of_it(
    home: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    (home / "config.yaml").write_text(yaml.safe_dump(shrunk(3)))
    status, _, errors = command_line("fit", "--config", "config.yaml", "--run", "runs/x")
    assert status == 0, errors
    start, end = load_student(home / "runs/x", fresh=True), load_student(home / "runs/x", averaged=False)
    kept = read_checkpoint(home / "runs/x/checkpoints/last.ckpt")["state_dict"]
    assert {name.removeprefix("student.") for name in kept if name.startswith("student.")} == set(
        end.state_dict()
    )
    moved = [n for n, t in end.state_dict().items() if not torch.equal(t, start.state_dict()[n])]
    assert len(moved) > 0.95 * len(kept) / 2, "and the statistics with it"


@pytest.mark.long
def test_a_killed_run_resumes_bit_by_bit(home: Path) -> None:
    """Batch normalization's statistics, and blocks that are dropped at random, among it."""
    (home / "config.yaml").write_text(yaml.safe_dump(shrunk(6)))
    assert_resumes(home, "config.yaml", 5)


def test_the_small_student_has_its_size() -> None:
    from depthkd.models import LightweightDepth

    student = load_config(ROOT / "configs/lightweight/small_student.yaml")["model"]["init_args"]["student"]
    assert student["init_args"].pop("pretrained") is True
    model = LightweightDepth(**student["init_args"])
    parameters = sum(p.numel() for p in model.parameters())
    assert round(parameters / 1e6, 2) == 6.06, "as its config says, under 6.5 M"


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_labels_teach_it_and_its_graphs_predict_what_it_does(tmp_path: Path) -> None:
    """label, distil, export to ONNX of any size and of one: the whole chain, shortened."""
    make_scenes(tmp_path, ("film_train", 3, 200, "sa1b"), ("film_test", 4, 12, "labelled"))
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    words = [
        "label",
        "--images",
        "runs/scenes/film_train",
        "--out",
        "runs/labels/film_train",
        "--model",
        "embedded",
    ]
    codes, output = run(words, tmp_path, timeout=900)
    assert codes == [0], output
    place = "--data.train.real.transform.init_args.size"
    words = ["fit", "--config", CONFIG, place, "64", "--trainer.max_steps", "300", *QUIET]
    words += ["--trainer.val_check_interval", "300", "--checkpoint.every_n_train_steps", "300"]
    codes, output = run(words, tmp_path, timeout=900)
    assert codes == [0], output
    words = ["test", "runs/tiny/lightweight", "--benchmarks.film", "depthkd.benchmarks.ShardBenchmark"]
    words += ["--benchmarks.film.urls", "runs/scenes/film_test", "--benchmarks.film.protocol", "marigold"]
    words += ["--benchmarks.film.max_depth", "40", "--photographs", "false", "--out", "runs/test"]
    codes, output = run(words, tmp_path, timeout=900)
    assert codes == [0], output
    rows = json.loads((tmp_path / "runs/test/results.json").read_text())["benchmarks"]["film"]["metrics"]
    errors = {row: values["abs_rel"] for row, values in rows.items()}
    student = errors.pop("lightweight")
    assert student < 0.9 * errors["best constant per image"], errors
    model = load_student(tmp_path / "runs/tiny/lightweight")
    for out, size, pictures in (("any", "dynamic", [(64, 96), (96, 160)]), ("one", "96x128", [(96, 128)])):
        words = ["export", "runs/tiny/lightweight", "--out", out, "--format", "onnx", "--size", size]
        codes, output = run(words, tmp_path, timeout=900)
        assert codes == [0], output
        graph = named_model(str(tmp_path / out / "model.onnx")).load()
        for height, width in pictures:
            image = torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(0))
            image = torch.nn.functional.interpolate(image, (height, width), mode="bilinear")
            expected = model.predict(image, "native")
            within = 1e-4 * float(expected.max() - expected.min())
            torch.testing.assert_close(graph.predict(image, "native"), expected, rtol=0, atol=within)
