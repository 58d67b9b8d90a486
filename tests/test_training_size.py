"""Where a run's student runs: at the size that it was trained at, which its checkpoint says."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from depthkd.data import ShardDataModule, ShardSource, SquareCrop
from depthkd.data.transforms import ResizeCrop, Transform, WholeImage, resize
from depthkd.formats.images import encode_png
from depthkd.formats.sample import Sample
from depthkd.models import HuggingFaceDepth
from depthkd.runs.student import TrainedDepth, load_student, read_checkpoint
from tests.conftest import CommandLine
from tests.data.shards import write_tar

QUIET = ["--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]
TEST = ["--photographs", "false", "--pictures", "0", "--workers", "0"]


class Halved(Transform):
    """Half of each side, whatever the image's: it does not say of what size its images are."""

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        return resize(sample, (sample.image.shape[0] // 2, sample.image.shape[1] // 2))


def shard(path: Path, *sizes: tuple[int, int]) -> str:
    """A shard of images of these heights and widths."""
    images = [np.full((*size, 3), 90, np.uint8) for size in sizes]
    return str(write_tar(path, {f"{path.stem}{i}": {"png": encode_png(x)} for i, x in enumerate(images)}))


def training_size(*sources: ShardSource) -> tuple[int, int] | None:
    for source in sources:
        source.share = 1 / len(sources)
    found = ShardDataModule(dict(zip("abc", sources, strict=False)), batch_size=len(sources), workers=0)
    found.setup("fit")
    return found.training_size()


@pytest.mark.parametrize(
    ("transforms", "size"),
    [
        ([SquareCrop(24, 30)], (24, 24)),
        ([SquareCrop(24, 30), WholeImage(16, 40), ResizeCrop((20, 28))], (16, 40)),
        ([WholeImage(16, 36), ResizeCrop(24)], (24, 24)),  # of as many pixels
        ([None], (40, 60)),
        ([Halved(), SquareCrop(8, 30)], (20, 30)),
    ],
)
def test_the_largest_source_says_the_size(
    transforms: list[Transform | None], size: tuple[int, int], tmp_path: Path
) -> None:
    urls = shard(tmp_path / "a.tar", *[(40, 60)] * 3)
    assert training_size(*(ShardSource(urls, transform=t) for t in transforms)) == size


def test_images_of_several_sizes_have_none(tmp_path: Path) -> None:
    """Their student has learned from images at their own size."""
    urls = shard(tmp_path / "a.tar", (40, 60), (48, 60), (40, 60))
    assert training_size(ShardSource(urls)) is None
    assert training_size(ShardSource(urls), ShardSource(urls, transform=SquareCrop(16, 30))) == (16, 16)


def fit(home: Path, command_line: CommandLine, *words: str) -> Path:
    student = {"student": {"init_args": {"size": "tiny"}}, "optimization": {"ema_decay": 0.5}}
    crop = {"transform": {"init_args": {"size": 32, "smallest": 40}}}
    tree: dict[str, Any] = {
        "base": "configs/tiny/teacher.yaml",
        "needs": None,
        "model": {"init_args": student},
        "data": {
            "batch_size": 2,
            "train": {"studio": crop},
            "validation": {"studio": {"init_args": {"limit": 3}}},
        },
        "trainer": {"max_steps": 2, "val_check_interval": 2},
    }
    (home / "fit.yaml").write_text(yaml.safe_dump(tree))
    status, _, err = command_line("fit", "--config", "fit.yaml", "--run", "runs/one", *QUIET, *words)
    assert status == 0, err
    return home / "runs/one"


def scored(home: Path, command_line: CommandLine, *words: str) -> dict[str, Any]:
    status, _, err = command_line("test", "runs/one", *TEST, *words)
    assert status == 0, err
    found: dict[str, Any] = json.loads((home / "runs/test/results.json").read_text())["benchmarks"]["studio"]
    return found


def test_validation_test_predict_and_export_run_at_the_size_of_training(
    home: Path, command_line: CommandLine
) -> None:
    """Of images of 48 x 64 pixels, which the student knows as crops of 32 x 32."""
    run = fit(home, command_line)
    assert read_checkpoint(run / "checkpoints/last.ckpt")["depthkd"]["trained_at"] == [32, 32]
    log = EventAccumulator(str(run / "logs"))
    log.Reload()
    logged = log.Scalars("val/studio/abs_rel")[-1].value
    found = scored(home, command_line)
    assert found["metrics"]["one"]["abs_rel"] == pytest.approx(logged, rel=1e-5)
    assert found["run_at"]["one"] == found["run_at"]["one, untrained"] == "32 x 40"
    status, out, err = command_line(
        "validate", "--config", "fit.yaml", "--ckpt_path", "last", "--run", "runs/one"
    )
    assert status == 0, err
    assert "val/studio: protocol marigold: least-squares scale and shift" in out and "unfinished" not in out
    (shown,) = re.findall(r"val/studio/abs_rel\D+([\d.]+)", out)
    assert float(shown) == pytest.approx(logged, rel=1e-5)
    native = scored(home, command_line, "--resolution", "native")
    assert native["run_at"]["one"] == "48 x 64"
    assert abs(native["metrics"]["one"]["abs_rel"] - logged) > 1e-4

    student, image = load_student(run), torch.rand(1, 3, 80, 50)
    assert (student.trained_at, student.infer(image).shape) == ((32, 32), (1, 48, 32))
    assert TrainedDepth(str(run)).infer(image).shape == (1, 48, 32)
    assert TrainedDepth(str(run))(image).depth.shape == (1, 80, 48)  # a teacher sees crops as they are
    authors = TrainedDepth(str(run), settings={"preprocessing": "authors"})
    assert (authors.preprocessing, authors.runs_at(80, 50), authors.runs_at(84, 50)) == (
        "authors",
        (48, 32),
        (56, 32),
    )
    assert not torch.allclose(authors.predict(image), student.predict(image), atol=1e-3)
    photo = np.random.default_rng(0).integers(0, 256, (50, 80, 3), dtype=np.uint8)
    (home / "photo.png").write_bytes(encode_png(photo))
    status, out, err = command_line("predict", "photo.png", "--model", "runs/one", "--out", "p")
    assert status == 0 and "run at 32 x 48 pixels" in out, err
    student.save_pretrained(home / "saved")
    assert json.loads((home / "saved/preprocessor_config.json").read_text())["size"]["height"] == 32
    assert HuggingFaceDepth(str(home / "saved")).trained_at == (32, 32)

    path = run / "checkpoints/last.ckpt"  # as it was saved before sizes were recorded
    content = read_checkpoint(path)
    del content["depthkd"]["trained_at"]
    torch.save(content, path)
    assert load_student(run).infer(image).shape == (1, 80, 48)
    assert scored(home, command_line)["metrics"]["one"] == native["metrics"]["one"]
    path.unlink()
    assert load_student(run, fresh=True).trained_at is None
