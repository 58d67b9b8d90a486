"""How fast the device is, and how much of that depthkd uses."""

from collections.abc import Callable
from typing import Any

import torch

from depthkd.losses.normalization import Normalization, distillation_loss
from depthkd.models.dpt.depth_anything import DepthAnything
from depthkd.models.latent_diffusion.diffusion import Lotus, Marigold
from depthkd.models.latent_diffusion.fiffdepth import FiffDepth
from tests.gpu.numbers import maps
from tests.gpu.parts import Place
from tests.gpu.report import Row
from tests.speed.families import seconds
from tests.speed.normalization import loop


def bf16_rate(place: Place) -> float:
    """Products of large bf16 matrices of random numbers, in FLOP/s."""
    side = 256 if place.tiny else 8192
    a, b = (torch.randn(side, side, device=place.device, dtype=torch.bfloat16) for _ in range(2))
    return 2.0 * side**3 / seconds(lambda: a @ b, 5)


def matrix_rate(place: Place) -> list[Row]:
    """The ceiling of all that follows."""
    return [Row("products of matrices in bf16", f"{bf16_rate(place) / 1e12:.3g} TFLOP/s")]


def normalization(place: Place) -> list[Row]:
    """Hybrid against the loop over images and segments, forward and backward."""
    student, teacher, mask = (x.to(place.device) for x in maps(place))
    student.requires_grad_()
    theirs = seconds(lambda: loop(student, teacher, mask).sum().backward(), 5)
    ours = seconds(
        lambda: distillation_loss(student, teacher, mask, Normalization.HYBRID).sum().backward(), 5
    )
    metric = f"{ours * 1e3:.1f} ms; the loop {theirs * 1e3:.1f} ms, {theirs / ours:.1f} times as long"
    return [Row(f"hybrid of {' x '.join(map(str, student.shape))}", metric)]


@torch.inference_mode()
def inference(place: Place) -> list[Row]:
    """One image at a time; random weights of the true size."""
    side = 56 if place.tiny else 512
    image = torch.rand(1, 3, side, side, device=place.device)
    size: Any = "tiny" if place.tiny else "large"
    sizes: tuple[Any, ...] = ("tiny", "mini") if place.tiny else ("small", "base", "large")
    made: dict[str, Callable[[], Any]] = {f"DepthAnything {s}": lambda s=s: DepthAnything(s) for s in sizes}
    made["FiffDepth"] = lambda: FiffDepth(size=size)
    made["Lotus"] = lambda: Lotus(size=size)
    made["Marigold, 4 steps"] = lambda: Marigold(size=size, steps=4, ensemble=1)
    rows = []
    for name, make in made.items():
        if not place.tiny:
            torch.cuda.reset_peak_memory_stats()
        network = make().to(place.device).eval()
        half = torch.autocast(place.device.type, torch.bfloat16, enabled=not place.tiny)
        with half:
            taken = seconds(lambda n=network: n.predict(image), 3)
        metric = f"{taken * 1e3:.1f} ms an image"
        if not place.tiny:
            metric += f", peak {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB"
        rows.append(Row(f"{name}, {side} px", metric))
        del network
    return rows
