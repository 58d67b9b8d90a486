"""SharpDepth as users type it, on scenes of a few pixels: resuming, ablations, test, swapping, predicting."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from depthkd.formats.images import encode_png
from depthkd.models.dpt.depth_anything import DepthAnything
from depthkd.models.latent_diffusion.diffusion import Lotus
from depthkd.runs.folder import read_checkpoint
from tests.conftest import CommandLine
from tests.processes import assert_resumes, run

ROOT = Path(__file__).parent.parent
ABLATIONS = sorted(p.stem for p in (ROOT / "configs/ablations/sharpdepth").glob("*.yaml"))


def metric(max_depth: int = 40) -> dict[str, Any]:
    arguments = {"size": "tiny", "metric_max_depth": max_depth}
    return {"class_path": "depthkd.models.DepthAnything", "init_args": arguments}


def diffusion(name: str) -> dict[str, Any]:
    return {"class_path": f"depthkd.models.{name}", "init_args": {"size": "tiny"}}


def write(home: Path, name: str, steps: int, **changes: Any) -> str:
    """The tiny twin, a few steps of it, with teachers of random weights."""
    crop = {"class_path": "depthkd.data.SquareCrop", "init_args": {"size": 32, "smallest": 40}}
    student = {"init_args": {"size": "tiny", "longest": 64, "metric": metric(), "metric_resolution": 24}}
    benchmark = {"urls": "runs/scenes/film_test", "limit": 4}
    tree: dict[str, Any] = {
        "base": "configs/tiny/sharpdepth.yaml",
        "needs": None,
        "model": {"init_args": {"student": student, "diffusion_teacher": diffusion("Lotus")}},
        "data": {
            "batch_size": 2,
            "train": {"photos": {"urls": "runs/scenes/film_train", "cameras": False, "transform": crop}},
            "validation": {"fog": {"init_args": benchmark}},
        },
        "trainer": {"max_steps": steps, "val_check_interval": steps, "enable_progress_bar": False},
        "checkpoint": {"every_n_train_steps": 2},
        "watch": {"pictures_every_n_steps": 2},
    }
    tree["trainer"] |= {"enable_model_summary": False, **changes}
    (home / name).write_text(yaml.safe_dump(tree))
    return name


def test_a_killed_run_resumes_bit_by_bit(home: Path) -> None:
    """Over the step at which the moving average takes f_G's place."""
    steps = {"accumulate_grad_batches": 2, "limit_val_batches": 0, "val_check_interval": 12}
    config = write(home, "sharp.yaml", 6, **steps)
    early = ["--model.init_args.optimization.ema_after", "2", "--model.init_args.pure_noise", "0.5"]
    one = assert_resumes(home, config, 9, *early)
    names = {key.split(".")[0] for key in one["state_dict"]}
    assert names == {"student", "student_average"}  # and no teacher
    assert set(one["depthkd"]["teachers"]) == {"metric", "diffusion"} and not one["depthkd"]["averaged"]


class SameLotus(Lotus):
    """The same in every process, as one that was loaded is."""

    def __init__(self) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            super().__init__(size="tiny")


class SameMetric(DepthAnything):
    """The same in every process, as one that was loaded is."""

    def __init__(self) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            super().__init__(size="tiny", metric_max_depth=40)


def test_two_ranks_train_like_one(home: Path) -> None:
    """Noise and timesteps belong to the samples."""
    config = write(home, "sharp.yaml", 3, limit_val_batches=0)
    here = "tests.test_sharpdepth_runs"
    options = ["--model.init_args.optimization.ema_after", "1"]
    options += ["--model.init_args.diffusion_teacher", f"{here}.SameLotus"]
    options += ["--model.init_args.student.init_args.metric", f"{here}.SameMetric"]
    for name, ranks, more in (("one", 1, ["1"]), ("two", 2, ["2", "--trainer.strategy", "ddp"])):
        words = ["fit", "--config", config, "--run", name, *options, "--trainer.devices", *more]
        codes, output = run(words, home, ranks)
        assert codes == [0] * ranks, output
    paths = [home / f"{name}/checkpoints/last.ckpt" for name in ("one", "two")]
    one, two = (read_checkpoint(path)["state_dict"] for path in paths)
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=1e-3, atol=2e-4, msg=key)


