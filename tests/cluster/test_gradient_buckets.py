"""Sums of gradients over ranks: bitwise the same at a process's first step as at its later ones."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from depthkd.cluster.gradient_buckets import FixedBuckets
from tests.processes import CONTEXT, free_port

RANKS = 4


class Backwards(nn.Module):
    """Uses its layers in another order than it names them, so that their gradients arrive in another."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(24, 24) for _ in range(6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in reversed(self.layers):
            x = torch.tanh(layer(x))
        return x


def rank_of_four(rank: int, port: int, fixed: bool, out: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=RANKS)
    torch.manual_seed(0)
    model = DistributedDataParallel(Backwards(), bucket_cap_mb=1)
    before = [parameter.clone() for parameter in model.parameters()]
    if fixed:
        FixedBuckets().on_train_start(SimpleNamespace(strategy=SimpleNamespace(model=model)), None)  # type: ignore[arg-type]
        assert all(parameter.grad is None for parameter in model.parameters())
        assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    x = torch.randn(8, 24, generator=torch.Generator().manual_seed(rank))
    steps = []
    for _ in range(3):
        model.zero_grad(set_to_none=True)
        model(x).square().mean().backward()
        steps.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))  # type: ignore[union-attr]
    if rank == 0:
        torch.save(steps, out)
    dist.destroy_process_group()


@pytest.mark.parametrize("fixed", [True, False])
def test_the_first_step_rounds_as_the_later_ones(fixed: bool, tmp_path: Path) -> None:
    port, out = free_port(), tmp_path / "steps.pt"
    ranks = [
        CONTEXT.Process(target=rank_of_four, args=(rank, port, fixed, str(out))) for rank in range(RANKS)
    ]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(60)
    assert [process.exitcode for process in ranks] == [0] * RANKS
    first, second, third = torch.load(out, weights_only=True)
    assert torch.allclose(first, second, atol=1e-7) and torch.equal(second, third)
    assert torch.equal(first, second) == fixed  # torch itself keeps this promise only from the second on
