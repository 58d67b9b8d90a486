"""Every setting of Lightning's Trainer means something here, or is refused in a sentence that names it."""

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonargparse import Namespace
from lightning.pytorch import Trainer

from depthkd.errors import UserError
from depthkd.runs.folder import Progress, Run
from depthkd.runs.trained_on import read_digests
from depthkd.verbs.fit import TRAINER_DEFAULTS
from depthkd.verbs.trainer_settings import check_fit, check_trainer_settings
from tests.runs.conftest import Fit, config, fit

__all__ = ["config", "fit"]

DEFAULTS = {name: p.default for name, p in inspect.signature(Trainer).parameters.items()}

STOPS = [
    "--trainer.callbacks+",
    "lightning.pytorch.callbacks.EarlyStopping",
    "--trainer.callbacks.monitor",
    "val/x",
]

HONORED: dict[str, list[Any]] = {
    "accelerator": ["cpu", "gpu", "auto"],
    "strategy": ["auto", "ddp"],
    "devices": [1, 2, "auto", "2"],
    "num_nodes": [1, 2],
    "precision": ["auto", "bf16-mixed"],
    "logger": [None, True, False, Namespace(class_path="lightning.pytorch.loggers.CSVLogger")],
    "callbacks": [None, [Namespace(class_path="lightning.pytorch.callbacks.EarlyStopping")]],
    "fast_dev_run": [False, True, 3],
    "max_epochs": [-1, None],
    "min_epochs": [None],
    "max_steps": [1, 10_000],
    "min_steps": [None, 5],
    "max_time": [None, "00:01:00:00"],
    "limit_train_batches": [None, 1.0, 6],
    "limit_val_batches": [None, 0, 3, 0.5],
    "limit_test_batches": [None],
    "limit_predict_batches": [None],
    "overfit_batches": [0.0, 0, 2],
    "val_check_interval": [1, 1000, "00:00:10:00"],
    "check_val_every_n_epoch": [None],
    "num_sanity_val_steps": [0, 2],
    "log_every_n_steps": [None, 1],
    "enable_checkpointing": [None, True],
    "enable_progress_bar": [None, True, False],
    "enable_model_summary": [True, False],
    "accumulate_grad_batches": [1, 4],
    "gradient_clip_val": [None, 0, 1.0],
    "gradient_clip_algorithm": [None, "norm", "value"],
    "deterministic": [None, True, "warn"],
    "benchmark": [None, True],
    "inference_mode": [True, False],
    "use_distributed_sampler": [False],
    "profiler": [None, "simple"],
    "detect_anomaly": [False, True],
    "barebones": [False],
    "plugins": [None],
    "sync_batchnorm": [False, True],
    "reload_dataloaders_every_n_epochs": [0, 1],
    "default_root_dir": [None],
    "enable_autolog_hparams": [True],
    "model_registry": [None],
}
REFUSED: dict[str, list[Any]] = {
    "accelerator": ["tpu", "Cpu"],
    "strategy": ["deepspeed_stage_2", "fsdp", "ddp_spawn"],
    "devices": [0, "0", -2, []],
    "num_nodes": [0],
    "logger": [
        Namespace(class_path="lightning.pytorch.loggers.WandbLogger"),
        [Namespace(class_path="x.NeptuneLogger")],
    ],
    "callbacks": [
        [Namespace(class_path=f"x.{name}")] for name in ("LearningRateFinder", "WeightAveraging", "Timer")
    ],
    "plugins": [[Namespace(class_path="lightning.pytorch.plugins.precision.DoublePrecision")]],
    "max_epochs": [0, 3],
    "min_epochs": [1],
    "max_steps": [-1, 0],
    "limit_train_batches": [0, 0.5, 2.0, -3],
    "limit_test_batches": [2, 0.5],
    "limit_predict_batches": [2],
    "overfit_batches": [0.25, -1],
    "val_check_interval": [0.25, 1.0, 0, -5, "soon"],
    "check_val_every_n_epoch": [1, 2],
    "enable_checkpointing": [False],
    "accumulate_grad_batches": [0],
    "gradient_clip_val": [-1.0],
    "gradient_clip_algorithm": ["norm2"],
    "use_distributed_sampler": [True],
    "profiler": ["simplest"],
    "barebones": [True],
    "default_root_dir": ["/somewhere"],
}


def settings(**changes: Any) -> Namespace:
    return Namespace(**(DEFAULTS | TRAINER_DEFAULTS | {"max_steps": 10, "precision": "auto"} | changes))


def check(**changes: Any) -> None:
    check_trainer_settings(settings(**changes))
    check_fit(settings(**changes))


def test_no_setting_of_the_trainer_is_forgotten() -> None:
    assert set(HONORED) == set(DEFAULTS)


