"""Parameter groups, schedule and the running average of weights: what every method trains with."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from depthkd.errors import UserError
from depthkd.models.model import DepthModel

Schedule = Literal["constant", "polynomial", "cosine", "one_cycle"]
EMA_KEY = "model.init_args.optimization.ema_decay"
BELOW_ONE = math.nextafter(1.0, 0.0)
RANGES = (  # setting, least and largest value
    ("learning_rate", 0.0, 1e30),
    ("encoder_factor", 0.0, 1e4),
    ("betas", 0.0, BELOW_ONE),
    ("weight_decay", 0.0, 100.0),
    ("power", 0.0, math.inf),
    ("warmup_steps", 0, math.inf),
    ("pct_start", 0.0, BELOW_ONE),
    ("div_factor", 1.0, 1e30),
    ("final_div_factor", 1.0, 1e30),
    ("cycle_momentum", 0.0, BELOW_ONE),
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
        weight_decay: of AdamW; 0 for norms, biases and other vectors, unless `decay_vectors`.
        schedule: of both groups, from the first step to `trainer.max_steps`.
        power: of the polynomial schedule.
        warmup_steps: optimizer steps of linear warm-up before it.
        pct_start: of "one_cycle" (Smith and Topin, arXiv 1708.07120): the part of all steps in which the rate
            rises, along a cosine, to `learning_rate`; in the others it falls.
        div_factor: of "one_cycle": the first rate is `learning_rate` / div_factor.
        final_div_factor: of "one_cycle": the last rate is the first one / final_div_factor.
        cycle_momentum: of "one_cycle": AdamW's first beta where the rate is highest, and at both ends, as it
            moves against the rate: torch's `OneCycleLR` has .85 and .95. None: it stays `betas[0]`.
        ema_decay: keep an exponential moving average of the student's weights, if given; it is
            then what validation, tests and exports use, unless the method says otherwise.
        ema_after: optimizer steps in which the average is but a copy.
        ema_every: optimizer steps from one update of the average to the next.
        ema_power: of a decay that comes near `ema_decay` slowly: 1 - (1 + steps after `ema_after`)^-power.
        decay_vectors: whether norms, biases and other vectors decay too, as in plain AdamW.

    Raises:
        UserError: one is out of its range, or does not fit the schedule.
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
    pct_start: float = 0.3
    div_factor: float = 25.0
    final_div_factor: float = 1e4
    cycle_momentum: tuple[float, float] | None = None
    decay_vectors: bool = False

    def __post_init__(self) -> None:
        for name, least, most in RANGES:
            found = getattr(self, name)
            values = found if isinstance(found, tuple) else () if found is None else (found,)
            if not all(least <= value <= most for value in values):
                to = f"from {least:g} to {most:g}" if most < math.inf else f"{least:g} or more"
                raise UserError(f"model.init_args.optimization.{name} must be {to}, not {found}")
        one_cycle = self.schedule == "one_cycle"
        for name, misplaced in (
            ("warmup_steps", one_cycle and self.warmup_steps > 0),
            ("cycle_momentum", not one_cycle and self.cycle_momentum is not None),
        ):
            if misplaced:
                raise UserError(
                    f"model.init_args.optimization.{name} does not go with the schedule '{self.schedule}': "
                    "one_cycle warms up by itself, and alone moves the momentum; leave it out"
                )

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
                    decay = self.weight_decay if decays or self.decay_vectors else 0.0
                    groups.append({"params": group, "lr": rate, "weight_decay": decay})
        return AdamW(groups, lr=self.learning_rate, betas=self.betas)

    def factor(self, max_steps: int) -> Callable[[int], float]:
        """Learning-rate factor after so many optimizer steps."""
        if self.schedule == "one_cycle":
            first = 1 / self.div_factor
            return partial(self._one_cycle, max_steps, first, 1.0, first / self.final_div_factor)
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
            raise AssertionError(self.schedule)

        return at

    def _one_cycle(self, max_steps: int, first: float, peak: float, last: float, step: int) -> float:
        """From `first` to `peak` in `pct_start` of the steps, then to `last`, along cosines; as `OneCycleLR`
        counts steps, the peak is at step pct_start * max_steps - 1, and the end at max_steps - 1."""
        top, end = self.pct_start * max_steps - 1, max_steps - 1
        if step <= top:
            return _along_cosine(first, peak, step / top if top > 0 else 1.0)
        return _along_cosine(peak, last, min(1.0, (step - top) / max(end - top, 1e-9)))

    def momentum(self, max_steps: int) -> Callable[[int], float] | None:
        """AdamW's first beta after so many optimizer steps; None: `betas[0]`."""
        if self.cycle_momentum is None:
            return None
        low, high = self.cycle_momentum
        return partial(self._one_cycle, max_steps, high, low, high)

    def scheduler(self, optimizer: Optimizer, max_steps: int) -> "StepSchedule":
        """The schedule as torch wants it, one call a step."""
        return StepSchedule(optimizer, self.factor(max_steps), self.momentum(max_steps))


