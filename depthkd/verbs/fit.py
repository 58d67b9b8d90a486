"""`depthkd fit` and `depthkd validate`: LightningCLI over Method and ShardDataModule, one folder a run."""

import logging
import sys
import warnings
from typing import Any

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ProgressBar as LightningsProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from depthkd.cluster import signals
from depthkd.cluster.gradient_buckets import FixedBuckets
from depthkd.cluster.precision import AnyPrecisionTrainer
from depthkd.cluster.preemption import STATUS, Preempted, Preemption
from depthkd.cluster.preflight import Plan, preflight
from depthkd.cluster.processors import use_processors
from depthkd.cluster.slurm import current_job, is_same_job, this_rank
from depthkd.cluster.sync_batchnorm import SyncBatchNorm
from depthkd.data.bad_samples import BadSampleCheck
from depthkd.data.datamodule import ShardDataModule
from depthkd.errors import MissingFileError, UserError
from depthkd.methods.method import Method
from depthkd.parsing import Parser
from depthkd.paths import user_path
from depthkd.runs.folder import Run
from depthkd.runs.saving import RecordTrainedOn, RunCheckpoint, SafeCheckpointIO, save_now, writes_nothing
from depthkd.runs.start import RunStart
from depthkd.verbs.configs import Command
from depthkd.verbs.trainer_settings import check_fit, check_nodes, check_trainer_settings, place_mlflow
from depthkd.watching.loggers import HeldLogger, run_loggers
from depthkd.watching.progress import ProgressBar, ProgressLines, ValidationLines
from depthkd.watching.watch import Watch

TRAINER_DEFAULTS = {
    "max_epochs": -1,  # the stream has no end: `max_steps` says when to stop
    "use_distributed_sampler": False,  # the stream splits itself
    "check_val_every_n_epoch": None,
    "val_check_interval": 1000,
    "num_sanity_val_steps": 0,
    "enable_model_summary": False,  # `fit` says in one line what learns
}
UNKNOWN_FIGURE = "Early stopping conditioned on metric"  # how Lightning begins to say that there is none
NOISE = (
    "litlogger",
    "TPU available",
    "GPU available",
    "stopped: `max_steps=",
    "Restored all states",
    "KeyboardI",
)


class FitParser(Parser, LightningArgumentParser):
    """LightningCLI's, which says one sentence about a mistake."""