@pytest.mark.parametrize(
    ("name", "value"), [(n, v) for n, values in HONORED.items() for v in values], ids=str
)
def test_honored(name: str, value: Any) -> None:
    check(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"), [(n, v) for n, values in REFUSED.items() for v in values], ids=str
)
def test_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(UserError, match=rf"trainer\.{name}") as caught:
        check(**{name: value})
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"accelerator": "cpu", "devices": -1},
            "devices=-1 means all GPUs, but trainer.accelerator is 'cpu'",
        ),
        ({"accelerator": "cpu", "devices": [0, 1]}, r"devices=\[0, 1\] names GPUs, but .* is 'cpu'"),
        ({"accelerator": "cpu", "devices": "0,1"}, "devices=0,1 names GPUs"),
        ({"accumulate_grad_batches": 2, "val_check_interval": 3}, "must be a multiple of .*, which is 2"),
        ({"accumulate_grad_batches": 2, "val_check_interval": "00:00:01:00"}, "could cut an accumulation"),
        (
            {"logger": False, "callbacks": [Namespace(class_path="x.LearningRateMonitor")]},
            "LearningRateMonitor, which writes into a logger",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        check(**changes)


def test_what_lightning_finds_wrong_is_one_sentence_too(fit: Fit) -> None:
    for words, expected in (
        (
            ["--trainer.max_time", "soon"],
            "depthkd fit: trainer: `Timer(duration='soon')` is not a valid duration",
        ),
        (
            ["--trainer.max_steps", "many"],
            "depthkd fit: trainer.max_steps: it would be a whole number, not many",
        ),
        (["--trainer.precision", "64-true"], "depthkd fit: trainer.precision: it would be one of 'auto', "),
        (
            ["--checkpoint.every_n_train_steps", "0"],
            "checkpoint.every_n_train_steps must be 1 or more, not 0",
        ),
        (["--trainer.num_nodes", "2"], "nothing started this process on several nodes"),
        (["--trainer.max_steps", "-5"], "trainer.max_steps is -5: the stream"),
        (
            ["--model.init_args.optimization.ema_decay", "2"],
            "optimization.ema_decay must be from 0 to 1, not 2",
        ),
        (["--model.init_args.optimization.warmup_steps", "-3"], "warmup_steps must be 0 or more, not -3"),
        (
            ["--model.init_args.optimization.betas", "[1, 2]"],
            "optimization.betas must be from 0 to 1, not (1.0",
        ),
        (
            ["--model.init_args.weights.gradient", "-1"],
            "the weight of a term must be 0 or more, and 'gradient'",
        ),
        (["--data.max_bad_fraction", "2"], "data.max_bad_fraction must be from 0 to 1, not 2"),
        ([*STOPS, "--trainer.callbacks.mode", "foo"], "trainer: `mode` can be min, max, got foo"),
        (["--ckpt_path", "best"], "--ckpt_path best: there is no such checkpoint"),
        (["--seed_everything", "abc"], "seed_everything: it would be true or false or a whole number"),
        (["--data", "null"], "data: it would be a mapping of settings, not 'null'"),
        (["--trainer.deterministic", "maybe"], "it would be true or false or one of 'warn'"),
        (["--seed_everything", "-3"], "seed_everything would be a whole number from 0"),
    ):
        status, _, err = fit("--run", "runs/x", *words)
        assert status == 2 and expected in err and "Traceback" not in err, err
        assert len(err.splitlines()) == 1, err


def test_overfitting_repeats_the_first_batches(fit: Fit) -> None:
    assert (
        fit("--run", "runs/x", "--trainer.overfit_batches", "2", "--trainer.log_every_n_steps", "1")[0] == 0
    )
    assert Run("runs/x").progress() == Progress(6, 6)
    assert len(read_digests(Path("runs/x"))) == 2 * 4
    assert fit("--run", "runs/y")[0] == 0
    assert len(read_digests(Path("runs/y"))) == 24  # all that there are, in six batches
    assert np.isin(read_digests(Path("runs/x")), read_digests(Path("runs/y"))).all()


def test_a_run_that_time_ends_is_unfinished(fit: Fit) -> None:
    slow = ["--trainer.callbacks+", "tests.cluster.callbacks.Slow", "--trainer.callbacks.seconds", "0.7"]
    assert fit("--run", "runs/x", "--trainer.max_time", "00:00:00:01", *slow)[0] == 0
    progress = Run("runs/x").progress()
    assert progress is not None and 0 < progress.steps < 6 and not progress.finished


def test_what_early_stopping_waits_for_must_be_there(fit: Fit, scene_shards: Path) -> None:
    validate = [
        "--data.validation.v",
        "depthkd.benchmarks.ShardBenchmark",
        "--trainer.val_check_interval",
        "3",
    ]
    validate += [
        "--data.validation.v.urls",
        str(scene_shards / "studio_test"),
        "--data.validation.v.limit",
        "1",
    ]
    status, _, err = fit("--run", "runs/x", *validate, *STOPS)
    assert status == 2 and err.startswith(
        "depthkd fit: trainer.callbacks: Early stopping conditioned on metric"
    )
    assert "val/v/abs_rel" in err and err.count("\n") == 1
    stops = [*STOPS[:-1], "val/v/abs_rel", "--trainer.callbacks.stopping_threshold", "1e9"]
    status, said, _ = fit("--run", "runs/y", *validate, *stops)
    last = "depthkd fit: runs/y is finished, at step 3 of 6, where a callback ended it"
    assert status == 0 and said.splitlines()[-1] == last


def test_time_ends_no_run_that_early_stopping_watches(fit: Fit, scene_shards: Path) -> None:
    words = [*STOPS[:-1], "train/loss", "--trainer.callbacks.strict", "false"]
    words += ["--trainer.callbacks+", "tests.cluster.callbacks.Slow", "--trainer.callbacks.seconds", "0.7"]
    status, said, _ = fit("--run", "runs/x", "--trainer.max_time", "00:00:00:01", *words)
    progress = Run("runs/x").progress()
    assert status == 0 and progress is not None and 0 < progress.steps < 6 and not progress.finished
    last = f"depthkd fit: runs/x stands at {progress}; --ckpt_path last goes on from there"
    assert said.splitlines()[-1] == last
