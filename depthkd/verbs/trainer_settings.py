"""Lightning's Trainer settings under a stream without end: honored, or refused in one sentence.

A setting that Lightning would ignore here, or answer with a page, is refused before anything is built.
"""

import os
import re
from importlib.util import find_spec
from typing import Any

from jsonargparse import Namespace

from depthkd.errors import UserError
from depthkd.methods.optimization import EMA_KEY
from depthkd.paths import user_path

STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_true", "ddp_find_unused_parameters_false")
STARTED = ("MASTER_ADDR", "SLURM_NTASKS", "SLURM_JOB_ID", "LSB_JOBID", "OMPI_COMM_WORLD_SIZE")
ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")
NEUTRAL = {"limit_train_batches": 1.0, "overfit_batches": 0.0}
CLIPPING = ("norm", "value")
PROFILERS = ("simple", "advanced", "pytorch", "xla")
CLOCK = re.compile(r"\d+:\d\d:\d\d:\d\d")
NO_EPOCH = "the stream of training images has no end, and so no epoch"
LOGGERS = {
    "WandbLogger": "wandb",
    "MLFlowLogger": "mlflow",
    "CometLogger": "comet_ml",
    "NeptuneLogger": "neptune",
}
EXTRAS = ("wandb", "mlflow")
UNSUITED = {
    "BatchSizeFinder": "cannot try out sizes of a batch, which belong to the data: set data.batch_size",
    "LearningRateFinder": "finds no learning rate to set: set model.init_args.optimization.learning_rate",
    "GradientAccumulationScheduler": f"goes by epochs: {NO_EPOCH}; set trainer.accumulate_grad_batches",
    "StochasticWeightAveraging": f"goes by epochs: {NO_EPOCH}; set {EMA_KEY}",
    "Timer": "would write a config that cannot be read again: set trainer.max_time",
    "BackboneFinetuning": "would thaw what the method keeps frozen: set the method's own options",
    "ModelPruning": "would change a network that other checkpoints and `depthkd test` could not load",
    "WeightAveraging": f"would average beside depthkd's own: set {EMA_KEY}",
    "EMAWeightAveraging": f"would average beside depthkd's own: set {EMA_KEY}",
}


def check_trainer_settings(trainer: Namespace) -> None:
    """See that every setting means something here; `trainer` is the config's part of that name.

    Raises:
        UserError: one does not; the sentence names it and says what would do.
    """
    _check_devices(trainer)
    _check_length(trainer)
    _check_validation(trainer)
    _check_void(trainer)
    _check_names(trainer)
    _check_callbacks(trainer)


def check_fit(trainer: Namespace) -> None:
    """What only training needs: a number of steps, and checkpoints.

    Raises:
        UserError: as `check_trainer_settings`.
    """
    if trainer["fast_dev_run"] is False and trainer["max_steps"] < 1:
        found = "is not set" if trainer["max_steps"] == -1 else f"is {trainer['max_steps']}"
        raise UserError(f"trainer.max_steps {found}: {NO_EPOCH}, so say how many steps to train")
    if trainer["enable_checkpointing"] is False or trainer["barebones"]:
        key = "barebones" if trainer["barebones"] else "enable_checkpointing"
        raise UserError(
            f"trainer.{key}={str(trainer[key]).lower()} would leave a run without a checkpoint, which is all "
            "that is left of it; to try out without writing anything, set trainer.fast_dev_run"
        )


def check_nodes(trainer: Namespace) -> None:
    """See that this process is one of as many nodes' as it is told.

    Raises:
        UserError: nothing started it on several.
    """
    if trainer["num_nodes"] > 1 and not any(name in os.environ for name in STARTED):
        raise UserError(
            f"trainer.num_nodes={trainer['num_nodes']}, but nothing started this process on several nodes: "
            "it would wait for the others without end; start it by srun, by torchrun, or with MASTER_ADDR "
            "and NODE_RANK set on each node"
        )


def _check_devices(trainer: Namespace) -> None:
    devices, accelerator = trainer["devices"], trainer["accelerator"]
    if isinstance(accelerator, str) and accelerator not in ACCELERATORS:
        raise UserError(f"trainer.accelerator '{accelerator}' would be one of {', '.join(ACCELERATORS)}")
    if devices in (-1, "-1") and accelerator == "cpu":
        raise UserError(
            "trainer.devices=-1 means all GPUs, but trainer.accelerator is 'cpu': say how many processes, "
            "such as 1"
        )
    if devices in (0, "0", [], "") or (isinstance(devices, int) and devices < -1):
        raise UserError(f"trainer.devices must be 1 or more, -1 for all GPUs, or 'auto', not {devices}")
    if accelerator == "cpu" and not (isinstance(devices, int) or devices == "auto" or str(devices).isdigit()):
        raise UserError(
            f"trainer.devices={devices} names GPUs, but trainer.accelerator is 'cpu': say how many "
            "processes, such as 1"
        )
    if trainer["num_nodes"] < 1:
        raise UserError(f"trainer.num_nodes must be 1 or more, not {trainer['num_nodes']}")
    strategy = trainer["strategy"]
    if isinstance(strategy, str) and strategy not in STRATEGIES:
        raise UserError(
            f"trainer.strategy '{strategy}' is not one that depthkd trains and resumes with; it would be one "
            f"of {', '.join(STRATEGIES)}"
        )


