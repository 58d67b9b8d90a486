"""Depth Anything V2's students as users type them, on scenes of a few pixels: resuming, ablations, labels."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from depthkd.data.shares import places_per_rank
from depthkd.errors import UserError
from depthkd.runs.folder import read_checkpoint
from depthkd.verbs.configs import load_config
from tests.conftest import CommandLine
from tests.processes import assert_resumes, make_scenes, run

ROOT = Path(__file__).parent.parent
OF_STUDENTS = ("table5", "table6", "table10", "table11", "perturbation")  # the others are the teacher's
FOLDER = ROOT / "configs/ablations/depth_anything_v2"
ABLATIONS = sorted(p.stem for p in FOLDER.glob("*.yaml") if p.stem.startswith(OF_STUDENTS))
KINDS = ("perturbation_both", "table5_small_both")
UNTRAINED = {"class_path": "depthkd.models.DepthAnything", "init_args": {"size": "tiny"}}
CROP = {"class_path": "depthkd.data.ResizeCrop", "init_args": {"size": 32}}
FILM = {"urls": "runs/scenes/film_train", "transform": CROP}
STUDIO = {"urls": "runs/scenes/studio_train", "labels": "runs/scenes/studio_train", "transform": CROP}


def shrunk(name: str, steps: int = 3, **sources: dict[str, Any]) -> dict[str, Any]:
    """A config with a student, an encoder and images of a few pixels; `sources` or, where none is given,
    labelled scenes for each of its own."""
    tree = load_config(ROOT / "configs" / name)
    model, data = tree["model"]["init_args"], tree["data"]
    model["student"] = UNTRAINED
    if "feature_encoder" in model:
        model["feature_encoder"] = UNTRAINED
    if not sources:
        sources = {key: STUDIO | {"share": 1 / len(data["train"])} for key in data["train"]}
    data |= {"train": sources, "batch_size": 4, "workers": 0, "validation": None}
    tree["trainer"] = {"max_steps": steps, "accelerator": "cpu", "enable_progress_bar": False}
    tree["trainer"] |= {"log_every_n_steps": 1, "gradient_clip_val": 1.0}
    tree.pop("needs", None)
    return tree | {"checkpoint": {"every_n_train_steps": 2}}


def write(home: Path, tree: dict[str, Any]) -> str:
    (home / "config.yaml").write_text(yaml.safe_dump(tree))
    return "config.yaml"


def terms(run: Path) -> set[str]:
    log = EventAccumulator(str(run / "logs"))
    log.Reload()
    logged = {tag.removeprefix("train/") for tag in log.Tags()["scalars"]}
    return logged & {"scale_shift_invariant", "gradient", "features"}


@pytest.mark.parametrize(
    "name", [n if n in KINDS else pytest.param(n, marks=pytest.mark.long) for n in ABLATIONS]
)
def test_each_ablation_trains(name: str, home: Path, command_line: CommandLine) -> None:
    config = write(home, shrunk(f"ablations/depth_anything_v2/{name}.yaml"))
    status, _, err = command_line("fit", "--config", config, "--run", "runs/x")
    assert status == 0, err
    absent = {"features"} if "synthetic" in name or "manual" in name else set()
    assert terms(home / "runs/x") == {"scale_shift_invariant", "gradient", "features"} - absent


def test_configs_have_the_papers_images_and_terms() -> None:
    paths = [FOLDER / f"{name}.yaml" for name in ABLATIONS]
    paths += [
        ROOT / f"configs/depth_anything_v2/student{size}.yaml" for size in ("", "_base", "_large", "_giant")
    ]
    trees = {path.stem: load_config(path) for path in paths}
    real = load_config(ROOT / "configs/depth_anything_v2/student.yaml")["data"]["train"]["real"]["urls"]
    assert len(real) == 8
    single = set()
    for name, tree in trees.items():
        model, sources = tree["model"]["init_args"], tree["data"]["train"]
        size = model["student"]["init_args"]["size"]
        assert model["student"]["init_args"]["weights"] == f"facebook/dinov2-{size}", name
        assert size == "small" or name in (
            f"student_{size}",
            f"table5_{size}_both",
            f"table5_{size}_synthetic",
        )
        if name.endswith("synthetic"):  # trained as the teacher
            continue
        precise = set(model.get("precise", ()))
        assert precise == {key for key, source in sources.items() if source.get("labelled")}, name
        assert (model["weights"]["features"] == 0) == (precise == sources.keys()), name
        assert model["weights"]["gradient"] == 2.0 and model["drop"] == 0.1, name
        assert model["feature_encoder"]["init_args"] == {"source": f"facebook/dinov2-{size}"}, name
        if name.startswith("table10"):
            single.add(sources["real"]["urls"])
    assert single == set(real)


def test_headers_say_how_many_devices_can_share_a_batch() -> None:
    for path in sorted((ROOT / "configs").glob("**/depth_anything_v2/*.yaml")):
        data = load_config(path).get("data")
        if data is None:  # one that tests
            continue
        shares = {key: source.get("share", 1.0) for key, source in data["train"].items() if source}
        head = " ".join(line[2:] for line in path.read_text().splitlines() if line.startswith("# "))
        said = re.search(r"which ([1-8, or]+) devices can share", head)
        assert said or len(shares) == 1, path
        other = re.search(r"ight want \d+: ((--data\.train\.\w+\.share [\d.]+ ?)+)", head)
        for ranks in (1, 2, 4, 8):
            if said is None or str(ranks) in said[1]:
                places_per_rank(shares, data["batch_size"], ranks)
                continue
            with pytest.raises(UserError):
                places_per_rank(shares, data["batch_size"], ranks)
            if other is not None:
                options = re.findall(r"train\.(\w+)\.share ([\d.]+)", other[1])
                wanted = {name: float(share) for name, share in options}
                places_per_rank(shares | wanted, data["batch_size"], ranks)


def test_a_killed_run_resumes_bit_by_bit(home: Path) -> None:
    tree = shrunk(
        "ablations/depth_anything_v2/perturbation_both.yaml",
        6,
        synthetic=STUDIO | {"share": 0.5},
        real=FILM | {"share": 0.5},
    )
    tree["model"]["init_args"] |= {"teacher": UNTRAINED, "precise": ["synthetic"]}
    assert_resumes(home, write(home, tree), 5)


def test_a_checkpoint_names_who_taught_and_holds_the_student_alone(
    home: Path, command_line: CommandLine
) -> None:
    tree = shrunk("tiny/pseudo_label.yaml", real=FILM)
    tree["model"]["init_args"]["teacher"] = UNTRAINED
    status, _, err = command_line("fit", "--config", write(home, tree), "--run", "runs/x")
    assert status == 0, err
    checkpoint = read_checkpoint(home / "runs/x/checkpoints/last.ckpt")
    assert set(checkpoint["depthkd"]["teachers"]) == {"teacher", "feature encoder"}
    status, _, err = command_line(
        "label", "--images", "runs/scenes/film_train", "--out", "labels", "--model", "embedded"
    )
    assert status == 0, err
    tree = shrunk("tiny/pseudo_label.yaml", real=FILM | {"labels": "labels"})
    tree["model"]["init_args"]["teacher"] = None
    status, _, err = command_line("fit", "--config", write(home, tree), "--run", "runs/y")
    assert status == 0, err
    told = read_checkpoint(home / "runs/y/checkpoints/last.ckpt")["depthkd"]["teachers"]
    assert set(told) == {"labels of real", "feature encoder"}
    assert told["labels of real"]["license"] == "apache-2.0" and told["labels of real"]["training_sets"]
    # the encoder's features are as wide as the student's, and so there is no projection
    assert {name.partition(".")[0] for name in checkpoint["state_dict"]} == {"student"}


def test_mistakes_get_a_sentence(home: Path, command_line: CommandLine) -> None:
    for changes, sentence in (
        ({}, "data.train.real has no labels, and there is no teacher to make some"),
        ({"precise": ["reel"]}, "model.init_args.precise names 'reel', which is none of the sources"),
        ({"precise": "real"}, "precise"),
        ({"drop": 1.0}, "model.init_args.drop is a share of the pixels, 0 to below 1, not 1.0"),
        ({"feature_encoder": None}, "model.init_args.feature_encoder is missing"),
    ):
        tree = shrunk("depth_anything_v2/student.yaml", real=FILM)
        tree["model"]["init_args"] |= changes
        status, _, err = command_line("fit", "--config", write(home, tree), "--run", "runs/x")
        assert status == 2 and sentence in err and "Traceback" not in err, err
        assert not (home / "runs/x").exists()


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("labels", ["on the fly", "from tars"])
def test_the_tiny_twin_learns(labels: str, tmp_path: Path) -> None:
    def typed(*words: str) -> None:
        codes, output = run(list(words), tmp_path, timeout=1500.0)
        assert codes == [0], output

    (tmp_path / "configs").symlink_to(ROOT / "configs")
    make_scenes(tmp_path, ("film_train", 3, 400, "sa1b"), ("film_test", 4, 24, "labelled"))
    words = ["--config", "configs/tiny/pseudo_label.yaml", "--trainer.enable_progress_bar", "false"]
    words += ["--trainer.max_steps", "800", "--trainer.val_check_interval", "800", "--run", "runs/student"]
    if labels == "from tars":
        typed("label", "--images", "runs/scenes/film_train", "--out", "runs/labels")
        words += ["--data.train.real.labels", "runs/labels", "--model.init_args.teacher", "null"]
    typed("fit", *words)
    typed("test", "runs/student", "--photographs", "false", "--out", "out")
    rows = json.loads((tmp_path / "out/results.json").read_text())["benchmarks"]["film"]["metrics"]
    error = {row: metrics["abs_rel"] for row, metrics in rows.items()}
    assert error["student"] < 0.85 * error["best constant per image"], error
    assert error["student"] < 0.90 * error["student, untrained"], error
    assert error["student"] < 0.97 * error["vertical ramp"], error
