"""Labels and losses that are not finite: the ones are masked and counted, the others stop the run in time.

Nothing here makes the host wait for an idle device. What is known of a batch (the value of each loss term;
of each label, how many pixels were left out) is copied to the host behind the forward pass, and read before
the optimizer steps, while the device still has the backward pass to do.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from depthkd.batch import TrainingBatch
from depthkd.errors import UserError

Label = Float[Tensor, "batch *pixels"]
LabelMask = Bool[Tensor, "batch *pixels"]

FLAT = 1e-6  # of a label's largest absolute value: float32 rounding makes a constant map vary as much
OVERFLOWS = 16  # steps in a row that a gradient scaler may skip: it has come from 65536 to 1 by then
DEAD, DEAD_FOR = 0.9, 50  # share of a student's pixels that are exactly 0, and for how many batches in a row
TELLING = 8  # samples without a label, and none with one, say something of the teacher
NAMED = 16  # samples that a sentence names

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelFacts:
    """What is known of one source's labels of one origin.

    Attributes:
        source: its name in `data.train`.
        origin: whose labels, in words.
        wanted: what a pixel must be to count, in words.
        keys: of the samples.
        counts: of each sample, on the device: pixels left out because they are not finite, pixels that
            count, and 1 where these are all of one value.
    """

    source: str
    origin: str
    wanted: str
    keys: list[str]
    counts: Float[Tensor, "3 batch"]


@dataclass(frozen=True)
class BatchFacts:
    """What is known of one batch, on its way to the host; whole once `ready` has come."""

    keys: list[str]
    terms: list[str]
    labels: list[LabelFacts]
    values: Float[Tensor, " facts"]
    ready: torch.cuda.Event | None


@dataclass
class Tally:
    """Counts of all labels of one origin."""

    labels: int = 0
    masked: int = 0  # labels with pixels left out
    pixels: int = 0  # left out
    constant: int = 0

    def __str__(self) -> str:
        parts = []
        if self.masked:
            parts.append(f"pixels left out, not finite: {self.pixels}, in {self.masked} of {self.labels}")
        if self.constant:
            parts.append(f"constant, of one value at every pixel: {self.constant} of {self.labels}")
        return "; ".join(parts)


@dataclass(frozen=True)
class Unusable:
    """Of a batch's samples of one source, those that have a label without any usable pixel.

    Attributes:
        source: its name in `data.train`.
        samples: how many it has in the batch.
        sentences: one about each that cannot be learned from.
    """

    source: str
    samples: int
    sentences: list[str]


@dataclass
class Finiteness:
    """Keeps what is not finite out of the weights and out of checkpoints."""

    tallies: dict[str, Tally] = field(default_factory=dict)
    samples: dict[str, int] = field(default_factory=dict)  # source -> how many had labels
    learned: set[str] = field(default_factory=set)  # sources with a sample that could be learned from
    last: dict[str, str] = field(default_factory=dict)  # source -> the last sentence about one
    keys: list[str] = field(default_factory=list)  # of the last optimizer step
    _labels: list[LabelFacts] = field(default_factory=list)
    _pending: list[BatchFacts] = field(default_factory=list)
    _overflows: int = 0
    _said: dict[str, int] = field(default_factory=dict)
    _dead: int = 0  # batches in a row

    def usable(
        self,
        source: str,
        origin: str,
        keys: list[str],
        label: Label,
        mask: LabelMask | None = None,
        wanted: str = "finite",
    ) -> tuple[Label, LabelMask]:
        """The label with 0 where it is not finite, and where it counts: where it is finite, inside `mask`.

        Args:
            source: name in `data.train`.
            origin: whose label, in words.
            keys: of the samples.
            label: one an image.
            mask: where else it must be valid; None: everywhere.
            wanted: what a pixel must be to count, in words.
        """
        finite = label.isfinite()
        valid = finite if mask is None else mask & finite
        lost = (~finite if mask is None else mask & ~finite).flatten(1).sum(1)
        left = valid.flatten(1).sum(1)
        low = torch.where(valid, label, torch.inf).flatten(1).amin(1)
        high = torch.where(valid, label, -torch.inf).flatten(1).amax(1)
        constant = (left > 1) & (high - low <= FLAT * torch.maximum(high.abs(), low.abs()))
        counts = torch.stack([lost, left, constant]).float()
        self._labels.append(LabelFacts(source, origin, wanted, keys, counts))
        return torch.where(finite, label, 0), valid

    def note(self, batch: TrainingBatch, losses: Mapping[str, Tensor], student: Label | None = None) -> None:
        """Send what is known of a batch, after its forward pass, on its way to the host.

        Args:
            batch: by source.
            losses: term -> value.
            student: what it predicts of some of the images.
        """
        labels, self._labels = self._labels, []
        terms = torch.stack([loss.detach() for loss in losses.values()]).float()
        zeros = terms.new_zeros(1) if student is None else (student == 0).float().mean()[None]
        values, ready = _sent(torch.cat([terms, zeros, *(label.counts.flatten() for label in labels)]))
        keys = [key for part in batch.values() for key in part.keys]
        self._pending.append(BatchFacts(keys, list(losses), labels, values, ready))

    def read(self, step: int, student: nn.Module, scaled: bool) -> list[Unusable]:
        """Count the labels of the batches since the last call, and check that the losses are finite.

        Args:
            step: the optimizer step that comes next, counted from 1.
            student: whose weights learn.
            scaled: whether a gradient scaler skips steps that overflow, which is normal now and then.

        Returns:
            For each source of each batch, the samples that cannot be learned from.

        Raises:
            UserError: the loss is not finite, and no scaler skips the step; or one has skipped 16 in a row.
        """
        pending, self._pending = self._pending, []
        unusable: list[Unusable] = []
        wrong: dict[str, float] = {}
        at_fault: list[str] = []
        self.keys = [key for facts in pending for key in facts.keys]
        for facts in pending:
            if facts.ready is not None:
                facts.ready.synchronize()
            values = facts.values.tolist()
            found = {t: v for t, v in zip(facts.terms, values, strict=False) if not abs(v) < torch.inf}
            wrong |= found
            at_fault += facts.keys if found else []
            self._see_zeros(values[len(facts.terms)])
            unusable += self._count(facts.labels, values[len(facts.terms) + 1 :])
        self._overflows = self._overflows + 1 if wrong else 0
        if wrong and not (scaled and self._overflows < OVERFLOWS):
            raise UserError(_sentence(step, student, wrong, at_fault))
        if self._overflows == 1:
            log.warning("the loss is not finite at step %d; the gradient scaler skips this step", step)
        return unusable

    def check_saved(self, step: int, student: nn.Module, last: bool) -> None:
        """See to it that what a checkpoint is about to hold is worth it.

        Args:
            step: optimizer steps done.
            student: whose weights it holds.
            last: whether training ends here.

        Raises:
            UserError: the weights are not finite, or no sample of a source (of eight or more, before the
                end) had a label to learn from.
        """
        if not _all_finite(student):
            raise UserError(
                f"the student's weights are not finite after step {step}, whose samples were "
                f"{_named(self.keys)}: they were not saved, and a checkpoint of an earlier step stands; a "
                "smaller learning_rate or trainer.gradient_clip_val may help"
            )
        for source, samples in self.samples.items():
            if source not in self.learned and samples >= (1 if last else TELLING):
                raise UserError(
                    f"none of the {samples} samples of data.train.{source} up to step {step} had a label to "
                    f"learn from, so nothing was saved; the last: {self.last[source]}"
                )

    def summary(self) -> None:
        """Say all counts that are not 0, at the end."""
        for origin, tally in self.tallies.items():
            if str(tally):
                log.warning("%s, in all: %s", origin, tally)

    def _see_zeros(self, share: float) -> None:
        """Say once that the ReLU at the student's end lets hardly anything pass any more."""
        self._dead = self._dead + 1 if share > DEAD else 0
        if self._dead == DEAD_FOR:
            log.warning(
                "the student has predicted exactly 0 at over %d %% of the pixels for %d batches: the ReLU at "
                "its end has died, and training seldom revives it; begin again with a smaller learning_rate, "
                "more warmup_steps or another seed",
                100 * DEAD, DEAD_FOR,
            )  # fmt: skip

    def _count(self, labels: list[LabelFacts], values: list[float]) -> list[Unusable]:
        bad: dict[str, dict[int, str]] = {}
        samples = {label.source: len(label.keys) for label in labels}
        for label in labels:
            count = len(label.keys)
            lost, left, constant = (values[i * count : (i + 1) * count] for i in range(3))
            values = values[3 * count :]
            tally = self.tallies.setdefault(label.origin, Tally())
            tally.labels += count
            tally.masked += sum(n > 0 for n in lost)
            tally.pixels += int(sum(lost))
            tally.constant += int(sum(constant))
            self._say(label.origin, tally)
            of_source = bad.setdefault(label.source, {})
            for i, n in enumerate(left):
                if not n:
                    what = f"'{label.keys[i]}': {label.origin} has no pixel that is {label.wanted}"
                    of_source.setdefault(i, f"data.train.{label.source}: sample {what}")
        found = [Unusable(source, samples[source], list(said.values())) for source, said in bad.items()]
        for one in found:
            self.samples[one.source] = self.samples.get(one.source, 0) + one.samples
            if one.sentences:
                self.last[one.source] = one.sentences[-1]
            if len(one.sentences) < one.samples:
                self.learned.add(one.source)
        return found

    def _say(self, origin: str, tally: Tally) -> None:
        """The first time, and whenever there are ten times as many."""
        found = tally.masked + tally.constant
        if found and found >= self._said.get(origin, 1):
            self._said[origin] = 10 * found
            log.warning("%s, so far: %s", origin, str(tally))


