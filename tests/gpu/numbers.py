"""Losses and metrics on the device against float64 on the CPU, and what a step makes the host wait for."""

import warnings
from typing import Any

import numpy as np
import torch

from depthkd.batch import AFFINE_DISPARITY, METRIC_DEPTH
from depthkd.benchmarks import Protocol
from depthkd.losses.normalization import Normalization, distillation_loss
from depthkd.metrics.boundary import BoundaryF1
from depthkd.metrics.edges import PseudoBoundaryErrors
from depthkd.metrics.magnitude import output_magnitude
from depthkd.metrics.windows import window_errors
from depthkd.models.dpt.depth_anything import DepthAnything
from depthkd.models.frozen import Frozen
from tests.gpu.parts import Place
from tests.gpu.report import Row, compared
from tests.metrics.written_out import numpy_metrics
from tests.speed.metrics import fitted_pixels, images
from tests.speed.normalization import loop

MARIGOLD = Protocol.named("marigold", max_depth=10.0)


def maps(place: Place, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A student's and a teacher's map, and where they count."""
    size = (2, 48, 64) if place.tiny else (8, 560, 560)
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (torch.rand(size, generator=generator) for _ in range(2))
    return student, teacher, torch.rand(size, generator=generator) > 0.1


def normalizations(place: Place) -> list[Row]:
    """Each normalization's loss and gradient on the device; hybrid against the written-out loop, too."""
    rows = []
    student, teacher, mask = maps(place)
    for name in Normalization:
        found: list[torch.Tensor] = []
        for device, dtype in ((place.device, torch.float32), (torch.device("cpu"), torch.float64)):
            leaf = student.to(device, dtype, copy=True).requires_grad_()
            loss = distillation_loss(leaf, teacher.to(device, dtype), mask.to(device), name)
            loss.sum().backward()
            assert leaf.grad is not None
            found += [loss.detach().cpu().double(), leaf.grad.cpu().double()]
        rows.append(compared(f"{name}, loss", found[0].sum().item(), found[2].sum().item(), 1e-5))
        worst = ((found[1] - found[3]).abs().max() / found[3].abs().max()).item()
        rows.append(
            Row(f"{name}, gradient", f"largest difference {worst:.1e}", "at most 1e-03", bool(worst <= 1e-3))
        )
    hybrid = distillation_loss(*(x.to(place.device) for x in (student, teacher, mask)), Normalization.HYBRID)
    written_out = loop(student.double(), teacher.double(), mask).sum().item()
    rows.append(compared("hybrid, against the loop over segments", hybrid.sum().item(), written_out, 1e-4))
    return rows


def metrics(place: Place) -> list[Row]:
    """Alignment and metrics on the device against NumPy's float64."""
    data = images(2, *((48, 64) if place.tiny else (480, 640)))
    p, t, m = (torch.from_numpy(np.stack(x)).to(place.device) for x in zip(*data, strict=True))
    scores = MARIGOLD.score(p, AFFINE_DISPARITY, t, METRIC_DEPTH, m)
    wanted = [numpy_metrics(*fitted_pixels(one)) for one in data]
    rows = []
    for name, values in scores.items():
        worst = max(
            abs(values[i].item() - of_image[name]) / max(abs(of_image[name]), 1e-12)
            for i, of_image in enumerate(wanted)
        )
        rows.append(
            Row(f"marigold, {name}", f"largest difference {worst:.1e}", "at most 1e-05", bool(worst <= 1e-5))
        )
    others: dict[str, Any] = {"windows": lambda *x: window_errors(*x, divisions=(1, 4))}
    others["magnitude"] = lambda p, t, m: output_magnitude(p)
    for name, function in others.items():
        here = function(t + 0.1, t + 0.2, m)
        there = function(*(x.cpu().double() for x in (t + 0.1, t + 0.2)), m.cpu())
        worst = max((here[k].cpu().double() - there[k].double()).abs().max().item() for k in there)
        rows.append(Row(name, f"largest difference {worst:.1e}", "at most 1e-05", bool(worst <= 1e-5)))
    depth, truth = (1 / p).cpu(), torch.where(m, t, 1.0).cpu()
    for metric in (BoundaryF1(), PseudoBoundaryErrors()):  # these go to the CPU by themselves
        both = []
        for device in (place.device, torch.device("cpu")):
            metric.reset()
            metric.to(device).update(depth.to(device), truth.to(device))
            both.append({name: value.item() for name, value in metric.compute().items()})
        worst = max(abs(both[0][name] - both[1][name]) for name in both[1])
        rows.append(Row(type(metric).__name__, f"largest difference {worst:.1e}", "0", worst == 0))
    return rows


def host_waits(place: Place) -> list[Row]:
    """How often hybrid's loss makes the host wait for the GPU."""
    if place.tiny:
        return [Row("hybrid normalization, forward and backward", "not counted: there is no GPU here")]
    student, teacher, mask = (x.to(place.device) for x in maps(place))
    student.requires_grad_()
    distillation_loss(student, teacher, mask, Normalization.HYBRID).sum().backward()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            distillation_loss(student, teacher, mask, Normalization.HYBRID).sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    waits = [f"{w.filename.rpartition('/')[2]}:{w.lineno}" for w in caught if "synchroniz" in str(w.message)]
    metric = f"{len(waits)} waits {', '.join(sorted(set(waits)))}"
    return [Row("hybrid normalization, forward and backward", metric, "none", not waits)]


def half_teachers(place: Place) -> list[Row]:
    """A teacher's labels in half precision beside those in float32, as shares of the map's range."""
    size: Any = "tiny" if place.tiny else "large"
    side = 56 if place.tiny else 518
    image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)).to(place.device)
    torch.manual_seed(0)
    network = DepthAnything(size)
    rows = []
    exact = Frozen(lambda: network, place.device)(image).depth
    for dtype in (torch.bfloat16,) if place.tiny else (torch.bfloat16, torch.float16):
        label = Frozen(lambda: network, place.device, autocast=dtype)(image).depth
        worst = ((label - exact).abs().max() / (exact.max() - exact.min())).item()
        levels = label.unique().numel() / exact.unique().numel()
        name = str(dtype).removeprefix("torch.")
        rows.append(Row(name, f"off by {worst:.1e} of the range", "at most 5e-02", worst <= 0.05))
        rows.append(
            Row(f"{name}, levels of depth beside float32", f"{levels:.0%}", "at least 90%", levels >= 0.9)
        )
    return rows
