"""Parameter groups, schedule and the running average of weights: what every method trains with."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from depthkd.errors import UserError
from depthkd.models.model import DepthModel

Schedule = Literal["constant", "polynomial", "cosine"]
EMA_KEY = "model.init_args.optimization.ema_decay"
BELOW_ONE = math.nextafter(1.0, 0.0)
RANGES = (  # setting, least and largest value
    ("learning_rate", 0.0, 1e30),
    ("encoder_factor", 0.0, 1e4),
    ("betas", 0.0, BELOW_ONE),
    ("weight_decay", 0.0, 100.0),
    ("power", 0.0, math.inf),
    ("warmup_steps", 0, math.inf),
    ("ema_decay", 0.0, 1.0),
    ("ema_after", 0, math.inf),
    ("ema_every", 1, math.inf),
    ("ema_power", 0.0, math.inf),
)


@dataclass(frozen=True)
class Optimization:
    """AdamW over two groups, the encoder slower than the head, under one schedule.

    Attributes:
        learning_rate: of the head (Distill Any Depth, section 4.1: 5e-5).
        encoder_factor: the encoder learns at `encoder_factor * learning_rate` (Depth Anything V2: 1 to 10).
        betas: of AdamW.
        weight_decay: of AdamW; 0 for norms, biases and other vectors.
        schedule: of both groups, from the first step to `trainer.max_steps`.
        power: of the polynomial schedule.
        warmup_steps: optimizer steps of linear warm-up before it.
        ema_decay: keep an exponential moving average of the student's weights, if given; it is
            then what validation, tests and exports use, unless the method says otherwise.
        ema_after: optimizer steps in which the average is but a copy.
        ema_every: optimizer steps from one update of the average to the next.
        ema_power: of a decay that comes near `ema_decay` slowly: 1 - (1 + steps after `ema_after`)^-power.

    Raises:
        UserError: one is out of its range.
    """

    learning_rate: float = 5e-5
    encoder_factor: float = 0.1
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.01
    schedule: Schedule = "polynomial"
    power: float = 0.9
    warmup_steps: int = 0
    ema_decay: float | None = None
    ema_after: int = 0
    ema_every: int = 1
    ema_power: float | None = None

    def __post_init__(self) -> None:
        for name, least, most in RANGES:
            found = getattr(self, name)
            values = found if isinstance(found, tuple) else () if found is None else (found,)
            if not all(least <= value <= most for value in values):
                to = f"from {least:g} to {most:g}" if most < math.inf else f"{least:g} or more"
                raise UserError(f"model.init_args.optimization.{name} must be {to}, not {found}")

    def average_decay(self, step: int) -> float | None:
        """The decay with which the average is updated after so many optimizer steps; None: not then."""
        if self.ema_decay is None or step % self.ema_every:
            return None
        if step <= self.ema_after:
            return 0.0
        if self.ema_power is None:
            return self.ema_decay
        return float(min(self.ema_decay, 1.0 - (1.0 + step - self.ema_after) ** -self.ema_power))

    def optimizer(self, student: DepthModel, others: list[nn.Parameter]) -> AdamW:
        """AdamW over encoder, head and the method's `others`, each split by whether it decays."""
        groups = []
        for parameters, rate in (
            (list(student.encoder_parameters()), self.encoder_factor * self.learning_rate),
            ([*student.head_parameters(), *others], self.learning_rate),
        ):
            trainable = [p for p in parameters if p.requires_grad]
            for decays in (True, False):
                group = [p for p in trainable if (p.ndim > 1) == decays]
                if group:
                    decay = self.weight_decay if decays else 0.0
                    groups.append({"params": group, "lr": rate, "weight_decay": decay})
        return AdamW(groups, lr=self.learning_rate, betas=self.betas)

    def factor(self, max_steps: int) -> Callable[[int], float]:
        """Learning-rate factor after so many optimizer steps."""
        decaying = max(1, max_steps - self.warmup_steps)

        def at(step: int) -> float:
            if step < self.warmup_steps:
                return (step + 1) / self.warmup_steps
            done = min(1.0, (step - self.warmup_steps) / decaying)
            match self.schedule:
                case "constant":
                    return 1.0
                case "polynomial":
                    return float((1.0 - done) ** self.power)
                case "cosine":
                    return float(0.5 * (1.0 + torch.cos(torch.tensor(done * torch.pi)).item()))

        return at

    def scheduler(self, optimizer: Optimizer, max_steps: int) -> LambdaLR:
        """The schedule as torch wants it, one call a step."""
        return LambdaLR(optimizer, self.factor(max_steps))


@dataclass(frozen=True)
class GroupSettings:
    """What is configured of one parameter group: a checkpoint would bring its own instead."""

    learning_rate: float
    betas: tuple[float, float]
    weight_decay: float

    @classmethod
    def of(cls, optimizer: Optimizer) -> "list[GroupSettings]":
        """Those of an optimizer that has a scheduler and has not been restored yet."""
        return [
            cls(group["initial_lr"], tuple(group["betas"]), group["weight_decay"])
            for group in optimizer.param_groups
        ]


def configure_again(optimizer: Optimizer, scheduler: LambdaLR, settings: list[GroupSettings]) -> list[str]:
    """Bring a restored optimizer to its run's settings; a sentence for each that was another.

    Rates and AdamW's constants are in a checkpoint, the shape of the schedule is not: left alone, a
    resumed run would learn at the old rates under a new schedule. Where nothing was changed, this
    changes nothing.
    """
    changes: dict[str, None] = {}
    step = scheduler.last_epoch
    for group, wanted, factor in zip(optimizer.param_groups, settings, scheduler.lr_lambdas, strict=True):
        rate = wanted.learning_rate * factor(step)
        if not math.isclose(group["lr"], rate, rel_tol=1e-9, abs_tol=1e-15):
            changes[f"a learning rate was {group['lr']:.3g} there and is {rate:.3g} from here on"] = None
        if tuple(group["betas"]) != wanted.betas:
            changes[f"AdamW's betas were {tuple(group['betas'])} and are {wanted.betas}"] = None
        if group["weight_decay"] != wanted.weight_decay:
            changes[f"a weight decay was {group['weight_decay']:g} and is {wanted.weight_decay:g}"] = None
        group |= {"lr": rate, "initial_lr": wanted.learning_rate, "betas": wanted.betas}
        group["weight_decay"] = wanted.weight_decay
    scheduler.base_lrs = [wanted.learning_rate for wanted in settings]
    return list(changes)


def averaged_copy(student: DepthModel) -> DepthModel:
    """Where the moving average lives: a frozen copy in eval mode."""
    return copy.deepcopy(student).eval().requires_grad_(False)


@torch.no_grad()
def update_average(average: nn.Module, student: nn.Module, decay: float) -> None:
    """Exponential moving average of the parameters that learn; buffers are taken over as they are."""
    learns = [p.requires_grad for p in student.parameters()]
    ours: list[Tensor] = [p for p, moves in zip(average.parameters(), learns, strict=True) if moves]
    theirs: list[Tensor] = [p for p, moves in zip(student.parameters(), learns, strict=True) if moves]
    torch._foreach_lerp_(ours, theirs, 1.0 - decay)
    for mine, other in zip(average.buffers(), student.buffers(), strict=True):
        mine.copy_(other)