def _sentence(step: int, student: nn.Module, wrong: Mapping[str, float], keys: list[str]) -> str:
    terms = ", ".join(f"{term} is {value}" for term, value in wrong.items())
    advice = "look at these samples, or take a smaller model.init_args.optimization.learning_rate"
    if not _all_finite(student):
        advice = (
            "the student's weights were not finite even before, so a smaller "
            "model.init_args.optimization.learning_rate or trainer.gradient_clip_val may help"
        )
    return (
        f"the loss is not finite at step {step} ({terms}), with the samples {_named(keys)}: this step was "
        f"not taken, and a checkpoint of an earlier one stands; {advice}"
    )


def _sent(values: Float[Tensor, " facts"]) -> tuple[Float[Tensor, " facts"], torch.cuda.Event | None]:
    """A copy in the host's memory, and what to wait for before it is read."""
    if not values.is_cuda:
        return values.cpu(), None
    there = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    there.copy_(values, non_blocking=True)
    ready = torch.cuda.Event()  # type: ignore[no-untyped-call]
    ready.record()
    return there, ready


def _all_finite(network: nn.Module) -> bool:
    weights = [p for p in network.parameters() if p.is_floating_point()]
    return not weights or bool(torch.stack([p.isfinite().all() for p in weights]).all())


def _named(keys: list[str]) -> str:
    more = f" and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
    return ", ".join(f"'{key}'" for key in keys[:NAMED]) + more
