import pytest
import torch

from depthkd.pixels import kth_largest


class Elsewhere(torch.Tensor):
    """A tensor that says that it is on a device, whose way is then gone."""

    is_cpu = False


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_kth_largest_is_that_of_a_sort_on_every_device(dtype: torch.dtype) -> None:
    values = torch.randn(3, 500, generator=torch.Generator().manual_seed(0)).to(dtype)
    values[1, :300], values[2, 100:], values[0, 7], values[0, 9] = 0.25, -torch.inf, torch.inf, -0.0
    ordered = values.sort(1, descending=True).values
    for k in ([1, 1, 1], [50, 200, 100], [500, 201, 37], [250, 500, 500]):
        expected = ordered.gather(1, torch.tensor(k)[:, None] - 1)[:, 0]
        assert torch.equal(kth_largest(values, torch.tensor(k)), expected)
        found = kth_largest(values.as_subclass(Elsewhere), torch.tensor(k))
        assert torch.equal(found.as_subclass(torch.Tensor), expected)