def test_trained_tested_swapped_and_used(home: Path, command_line: CommandLine) -> None:
    config = write(home, "sharp.yaml", 4)
    status, _, err = command_line("fit", "--config", config, "--run", "runs/sharp")
    assert status == 0, err
    words = ["--out", "out", "--photographs", "false", "--pictures", "1", "--workers", "0"]
    second = ["--models.other.class_path", "depthkd.runs.TrainedDepth", "--models.other.path", "runs/sharp"]
    second += ["--models.other.metric", json.dumps(metric(max_depth=80))]
    status, _, err = command_line("test", "runs/sharp", *second, *words)
    assert status == 0, err
    (benchmark,) = json.loads((home / "out/results.json").read_text())["benchmarks"].values()
    metrics = benchmark["metrics"]
    log = EventAccumulator(str(home / "runs/sharp/logs"))
    log.Reload()
    assert "train/metric_diffusion_difference_sharp" in log.Tags()["images"]
    assert metrics["other"]["rmse"] > metrics["sharp"]["rmse"] * 1.2
    assert metrics["sharp, given the truth"]["abs_rel"] < 0.1 < metrics["sharp"]["abs_rel"]
    assert np.isfinite(metrics["sharp"]["pdbe_completeness"])

    photo = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    (home / "photo.png").write_bytes(encode_png(photo))
    words = ["--model", "runs/sharp", "--fov", "70", "--out", "p"]
    status, out, err = command_line("predict", "photo.png", *words)
    assert status == 0, err
    assert "1 of 1 images, metric depth: p" in out and "assume" not in out
    depth = np.load(home / "p/photo.npy")
    assert depth.shape == (40, 60) and depth.dtype == np.float32 and (depth > 0).all()
    cloud = (home / "p/photo.ply").read_bytes()
    header, _, body = cloud.partition(b"end_header\n")
    assert b"element vertex 2400\n" in header and len(body) == 2400 * 15


@pytest.mark.parametrize("name", [n for n in ABLATIONS if n != "other_metric_models"])
def test_each_ablation_trains(name: str, home: Path, command_line: CommandLine) -> None:
    difference = yaml.safe_load((ROOT / f"configs/ablations/sharpdepth/{name}.yaml").read_text())
    del difference["base"]
    difference.pop("trainer", None)
    teacher = "Marigold" if name.startswith("f_") else "Lotus"
    difference["model"]["init_args"]["diffusion_teacher"] = diffusion(teacher)
    (home / "difference.yaml").write_text(yaml.safe_dump(difference))
    precision = "bf16-mixed" if name.startswith("e_") else "32-true"
    config = write(home, "sharp.yaml", 3, limit_val_batches=0, log_every_n_steps=1, precision=precision)
    words = ["--config", config, "--config", "difference.yaml", "--run", "runs/ablation"]
    early = ["--model.init_args.optimization.ema_after", "1"]
    status, _, err = command_line("fit", *words, *early)
    assert status == 0, err
    log = EventAccumulator(str(home / "runs/ablation/logs"))
    log.Reload()
    logged = {tag.removeprefix("train/") for tag in log.Tags()["scalars"]}
    everything = {"score_distillation", "reconstruction"}
    absent = {"c_": {"score_distillation"}, "d_": {"reconstruction"}}.get(name[:2], set())
    assert logged & everything == everything - absent
    config_said = yaml.safe_load((home / "runs/ablation/config.yaml").read_text())["model"]["init_args"]
    changes = {"a_": ("gate", "noise"), "b_": ("gate", "metric"), "re": ("variant", "released")}
    if expected := changes.get(name[:2]):
        assert config_said["student"]["init_args"][expected[0]] == expected[1]
    assert config_said["difference_source"] == ("frozen" if name.startswith("g_") else "ema")