def _along_cosine(start: float, end: float, part: float) -> float:
    """From `start` to `end` along half a cosine, as `part` goes from 0 to 1."""
    return end + (start - end) / 2 * (1 + math.cos(math.pi * part))


class StepSchedule(LambdaLR):
    """A factor on all learning rates for each step and, if wanted, AdamW's first beta beside it.

    Args:
        optimizer: whose rates and betas are set.
        factor: of the rates, after so many steps.
        momentum: the first beta, after so many steps; None: it stays as it is.
    """

    def __init__(
        self, optimizer: Optimizer, factor: Callable[[int], float], momentum: Callable[[int], float] | None
    ) -> None:
        self.momentum = momentum
        super().__init__(optimizer, factor)

    def step(self, epoch: int | None = None) -> None:
        """Set rates and betas for the next optimizer step."""
        super().step(epoch)
        for group in self.optimizer.param_groups:
            group["betas"] = self.betas_at(self.last_epoch, group["betas"])

    def betas_at(self, step: int, betas: tuple[float, float]) -> tuple[float, float]:
        """What becomes of configured betas after so many steps."""
        return betas if self.momentum is None else (self.momentum(step), betas[1])

    def state_dict(self) -> dict[str, Any]:
        """The state without the functions, which a configuration makes anew."""
        return {name: value for name, value in super().state_dict().items() if name != "momentum"}


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


def configure_again(
    optimizer: Optimizer, scheduler: StepSchedule, settings: list[GroupSettings]
) -> list[str]:
    """Bring a restored optimizer to its run's settings; a sentence for each that was another.

    Rates and AdamW's constants are in a checkpoint, the shape of the schedule is not: left alone, a
    resumed run would learn at the old rates under a new schedule. Where nothing was changed, this
    changes nothing.
    """
    changes: dict[str, None] = {}
    step = scheduler.last_epoch
    for group, wanted, factor in zip(optimizer.param_groups, settings, scheduler.lr_lambdas, strict=True):
        rate, betas = wanted.learning_rate * factor(step), scheduler.betas_at(step, wanted.betas)
        if not math.isclose(group["lr"], rate, rel_tol=1e-9, abs_tol=1e-15):
            changes[f"a learning rate was {group['lr']:.3g} there and is {rate:.3g} from here on"] = None
        if not all(map(math.isclose, group["betas"], betas)):
            changes[f"AdamW's betas were {tuple(group['betas'])} and are {betas}"] = None
        if group["weight_decay"] != wanted.weight_decay:
            changes[f"a weight decay was {group['weight_decay']:g} and is {wanted.weight_decay:g}"] = None
        group |= {"lr": rate, "initial_lr": wanted.learning_rate, "betas": betas}
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
