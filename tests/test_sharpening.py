"""SharpDepth's tiny twin learns: sharper than its metric teacher, and nearly as accurate."""

import json
from pathlib import Path

import pytest
import yaml

from tests.processes import make_scenes, run

ROOT = Path(__file__).parent.parent
QUIET = ["--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]
STALLED = 900.0  # seconds; minutes here, but machines stall
FOG = "runs/scenes/film_fog"
METRIC = {
    "class_path": "depthkd.runs.TrainedDepth",
    "init_args": {"path": "runs/tiny/sharpdepth/metric_teacher"},
}

Metrics = dict[str, dict[str, float]]  # row -> metric


def depthkd(folder: Path, *words: str, timeout: float = STALLED) -> None:
    codes, output = run(list(words), folder, timeout=timeout)
    assert codes == [0], output


def fit(folder: Path, config: str, steps: int | None, *more: str) -> None:
    length = ["--trainer.max_steps", str(steps), "--trainer.limit_val_batches", "0"] if steps else []
    depthkd(folder, "fit", "--config", f"configs/tiny/{config}.yaml", *length, *QUIET, *more, timeout=2500)


def scored(folder: Path, **runs: str) -> dict[str, Metrics]:
    """Protocol -> the metrics of runs, of their metric teacher, and of it under unsharp masks."""
    models: dict[str, object] = {"metric": METRIC, **runs}
    for radius, amount in ((0.02, 2.0), (0.05, 3.0)):
        arguments = {"model": METRIC, "resolution": 32, "radius": radius, "amount": amount}
        models[f"unsharp {radius}"] = {"class_path": "depthkd.models.UnsharpMask", "init_args": arguments}
    shards = {"urls": f"{FOG}_test", "max_depth": 40, "resolution": "32 or own", "edges": True}
    tree = {
        "models": models,
        "benchmarks": {"fog": {"class_path": "depthkd.benchmarks.ShardBenchmark", "init_args": shards}},
        "protocol": ["metric", "marigold"],
        "mean_map": f"{FOG}_train",
        "out": "runs/test",
        "photographs": False,
        "workers": 0,
    }
    (folder / "test.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    depthkd(folder, "test", "--config", "test.yaml")
    results = json.loads((folder / "runs/test/results.json").read_text())
    return {name[5:-1]: benchmark["metrics"] for name, benchmark in results["benchmarks"].items()}


def assert_sharpened(found: dict[str, Metrics], completeness: float, abs_rel: float) -> None:
    """Sharper, not much less accurate; not as by an unsharp mask; and better than what looks at nothing."""
    message = json.dumps(found, indent=2)
    metric, sharp = found["metric"]["metric"], found["metric"]["sharp"]
    assert sharp["pdbe_completeness"] < completeness * metric["pdbe_completeness"], message
    assert sharp["pdbe_accuracy"] < metric["pdbe_accuracy"], message
    assert sharp["abs_rel"] < abs_rel * metric["abs_rel"], message
    for name, masked in found["metric"].items():
        if name.startswith("unsharp"):
            assert sharp["pdbe_completeness"] < 0.9 * masked["pdbe_completeness"], message
            assert sharp["pdbe_accuracy"] < 0.9 * masked["pdbe_accuracy"], message
    fitted = found["marigold"]
    for trivial in ("best constant per image", "vertical ramp", "mean training map", "sharp, untrained"):
        assert fitted["sharp"]["abs_rel"] < 0.9 * fitted[trivial]["abs_rel"], (trivial, message)


@pytest.mark.long
@pytest.mark.timeout(2 * STALLED)
def test_a_sharpener_learns_from_two_teachers_and_no_truth(tmp_path: Path) -> None:
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    make_scenes(
        tmp_path,
        ("film_fog_train", 3, 120, "labelled"),
        ("studio_fog_train", 1, 120, "labelled"),
        ("film_fog_photos", 6, 50, "sa1b"),
        ("film_fog_test", 4, 24, "labelled"),
    )
    fit(tmp_path, "sharpdepth/metric_teacher", 240)
    crops = [f"--data.train.{{}}.transform.init_args.{side}=64" for side in ("size", "smallest")]
    fit(
        tmp_path,
        "sharpdepth/diffusion_teacher",
        200,
        "--data.batch_size",
        "4",
        *(c.format("fog") for c in crops),
    )
    early = ["--model.init_args.optimization.ema_after", "20"]
    fit(tmp_path, "sharpdepth", 40, *early, *(c.format("photos") for c in crops))
    assert_sharpened(scored(tmp_path, sharp="runs/tiny/sharpdepth"), 0.75, 1.25)


@pytest.mark.long
@pytest.mark.timeout(3500)
def test_sharpdepth_reaches_what_its_tiny_config_says(tmp_path: Path) -> None:
    """And the two ablations of which the paper says how they fail (Table 3, C and D)."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    fit(tmp_path, "sharpdepth", None)
    for name, off in (("c", "score_distillation"), ("d", "reconstruction")):
        fit(tmp_path, "sharpdepth", None, "--run", f"runs/{name}", f"--model.init_args.weights.{off}", "0")
    found = scored(tmp_path, sharp="runs/tiny/sharpdepth", c="runs/c", d="runs/d")
    assert_sharpened(found, 0.65, 1.2)
    sharp, without_distillation, without_reconstruction = (found["metric"][n] for n in ("sharp", "c", "d"))
    message = json.dumps(found, indent=2)
    assert without_distillation["pdbe_completeness"] > 1.2 * sharp["pdbe_completeness"], message
    assert without_distillation["pdbe_accuracy"] > 1.03 * sharp["pdbe_accuracy"], message
    assert without_reconstruction["abs_rel"] > sharp["abs_rel"], message
