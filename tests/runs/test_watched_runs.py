"""What a run logs and where to, over interruptions, and what it says of its loader."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from depthkd.runs.folder import read_checkpoint
from tests.runs.conftest import Fit

EVERY_STEP = ("--trainer.log_every_n_steps", "1")
STOPPED = ("--trainer.callbacks+", "tests.cluster.callbacks.Signal", "--trainer.callbacks.name", "SIGTERM")
LATEST = "train/latest"


def rows(run: str) -> list[dict[str, str]]:
    with Path(run, "logs/metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def board(run: str) -> EventAccumulator:
    log = EventAccumulator(run + "/logs")
    log.Reload()
    return log


def test_what_every_run_logs(fit: Fit) -> None:
    words = ("--watch.pictures_every_n_steps", "2", "--watch.peak_tflops", "0.001")
    status, _, err = fit(*EVERY_STEP, *words, "--trainer.gradient_clip_val", "1e-9")
    assert status == 0, err
    found = rows("runs/small")
    assert [int(row["step"]) for row in found] == list(range(6))
    assert [float(row["train/samples"]) for row in found] == [4.0 * i for i in range(1, 7)]
    for row in found:
        assert float(row["train/gradient_norm"]) > 1e-3  # before it is clipped
        assert -1 <= float(row["train/agreement"]) <= 1
    assert found[0]["train/images_per_second"] == ""  # the first batch is not like the others
    for row in found[1:]:
        assert float(row["train/images_per_second"]) > 0
        assert 0 < float(row["train/waiting_for_data"]) <= 1
        assert float(row["train/mfu"]) > 0
    log = board("runs/small")
    for tag in ("train/loss", "train/gradient_norm"):
        assert [event.value for event in log.Scalars(tag)] == pytest.approx([float(r[tag]) for r in found])
    assert [event.step for event in log.Images(LATEST)] == [2, 4, 6]


def test_the_norm_is_that_of_all_gradients(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    from depthkd.methods.method import Method

    seen: list[float] = []
    before = Method.on_before_optimizer_step

    def note(self: Any, optimizer: Any) -> None:
        squares = sum(p.grad.double().square().sum() for p in self.parameters() if p.grad is not None)
        seen.append(math.sqrt(float(squares)))
        before(self, optimizer)

    monkeypatch.setattr(Method, "on_before_optimizer_step", note)
    assert fit("--trainer.log_every_n_steps", "3", "--trainer.accumulate_grad_batches", "2")[0] == 0
    found = rows("runs/small")
    assert [int(row["step"]) for row in found] == [2, 5]
    assert [float(row["train/gradient_norm"]) for row in found] == pytest.approx([seen[2], seen[5]], rel=1e-4)
    assert [float(row["train/samples"]) for row in found] == [24.0, 48.0]


def test_an_interrupted_log_goes_on_without_gap_or_repetition(fit: Fit) -> None:
    # of the two, one counts operations and draws no pictures, which changes no bit
    assert fit(*EVERY_STEP, "--run", "runs/whole", "--watch.peak_tflops", "1")[0] == 0
    assert fit(*EVERY_STEP, *STOPPED, "--trainer.callbacks.batches", 4)[0] == 143
    with Path("runs/small/logs/metrics.csv").open("a") as file:  # later steps, and a torn line
        file.write("0,4,9\r\n0,5,9\r\n0")
    assert fit(*EVERY_STEP, "--ckpt_path", "last", "--watch.pictures_every_n_steps", "1")[0] == 0
    whole, found = rows("runs/whole"), rows("runs/small")
    assert [int(row["step"]) for row in found] == list(range(6))
    for tag in ("train/loss", "train/gradient_norm", "train/agreement", "train/samples"):
        assert [row[tag] for row in found] == [row[tag] for row in whole], tag
    states = [read_checkpoint(Path(run, "checkpoints/last.ckpt")) for run in ("runs/whole", "runs/small")]
    first, second = (state["state_dict"] for state in states)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert [event.step for event in board("runs/small").Scalars("train/loss")] == list(range(6))


def test_no_logger(fit: Fit) -> None:
    status, _, err = fit(*EVERY_STEP, "--trainer.logger", "false")
    assert status == 0, err
    assert not Path("runs/small/logs").exists()


def test_two_loggers(fit: Fit, config: Path) -> None:
    tree = yaml.safe_load(config.read_text())
    csv_logger = {"class_path": "CSVLogger", "init_args": {"save_dir": "a"}}
    board_logger = {"class_path": "TensorBoardLogger", "init_args": {"save_dir": "b"}}
    tree["trainer"]["logger"] = [csv_logger, board_logger]
    config.write_text(yaml.safe_dump(tree))
    assert fit(*EVERY_STEP)[0] == 0
    assert list(Path("a").rglob("metrics.csv")) and list(Path("b").rglob("events.out.*"))
    assert not Path("runs/small/logs").exists()


def test_a_mistake_begins_no_log(fit: Fit) -> None:
    status, _, err = fit("--data.train.studio.urls", "/nowhere", "--trainer.logger", "CSVLogger",
                         "--trainer.logger.save_dir", "a")  # fmt: skip
    assert status == 2 and "/nowhere" in err
    assert not Path("a").exists() and not Path("runs/small").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--watch.pictures_every_n_steps", "-1"), "watch.pictures_every_n_steps must be 0 or more, not -1"),
        (("--watch.peak_tflops", "0"), "watch.peak_tflops must be above 0, not 0"),
    ],
)
def test_settings_out_of_range(words: tuple[str, ...], sentence: str, fit: Fit) -> None:
    status, _, err = fit(*words)
    assert status == 2 and sentence in err


def test_wandb_keeps_its_run_over_an_interruption(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="the extra 'wandb' is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    words = (*EVERY_STEP, "--trainer.logger", "WandbLogger", "--watch.pictures_every_n_steps", "2")
    assert fit(*words, *STOPPED, "--trainer.callbacks.batches", 3)[0] == 143
    (name,) = (ids := json.loads(Path("runs/small/logger_ids.json").read_text()))
    import wandb

    wandb.finish()  # as the end of the process does
    assert fit(*words, "--ckpt_path", "last")[0] == 0
    wandb.finish()
    assert json.loads(Path("runs/small/logger_ids.json").read_text()) == ids
    runs = sorted(Path("runs/small/logs/wandb").glob("offline-run-*"))
    assert [run.name.rpartition("-")[2] for run in runs] == [ids[name]] * len(runs) and runs
    assert [*Path("runs/small/logs/wandb").rglob("latest*.png")]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of MLflow's use of SQLAlchemy
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # its connections
def test_mlflow_keeps_its_run_over_an_interruption(fit: Fit) -> None:
    pytest.importorskip("mlflow", reason="the extra 'mlflow' is not installed")
    pytest.importorskip("sqlalchemy", reason="the extra 'mlflow' is not installed")
    words = (*EVERY_STEP, "--trainer.logger", "MLFlowLogger", "--watch.pictures_every_n_steps", "2")
    assert fit(*words, *STOPPED, "--trainer.callbacks.batches", 3)[0] == 143
    (identity,) = json.loads(Path("runs/small/logger_ids.json").read_text()).values()
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{Path.cwd()}/mlruns/mlflow.db")
    assert client.get_run(identity).info.status == "FAILED"
    assert fit(*words, "--ckpt_path", "last")[0] == 0
    assert client.get_run(identity).info.status == "FINISHED"
    assert [metric.step for metric in client.get_metric_history(identity, "train/loss")] == list(range(6))
    assert [*Path("mlruns").rglob("train~latest*.png")]
