"""Normalizations, and hybrid's as the loop over images and masks that it is usually written as.

python -m tests.speed.normalization
"""

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from depthkd.losses.normalization import Normalization, distillation_loss

SIZE = (8, 560, 560)
REPEATS = 5
NORMALIZATIONS = [n for n in Normalization if n is not Normalization.NONE]


def loop(student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Images, levels and segments one after another, with nanmedian."""
    losses = []
    for s, t, m in zip(student, teacher, mask, strict=True):
        low, high = t[m].min(), t[m].max()
        total = torch.zeros_like(s)
        for level in (1, 2, 4):
            segment = ((t - low) / (high - low) * level).long().clamp(max=level - 1)
            for i in range(level):
                inside = m & (segment == i)
                pair = []
                for values in (s, t):
                    masked = torch.where(inside, values, torch.nan)
                    median = masked.nanmedian()
                    deviation = (values - median).abs()[inside].mean()
                    pair.append((values - median) / deviation.clamp(min=1e-6))
                total = total + torch.where(inside, (pair[0] - pair[1]).abs() / 3, 0)
        losses.append(total[m].mean())
    return torch.stack(losses)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = torch.Generator().manual_seed(0)
    student = torch.rand(SIZE, generator=generator).to(device).requires_grad_()
    teacher = torch.rand(SIZE, generator=generator).to(device)
    mask = torch.ones(SIZE, dtype=torch.bool, device=device)
    pixels = student.detach().flatten(1).cpu().numpy()
    ours = distillation_loss(student, teacher, mask, Normalization.HYBRID)
    difference = (ours - loop(student, teacher, mask)).abs().max().item()
    work: dict[str, Callable[[], object]] = {
        "the loop": lambda: loop(student, teacher, mask).sum().backward(),
        "one np.partition": lambda: np.partition(pixels, pixels.shape[1] // 2, axis=1),
        "one np.sort": lambda: np.sort(pixels, axis=1),
    }
    for name in NORMALIZATIONS:
        work[name] = lambda n=name: distillation_loss(student, teacher, mask, n).sum().backward()
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(REPEATS + 1):
        for name, function in work.items():
            times[name].append(seconds(function))
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}
    print(f"losses of {SIZE}, forward and backward on {device}, {torch.get_num_threads()} threads:")
    for name, median in medians.items():
        print(f"  {name:<18}{median * 1e3:6.0f} ms")
    print(f"  the loop takes {medians['the loop'] / medians['hybrid']:.2f} times as long as hybrid")
    print(f"  largest difference between the two {difference:.1e}")


if __name__ == "__main__":
    main()
