"""LeReS's decoder against its equations, written out."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depthkd.models.fusion_decoder import (
    AdaptiveOutput,
    FeatureFusion,
    FeatureTransfer,
    FusionDecoder,
    doubled,
)


def lively(module: nn.Module) -> nn.Module:
    """In eval mode, with weights and statistics that hide nothing."""
    torch.manual_seed(0)
    for name, tensor in module.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
        elif tensor.is_floating_point():
            tensor.normal_(1.0 if name.endswith("2.weight") else 0.0, 0.2)
    return module.double().eval()


def conv(x: Tensor, tensors: dict[str, Tensor], name: str) -> Tensor:
    """A 3x3 convolution as a sum over its nine shifts."""
    weight, (height, width) = tensors[f"{name}.weight"], x.shape[-2:]
    padded = F.pad(x, (1, 1, 1, 1))
    out = tensors[f"{name}.bias"].view(-1, 1, 1).expand(x.shape[0], -1, height, width)
    for i in range(3):
        for j in range(3):
            part = padded[:, :, i : i + height, j : j + width]
            out = out + torch.einsum("oc,bchw->bohw", weight[:, :, i, j], part)
    return out


def norm(x: Tensor, tensors: dict[str, Tensor], name: str) -> Tensor:
    mean, var, weight, bias = (
        tensors[f"{name}.{part}"].view(-1, 1, 1) for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (var + 1e-5).sqrt() * weight + bias


def transferred(x: Tensor, tensors: dict[str, Tensor], before: str = "") -> Tensor:
    x = conv(x, tensors, f"{before}conv")
    inner = norm(conv(x.clamp(min=0), tensors, f"{before}branch.1"), tensors, f"{before}branch.2")
    return (x + conv(inner.clamp(min=0), tensors, f"{before}branch.4")).clamp(min=0)


def enlarged(x: Tensor) -> Tensor:
    """Bilinear to twice the size, the corners on the corners, one pixel after the other."""
    height, width = x.shape[-2:]
    out = x.new_zeros(*x.shape[:2], 2 * height, 2 * width)
    for i in range(2 * height):
        for j in range(2 * width):
            y, z = i * (height - 1) / (2 * height - 1), j * (width - 1) / (2 * width - 1)
            top, left = min(int(y), max(height - 2, 0)), min(int(z), max(width - 2, 0))
            for row in range(top, min(top + 2, height)):
                for column in range(left, min(left + 2, width)):
                    share = (1 - abs(y - row)) * (1 - abs(z - column))
                    out[:, :, i, j] += share * x[:, :, row, column]
    return out


def maps(*shapes: tuple[int, int, int]) -> list[Tensor]:
    numbers = torch.Generator().manual_seed(1)
    return [torch.randn(2, *shape, generator=numbers, dtype=torch.float64) for shape in shapes]


def test_maps_are_doubled_with_aligned_corners() -> None:
    for height, width in ((2, 3), (1, 1), (4, 1)):
        (x,) = maps((3, height, width))
        torch.testing.assert_close(doubled(x), enlarged(x))


def test_a_transfer_block_is_a_convolution_and_a_residual() -> None:
    block, (x,) = lively(FeatureTransfer(5, 4)), maps((5, 4, 6))
    torch.testing.assert_close(block(x), transferred(x, block.state_dict()))


def test_a_fusion_adds_the_skip_refines_and_doubles() -> None:
    skip, coarse = maps((5, 4, 6), (4, 4, 6))
    for skipped in (skip, None):
        block = lively(FeatureFusion(None if skipped is None else 5, 4, 3))
        tensors = block.state_dict()
        joined = coarse if skipped is None else transferred(skipped, tensors, "transfer.") + coarse
        expected = enlarged(transferred(joined, tensors, "refine."))
        torch.testing.assert_close(block(skip, coarse), expected)


def test_the_decoder_goes_from_the_coarsest_map_to_the_finest() -> None:
    channels, widths = [3, 5, 6, 7], [4, 8, 10, 12]
    decoder = lively(FusionDecoder(channels, widths))
    pyramid = maps((3, 16, 24), (5, 8, 12), (6, 4, 6), (7, 2, 3))
    tensors = decoder.state_dict()
    x = enlarged(conv(transferred(pyramid[3], tensors, "top.0."), tensors, "top.1"))
    for number in (2, 1, 0):
        name = f"fusions.{number}."
        x = transferred(pyramid[number], tensors, f"{name}transfer.") + x
        x = enlarged(transferred(x, tensors, f"{name}refine."))
    assert x.shape == (2, 4, 32, 48)
    torch.testing.assert_close(decoder(pyramid), x)
    without = lively(FusionDecoder([None, *channels[1:]], widths))
    assert without(pyramid).shape == x.shape
    other = [torch.zeros_like(pyramid[0]), *pyramid[1:]]
    assert torch.equal(without(pyramid), without(other)) and not torch.equal(decoder(pyramid), decoder(other))


def test_the_output_takes_either_sign_and_any_factor() -> None:
    block, (x,) = lively(AdaptiveOutput(6)), maps((6, 4, 6))
    tensors = block.state_dict()
    hidden = norm(conv(x, tensors, "convs.0"), tensors, "convs.1").clamp(min=0)
    depth = block(x)
    torch.testing.assert_close(depth, enlarged(conv(hidden, tensors, "convs.3")))
    assert depth.min() < 0 < depth.max()
    assert lively(AdaptiveOutput(6, 4))(x).shape == (2, 1, 16, 24)


def test_widths_of_leres_give_the_layers_of_leres_as_they_begin() -> None:
    """Its network_auxi.py: middle channels 256, 256, 256 and 512 over the maps of a ResNet."""
    decoder = FusionDecoder([256, 512, 1024, 2048], [256, 256, 256, 512])
    head = AdaptiveOutput(256)
    shapes = [
        tuple(m.weight.shape[:2]) for n in (decoder, head) for m in n.modules() if isinstance(m, nn.Conv2d)
    ]

    def block(inside: int, outside: int) -> list[tuple[int, int]]:
        return [(outside, inside), (outside, outside), (outside, outside)]

    fusions = [shape for inside in (256, 512, 1024) for shape in block(inside, 256) + block(256, 256)]
    assert shapes == [*block(2048, 512), (256, 512), *fusions, (128, 256), (1, 128)]
    for narrow, network in ((1, decoder), (1, head), (4, FusionDecoder([256, 512, 1024, 2048], [64] * 4))):
        layers = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
        assert not any(layer.bias.any() for layer in layers)
        for layer in layers:
            wanted = 0.01 * (narrow**0.5 if layer.in_channels == 64 else 1)
            assert layer.weight.std().item() == pytest.approx(wanted, rel=0.1)
