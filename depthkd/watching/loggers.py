"""Where a run's log goes: TensorBoard and CSV in its folder, W&B and MLflow with one id over all restarts."""

import csv
import io
import json
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.loggers.logger import DummyLogger

from depthkd.errors import UserError
from depthkd.formats.whole_files import write_whole

Picture = UInt8[np.ndarray, "height width 3"]
IDS = "logger_ids.json"  # in the run's folder
HERE = "."  # where Lightning's WandbLogger writes unless told otherwise


class HeldLogger(DummyLogger):
    """Stands for a logger until training starts, so that a mistaken command begins no log anywhere.

    Args:
        folder: of the run's logs, where profilers write too.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    @property
    def save_dir(self) -> str:
        """Where what belongs to the log may be written."""
        return str(self._folder)


class _KeptRows(ExperimentWriter):
    """Writes rows behind those of the steps before, which Lightning's would delete."""

    def __init__(self, log_dir: str, step: int) -> None:
        self._step = step
        super().__init__(log_dir=log_dir)

    def _check_log_dir_exists(self) -> None:
        """Take the rows up to the step at which the run goes on; later ones will come again."""
        file = Path(self.metrics_file_path)
        if not file.is_file():
            return
        with file.open(newline="", encoding="utf-8") as opened:
            reader = csv.DictReader(opened)
            self.metrics_keys = sorted(reader.fieldnames or [])
            rows = [row for row in reader if _is_before(row, self._step)]
        self._write(rows)

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        with Path(self.metrics_file_path).open(newline="", encoding="utf-8") as opened:
            rows = list(csv.DictReader(opened))
        self._write(rows)

    def _write(self, rows: list[dict[str, str]]) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.metrics_keys)
        writer.writeheader()
        writer.writerows(rows)
        write_whole(Path(self.metrics_file_path), text.getvalue())


def _is_before(row: dict[str, str], step: int) -> bool:
    told = row.get("step") or ""
    return None not in row and told.isdigit() and int(told) < step


class RunCSVLogger(CSVLogger):
    """`logs/metrics.csv` of a run's folder: a row for each logged step, kept when the run goes on.

    Args:
        folder: of the logs.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, name="", version="", flush_logs_every_n_steps=1)
        self.step = 0  # at which the run goes on

    @property
    @rank_zero_experiment
    def experiment(self) -> ExperimentWriter:
        """What writes the rows."""
        if not isinstance(self._experiment, _KeptRows):
            self._experiment = _KeptRows(self.log_dir, self.step)
        return self._experiment


def run_loggers(folder: Path) -> list[Logger]:
    """The loggers of a run that asks for none: TensorBoard's, and CSV.

    Args:
        folder: of the run's logs.
    """
    return [TensorBoardLogger(folder, name="", version=""), RunCSVLogger(folder)]


def begin(loggers: Sequence[Logger], folder: Path, logs: Path, step: int, resumes: bool) -> None:
    """Begin or go on with every log, on the first rank.

    Args:
        loggers: as configured.
        folder: of the run, which keeps the ids.
        logs: where what has no place of its own is written.
        step: optimizer steps that the run has behind it: what was logged after those comes again.
        resumes: whether the run goes on, so that its logs do too.
    """
    place = folder / IDS
    ids = _read(place) if resumes else {}
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger) and step:
            logger._kwargs.setdefault("purge_step", step)
        elif isinstance(logger, RunCSVLogger):
            logger.step = step
        elif isinstance(logger, WandbLogger):
            _begin_wandb(logger, ids, place, logs)
        elif isinstance(logger, MLFlowLogger):
            _begin_mlflow(logger, ids, place)


def _begin_wandb(logger: WandbLogger, ids: dict[str, str], place: Path, logs: Path) -> None:
    if logger._wandb_init.get("dir") == HERE:
        logs.mkdir(parents=True, exist_ok=True)
        logger._save_dir = logger._wandb_init["dir"] = os.fspath(logs)
    if logger._wandb_init.get("anonymous") is None:
        logger._wandb_init.pop("anonymous", None)  # wandb warns of it, whatever its value
    if logger.version is None:
        name = f"wandb {logger.name}"
        ids.setdefault(name, secrets.token_hex(4))
        logger._id = logger._wandb_init["id"] = ids[name]
        _write(place, ids)
    _ = logger.experiment


def _begin_mlflow(logger: MLFlowLogger, ids: dict[str, str], place: Path) -> None:
    name = f"mlflow {logger._tracking_uri} {logger._experiment_name}"
    goes_on = logger._run_id is None and name in ids
    if goes_on:
        logger._run_id = ids[name]
    client, found = logger.experiment, logger.run_id
    assert found is not None
    if goes_on:  # it was marked as failed when the run was interrupted
        client.update_run(found, status="RUNNING")
    if ids.get(name) != found:
        _write(place, ids | {name: found})


def _read(place: Path) -> dict[str, str]:
    if not place.is_file():
        return {}
    try:
        ids = json.loads(place.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{place} is no JSON: it would map loggers to the ids of their runs") from error
    return dict(ids)


def _write(place: Path, ids: dict[str, str]) -> None:
    write_whole(place, json.dumps(ids, indent=1) + "\n")


def log_picture(loggers: Sequence[Any], name: str, picture: Picture, step: int) -> None:
    """Give a picture to every logger that takes pictures: TensorBoard, W&B, MLflow.

    Args:
        loggers: of the trainer.
        name: under which it is shown.
        picture: 8-bit RGB.
        step: of the optimizer.
    """
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(name, picture, step, dataformats="HWC")
        elif isinstance(logger, WandbLogger):
            logger.log_image(name, [picture], step)
        elif isinstance(logger, MLFlowLogger):
            logger.experiment.log_image(logger.run_id, picture, key=name, step=step)


def takes_pictures(logger: Any) -> bool:
    """Whether `log_picture` gives it anything."""
    return isinstance(logger, TensorBoardLogger | WandbLogger | MLFlowLogger)
