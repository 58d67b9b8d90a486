"""Method: what all trainers share; a method's file adds its losses and reads like its paper."""

import logging
import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any
from zlib import crc32

import torch
from jaxtyping import Float
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import Optimizer

from depthkd.batch import Batch, TrainingBatch
from depthkd.errors import UserError
from depthkd.methods.finite import Finiteness, Label, LabelMask
from depthkd.methods.optimization import (
    EMA_KEY,
    GroupSettings,
    Optimization,
    averaged_copy,
    configure_again,
    update_average,
)
from depthkd.methods.teachers import Origin, teachers_told
from depthkd.methods.validation import Validation
from depthkd.models.frozen import HALF, Frozen
from depthkd.models.model import DepthModel, resize_map
from depthkd.shapes import Image, Map, Mask
from depthkd.watching.agreement import agreement

Latent = Float[Tensor, "batch channels latent_height latent_width"]
Teacher = Callable[[], DepthModel]
log = logging.getLogger(__name__)


class Method(LightningModule):
    """Trains `student`: sums the weighted losses, logs each, steps, averages, validates, saves.

    A method names its teachers in `teachers`, builds nothing before training starts, and returns
    from `losses` one scalar a term: the mean over the images of their per-image values.

    Args:
        student: the network that learns.
        optimization: optimizer, schedule and moving average.
        term_weights: a dataclass with one weight for each term that `losses` can return; 0 switches it off.
        teachers: name -> how to build it; they are never part of a checkpoint.
        seed: of everything random in training.

    Raises:
        UserError: the student resizes images in another way than depthkd's, or a weight is below 0.
    """

    tests_average = True  # whether a moving average, where there is one, is what tests and exports see
    labels_crops = False  # whether its teachers label crops, which labels of whole images cannot replace

    def __init__(
        self,
        student: DepthModel,
        optimization: Optimization,
        term_weights: Any,
        teachers: dict[str, Teacher],
        seed: int,
    ) -> None:
        super().__init__()
        if (owner := student.preprocessing) != DepthModel.preprocessing:
            raise UserError(
                f"model.init_args.student.init_args.preprocessing is '{owner}', but a student learns with "
                "'depthkd': leave it out, and test the run as a depthkd.runs.TrainedDepth with "
                f"`settings: {{preprocessing: {owner}}}`"
            )
        self.student = student
        self.optimization = optimization
        self.weights: dict[str, float] = asdict(term_weights)
        for term, weight in self.weights.items():
            if not 0 <= weight < math.inf:
                raise UserError(f"the weight of a term must be 0 or more, and '{term}' has {weight}")
        self.teacher_factories = teachers
        self.teachers: dict[str, Frozen] = {}
        self.seed = seed
        self.validation = Validation(self, self.evaluated, self.pictures)
        self.finiteness = Finiteness()
        self.latest: dict[str, Tensor] = {}  # maps of the last training batch, for the log's pictures
        if optimization.ema_decay is not None:
            self.student_average = averaged_copy(student)

    @abstractmethod
    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """Term -> its mean over the batch's images."""

    def evaluated(self) -> DepthModel:
        """The student as tests and exports see it: the moving average, where there is one."""
        return self.student_average if self._averaged() else self.student

    def _averaged(self) -> bool:
        return self.tests_average and self.optimization.ema_decay is not None

    def student_depth(self, image: Image) -> Map:
        """The student's depth at the image's size, float32, with gradients."""
        size = (image.shape[-2], image.shape[-1])
        return resize_map(self.student(image).depth.float(), size)

    def usable(
        self,
        name: str,
        part: Batch,
        origin: str,
        label: Label,
        mask: LabelMask | None = None,
        wanted: str = "finite",
    ) -> tuple[Label, LabelMask]:
        """A source's labels with 0 where they are not finite, and where they count.

        What is left out is counted; a sample with nothing left is a bad one (`data.max_bad_fraction`).

        Args:
            name: of the source in `data.train`.
            part: the source's samples.
            origin: whose labels, in words.
            label: one an image.
            mask: where else they must be valid; None: everywhere.
            wanted: what a pixel must be to count, in words.
        """
        return self.finiteness.usable(name, origin, part.keys, label, mask, wanted)

    def named(self, teacher: str) -> str:
        """A teacher, in words."""
        return f"teacher '{teacher}' ({self.teachers[teacher].model.source})"

    def taught_by(self) -> Mapping[str, Origin]:
        """Name -> network, of all that the student learns from."""
        return {name: teacher.model for name, teacher in self.teachers.items()}

    def keep_picture(self, image: Image, target: Map, student: Map, mask: Mask | None = None) -> None:
        """Keep the first images of this batch for the log: what was learned from (where it counts), what came
        out."""
        kept = {"image": image, "target": target, "student": student}
        kept |= {} if mask is None else {"mask": mask}
        self.latest = {name: tensor[:4].detach() for name, tensor in kept.items()}

    def pictures(self) -> dict[str, tuple[Image, list[Map]]]:
        """What the log shows of the last training batch: title -> images, and maps in the student's space."""
        latest = self.latest
        if "target" not in latest:
            return {}
        return {"train/latest": (latest["image"], [latest["target"], latest["student"]])}

    def log_pictures(self) -> None:
        """Log pictures of the last training batch, and where they alone show what the student predicts, how
        well its last map agrees with the first, which it learns from."""
        for maps in self.validation.show_latest().values():
            if "student" not in self.latest and len(maps) > 1:
                self.log("train/agreement", agreement(maps[-1], maps[0]), batch_size=len(maps[0]))

    @staticmethod
    def mean_over_images(parts: list[dict[str, Float[Tensor, " _"]]]) -> dict[str, Tensor]:
        """Per-image values of several sources -> one mean a term over all images that have it.

        The sources' counts differ, so their axis has no name to be held to. An image whose label has no
        usable pixel has loss 0 and is counted: the others' gradients do not depend on what is beside them.
        """
        terms = dict.fromkeys(term for part in parts for term in part)
        return {term: torch.cat([part[term] for part in parts if term in part]).mean() for term in terms}

    def used(self, term: str) -> bool:
        """Whether a term has a weight at all."""
        return self.weights[term] != 0

    def note_training_size(self, size: tuple[int, int] | None) -> None:
        """Where the student runs from now on, if nobody asks for another size (`DepthModel.trained_at`)."""
        self.student.trained_at = size
        if self.optimization.ema_decay is not None:
            self.student_average.trained_at = size

    def sized(self, name: str, part: Batch) -> Image:
        """A source's images, of a size that the student runs at.

        Raises:
            UserError: they are of another.
        """
        image = part.images()
        size = (image.shape[-2], image.shape[-1])
        multiple = self.student.multiple
        if any(side % multiple for side in size):
            raise UserError(
                f"data.train.{name}: images are {size[0]} x {size[1]} pixels, but "
                f"{type(self.student).__name__} learns from sides that are multiples of {multiple}: set the "
                "transform's size to such"
            )
        return image

    def generators(self, name: str, part: Batch) -> list[torch.Generator]:
        """One for each sample of a source, seeded by its place in the stream: neither ranks nor devices
        change what is drawn from it."""
        places = part.positions or range(len(part))
        seeds = [crc32(f"{self.seed} {name} {place}".encode()) for place in places]
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    @staticmethod
    def noise(like: Latent, generators: list[torch.Generator]) -> Latent:
        """Normal noise, each image's from its own generator."""
        drawn = torch.stack([torch.randn(like.shape[1:], generator=g) for g in generators])
        return drawn.to(like.device, non_blocking=True)

    # Training

    def setup(self, stage: str) -> None:
        """Build the teachers, on the device, when training starts and not before.

        Raises:
            UserError: a source has labels of whole images, and this method `labels_crops`.
        """
        if stage == "fit" and self.labels_crops:
            self._refuse_labels()
        if stage == "fit" and not self.teachers:
            device = self.trainer.strategy.root_device
            half = HALF.get(str(self.trainer.precision))
            drawn_on = [device] if device.type == "cuda" else []
            for name, make in self.teacher_factories.items():
                with torch.random.fork_rng(drawn_on):  # one with random weights has the same on every rank
                    torch.manual_seed(crc32(f"{self.seed} {name}".encode()))
                    self.teachers[name] = Frozen(make, device, autocast=half)

    def _refuse_labels(self) -> None:
        sources = getattr(getattr(self._trainer, "datamodule", None), "train", {})
        named = [name for name, source in sources.items() if getattr(source, "labels", None) is not None]
        if named:
            raise UserError(
                f"data.train.{named[0]}.labels: {type(self).__name__} asks its teacher about every crop, "
                "which labels of whole images cannot answer: leave them out"
            )

    def on_fit_start(self) -> None:
        """Hub checkpoints come in eval mode; a student learns in training mode, and at a size of the data."""
        self.student.train()
        datamodule: Any = getattr(self.trainer, "datamodule", None)
        size = datamodule.training_size() if hasattr(datamodule, "training_size") else None
        if size is not None:
            self.note_training_size(size)

    def on_train_start(self) -> None:
        """Learn at the rates that are configured, and say where a checkpoint had others."""
        scheduler: Any = self.trainer.lr_scheduler_configs[0].scheduler
        for early_stopping in self.trainer.early_stopping_callbacks:
            early_stopping.stopping_reason_message = None  # of a part of the run that has ended before
        changes = configure_again(self.trainer.optimizers[0], scheduler, self.group_settings)
        if changes and self.trainer.is_global_zero:
            log.warning(
                "going on at step %d with other settings than the checkpoint's: %s",
                self.trainer.global_step,
                "; ".join(changes),
            )

    def on_train_batch_start(self, batch: TrainingBatch, batch_idx: int) -> None:
        """Seed dropout and its like by the batch, so that a resumed run draws what the first would have."""
        batches = self.trainer.fit_loop.epoch_loop.batch_progress.total.ready
        torch.manual_seed(hash((self.seed, batches, self.global_rank)) % 2**63)

    def training_step(self, batch: TrainingBatch, batch_idx: int) -> Tensor:
        """The weighted sum of the losses; each is logged under its own name."""
        losses = self.losses(batch)
        total = torch.stack([self.weights[name] * loss for name, loss in losses.items()]).sum()
        size = sum(len(part) for part in batch.values())
        if "student" in self.latest:  # scale-and-shift-invariant losses let it drift without bound
            self.log("train/magnitude", self.latest["student"].abs().mean(), batch_size=size)
        self.log("train/loss", total.detach(), prog_bar=True, batch_size=size)
        self.log_dict({f"train/{name}": loss.detach() for name, loss in losses.items()}, batch_size=size)
        self.finiteness.note(batch, {**losses, "loss": total}, self.latest.get("student"))
        # a loss that is not finite may have a finite gradient; so none passes, on any rank
        return total * torch.where(total.isfinite(), 1.0, torch.nan)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Stop before a loss that is not finite moves the weights, and count samples without a label.

        Raises:
            UserError: the loss is not finite, or too many samples have no label to learn from.
        """
        scaled = str(self.trainer.precision) == "16-mixed"
        trainer: Any = self.trainer  # whose `datamodule` Lightning sets without declaring it
        datamodule = getattr(trainer, "datamodule", None)
        for found in self.finiteness.read(self.global_step + 1, self.student, scaled):
            if datamodule is not None:
                datamodule.note_unusable(found.source, found.sentences, found.samples)

    def on_train_end(self) -> None:
        """Say what was left out of labels in all."""
        self.finiteness.summary()

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step, then let the moving average follow."""
        super().optimizer_step(*args, **kwargs)
        decay = self.optimization.average_decay(self.trainer.global_step + 1)  # this step is not counted yet
        if decay is not None:
            update_average(self.student_average, self.student, decay)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW and its schedule over `trainer.max_steps`."""
        others = [p for name, child in self.named_children() for p in self._own(name, child)]
        optimizer = self.optimization.optimizer(self.student, others)
        scheduler = self.optimization.scheduler(optimizer, self.trainer.max_steps)
        self.group_settings = GroupSettings.of(optimizer)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    @staticmethod
    def _own(name: str, child: nn.Module) -> list[nn.Parameter]:
        return [] if name in ("student", "student_average") else list(child.parameters())

    # Validation and checkpoints

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Score one sample of one benchmark under that benchmark's protocol."""
        self.validation.step(batch, batch_idx, dataloader_idx)

    def on_validation_epoch_end(self) -> None:
        """Log the means over all ranks."""
        self.validation.finish()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """See that the checkpoint is of this method and this student, and run at the size of its training.

        Raises:
            UserError: it is not; the sentence says what differs.
        """
        facts, ours = checkpoint["depthkd"], self.state_dict()
        method = f"{type(self).__module__}.{type(self).__qualname__}"
        if facts["method"] != method:
            raise UserError(
                f"the checkpoint was trained by {facts['method']}, and the config's model is {method}: a run "
                "goes on with the method that it began with"
            )
        if self.trainer.state.fn != "fit":  # what only training needs is not built
            checkpoint["state_dict"] = {k: v for k, v in checkpoint["state_dict"].items() if k in ours}
        theirs = checkpoint["state_dict"]
        differing = sorted(
            name
            for name in ours.keys() | theirs.keys()
            if name not in ours or name not in theirs or ours[name].shape != theirs[name].shape
        )
        if differing:
            there, here = (_shape(state.get(differing[0])) for state in (theirs, ours))
            raise UserError(
                f"the checkpoint's weights do not fit model.init_args: {len(differing)} tensors differ, "
                f"'{differing[0]}' among them ({there} in the checkpoint, {here} here); a run goes on with "
                "the student that it began with"
                + (f"; student_average is of {EMA_KEY}" if differing[0].startswith("student_average") else "")
            )
        size = facts.get("trained_at")
        if size is not None:
            self.note_training_size((size[0], size[1]))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say what the weights are: method, space, size, and the teachers that they learned from.

        Raises:
            UserError: they are not finite, or no sample had a label to learn from.
        """
        last = self.global_step >= self.trainer.max_steps
        self.finiteness.check_saved(self.global_step, self.student, last)
        checkpoint["depthkd"] = {
            "method": f"{type(self).__module__}.{type(self).__qualname__}",
            "space": str(self.student.space),
            "student": self.student.source,
            "averaged": self._averaged(),
            "trained_at": None if (at := self.student.trained_at) is None else list(at),
            "steps": self.trainer.max_steps,
            "ended": self.trainer.should_stop
            and any(map(_has_stopped, self.trainer.early_stopping_callbacks)),
            "teachers": teachers_told(self.taught_by(), self.trainer),
        }


def _shape(tensor: Tensor | None) -> str:
    return "absent" if tensor is None else str(list(tensor.shape))


def _has_stopped(early_stopping: EarlyStopping) -> bool:
    """Whether it was this that stopped the run, and not a signal or `trainer.max_time`."""
    return early_stopping.stopping_reason_message is not None
