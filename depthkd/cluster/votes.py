"""What the ranks agree on, one optimizer step late, so that none waits for another."""

from typing import Any

import torch
import torch.distributed as dist


class Vote:
    """A reduction over all ranks among processors, which costs the devices nothing.

    Every call starts the next reduction and returns the outcome of the one before: all ranks see the same
    outcome at the same call. On a single rank the outcome is what was just given.

    Args:
        ranks: how many there are.
        largest: whether the outcome is the largest of what the ranks gave, and not the sum.
    """

    def __init__(self, ranks: int, largest: bool = False) -> None:
        self._operation = dist.ReduceOp.MAX if largest else dist.ReduceOp.SUM
        self._group: Any = dist.new_group(backend="gloo") if ranks > 1 else None
        self._pending: tuple[torch.Tensor, Any] | None = None

    def __call__(self, *ballot: int) -> list[int]:
        """Give this rank's numbers; the outcome of the call before, zeros at the first."""
        if self._group is None:
            return list(ballot)
        outcome = [0] * len(ballot)
        if self._pending is not None:
            numbers, work = self._pending
            work.wait()
            outcome = [int(number) for number in numbers]
        numbers = torch.tensor(ballot)
        self._pending = numbers, dist.all_reduce(numbers, self._operation, self._group, async_op=True)
        return outcome
