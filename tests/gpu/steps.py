"""One training step of true size: its speed and memory, and the plain loop beside it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from depthkd.batch import METRIC_DEPTH, Batch, TrainingBatch
from depthkd.geometry import crop_boxes
from depthkd.losses.features import feature_alignment_loss
from depthkd.losses.gradient import normalized_gradient_matching
from depthkd.methods.distill_any_depth import (
    AssistantGuided,
    CrossContext,
    CrossContextDistill,
    drawn_teacher,
)
from depthkd.methods.fiffdepth import FiffDepthFeedForward
from depthkd.methods.method import Method
from depthkd.methods.optimization import Optimization, update_average
from depthkd.models.dpt.depth_anything import DepthAnything
from depthkd.models.frozen import Frozen
from depthkd.models.latent_diffusion.diffusion import Lotus
from depthkd.models.latent_diffusion.fiffdepth import FiffDepth
from depthkd.models.model import DepthModel, resize_map
from tests.gpu.parts import Place
from tests.gpu.report import Row
from tests.gpu.speed import bf16_rate
from tests.speed import sharpdepth
from tests.speed.families import seconds
from tests.speed.normalization import loop

WINDOWS = 4
Loss = Callable[[], torch.Tensor]


@dataclass(frozen=True)
class Case:
    """A step to measure.

    Args:
        name: of it, with its sizes.
        method: set up as `fit` would.
        batch: what it learns from.
        plain: the loss as a straightforward loop over the same modules computes it; None where that is
            what the method does.
    """

    name: str
    method: Method
    batch: TrainingBatch
    plain: Loss | None = None


def ready(method: Method, place: Place) -> None:
    """What `fit` does before the first step."""
    trainer: Any = sharpdepth.Step("32-true" if place.tiny else "bf16-mixed")
    half = None if place.tiny else torch.bfloat16
    method.to(place.device)
    method.teachers = {
        name: Frozen(make, place.device, autocast=half) for name, make in method.teacher_factories.items()
    }
    method._trainer = trainer
    method.setup("fit")
    method.student.train()


def measured(place: Place, case: Case) -> Row:
    """The step of a case, and its plain loop's."""
    count = sum(len(part) for part in case.batch.values())
    others = [p for n, c in case.method.named_children() for p in case.method._own(n, c)]
    optimizer = case.method.optimization.optimizer(case.method.student, others)

    def ours() -> torch.Tensor:
        terms = case.method.losses(case.batch)
        return torch.stack([case.method.weights[name] * term for name, term in terms.items()]).sum()

    def step(loss: Loss) -> None:
        with torch.autocast(place.device.type, torch.bfloat16, enabled=not place.tiny):
            value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        if hasattr(case.method, "student_average"):
            update_average(case.method.student_average, case.method.student, 0.999)

    repeats = 1 if place.tiny else 5
    if not place.tiny:
        torch.cuda.reset_peak_memory_stats()
    taken = seconds(lambda: step(ours), repeats)
    metric = f"{count / taken:.3g} images/s ({taken * 1e3:.0f} ms)"
    with FlopCounterMode(display=False) as counter:
        step(ours)
    metric += f", {counter.get_total_flops() / taken / bf16_rate(place):.0%} of the matrix rate"
    if not place.tiny:
        metric += f", peak {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB"
    if case.plain is not None:
        plain = case.plain
        slower = seconds(lambda: step(plain), repeats)
        metric += f"; the plain loop takes {slower / taken:.2f} times as long"
    return Row(case.name, metric)


def photos(place: Place, batch: int, side: int, windows: int = 0) -> Batch:
    """Noise for photographs."""
    generator = torch.Generator().manual_seed(0)
    drawn: dict[str, torch.Tensor] = {}
    for name, shape in (("image", (batch, 3, side, side)), ("windows", (batch, windows, 3, side, side))):
        drawn[name] = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    boxes = torch.tensor([0.1, 0.2, 0.6, 0.6]).expand(batch, max(windows, 1), 4).clone()
    keys, positions = [f"p{i}" for i in range(batch)], list(range(batch))
    more = {"windows": drawn["windows"], "boxes": boxes} if windows else {}
    return Batch(drawn["image"], keys, positions=positions, **more).to(place.device)  # type: ignore[arg-type]


