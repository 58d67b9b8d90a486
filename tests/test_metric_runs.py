"""Metric depth as users type it: Depth Anything V2's Table 4, its recipes in miniature, and learning."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from depthkd.batch import METRIC_DEPTH
from depthkd.benchmarks import ShardBenchmark
from depthkd.formats.sample import Sample
from depthkd.formats.shard_samples import encode_sample
from depthkd.models import MetricBinsDepth
from depthkd.runs.student import TrainedDepth
from depthkd.verbs.configs import load_config, merge
from tests.conftest import CommandLine
from tests.data.shards import write_tar
from tests.processes import assert_resumes, make_scenes, run

ROOT = Path(__file__).parent.parent
FULL = ROOT / "configs/depth_anything_v2"
ROWS = sorted((ROOT / "configs/ablations/depth_anything_v2").glob("table4_*.yaml"))
SIZES = {"vits": "small", "vitb": "base", "vitl": "large"}
NO_BINS = {"size": "tiny", "weights": None, "gradient_checkpointing": False}
BINS = {**NO_BINS, "image_size": [24, 32], "bins": 6, "embedding": 8}
RECIPES: dict[str, tuple[str, tuple[int, int], dict[str, Any]]] = {  # source, size of its images, student
    "nyu": ("nyu", (48, 64), BINS),
    "kitti": ("kitti", (375, 1242), BINS),
    "metric_indoor": ("hypersim", (48, 64), NO_BINS),
    "metric_outdoor": ("vkitti2", (40, 90), NO_BINS),
}


def test_each_row_of_table_4_is_its_recipe_with_an_encoder() -> None:
    assert len(ROWS) == 6
    for path in ROWS:
        _, data, encoder = path.stem.split("_")
        row, recipe = load_config(path), load_config(FULL / f"{data}.yaml")
        assert row["model"]["init_args"]["student"]["init_args"].pop("size") == SIZES[encoder]
        del recipe["model"]["init_args"]["student"]["init_args"]["size"]
        assert row == recipe


def test_steps_are_the_released_epochs() -> None:
    for name, images, epochs, batch in (("nyu", 24231, 5, 16), ("kitti", 23158, 5, 16)):
        assert load_config(FULL / f"{name}.yaml")["trainer"]["max_steps"] == epochs * -(-images // batch)
    for name, images in (("metric_indoor", 59543), ("metric_outdoor", 19559)):  # of 8 ranks, 4 a batch
        tree = load_config(FULL / f"{name}.yaml")
        assert tree["trainer"]["max_steps"] == 120 * (-(-images // 8) // 4)
        assert tree["data"]["batch_size"] == 8 * 4


def write_noise(folder: Path, size: tuple[int, int]) -> str:
    rng = np.random.default_rng(0)
    samples = {}
    for i in range(2):
        image = rng.integers(0, 256, (*size, 3), np.uint8)
        depth = rng.uniform(1, 9, size).astype(np.float32)
        sample = Sample(f"{i}", image, depth, rng.random(size) > 0.1, None, METRIC_DEPTH)
        samples[sample.key] = encode_sample(sample, image="jpg")
    return str(write_tar(folder / "noise.tar", samples))


@pytest.mark.parametrize("name", RECIPES)
def test_each_recipe_trains_in_miniature(name: str, tmp_path: Path, command_line: CommandLine) -> None:
    source, size, student = RECIPES[name]
    tree = merge(
        load_config(FULL / f"{name}.yaml"),
        {
            "model": {"init_args": {"student": {"init_args": student}}},
            "data": {
                "batch_size": 2,
                "workers": 0,
                "train": {source: {"urls": write_noise(tmp_path, size)}},
                "validation": None,
            },
            "trainer": {
                "max_steps": 3, "val_check_interval": 3, "limit_val_batches": 0, "log_every_n_steps": 1,
                "accelerator": "cpu", "precision": "32-true", "enable_progress_bar": False,
            },
            "checkpoint": {"every_n_train_steps": 3},
        },
    )  # fmt: skip
    if student is NO_BINS:
        crop = {"transform": {"init_args": {"size": 32}}}
        tree = merge(tree, {"data": {"train": {source: crop}}})
    Path("tiny.yaml").write_text(yaml.safe_dump(tree))
    status, _, err = command_line("fit", "--config", "tiny.yaml", "--run", "runs/tiny")
    assert status == 0, err
    log = EventAccumulator("runs/tiny/logs")
    log.Reload()
    losses = [event.value for event in log.Scalars("train/scale_invariant_log")]
    assert len(losses) == 3 and all(np.isfinite(losses))
    network = TrainedDepth("runs/tiny").unwrapped()
    assert network.space == METRIC_DEPTH
    assert isinstance(network, MetricBinsDepth) == (student is BINS)
    assert float(network.predict(torch.rand(1, 3, 30, 40)).min()) > 0


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_killed_cycle_resumes_bit_by_bit(home: Path) -> None:
    """With its momentum, rotations and perturbations."""
    tree = {
        "base": "configs/tiny/metric_bins.yaml",
        "needs": None,
        "data": {"batch_size": 2, "train": {"fog": {"urls": "runs/scenes/studio_train"}}, "validation": None},
        "trainer": {"max_steps": 6, "val_check_interval": 6, "limit_val_batches": 0},
        "checkpoint": {"every_n_train_steps": 2},
    }
    (home / "bins.yaml").write_text(yaml.safe_dump(tree))
    small = ["--model.init_args.student.init_args.image_size", "[24, 32]"]
    (group, *_) = assert_resumes(home, "bins.yaml", 3, *small)["optimizer_states"][0]["param_groups"]
    assert group["betas"][0] == pytest.approx(0.95) and group["lr"] < 1e-6  # the end of the cycle


def errors(folder: Path, student: str) -> dict[str, float]:
    """AbsRel without any fit: of a run, of the best constant, and of the training images' mean rows."""
    test = ShardBenchmark(str(folder / "runs/scenes/film_fog_test"), protocol="metric", max_depth=40.0)
    train = ShardBenchmark(str(folder / "runs/scenes/film_fog_train"), protocol="metric", max_depth=40.0)
    network, rows = TrainedDepth(str(folder / "runs/tiny" / student)), torch.zeros(2, 96)
    for sample in train.samples():
        assert sample.depth is not None and sample.mask is not None
        depth, mask = (torch.from_numpy(m) for m in (sample.depth, sample.mask))
        counts = test.protocol.valid(depth[None], METRIC_DEPTH, mask[None])[0]
        rows += torch.stack([torch.where(counts, depth, 0).sum(1), counts.sum(1)])
    ramp = (rows[0] / rows[1].clamp(min=1)).clamp(min=1e-3)
    found: dict[str, list[float]] = {}
    for sample in test.samples():
        assert sample.depth is not None and sample.mask is not None
        truth, mask = (torch.from_numpy(m.copy())[None] for m in (sample.depth, sample.mask))
        image = torch.from_numpy(sample.image.copy()).permute(2, 0, 1)[None] / 255
        maps = {f"constant {m:g}": torch.full_like(truth, m) for m in np.arange(0.5, 20, 0.5)}
        maps |= {"student": network.predict(image), "rows": ramp[None, :, None].expand_as(truth).contiguous()}
        for name, depth in maps.items():
            score = test.protocol.score(depth, METRIC_DEPTH, truth, METRIC_DEPTH, mask)["abs_rel"]
            found.setdefault(name, []).append(float(score))
    means = {name: float(np.nanmean(values)) for name, values in found.items()}
    constant = min(value for name, value in means.items() if name.startswith("constant"))
    return {"student": means["student"], "best constant": constant, "mean rows": means["rows"]}


@pytest.mark.long
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("student", ["metric", "metric_bins"])
def test_metric_students_beat_what_looks_at_nothing(student: str, tmp_path: Path) -> None:
    """By a margin, in meters: no scale is fitted to anybody."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    make_scenes(tmp_path, ("film_fog_train", 3, 400, "labelled"), ("film_fog_test", 4, 40, "labelled"))
    words = ["fit", "--config", f"configs/tiny/{student}.yaml", "--trainer.max_steps", "600"]
    words += ["--trainer.val_check_interval", "600", "--trainer.enable_progress_bar", "false"]
    codes, output = run(words, tmp_path, timeout=1200)
    assert codes == [0], output
    error = errors(tmp_path, student)
    assert error["student"] < 0.8 * error["best constant"], error
    assert error["student"] < 0.8 * error["mean rows"], error
