"""Time and memory of SharpDepth's training step: one image, as its paper trains, and what its passes cost.

python -m tests.speed.sharpdepth

On a GPU of full size, with random weights: Stable Diffusion 2's UNet and autoencoder, at 576 x 768 in
bf16, beside a metric Depth Anything large; it has to fit 40 GB. On a CPU the tiny twin, in float32.
"""

import argparse
from typing import Any

import torch

from depthkd.batch import Batch
from depthkd.methods.optimization import update_average
from depthkd.methods.sharpdepth import SharpDepthRefiner
from depthkd.models.dpt.depth_anything import DepthAnything
from depthkd.models.frozen import Frozen
from depthkd.models.latent_diffusion.diffusion import Lotus
from depthkd.models.latent_diffusion.sharpdepth import SharpDepth
from tests.speed.families import seconds


class Step:
    """A trainer at a step at which the moving average is under way."""

    global_step = 1000

    def __init__(self, precision: str) -> None:
        self.precision = precision


def prepared(large: bool, device: torch.device) -> SharpDepthRefiner:
    """The method with its teachers, as `fit` would set it up."""
    size: Any = "large" if large else "tiny"
    metric: Any = "large" if large else "tiny"
    student = SharpDepth(
        size=size,
        metric=lambda: DepthAnything(metric, metric_max_depth=80),
        metric_resolution=518 if large else None,
        longest=None,
        gradient_checkpointing=large,
    ).to(device)
    method = SharpDepthRefiner(student, lambda: Lotus(size=size)).to(device)
    half = torch.bfloat16 if large else None
    method.teachers = {n: Frozen(make, device, autocast=half) for n, make in method.teacher_factories.items()}
    method._trainer = Step("bf16-mixed" if large else "32-true")  # type: ignore[assignment]
    method.setup("fit")
    method.student.train()
    return method


def main(repeats: int = 3) -> None:
    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    name = torch.cuda.get_device_name() if cuda else f"CPU, {torch.get_num_threads()} threads"
    height, width = (576, 768) if cuda else (64, 96)
    method = prepared(cuda, device)
    optimizer = method.optimization.optimizer(method.student, [])
    images = torch.randint(0, 256, (1, 3, height, width), dtype=torch.uint8, device=device)
    photos = Batch(images, ["x"], positions=[0])

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=cuda):
            terms = method.losses({"photos": photos})
            loss = torch.stack([method.weights[name] * term for name, term in terms.items()]).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        update_average(method.student_average, method.student, 0.99)

    def given() -> None:
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=cuda):
            method._refiner_input("photos", photos.images(), photos, method.generators("photos", photos))

    if cuda:
        torch.cuda.reset_peak_memory_stats()
    whole, preparing = seconds(step, repeats), seconds(given, repeats)
    print(f"SharpDepth, one image of {height} x {width} on {name}: {whole:.3f} s a step, of which")
    print(
        f"  {preparing / whole:.2f} before the sharpener: metric model, encoder, first answer, difference map"
    )
    if cuda:
        peak = torch.cuda.max_memory_allocated() / 2**30
        print(f"  peak memory {peak:.1f} GiB; goal: at most 40 ({'met' if peak <= 40 else 'NOT MET'})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=3)
    main(parser.parse_args().repeats)
