"""Label-free distillation as users type it, on scenes of a few pixels: resuming, ranks, mistakes."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from depthkd.methods.lightweight import SUPERVISED, LabelFreeWeights
from depthkd.verbs.configs import load_config
from depthkd.verbs.replicate import Replication
from tests.conftest import CommandLine
from tests.processes import assert_ranks_train_alike, assert_resumes, make_scenes, run

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "configs/ablations/lightweight"
ABLATIONS = sorted(path.stem for path in FOLDER.glob("*.yaml"))
KIND = "channel_wise_geometric_labelled"  # which has most terms
TERMS = asdict(LabelFreeWeights())
UNTRAINED = {"class_path": "depthkd.models.DepthAnything", "init_args": {"size": "tiny"}}
CROP = {"class_path": "depthkd.data.ResizeCrop", "init_args": {"size": 32}}
FILM = {"urls": "runs/scenes/film_train", "transform": CROP}
STUDIO = {"urls": "runs/scenes/studio_train", "labelled": True, "transform": CROP}


def tree(steps: int = 3, sources: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    """A small run; `options` of the method."""
    model = {
        "student": UNTRAINED,
        "teacher": {"class_path": "depthkd.models.Embedded"},
        "pointnet": {"class_path": "depthkd.models.PointNet"},
        "geometry": {"points": 200},
        **options,
    }
    trainer = {"max_steps": steps, "accelerator": "cpu", "enable_progress_bar": False}
    return {
        "model": {"class_path": "depthkd.methods.LabelFreeDistill", "init_args": model},
        "data": {"batch_size": 4, "workers": 0, "train": sources or {"target": FILM}},
        "trainer": {**trainer, "log_every_n_steps": 1, "gradient_clip_val": 1.0},
        "checkpoint": {"every_n_train_steps": 2},
    }


def write(home: Path, config: dict[str, Any]) -> str:
    (home / "config.yaml").write_text(yaml.safe_dump(config))
    return "config.yaml"


def test_a_killed_run_resumes_bit_by_bit_and_holds_the_student_alone(home: Path) -> None:
    weights = {"image_level": 0.5, "gradient": 0.5}
    sources = {"target": FILM | {"share": 0.5}, "labelled": STUDIO | {"share": 0.5}}
    checkpoint = assert_resumes(home, write(home, tree(6, sources, weights=weights)), 5)
    assert {name.partition(".")[0] for name in checkpoint["state_dict"]} == {"student"}
    teachers = checkpoint["depthkd"]["teachers"]
    assert set(teachers) == {"teacher", "pointnet"}
    assert teachers["pointnet"] == {
        "source": "a random PointNet",
        "license": "apache-2.0",
        "training_sets": [],
    }


def test_two_ranks_train_like_one(home: Path) -> None:
    moved = assert_ranks_train_alike(home, ["fit", "--config", write(home, tree(1))])
    assert (moved != 0).float().mean() > 0.9


def test_mistakes_get_a_sentence(home: Path, command_line: CommandLine) -> None:
    nowhere = {"class_path": "depthkd.models.PointNet", "init_args": {"weights": "nowhere.safetensors"}}
    for config, sentence in (
        (tree(pointnet=nowhere), "`depthkd pointnet --out nowhere.safetensors` makes one"),
        (tree(pointnet=None), "model.init_args.pointnet is missing"),
        (tree(teacher=None), "there is no model.init_args.teacher to make some"),
        (tree(sources={"x": STUDIO}), "data.train.x is labelled, and LabelFreeDistill looks at no label"),
        (tree(geometry={"points": 0}), "geometry.points must be 1 or more, not 0"),
        (tree(geometry={"point": 5}), "point"),
        (tree(normalization="median"), "normalization"),
    ):
        status, _, err = command_line("fit", "--config", write(home, config), "--run", "runs/x")
        assert status == 2 and sentence in err and "Traceback" not in err, err
        assert not (home / "runs/x/checkpoints").exists()


def weighted(config: dict[str, Any]) -> set[str]:
    """The terms of a config that have a weight."""
    weights = TERMS | config["model"]["init_args"].get("weights", {})
    return {term for term, weight in weights.items() if weight}


def shrunk(name: str) -> dict[str, Any]:
    """An ablation with a student, a teacher and images of a few pixels."""
    config = load_config(FOLDER / f"{name}.yaml")
    model, source = config["model"]["init_args"], config["data"]["train"]["target"]
    small = tree(sources={"target": STUDIO | {"labelled": source.get("labelled", False)}})
    small["data"]["train"]["target"]["cameras"] = source["cameras"]
    if model.get("teacher") is not None:
        model["teacher"] = {"class_path": "depthkd.models.Embedded"}
    if model.get("pointnet") is not None:
        model["pointnet"]["init_args"] = {"weights": "random"}
    model |= {"student": UNTRAINED}
    return small | {"model": config["model"]}


@pytest.mark.parametrize(
    "name", [n if n == KIND else pytest.param(n, marks=pytest.mark.long) for n in ABLATIONS]
)
def test_each_ablation_trains_on_its_terms(name: str, home: Path, command_line: CommandLine) -> None:
    config = shrunk(name)
    config["trainer"]["precision"] = "bf16-mixed" if name == KIND else "32-true"
    status, _, err = command_line("fit", "--config", write(home, config), "--run", "runs/x")
    assert status == 0, err
    log = EventAccumulator(str(home / "runs/x/logs"))
    log.Reload()
    logged = {tag.removeprefix("train/") for tag in log.Tags()["scalars"]} & TERMS.keys()
    assert logged == weighted(config)


def test_ablations_are_what_their_names_say() -> None:
    assert len(ABLATIONS) == 18
    geometric = {"geometric_input", "geometric_feature"}
    terms = {"cn_mse": {"channel_norm_mse"}, "mse": {"normalized_mse"}, "channel_wise": {"channel_wise"}}
    terms |= {"geometric": geometric, "baseline": set(SUPERVISED)}
    terms |= {"channel_wise_geometric": {"channel_wise"} | geometric}
    terms |= {"mse_geometric": {"normalized_mse"} | geometric, "geometric_points_alone": {"geometric_input"}}
    terms |= {"geometric_features_alone": {"geometric_feature"}}
    for name in ABLATIONS:
        config = load_config(FOLDER / f"{name}.yaml")
        model, labelled = config["model"]["init_args"], name.endswith("_labelled") or name == "baseline"
        plain = name.removesuffix("_labelled")
        expected = terms.get(plain, geometric) | (set(SUPERVISED) if labelled else set())
        assert weighted(config) == expected, name
        assert config["data"]["train"]["target"].get("labelled", False) == labelled, name
        assert ("pointnet" in model) == ("geometric_feature" in expected), name
        makes = model.get("pointnet", {}).get("init_args", {}).get("weights")
        assert list(config.get("needs", {})) == ([makes] if makes not in (None, "random") else []), name


def test_the_shipped_replication_builds_on_its_ablations() -> None:
    shipped = Replication.read(ROOT / "replications/lightweight.yaml")
    for name, row in shipped.rows.items():
        if row.model is not None:
            continue
        assert row.config is not None
        small = shipped.tree(row)
        assert weighted(small) == weighted(load_config(ROOT / row.config)), name
        assert "Depth-Anything" not in json.dumps(small) and "/data/" not in json.dumps(small)
        assert small["trainer"]["max_steps"] == 600
        assert not any(source.get("labelled") for source in small["data"]["train"].values())


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_the_tiny_twins_learn_stage_by_stage(tmp_path: Path) -> None:
    def typed(*words: str) -> None:
        codes, output = run(list(words), tmp_path, timeout=1500.0)
        assert codes == [0], output

    (tmp_path / "configs").symlink_to(ROOT / "configs")
    make_scenes(
        tmp_path,
        ("studio_train", 1, 300, "labelled"),
        ("studio_test", 2, 24, "labelled"),
        ("film_train", 3, 300, "sa1b"),
        ("film_test", 4, 24, "labelled"),
    )
    small = ["--clouds", "400", "--points", "256", "--epochs", "3", "--tested", "50"]
    typed("pointnet", "--out", "runs/embedded/pointnet.safetensors", *small)
    random_head = {"encoder": "tf_efficientnet_lite0", "pretrained": "embedded", "width": 16}
    student = {"class_path": "depthkd.models.LightweightDepth", "init_args": random_head}
    alone = ["--model.init_args.student", json.dumps(student), "--run", "runs/alone"]
    for stage, steps, others in (
        ("diverse", 300, []),
        ("general", 250, []),
        ("label_free", 300, []),
        ("label_free", 300, alone),
    ):
        words = ["--config", f"configs/tiny/lightweight_{stage}.yaml", "--trainer.max_steps", str(steps)]
        words += ["--trainer.val_check_interval", str(steps), "--trainer.enable_progress_bar", "false"]
        typed("fit", *words, *others)
    runs = [f"runs/tiny/lightweight_{stage}" for stage in ("label_free", "diverse")]
    typed("test", *runs, "runs/alone", "--photographs", "false", "--out", "out")  # on the first's benchmark
    rows = json.loads((tmp_path / "out/results.json").read_text())["benchmarks"]["film"]["metrics"]
    film = {row: found["abs_rel"] for row, found in rows.items()}
    for row in ("lightweight_label_free", "alone"):
        assert film[row] < 0.75 * film["best constant per image"], film
        assert film[row] < 0.85 * film["vertical ramp"], film
        assert film[row] < 0.75 * film["lightweight_diverse, untrained"], film
        assert film[row] < 0.75 * film["alone, untrained"], film