def _check_length(trainer: Namespace) -> None:
    """How long training and its epochs are."""
    for name in ("max_epochs", "min_epochs"):
        if trainer[name] not in (None, -1):
            raise UserError(f"trainer.{name} means nothing: {NO_EPOCH}; say trainer.max_steps")
    limit, repeated = trainer["limit_train_batches"], trainer["overfit_batches"]
    if limit not in (None, 1.0) and limit <= 0:
        raise UserError(
            f"trainer.limit_train_batches={limit} would train on nothing; for validation alone there is "
            "`depthkd validate`"
        )
    for name, value in (("limit_train_batches", limit), ("overfit_batches", repeated)):
        if value is not None and (value < 0 or (isinstance(value, float) and value != NEUTRAL[name])):
            raise UserError(
                f"trainer.{name}={value} would be a share of an epoch, but {NO_EPOCH}; give a number of "
                "batches, such as 100"
            )
    if trainer["accumulate_grad_batches"] < 1:
        raise UserError(
            f"trainer.accumulate_grad_batches must be 1 or more, not {trainer['accumulate_grad_batches']}"
        )


def _check_validation(trainer: Namespace) -> None:
    every, accumulated = trainer["val_check_interval"], trainer["accumulate_grad_batches"]
    if trainer["check_val_every_n_epoch"] is not None:
        raise UserError(
            f"trainer.check_val_every_n_epoch means nothing: {NO_EPOCH}; say trainer.val_check_interval, in "
            "batches"
        )
    if isinstance(every, float):
        raise UserError(
            f"trainer.val_check_interval={every} would be a share of an epoch, but {NO_EPOCH}; give a number "
            "of batches, such as 1000"
        )
    if isinstance(every, str) and not CLOCK.fullmatch(every):
        raise UserError(
            f"trainer.val_check_interval '{every}' is no number of batches and no time as 'DD:HH:MM:SS'"
        )
    if isinstance(every, int) and (every < 1 or every % accumulated):
        raise UserError(
            f"trainer.val_check_interval is {every} batches, but must be a multiple of "
            f"trainer.accumulate_grad_batches, which is {accumulated}"
        )
    if every is not None and not isinstance(every, int) and accumulated > 1:
        raise UserError(
            f"trainer.val_check_interval={every} could cut an accumulation of gradients in two: with "
            f"trainer.accumulate_grad_batches={accumulated}, give a number of batches"
        )


def _check_void(trainer: Namespace) -> None:
    """What belongs elsewhere."""
    if trainer["default_root_dir"] is not None:
        raise UserError(
            f"trainer.default_root_dir={trainer['default_root_dir']} is not where a run goes: say --run "
            "FOLDER"
        )
    for name in ("limit_test_batches", "limit_predict_batches"):
        if trainer[name] not in (None, 1.0):
            raise UserError(
                f"trainer.{name} has no part in training; `depthkd test` takes a benchmark's `limit`"
            )
    if trainer["use_distributed_sampler"]:
        raise UserError(
            "trainer.use_distributed_sampler=true means nothing: the stream gives every rank its part itself"
        )


def _check_names(trainer: Namespace) -> None:
    algorithm, profiler = trainer["gradient_clip_algorithm"], trainer["profiler"]
    if algorithm is not None and algorithm not in CLIPPING:
        raise UserError(
            f"trainer.gradient_clip_algorithm '{algorithm}' would be one of {', '.join(CLIPPING)}"
        )
    value = trainer["gradient_clip_val"]
    if value is not None and value < 0:
        raise UserError(f"trainer.gradient_clip_val must be 0 or more, not {value}")
    if isinstance(profiler, str) and profiler not in PROFILERS:
        raise UserError(f"trainer.profiler '{profiler}' would be one of {', '.join(PROFILERS)}")
    for logger in _listed(trainer["logger"]):
        kind = str(getattr(logger, "class_path", "")).rpartition(".")[2]
        needed = LOGGERS.get(kind)
        if needed is not None and find_spec(needed) is None:
            extra = f": pip install 'depthkd[{needed}]'" if needed in EXTRAS else ""
            raise UserError(
                f"trainer.logger {kind} needs the package '{needed}', which is not installed{extra}"
            )


def _check_callbacks(trainer: Namespace) -> None:
    for plugin in _listed(trainer["plugins"]):
        kind = str(getattr(plugin, "class_path", plugin)).rpartition(".")[2]
        if kind.endswith("Precision"):
            raise UserError(f"trainer.plugins: {kind} would set the precision; set trainer.precision")
    kinds = [str(getattr(c, "class_path", "")).rpartition(".")[2] for c in _listed(trainer["callbacks"])]
    for kind in kinds:
        if kind in UNSUITED:
            raise UserError(f"trainer.callbacks: {kind} {UNSUITED[kind]}")
    if trainer["logger"] is False and "LearningRateMonitor" in kinds:
        raise UserError(
            "trainer.callbacks has a LearningRateMonitor, which writes into a logger, but trainer.logger is "
            "false: leave out the one or the other"
        )


def place_mlflow(trainer: Namespace) -> None:
    """Give an MLFlowLogger that is told no store a database in its `save_dir`: MLflow 3 refuses the folder
    that Lightning would give it."""
    for logger in _listed(trainer["logger"]):
        if not str(getattr(logger, "class_path", "")).endswith(".MLFlowLogger"):
            continue
        given = logger.init_args
        if not given.get("tracking_uri"):
            place = user_path(given.get("save_dir") or "mlruns").absolute()
            place.mkdir(parents=True, exist_ok=True)
            given.tracking_uri = f"sqlite:///{place}/mlflow.db"
            given.artifact_location = given.get("artifact_location") or f"{place}/artifacts"


def _listed(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]