class FitCLI(LightningCLI):
    """LightningCLI with one seed, one folder a run, and checkpoints that cannot name code."""

    def __init__(self, arguments: list[str], name: str | None) -> None:
        self.name = name or "unnamed"
        super().__init__(
            Method,
            ShardDataModule,
            None,  # `RunStart` writes the config
            trainer_class=AnyPrecisionTrainer,
            trainer_defaults=TRAINER_DEFAULTS,
            seed_everything_default=0,
            parser_class=FitParser,
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
        parser.add_class_arguments(Watch, "watch")
        parser.link_arguments("seed_everything", "data.seed", compute_fn=int)
        parser.link_arguments("seed_everything", "model.init_args.seed", compute_fn=int)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse what we were given, in process or not."""
        self.config = parser.parse_args(args)
        seed = self.config[self.config.subcommand].seed_everything
        if isinstance(seed, bool) or not 0 <= seed < 2**32:
            raise UserError(f"seed_everything would be a whole number from 0 to {2**32 - 1}, not {seed}")

    def _parse_ckpt_path(self) -> None:
        """Checkpoints hold no configuration, so that none can name the class to build."""

    @property
    def fits(self) -> bool:
        """Whether this trains, and does not only validate."""
        return bool(self.config.subcommand == "fit")

    def before_instantiate_classes(self) -> None:
        """Settle the run's folder, where it goes on from, and what its machines can do."""
        config = self.config[self.config.subcommand]
        check_trainer_settings(config.trainer)
        place_mlflow(config.trainer)
        if self.fits:
            check_fit(config.trainer)
            check_nodes(config.trainer)
        self.run = run_of(config.run or f"runs/{self.name}")
        config.ckpt_path = self._start(config.ckpt_path)
        if self.fits and not config.trainer.fast_dev_run:
            self.run.in_use.check()
            if not self._resumes(config.ckpt_path):
                self.run.check_movable()
        self.configured = config.clone()
        config.trainer.precision = preflight(
            Plan(
                accelerator=str(config.trainer.accelerator),
                devices=config.trainer.devices,
                nodes=config.trainer.num_nodes,
                precision=str(config.trainer.precision),
                workers=config.data.workers,
                folder=self.run.folder,
            )
        )

    def _start(self, asked: str | None) -> str | None:
        """The checkpoint to go on from, or to validate; None to start anew."""
        last = self.run.last
        if asked is None and self.fits:
            same_job = is_same_job(self.run.folder) and last.is_file()
            return str(last) if same_job else None
        if asked in (None, "last"):
            if not last.is_file():
                what = "to go on from; leave it out to start" if self.fits else "to validate: train it first"
                flag = "--ckpt_path last: " if asked else ""
                raise MissingFileError(f"{flag}there is no {last} {what}")
            return str(last)
        named = Run(str(asked))
        if not named.checkpoint.is_file():
            raise MissingFileError(
                f"--ckpt_path {asked}: there is no such checkpoint; it would be a file, a run folder, or "
                f"'last' for {last}"
            )
        return str(named.checkpoint)

    def _resumes(self, start: str | None) -> bool:
        """Whether a checkpoint to go on from is this run's own, and not another's."""
        return start is not None and Run(start).folder.resolve() == self.run.folder.resolve()

    def config_text(self) -> str:
        """What config.yaml says: all settings of this run, with which another can be started."""
        config = self.configured.clone()
        config.ckpt_path = None
        return str(self._parser("fit").dump(config, skip_unset=False))

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """A trainer that writes into the run's folder and nowhere else."""
        configured = self._get(self.config_init, "trainer")
        kwargs["default_root_dir"] = str(self.run.folder)
        loggers = _listed(configured.logger or None)
        if configured.logger in (None, True):
            loggers = run_loggers(self.run.logs) if self.fits else []
        if self.fits:
            kwargs["logger"] = [HeldLogger(self.run.logs) for _ in loggers]
        elif not loggers:
            kwargs["logger"] = False
        if not self.datamodule.validation:
            kwargs["limit_val_batches"] = 0
        start = self._get(self.config, "ckpt_path")
        resumes = self._resumes(start)
        before = None if start is None or resumes else Run(start).folder
        watch: Watch = self._get(self.config_init, "watch")
        callbacks = [RunStart(self.run, self.config_text, resumes, loggers), watch]
        callbacks += _listed(configured.callbacks)
        callbacks += [Preemption(save_now), RecordTrainedOn(before), BadSampleCheck(save_now), FixedBuckets()]
        callbacks.append(ValidationLines())
        bars = any(isinstance(callback, LightningsProgressBar) for callback in callbacks)
        if not sys.stdout.isatty() and not bars:
            callbacks.append(ProgressLines(watch))
            kwargs["enable_progress_bar"] = False
        elif self.fits and not bars and configured.enable_progress_bar is not False:
            callbacks.append(ProgressBar(watch))
        kwargs["plugins"] = [*_listed(configured.plugins), SafeCheckpointIO()]
        if configured.sync_batchnorm:
            kwargs["plugins"].append(SyncBatchNorm())
        if current_job() is not None:  # its own requeueing saves inside the signal's handler
            kwargs["plugins"].append(SLURMEnvironment(auto_requeue=False))
        return super().instantiate_trainer(callbacks=callbacks, **kwargs)

    def before_validate(self) -> None:
        """See that there is something to validate on.

        Raises:
            UserError: there is nothing.
        """
        if not self.datamodule.validation:
            raise UserError("data.validation names no benchmarks, so there is nothing to validate on")
        start = self._get(self.config, "ckpt_path")
        progress = None if start is None else Run(start).progress()
        if this_rank() != 0:
            return
        if progress is not None and not progress.finished:
            print(f"{start} is of an unfinished run, at {progress}: its metrics are not what they will be")
        for name, benchmark in self.datamodule.validation.items():
            print(f"val/{name}: protocol {benchmark.protocol}", flush=True)

    def before_fit(self) -> None:
        """Say what learns, and whether there is anything left to do."""
        use_processors(self.model.evaluated(), self.trainer.strategy.root_device)
        start = self._get(self.config, "ckpt_path")
        progress = None if start is None else Run(start).progress()
        self.idle = progress is not None and progress.steps >= self.trainer.max_steps
        if this_rank() == 0 and progress is not None and self.idle:
            print(f"{start} is at step {progress.steps} of {self.trainer.max_steps}: nothing is left to do")
        if this_rank() == 0:
            print(described(self.model), flush=True)

    def after_fit(self) -> None:
        """Say where the run is."""
        folder, progress = self.run.folder, self.run.progress()
        if this_rank() != 0 or self.idle or progress is None or writes_nothing(self.trainer):
            return
        if progress.finished:
            early = ", where a callback ended it" if progress.steps < progress.wanted else ""
            what = f"is finished, at {progress}{early}"
        else:
            what = f"stands at {progress}; --ckpt_path last goes on from there"
        print(f"depthkd fit: {folder} {what}", flush=True)


def run_of(folder: str) -> Run:
    """The run in a folder, which need not be there yet.

    Raises:
        UserError: it is a file, or a checkpoint's path.
    """
    path = user_path(folder)
    if path.suffix == ".ckpt" or (path.exists() and not path.is_dir()):
        raise UserError(f"--run {folder}: it would be the run's folder, such as runs/first, and is a file")
    return Run(path)


def described(method: Method) -> str:
    """What learns, in one line."""
    student = method.student
    total = sum(p.numel() for p in student.parameters())
    learning = sum(p.numel() for p in student.parameters() if p.requires_grad)
    return (
        f"{type(method).__name__}: the student is {student.source}, {total:,} parameters, of which "
        f"{learning:,} learn; it predicts {student.space}"
    )


def _listed(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]


def worth_saying(record: logging.LogRecord) -> bool:
    """Not what Lightning advertises, nor what we say better."""
    return not any(word in record.getMessage() for word in NOISE)


def main(command: Command) -> int:
    """Run `depthkd fit`; returns the exit status."""
    return run("fit", command)


def run(verb: str, command: Command) -> int:
    """Run `fit` or `validate`."""
    logging.getLogger("lightning.fabric.utilities.seed").setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(worth_saying)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"Found \d+ module\(s\) in eval mode")  # an average is always
            warnings.filterwarnings("ignore", r".*treespec, LeafSpec", FutureWarning)  # Lightning 2.6.6
            warnings.filterwarnings("ignore", r"The dirpath has changed from")  # --ckpt_path of another run
            warnings.filterwarnings("ignore", r"The number of training batches .* the logging interval")
            warnings.filterwarnings("ignore", r"Be aware that when using `ckpt_path`")  # other callbacks then
            warnings.filterwarnings("ignore", r"Checkpoint directory .* exists and is not empty")
            warnings.filterwarnings("ignore", r"Total length of `list` across ranks is zero")  # no validation
            warnings.filterwarnings("ignore", r"The `srun` command is available")  # it need not be used
            FitCLI([verb, *command.arguments], command.name)
        asked = signals.asked()
    except RuntimeError as error:
        if UNKNOWN_FIGURE not in str(error):
            raise
        raise UserError(f"trainer.callbacks: {' '.join(str(error).split())}") from error
    except Preempted as preempted:
        if this_rank() == 0:
            print(f"depthkd {verb}: {preempted.sentence}", flush=True)
        raise
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):  # to which Lightning's answer is status 1
            raise KeyboardInterrupt from None
        raise
    finally:
        signals.forget()
    return STATUS[asked] if asked in (signals.STOP, signals.LEAVE) else 0  # asked when all was done
