"""`depthkd fit` and `depthkd validate`: LightningCLI over Method and ShardDataModule, one folder a run."""

import logging
import sys
import warnings
from pathlib import Path
from typing import Any, NoReturn

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from depthkd.checkpoint import RecordTrainedOn, RunCheckpoint, SafeCheckpointIO
from depthkd.cluster.precision import AnyPrecisionTrainer
from depthkd.cluster.preemption import Preempted, Preemption
from depthkd.cluster.preflight import Plan, preflight
from depthkd.cluster.slurm import current_job, is_same_job, mark, this_rank
from depthkd.composition import innermost
from depthkd.data.datamodule import ShardDataModule
from depthkd.errors import MissingFileError, UserError
from depthkd.methods.method import Method
from depthkd.report.progress import ProgressLines
from depthkd.runs import CHECKPOINT, CONFIG

TRAINER_DEFAULTS = {
    "max_epochs": -1,  # the stream has no end: `max_steps` says when to stop
    "use_distributed_sampler": False,  # the stream splits itself
    "check_val_every_n_epoch": None,
    "val_check_interval": 1000,
    "num_sanity_val_steps": 0,
}


class Parser(LightningArgumentParser):
    """Answers a mistake with the innermost line of what jsonargparse found, not with a page of types."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print one sentence and leave with status 2."""
        print(f"depthkd fit: {innermost(message)}", file=sys.stderr)
        sys.exit(2)


class RunConfig(SaveConfigCallback):
    """Writes `config.yaml` into the run folder, whole, before training starts."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Save on rank 0 of a training run."""
        if stage == "fit" and trainer.is_global_zero:
            folder = Path(trainer.default_root_dir)
            folder.mkdir(parents=True, exist_ok=True)
            self.parser.save(
                self.config, str(folder / CONFIG), skip_unset=False, overwrite=True, multifile=False
            )


class FitCLI(LightningCLI):
    """LightningCLI with one seed, one folder a run, and checkpoints that cannot name code."""

    def __init__(self, arguments: list[str], name: str | None) -> None:
        self.name = name or "unnamed"
        super().__init__(
            Method,
            ShardDataModule,
            RunConfig,
            trainer_class=AnyPrecisionTrainer,
            trainer_defaults=TRAINER_DEFAULTS,
            seed_everything_default=0,
            parser_class=Parser,
            subclass_mode_model=True,
            args=arguments,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Only what Lightning does for us; `test` and `predict` are verbs of ours."""
        return {
            "fit": {"model", "train_dataloaders", "val_dataloaders", "datamodule", "weights_only"},
            "validate": {"model", "dataloaders", "datamodule", "weights_only"},
        }

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """`--run`, `--checkpoint.every_n_train_steps`, and one seed for everything."""
        parser.add_argument("--run", type=str, default=None, help="the run's folder (default: runs/<config>)")
        parser.add_lightning_class_args(RunCheckpoint, "checkpoint")
        parser.link_arguments("seed_everything", "data.seed", compute_fn=int)
        parser.link_arguments("seed_everything", "model.init_args.seed", compute_fn=int)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse what we were given, in process or not."""
        self.config = parser.parse_args(args)

    def _parse_ckpt_path(self) -> None:
        """Checkpoints hold no configuration, so that none can name the class to build."""

    def before_instantiate_classes(self) -> None:
        """Settle the run's folder, and where it goes on from."""
        config = self.config[self.config.subcommand]
        self.folder = Path(config.run or f"runs/{self.name}")
        if config.ckpt_path == "last":
            config.ckpt_path = str(self.folder / CHECKPOINT)
            if not Path(config.ckpt_path).is_file():
                raise MissingFileError(
                    f"--ckpt_path last: there is no {config.ckpt_path} to go on from; leave it out to start"
                )
        elif config.ckpt_path is None and self.config.subcommand == "fit":
            if is_same_job(self.folder) and (self.folder / CHECKPOINT).is_file():
                config.ckpt_path = str(self.folder / CHECKPOINT)
            else:
                set_aside(self.folder)
        config.trainer.precision = preflight(
            Plan(
                accelerator=str(config.trainer.accelerator),
                devices=config.trainer.devices,
                nodes=config.trainer.num_nodes,
                precision=str(config.trainer.precision),
                workers=config.data.workers,
                folder=self.folder,
            )
        )
        if self.config.subcommand == "fit":
            mark(self.folder)

    def after_instantiate_classes(self) -> None:
        """A validation, and with it an epoch's end, must not cut an accumulation in two."""
        every, accumulated = self.trainer.val_check_interval, self.trainer.accumulate_grad_batches
        if self.config.subcommand == "fit" and isinstance(every, int) and every % accumulated:
            raise UserError(
                f"trainer.val_check_interval is {every} batches, but must be a multiple of "
                f"trainer.accumulate_grad_batches, which is {accumulated}"
            )

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """A trainer that writes into the run's folder and nowhere else."""
        configured = self._get(self.config_init, "trainer")
        kwargs["default_root_dir"] = str(self.folder)
        if configured.logger in (None, True):
            kwargs["logger"] = TensorBoardLogger(self.folder, name="logs", version="")
        if not self.datamodule.validation:
            kwargs["limit_val_batches"] = 0
        callbacks = configured.callbacks or []
        kwargs["callbacks"] = [*(callbacks if isinstance(callbacks, list) else [callbacks]), Preemption()]
        kwargs["callbacks"].append(RecordTrainedOn())
        if not sys.stdout.isatty():
            kwargs["callbacks"].append(ProgressLines())
            kwargs["enable_progress_bar"] = False
        plugins = configured.plugins or []
        kwargs["plugins"] = [*(plugins if isinstance(plugins, list) else [plugins]), SafeCheckpointIO()]
        if current_job() is not None:  # its own requeueing saves inside the signal's handler
            kwargs["plugins"].append(SLURMEnvironment(auto_requeue=False))
        return super().instantiate_trainer(**kwargs)


@rank_zero_only
def set_aside(folder: Path) -> None:
    """Keep an earlier run of the same name: `runs/x` becomes `runs/x.1`, and so on."""
    if not (folder / CHECKPOINT).exists():
        return
    number = 1
    while (aside := folder.with_name(f"{folder.name}.{number}")).exists():
        number += 1
    folder.rename(aside)
    print(
        f"depthkd fit: {folder} held an earlier run, which is now {aside} (--ckpt_path last goes on instead)"
    )


def worth_saying(record: logging.LogRecord) -> bool:
    """Not what Lightning advertises, nor what the preflight says better."""
    return not any(word in record.getMessage() for word in ("litlogger", "TPU available", "GPU available"))


def main(verb: str, arguments: list[str], name: str | None) -> int:
    """Run `fit` or `validate` with a composed command line; `name` is the run's."""
    logging.getLogger("lightning.fabric.utilities.seed").setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(worth_saying)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"Found \d+ module\(s\) in eval mode")  # an average is always
            FitCLI([verb, *arguments], name)
    except Preempted as preempted:
        if this_rank() == 0:
            print(f"depthkd {verb}: {preempted.sentence}", flush=True)
        raise
    return 0
