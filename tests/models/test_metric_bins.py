"""ZoeDepth's metric-bins head, against its equations and transformers', and the Depth Anything under it."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Dinov2Config, ZoeDepthConfig, ZoeDepthForDepthEstimation
from transformers.models.zoedepth.modeling_zoedepth import ZoeDepthMetricDepthEstimationHead

from depthkd.errors import UserError
from depthkd.models import DepthAnything, MetricBinsDepth
from depthkd.models.dpt.metric_bins import (
    MetricBinsHead,
    attracted,
    log_binomial,
    normed_seed_centers,
    share,
)

SMALL: dict[str, Any] = {"size": "tiny", "image_size": (24, 32), "bins": 6, "embedding": 8}


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("attraction", ["inv", "exp"])
@pytest.mark.parametrize("joining", ["mean", "sum"])
def test_attractors_move_centers_as_their_equations_say(attraction: str, joining: str) -> None:
    centers, points = 3 * random(2, 5, 2, 3), 3 * random(2, 4, 2, 3, seed=1)
    alpha, gamma = 7.0, 2
    found = attracted(centers, points, attraction, alpha, gamma, joining)  # type: ignore[arg-type]
    for b, c, y, x in torch.cartesian_prod(*map(torch.arange, centers.shape)).tolist():
        center, moves = float(centers[b, c, y, x]), []
        for a in range(4):
            d = float(points[b, a, y, x]) - center
            inverse = d / (1 + alpha * d**gamma)
            moves.append(inverse if attraction == "inv" else math.exp(-alpha * abs(d) ** gamma) * d)
        moved = center + sum(moves) / (4 if joining == "mean" else 1)
        assert float(found[b, c, y, x]) == pytest.approx(moved, rel=1e-12)
    for moving in (centers, points):
        moving.requires_grad_(True)
    assert torch.autograd.gradcheck(
        lambda c, p: attracted(c, p, attraction, alpha, gamma, joining),  # type: ignore[arg-type]
        (centers, points),
    )


def test_the_distribution_over_bins_is_a_log_binomial() -> None:
    p, t = random(1, 1, 2, 3), 0.5 + random(1, 1, 2, 3, seed=1)
    p[0, 0, 0, 0] = 0.0  # raised to 1e-4
    found = log_binomial(p, t, 8)
    assert found.sum(1).flatten().tolist() == pytest.approx([1.0] * 6)
    for y, x in ((0, 0), (0, 1), (1, 2)):
        logits = []
        for k in range(8):
            n = 7 + 1e-7
            kk = k + 1e-7
            stirling = n * math.log(n) - kk * math.log(kk) - (n - kk) * math.log(n - kk + 1e-7)
            here = min(max(float(p[0, 0, y, x]), 1e-4), 1.0)
            rest = min(max(1 - float(p[0, 0, y, x]), 1e-4), 1.0)
            logit = stirling + k * math.log(here) + (7 - k) * math.log(rest)
            logits.append(logit / float(t[0, 0, y, x]))
        weights = [math.exp(logit - max(logits)) for logit in logits]
        expected = [weight / sum(weights) for weight in weights]
        assert found[0, :, y, x].tolist() == pytest.approx(expected, rel=1e-9)
    inside = (0.1 + 0.8 * random(1, 1, 2, 3, seed=2)).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda q, s: log_binomial(q, s, 8), (inside, t.requires_grad_(True)))
    parts = random(1, 2, 2, 2)
    torch.testing.assert_close(share(parts)[:, 0], (parts[:, 0] + 1e-4) / (parts.sum(1) + 2e-4))


def test_normed_seeds_are_the_middles_of_bins_that_fill_the_range() -> None:
    widths = random(1, 5, 1, 2)
    found = normed_seed_centers(widths, 0.5, 10.0)
    for x in range(2):
        parts = [float(w) + 1e-3 for w in widths[0, :, 0, x]]
        edge = 0.5
        for k in range(5):
            width = 9.5 * parts[k] / sum(parts)
            assert float(found[0, k, 0, x]) == pytest.approx(edge + width / 2, rel=1e-12)
            edge += width
        assert edge == pytest.approx(10.0)


@pytest.mark.parametrize("centers", ["softplus", "normed"])
@pytest.mark.parametrize("joining", ["mean", "sum"])
def test_the_head_is_transformers_zoedepths_by_its_weights(centers: str, joining: str) -> None:
    config = ZoeDepthConfig(
        bottleneck_features=12, fusion_hidden_size=12, num_relative_features=5, bin_embedding_dim=8,
        bin_centers_type=centers, attractor_kind=joining, num_attractors=[4, 3, 2, 1],
        bin_configurations=[{"n_bins": 6, "min_depth": 0.001, "max_depth": 10.0}],
    )  # fmt: skip
    torch.manual_seed(0)
    theirs: Any = ZoeDepthMetricDepthEstimationHead(config).eval()
    ours = MetricBinsHead(
        12, 5, 6, 8, (4, 3, 2, 1), centers, "inv", 300.0, 2, joining, (1e-3, 10.0), (0.0212, 50.0)  # type: ignore[arg-type]
    )  # fmt: skip
    ours.load_state_dict(theirs.state_dict())
    generator = torch.Generator().manual_seed(1)
    full, bottleneck = (torch.randn(2, c, s, s + 2, generator=generator) for c, s in ((5, 24), (12, 2)))
    blocks = [torch.randn(2, 12, s, s + 1, generator=generator) for s in (3, 6, 12, 24)]
    relative = torch.rand(2, 24, 26, generator=generator)
    with torch.no_grad():
        expected, _ = theirs(full, bottleneck, blocks, relative)
        found = ours(full, bottleneck, blocks, relative[:, None])
    torch.testing.assert_close(found, expected, rtol=2e-4, atol=2e-5)
    assert float(found.std()) > 1e-3


def test_transformers_own_class_cannot_run_a_depth_anything() -> None:
    """Its reassembling fails without a class token, and its sizes double from patch to patch."""
    backbone = Dinov2Config(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, image_size=28, patch_size=14,
        out_indices=[1, 2, 3, 4], apply_layernorm=True, reshape_hidden_states=False,
    )  # fmt: skip
    sizes: dict[str, Any] = {"neck_hidden_sizes": [8] * 4, "fusion_hidden_size": 8, "bottleneck_features": 8}
    image = torch.zeros(1, 3, 28, 42)
    for readout in ("ignore", "project"):
        config = ZoeDepthConfig(backbone_config=backbone, readout_type=readout, **sizes)
        network: Any = ZoeDepthForDepthEstimation(config).eval()
        if readout == "ignore":  # what Depth Anything does
            with pytest.raises(RuntimeError, match="dimensions"):
                network(image)
        else:
            assert network(image).predicted_depth.shape[-2:] != (28, 42)


def test_a_network_runs_at_its_own_size_and_answers_at_the_images() -> None:
    torch.manual_seed(0)
    student = MetricBinsDepth(**SMALL).eval()
    image = torch.rand(2, 3, 30, 50)
    assert student.runs_at(30, 50, 518, 2.0) == (24, 32)
    with torch.no_grad():
        raw = student.predict_raw(image)
        depth = student(image).depth
        squeezed = F.interpolate(image, (24, 32), mode="bilinear", align_corners=True)
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (student.mean, student.std))
        torch.testing.assert_close(student.run((squeezed - mean) / std).depth, raw)
    assert raw.shape == (2, 24, 32) and depth.shape == (2, 30, 50)
    resized = F.interpolate(raw[:, None], (30, 50), mode="bilinear", align_corners=True)[:, 0]
    torch.testing.assert_close(depth, resized)
    torch.testing.assert_close(student.predict(image, "native"), resized)
    averaged = student.predict(image, flip=True)
    mirrored = (raw + student.predict_raw(image.flip(-1)).flip(-1)) / 2
    expected = F.interpolate(mirrored[:, None], (30, 50), mode="bilinear", align_corners=True)[:, 0]
    torch.testing.assert_close(averaged, expected.detach())
    kept = MetricBinsDepth(**SMALL, keep_aspect=True)
    assert kept.runs_at(48, 160) == (24, 80) and kept.runs_at(22, 50) == (24, 56)


def test_decoder_and_relative_depth_are_depth_anythings() -> None:
    torch.manual_seed(0)
    student = MetricBinsDepth(**SMALL).eval()
    plain = DepthAnything(size="tiny").eval()
    plain.network.load_state_dict(student.network.state_dict())
    seen: list[Tensor] = []

    class Watched(nn.Module):
        def forward(self, full: Tensor, bottleneck: Tensor, blocks: list[Tensor], relative: Tensor) -> Tensor:
            seen.extend([full, bottleneck, *blocks, relative])
            return relative

    student.bins = Watched()  # type: ignore[assignment]
    pixels = torch.rand(1, 3, 24, 32)
    with torch.no_grad():
        output, expected = student.run(pixels), plain.run(pixels)
    torch.testing.assert_close(output.depth, expected.depth)
    assert output.features is not None and expected.features is not None
    torch.testing.assert_close(output.features, expected.features)
    assert seen[0].shape == (1, 16, 24, 32) and seen[1].shape[1] == 24
    assert seen[5].shape[-1] > seen[2].shape[-1] >= seen[1].shape[-1]


def test_it_starts_from_a_relative_depth_anything_and_only_its_bins_learn_fast(tmp_path: Path) -> None:
    torch.manual_seed(0)
    relative = DepthAnything(size="tiny")
    relative.save_pretrained(tmp_path)
    student = MetricBinsDepth(**SMALL, weights=str(tmp_path))
    for name, tensor in relative.network.state_dict().items():
        assert torch.equal(student.network.state_dict()[name], tensor), name
    encoder = MetricBinsDepth(**SMALL, weights=str(tmp_path), initialize="encoder")
    kept = encoder.network.state_dict()
    assert torch.equal(kept["backbone.layernorm.weight"], relative.network.backbone.layernorm.weight)
    assert not torch.equal(kept["head.conv1.weight"], relative.network.head.conv1.weight)
    fast = {id(p) for p in student.head_parameters()}
    assert fast == {id(p) for p in student.bins.parameters()}
    student.train()
    student(torch.rand(1, 3, 24, 32)).depth.log().mean().backward()
    learned = [n for n, p in student.named_parameters() if p.requires_grad and p.grad is None]
    assert learned == []
    assert student.bfloat16().bins.conv2.weight.dtype == torch.float32


def test_bins_stay_precise_where_the_rest_is_not() -> None:
    torch.manual_seed(0)
    student = MetricBinsDepth(**SMALL)
    image = torch.rand(2, 3, 24, 32)
    exact = student(image).depth.detach()
    with torch.autocast("cpu", torch.bfloat16):
        depth = student(image).depth
    assert depth.dtype == torch.float32 and bool((depth != exact).any())
    torch.testing.assert_close(depth, exact, rtol=5e-3, atol=0)
    halved = student.to(torch.bfloat16)(image).depth
    assert halved.dtype == torch.float32
    torch.testing.assert_close(halved, exact, rtol=5e-3, atol=0)


def test_the_range_of_normed_centers_is_the_models() -> None:
    torch.manual_seed(0)
    assert MetricBinsDepth(**SMALL).max_depth is None
    normed = MetricBinsDepth(**SMALL, centers="normed", min_depth=1.0, max_depth=2.0).eval()
    assert normed.max_depth == 2.0
    depth = normed.predict(torch.rand(1, 3, 24, 32))
    assert float(depth.min()) >= 1.0 and float(depth.max()) <= 2.0


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"bins": 1}, "bins must be 2 or more, not 1"),
        ({"attractors": (4, 3, 0, 1)}, "attractors must be 1 or more, not 0"),
        ({"min_depth": 3.0, "max_depth": 2.0}, "min_depth and max_depth must rise from 0 or more"),
        ({"temperatures": (5.0, 1.0)}, "temperatures must rise from 0 or more, not be 5, 1"),
        ({"gamma": 0}, "gamma must be 1 or more, not 0"),
        ({"image_size": (0, 14)}, "image_size must be 1 or more, not 0"),
    ],
)
def test_numbers_that_cannot_be_are_refused(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        MetricBinsDepth(**(SMALL | wrong))
