"""The trimmed loss, and how its border is found, beside torch's sort and topk.

python -m tests.speed.trimmed [IMAGES]
"""

import statistics
import sys
from collections.abc import Callable

import torch

from depthkd.losses.normalization import Normalization, distillation_loss
from depthkd.losses.trimmed import trimmed_loss, without_largest
from depthkd.pixels import kth_largest
from tests.speed.normalization import seconds

SIDE, DROP, REPEATS = 518, 0.1, 5


def main(images: int = 8) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = torch.Generator().manual_seed(0)
    shape = (images, SIDE, SIDE)
    student = torch.rand(shape, generator=generator).to(device).requires_grad_()
    teacher = torch.rand(shape, generator=generator).to(device)
    mask = torch.ones(shape, dtype=torch.bool, device=device)
    losses = (student.detach() - teacher).abs()
    rows, count = losses.flatten(1), int(SIDE * SIDE * DROP)
    counts = torch.full((images,), count, device=device)
    borders: dict[str, Callable[[], torch.Tensor]] = {
        "border, torch.sort": lambda: rows.sort(1, descending=True).values[:, count - 1],
        "border, torch.topk": lambda: rows.topk(count, 1, sorted=False).values.amin(1),
        "border, kth_largest": lambda: kth_largest(rows, counts),
    }
    found = [border() for border in borders.values()]
    assert all(torch.equal(border, found[0]) for border in found)
    work: dict[str, Callable[[], object]] = {
        **borders,
        "without_largest": lambda: without_largest(losses, mask, DROP),
        "trimmed_loss": lambda: trimmed_loss(student, teacher, mask, DROP).sum().backward(),
        "the whole, untrimmed": lambda: (
            distillation_loss(student, teacher, mask, Normalization.GLOBAL).sum().backward()
        ),
    }
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(REPEATS + 1):
        for name, function in work.items():
            times[name].append(seconds(function))
    print(f"losses of {shape}, on {device}, {torch.get_num_threads()} threads; the last two with backward:")
    for name, values in times.items():
        print(f"  {name:<22}{statistics.median(values[1:]) / images * 1e3:7.2f} ms an image")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