def plain_loop(method: CrossContext, part: Batch, teacher: str) -> Loss:
    """Eq. 9 of Distill Any Depth as it is usually written: windows, images and segments one after another."""
    assert part.windows is not None and part.boxes is not None
    windows, boxes = part.windows, part.boxes

    def loss() -> torch.Tensor:
        image = part.images()
        size = (image.shape[-2], image.shape[-1])
        answer, labels = method.student(image), method.teachers[teacher](image)
        student, label = resize_map(answer.depth.float(), size), resize_map(labels.depth, size)
        mask = torch.ones_like(label, dtype=torch.bool)
        total = loop(student, label, mask).mean()
        total = (
            total + method.weights["gradient"] * normalized_gradient_matching(student, label, mask, 4).mean()
        )
        if method.used("features") and labels.features is not None:
            total = total + feature_alignment_loss(answer.features.float(), labels.features, 0.85).mean()
        for i in range(windows.shape[1]):
            seen = resize_map(method.teachers[teacher](windows[:, i].float() / 255.0).depth, size)
            crop = crop_boxes(student, boxes[:, i : i + 1], size)[:, 0]
            total = total + method.weights["local_global"] / WINDOWS * loop(crop, seen, mask).mean()
        return total

    return loss


def cross_context(place: Place, batch: int) -> list[Row]:
    """DAv2-L taught by DAv2-L, 560 px and 4 windows."""
    size: Any = "tiny" if place.tiny else "large"
    side = 56 if place.tiny else 560
    method = CrossContextDistill(DepthAnything(size), lambda: DepthAnything(size))
    ready(method, place)
    part = photos(place, batch, side, WINDOWS)
    name = f"{size} to {size}, {side} px, {WINDOWS} windows, batch {batch}"
    return [measured(place, Case(name, method, {"photos": part}, plain_loop(method, part, "teacher")))]


def assistant(place: Place) -> list[Row]:
    """A step of each teacher. A Lotus stands for GenPercept: the same UNet and autoencoder, asked once."""
    size: Any = "tiny" if place.tiny else "large"
    side = 56 if place.tiny else 560
    shares = {"depth_anything_v2": 0.7, "genpercept": 0.3}
    makers: dict[str, Callable[[], DepthModel]] = {
        "depth_anything_v2": lambda: DepthAnything(size),
        "genpercept": lambda: Lotus(size=size, space="affine disparity"),
    }
    method = AssistantGuided(DepthAnything(size), makers, shares)
    part = photos(place, 2, side, WINDOWS)
    ready(method, place)
    rows = []
    for teacher in shares:
        step = next(i for i in range(100) if drawn_teacher(shares, method.seed, i) == teacher)
        method._trainer.global_step = step  # type: ignore[union-attr,misc]
        name = f"{teacher} teaches {size}, {side} px, {WINDOWS} windows, batch 2"
        case = Case(name, method, {"photos": part}, plain_loop(method, part, teacher))
        rows.append(measured(place, case))
    return rows


def fiffdepth(place: Place) -> list[Row]:
    """Half a batch with truth, half without; the plain loop takes one source after the other."""
    size: Any = "tiny" if place.tiny else "large"
    side = 64 if place.tiny else 512
    student = FiffDepth(size=size, gradient_checkpointing=not place.tiny)
    method = FiffDepthFeedForward(
        student,
        lambda: DepthAnything("tiny" if place.tiny else "large"),
        optimization=Optimization(learning_rate=3e-5, encoder_factor=1.0, ema_decay=0.999),
    )
    ready(method, place)
    real = photos(place, 1, side)
    depth = torch.rand(1, side, side, device=place.device) * 20 + 1
    truth = Batch(real.image, ["t"], depth=depth, mask=depth > 0, space=METRIC_DEPTH, positions=[1])

    def plain() -> torch.Tensor:
        sums = []
        for name, part in (("synthetic", truth), ("real", real)):
            terms = method.losses({name: part})
            sums.append(torch.stack([method.weights[n] * term for n, term in terms.items()]).sum())
        return torch.stack(sums).sum()

    batch = {"synthetic": truth, "real": real}
    return [measured(place, Case(f"{size}, {side} px, batch 2", method, batch, plain))]


def sharpdepth_step(place: Place) -> list[Row]:
    """One image, as its paper trains; there is nothing to loop over."""
    height, width = (64, 96) if place.tiny else (576, 768)
    method = sharpdepth.prepared(not place.tiny, place.device)
    images = torch.randint(0, 256, (1, 3, height, width), dtype=torch.uint8, device=place.device)
    batch = {"photos": Batch(images, ["x"], positions=[0])}
    return [measured(place, Case(f"{height} x {width}, batch 1", method, batch))]
