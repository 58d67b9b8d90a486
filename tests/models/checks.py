"""What holds of every trainable model, for its tests."""

import torch
from torch import Tensor

from depthkd.models import DepthModel


def assert_fits_a_ramp(model: DepthModel, side: int, steps: int, left: float) -> None:
    """Depth that depends on place and color: both must reach the output and its gradient the weights."""
    image = torch.rand(2, 3, 1, 1, generator=torch.Generator().manual_seed(1)).expand(2, 3, side, side)
    target = torch.linspace(0.2, 1.8, side).view(1, side, 1) + image.mean(1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(steps):
        loss = (model(image).depth - target).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < left * losses[0]


def assert_state_dict_restores(one: DepthModel, other: DepthModel, images: Tensor) -> None:
    """Another model, all zeros, predicts the same after it has loaded the state of the first."""
    with torch.no_grad():
        for tensor in other.state_dict().values():
            tensor.zero_()
    other.load_state_dict(one.state_dict())
    assert torch.equal(other.predict(images), one.predict(images))
