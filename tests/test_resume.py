"""kill -9, then the same command with --ckpt_path last: bitwise the weights of an uninterrupted run."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from webdataset import TarWriter

from depthkd.formats.images import encode_jpeg
from depthkd.runs.folder import read_checkpoint
from tests.processes import run

STUDENT = {
    "class_path": "depthkd.models.HuggingFaceDepth",
    "init_args": {
        "config": {
            "model_type": "depth_anything",
            "backbone_config": {
                "model_type": "dinov2",
                "hidden_size": 16,
                "num_hidden_layers": 4,
                "num_attention_heads": 2,
                "image_size": 32,
                "patch_size": 8,
                "hidden_dropout_prob": 0.2,
                "out_features": ["stage1", "stage2", "stage3", "stage4"],
                "apply_layernorm": True,
                "reshape_hidden_states": False,
            },
            "reassemble_hidden_size": 16,
            "patch_size": 8,
            "neck_hidden_sizes": [8, 8, 8, 8],
            "fusion_hidden_size": 8,
            "head_hidden_size": 8,
        }
    },
}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two SA-1B tars of small pictures, one of them truncated."""
    folder = tmp_path_factory.mktemp("shards")
    rng = np.random.default_rng(0)
    for shard in range(2):
        with TarWriter(str(folder / f"sa_{shard:06d}.tar")) as tar:
            for i in range(9):
                coarse = rng.integers(0, 255, (5, 6, 3), dtype=np.uint8)
                data = encode_jpeg(np.kron(coarse, np.ones((10, 10, 1), dtype=np.uint8)))
                if (shard, i) == (1, 3):
                    data = data[: len(data) // 2]
                tar.write({"__key__": f"./sa_{shard * 100 + i}", "jpg": data})
    return folder


def configured(shards: Path, folder: Path, **changes: Any) -> Path:
    tree: dict[str, Any] = {
        "model": {
            "class_path": "depthkd.methods.CrossContextDistill",
            "init_args": {
                "student": STUDENT,
                "teacher": STUDENT,
                "optimization": {"learning_rate": 1e-2, "warmup_steps": 2, "ema_decay": 0.8},
            },
        },
        "data": {
            "batch_size": 4,
            "workers": changes.pop("workers", 0),
            "max_bad_fraction": 0.5,
            "train": {
                "photos": {
                    "urls": str(shards),
                    "transform": {
                        "class_path": "depthkd.data.CrossContextCrop",
                        "init_args": {"size": 32, "smallest": 40, "windows": 2, "window": 32},
                    },
                }
            },
        },
        "trainer": {
            "max_steps": 8,
            "accumulate_grad_batches": 2,
            "accelerator": "cpu",
            "devices": 1,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "gradient_clip_val": 1.0,
            **changes,
        },
        "checkpoint": {"every_n_train_steps": 2},
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def assert_same(one: Any, other: Any, where: str = "") -> None:
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_same(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for i, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same(a, b, f"{where}[{i}]")
    else:
        assert one == other, where


class Uninterrupted:
    """Runs that nothing stopped, each of which several tests compare with."""

    def __init__(self, shards: Path, folder: Path) -> None:
        self.shards = shards
        self.folder = folder
        self._done: dict[str, dict[str, Any]] = {}

    def __call__(self, ranks: int, **changes: Any) -> dict[str, Any]:
        """The checkpoint of such a run."""
        name = repr(sorted(changes.items()))
        if name not in self._done:
            place = self.folder / str(len(self._done))
            place.mkdir()
            config = configured(self.shards, place, **changes)
            codes, output = run(["fit", "--config", str(config), "--run", "whole"], place, ranks)
            assert codes == [0] * ranks, output
            assert "skipped a bad sample" in output
            self._done[name] = read_checkpoint(place / "whole/checkpoints/last.ckpt")
        return self._done[name]


@pytest.fixture(scope="module")
def uninterrupted(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Uninterrupted:
    return Uninterrupted(shards, tmp_path_factory.mktemp("uninterrupted"))


CASES = {
    "no worker": {"workers": 0},
    "one worker": {"workers": 1},
    "three workers": {"workers": 3},
    "an epoch ends on the way": {"workers": 1, "limit_train_batches": 6},
    "two ranks": {"workers": 0, "devices": 2, "strategy": "ddp"},
    "two ranks, three workers each": {"workers": 3, "devices": 2, "strategy": "ddp"},
}


@pytest.mark.parametrize("case", CASES)
def test_killed_and_resumed_equals_uninterrupted(
    case: str, shards: Path, uninterrupted: Uninterrupted, tmp_path: Path
) -> None:
    ranks = int(CASES[case].get("devices", 1))  # type: ignore[call-overload]
    whole = uninterrupted(ranks, **CASES[case])
    config = configured(shards, tmp_path, **CASES[case])
    fit = ["fit", "--config", str(config), "--run"]
    kill = ["--trainer.callbacks+", "tests.processes.KillAfter", "--trainer.callbacks.batches", "11"]
    codes, output = run([*fit, "killed", *kill], tmp_path, ranks)
    assert -9 in codes, output
    stopped = read_checkpoint(tmp_path / "killed/checkpoints/last.ckpt")
    assert stopped["global_step"] == 4  # of 5 steps and a half that were done
    codes, output = run([*fit, "killed", "--ckpt_path", "last"], tmp_path, ranks)
    assert codes == [0] * ranks, output

    resumed = read_checkpoint(tmp_path / "killed/checkpoints/last.ckpt")
    assert whole["global_step"] == 8
    assert any(k.startswith("student_average.") for k in whole["state_dict"])
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "ShardDataModule", "depthkd"):
        assert_same(whole[part], resumed[part], part)
    assert whole["depthkd"]["trained_at"] == [32, 32]
    assert not torch.equal(
        resumed["state_dict"]["student.network.head.conv3.weight"],
        stopped["state_dict"]["student.network.head.conv3.weight"],
    )


def test_last_without_one_is_an_error(shards: Path, tmp_path: Path) -> None:
    config = configured(shards, tmp_path)
    codes, output = run(["fit", "--config", str(config), "--run", "new", "--ckpt_path", "last"], tmp_path)
    assert codes == [2]
    assert "there is no new/checkpoints/last.ckpt to go on from" in output
    assert "Traceback" not in output
